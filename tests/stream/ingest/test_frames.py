"""Opening frames: which content is returned, and which frames are rejected."""

from pathlib import Path

import pytest

from stream.ingest.frames import FrameOpener, ReadingWithScores
from tests.stream.receiving_site import NOW, SECOND, UNLIMITED, Site, worse
from vitals.messages import SensorFlag
from wire.codec import ScoreV1, encode
from wire.envelope import FrameClass
from wire.errors import Reason, Rejected
from wire.topics import e_up, w_up


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def an_ingest(site: Site) -> FrameOpener:
    ingest = FrameOpener(site.demo.ingest.me, site.demo.ingest.directory, limits=UNLIMITED)
    for patient in (0, 1):
        ingest.accept(topic(site), site.session(patient).frame, now_ms=NOW, mono_ms=0)
    ingest.dirty()
    return ingest


def topic(site: Site, frame_class: int = FrameClass.VITALS) -> str:
    return e_up(site.edge.me.device_id, frame_class)


def test_a_reading_has_the_binding_of_its_session(site: Site) -> None:
    taken = an_ingest(site).accept(topic(site), site.sealed(site.message(0)), now_ms=NOW, mono_ms=0)

    assert isinstance(taken.content, ReadingWithScores)
    assert taken.content.reading.stay_id == site.demo.bindings[0].binding_id.hex()
    assert taken.content.reading.heart_rate == 70.0


def test_a_duplicate_has_no_content_and_is_acknowledged(site: Site) -> None:
    ingest, frame = an_ingest(site), site.sealed(site.message(0))
    ingest.accept(topic(site), frame, now_ms=NOW, mono_ms=0)

    again = ingest.accept(topic(site), frame, now_ms=NOW, mono_ms=0)

    assert again.opened is not None
    assert (again.opened.duplicate, again.content, again.error) == (True, None, None)


@pytest.mark.parametrize("where", ["nonsense", "vl/v1/e/zz/up/1", "vl/v2/e/" + "00" * 16 + "/up/1"])
def test_a_foreign_topic_is_rejected(where: str, site: Site) -> None:
    with pytest.raises(Rejected) as caught:
        an_ingest(site).accept(where, site.sealed(site.message(0)), now_ms=NOW, mono_ms=0)

    assert caught.value.reason is Reason.TOPIC


def test_the_topic_of_a_wearable_is_rejected(site: Site) -> None:
    wearable = site.demo.wearables[0].me.device_id
    with pytest.raises(Rejected) as caught:
        an_ingest(site).accept(w_up(wearable, 1), site.sealed(site.message(0)), now_ms=NOW, mono_ms=0)

    assert caught.value.reason is Reason.TOPIC


def test_the_payload_of_a_wearable_in_the_frame_of_an_edge_is_an_error(site: Site) -> None:
    frame = site.session().seal(encode(site.message(0).vitals))[1]

    taken = an_ingest(site).accept(topic(site), frame, now_ms=NOW, mono_ms=0)

    assert taken.content is None
    assert taken.error is not None
    assert taken.error.reason is Reason.SCHEMA


@pytest.mark.parametrize(("ahead_ms", "clamped"), [(30 * SECOND, False), (31 * SECOND, True), (10**11, True)])
def test_times_in_the_future_are_clamped(ahead_ms: int, clamped: bool, site: Site) -> None:
    message = worse(site.message(0), at_ms=NOW + ahead_ms, received_ms=NOW + ahead_ms)

    taken = an_ingest(site).accept(topic(site), site.sealed(message), now_ms=NOW, mono_ms=0).content

    assert isinstance(taken, ReadingWithScores)
    reading = taken.reading
    assert reading.at_ms == (NOW if clamped else NOW + ahead_ms)
    assert bool(reading.sensor_flags & SensorFlag.CLOCK_CLAMPED) is clamped


def test_model_scores_come_with_the_reading_and_have_its_time(site: Site) -> None:
    ahead_ms = NOW + 10**11
    said = ScoreV1(model="sepsis", version="1.0.0", score=0.06, threshold=0.03, reason="RR 28 (+1.2)")
    message = worse(site.message(0), at_ms=ahead_ms, received_ms=ahead_ms, scores=(said,))

    taken = an_ingest(site).accept(topic(site), site.sealed(message), now_ms=NOW, mono_ms=0).content

    assert isinstance(taken, ReadingWithScores)
    (score,) = taken.scores
    assert taken.messages == [taken.reading, score]
    assert (score.stay_id, score.reading_id) == (taken.reading.stay_id, taken.reading.reading_id)
    assert (score.at_ms, score.received_ms, score.arrived_ms) == (NOW, NOW, NOW)
    assert (score.model, score.score, score.threshold, score.reason) == ("sepsis", 0.06, 0.03, "RR 28 (+1.2)")


def test_an_empty_alarm_frame_has_no_content_and_no_error(site: Site) -> None:
    session = site.session(0, FrameClass.ALARM)
    ingest = an_ingest(site)
    ingest.accept(topic(site, FrameClass.ALARM), session.frame, now_ms=NOW, mono_ms=0)

    taken = ingest.accept(topic(site, FrameClass.ALARM), session.seal(b"")[1], now_ms=NOW, mono_ms=0)

    assert (taken.content, taken.error) == (None, None)
    assert taken.opened is not None


def test_changed_sessions_are_returned_once_for_the_transaction(site: Site) -> None:
    ingest = an_ingest(site)
    ingest.accept(topic(site), site.sealed(site.message(0)), now_ms=NOW, mono_ms=0)

    (row,) = ingest.dirty()

    assert row.ranges == ((0, 0),)
    assert ingest.dirty() == []
