"""Sessions towards the cloud: one a patient and class, numbers that rise for ever, nothing of an earlier run reused."""

from edge.sealing import SealedFrame, Sealer
from simulators.made_up import demo_site
from tests.edge.benches import HOUR, NOW, UNLIMITED
from wire.envelope import FrameClass
from wire.receiver import Opened, Receiver

SITE = demo_site(wearables=2, edges=1, now_ms=NOW)
EDGE = SITE.edges[0]
ANN = (SITE.bindings[0].binding_id, int(FrameClass.VITALS))
BOB = (SITE.bindings[1].binding_id, int(FrameClass.VITALS))
ANN_S_ALARMS = (SITE.bindings[0].binding_id, int(FrameClass.ALARM))


def a_sealer(*known: SealedFrame) -> Sealer:
    assert EDGE.recipient is not None
    return Sealer(EDGE.me, EDGE.recipient, [one.session for one in known])


def seal(sealer: Sealer, stream: tuple[bytes, int] = ANN, *, now_ms: int = NOW, mono_ms: int = 0) -> SealedFrame:
    return sealer.seal(stream, b"payload", now_ms=now_ms, mono_ms=mono_ms)


def test_a_stream_has_one_session_and_rising_counters() -> None:
    sealer = a_sealer()

    frames = [seal(sealer) for _ in range(3)]

    assert [one.counter for one in frames] == [0, 1, 2]
    assert [one.begun for one in frames] == [True, False, False]
    assert len({one.session.session_id for one in frames}) == 1
    assert frames[-1].session.last_counter == 2


def test_patients_and_classes_do_not_share_sessions() -> None:
    sealer = a_sealer()

    sessions = {seal(sealer, stream).session.session_id for stream in (ANN, BOB, ANN_S_ALARMS)}

    assert len(sessions) == 3
    assert len(sealer.last_counters()) == 3


def test_an_hour_later_a_session_follows_and_the_old_one_is_closed() -> None:
    sealer = a_sealer()
    old = seal(sealer)

    new = seal(sealer, mono_ms=HOUR)

    assert new.begun
    assert new.closed is not None
    assert (new.closed.session_id, new.closed.closed, new.closed.last_counter) == (old.session.session_id, True, 0)
    assert new.session.number > old.session.number


def test_after_a_restart_the_number_rises_even_if_the_clock_went_back() -> None:
    before = seal(a_sealer())

    after = seal(a_sealer(before), now_ms=NOW - HOUR)

    assert after.begun
    assert after.closed is None  # that session was not ours
    assert after.session.number == before.session.number + 1
    assert after.session.session_id != before.session.session_id


def test_a_refused_session_is_followed_by_one_above_what_the_cloud_knows() -> None:
    sealer = a_sealer()
    refused = seal(sealer)

    sealer.refused(ANN, refused.session.session_id, NOW + HOUR)

    assert seal(sealer).session.number == NOW + HOUR + 1


def test_the_cloud_opens_what_was_sealed() -> None:
    cloud = Receiver(SITE.ingest.me, SITE.ingest.directory, limits=UNLIMITED)
    sealed = seal(a_sealer())

    cloud.receive(sealed.session.frame, topic_device=EDGE.me.device_id, now_ms=NOW, mono_ms=0)
    opened = cloud.receive(sealed.frame, topic_device=EDGE.me.device_id, now_ms=NOW, mono_ms=0)

    assert isinstance(opened, Opened)
    assert (opened.payload, opened.binding_id) == (b"payload", ANN[0])
