"""The agent at 3 am: what it may acknowledge, what survives its death, a full disk, liars and silence."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.agent import EdgeAgent
from edge.config import OutboxConfig
from edge.errors import NotCommitted
from edge.outbox import Outbox
from edge.pipeline import Pipeline
from models.passport import FILE
from simulators.made_up import demo_site
from tests.edge.benches import HOUR, ILL, MINUTE, NOW, SECOND, Bench
from tests.models.made_up import PUBLIC, copied, resigned
from vitals.messages import BindingPeriod
from wire.codec import ScoreV1, decode_edge_alarm, decode_edge_vitals, decode_heartbeat, encode
from wire.envelope import FrameClass, Stage
from wire.errors import Reason
from wire.identity import Provision

ROOT = Path(__file__).parents[2]


def test_nothing_is_acknowledged_before_it_is_on_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()

    (mid,) = bench.turn(bench.sealed(0))
    assert mid not in bench.hand.pubacks
    assert bench.signed_for() == set()

    bench.pass_time()  # the commit was due
    assert mid in bench.hand.pubacks
    assert bench.signed_for() == {0}
    assert bench.agent.waiting == 1


def test_so_many_readings_are_committed_without_waiting(tmp_path: Path) -> None:
    bench = Bench(tmp_path, outbox=OutboxConfig(budget_mb=64, commit_ms=30_000, commit_rows=3))
    bench.begin()
    bench.pass_time(31 * SECOND)

    bench.turn(bench.sealed(0), bench.sealed(5_000))
    assert bench.signed_for() == set()
    bench.turn(bench.sealed(10_000))
    assert bench.signed_for() == {0, 1, 2}


def test_an_alarm_does_not_wait_for_company(tmp_path: Path) -> None:
    bench = Bench(tmp_path, outbox=OutboxConfig(budget_mb=64, commit_ms=30_000))
    bench.begin()
    bench.pass_time(31 * SECOND)

    bench.turn(bench.sealed(0, **ILL))

    alarms = [decode_edge_alarm(one.payload) for one in bench.arrived(FrameClass.ALARM) if one.payload]
    assert [alarm.rule_id for alarm in alarms] == ["news2"]
    assert "RR 26 (+3)" in alarms[0].text


def test_what_was_acknowledged_survives_a_crash_and_the_rest_is_asked_for_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    safe, unsafe = bench.sealed(0), bench.sealed(5_000)
    bench.turn(safe)
    bench.pass_time()
    bench.turn(unsafe)

    bench.crash()
    assert bench.agent.waiting == 1
    bench.turn(safe, unsafe)  # the wearable sends what it has no signature for, and once more what it has
    bench.pass_time()

    assert bench.signed_for() == {0, 1}
    assert bench.agent.counts.duplicates == 1
    assert bench.agent.waiting == 2
    (old,) = bench.arrived()  # the younger session waits until the cloud knows the older one
    bench.hear(bench.cloud_says(Stage.STORED, old.session_id, [(0, 0)]))
    (new,) = bench.arrived()
    assert [decode_edge_vitals(one.payload).at_ms - NOW for one in (old, new)] == [0, 5_000]


def test_after_a_restart_nothing_is_sealed_with_an_old_session(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.turn(bench.sealed(0))
    bench.pass_time()
    before = bench.arrived()

    bench.crash()
    bench.turn(bench.sealed(5_000))
    bench.pass_time()
    bench.hear(bench.cloud_says(Stage.DURABLE, before[0].session_id, [(0, 0)]))  # the younger session may follow now
    after = [one for one in bench.arrived() if one.counter == 0]

    assert len(before) == len(after) == 1
    assert before[0].session_id != after[0].session_id
    assert bench.agent.waiting == 2


def test_alarms_go_on_after_a_crash_with_the_same_names(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.turn(bench.sealed(0, **ILL))
    (alarm,) = [one for one in bench.arrived(FrameClass.ALARM) if one.payload]
    first = decode_edge_alarm(alarm.payload)

    bench.crash()
    bench.clock.advance(90 * SECOND)
    bench.turn(bench.sealed(91_000, **(ILL | {"heart_rate": 135.0})))
    bench.hear(bench.cloud_says(Stage.STORED, alarm.session_id, [(0, 0)]))
    later = [decode_edge_alarm(one.payload) for one in bench.arrived(FrameClass.ALARM) if one.payload]

    (news2,) = [alarm for alarm in later if alarm.rule_id == "news2"]
    assert (news2.alarm_id, news2.revision > first.revision) == (first.alarm_id, True)


def test_a_signature_of_the_cloud_frees_rows_and_a_forged_one_does_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.turn(bench.sealed(0), bench.sealed(5_000))
    bench.pass_time()
    session_id = bench.arrived()[0].session_id
    good = bench.cloud_says(Stage.STORED, session_id, [(0, 1)])

    for position in (10, 60, len(good) - 1):
        bench.hear(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
    assert bench.agent.waiting == 2
    assert bench.agent.counts.forged_acks == 3

    bench.hear(good)
    assert bench.agent.waiting == 0


def test_durable_in_the_cloud_is_not_stored(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.turn(bench.sealed(0))
    bench.pass_time()

    bench.hear(bench.cloud_says(Stage.DURABLE, bench.arrived()[0].session_id, [(0, 0)]))

    assert bench.agent.waiting == 1


def test_a_full_disk_postpones_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    full = True
    commit = Outbox.commit

    def maybe(outbox: Outbox, batch: Any) -> None:
        if full and batch.rows:
            raise NotCommitted("database or disk is full", full=True)
        commit(outbox, batch)

    monkeypatch.setattr(Outbox, "commit", maybe)
    first, second = bench.sealed(0), bench.sealed(5_000)
    bench.turn(first)
    bench.pass_time()
    (mid,) = bench.turn(second)

    assert bench.signed_for() == set()
    assert bench.agent.counts.postponed == 1
    assert mid in bench.hand.pubacks  # the broker need not keep it; the wearable does
    assert bench.agent.waiting == 0

    full = False
    bench.pass_time(2 * SECOND)
    bench.turn(first, second)  # the wearable's timers have run out
    bench.pass_time()
    assert bench.signed_for() == {0, 1}
    assert bench.agent.waiting == 2


def test_the_cloud_is_heard_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.turn(bench.sealed(0))
    bench.pass_time()
    session_id = bench.arrived()[0].session_id
    commit = Outbox.commit

    def no_room(outbox: Outbox, batch: Any) -> None:
        if batch.rows:
            raise NotCommitted("database or disk is full", full=True)
        commit(outbox, batch)

    monkeypatch.setattr(Outbox, "commit", no_room)
    bench.turn(bench.sealed(5_000))
    bench.pass_time()

    bench.hear(bench.cloud_says(Stage.STORED, session_id, [(0, 0)]))
    bench.pass_time(2 * SECOND)

    assert bench.agent.waiting == 0  # room was made by what the cloud has


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("heart_rate", float("nan"), Reason.VALUE),
        ("spo2", float("-inf"), Reason.VALUE),
        ("systolic_bp", 123_456.0, Reason.VALUE),
        ("consciousness", 9, Reason.VALUE),
        ("respiratory_rate", "many", Reason.SCHEMA),
    ],
)
def test_what_no_sensor_can_say_is_refused_for_good(name: str, value: object, reason: Reason, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()

    bench.turn(bench.sealed(0, **{name: value}), bench.sealed(5_000))
    bench.pass_time()

    (refusal,) = bench.told(Stage.REJECTED)
    assert refusal.ranges == ((0, 0),)
    assert bench.signed_for() == {1}
    assert bench.agent.counts.rejected == {reason: 1}
    assert bench.agent.counts.accepted == bench.agent.waiting == 1


def test_what_was_refused_is_not_signed_for_when_it_comes_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bad = bench.sealed(0, heart_rate=float("nan"))
    bench.turn(bad)

    bench.turn(bad)
    bench.pass_time()

    assert bench.signed_for() == set()
    assert {ack.ranges for ack in bench.told(Stage.REJECTED)} == {((0, 0),)}


def test_what_is_not_believed_is_counted_and_off_the_broker(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin(0, 1)
    good = bench.sealed(0)

    mids = [
        *bench.turn(b"", b"\x00" * 400, good[:-1] + bytes([good[-1] ^ 4])),
        *bench.turn(good, patient=1),  # Ann's frame on Bob's topic
    ]

    assert set(mids) <= set(bench.hand.pubacks)
    assert bench.agent.counts.rejected == {Reason.LENGTH: 1, Reason.MAGIC: 1, Reason.AUTH: 1, Reason.TOPIC: 1}
    assert bench.agent.counts.accepted == 0
    bench.turn(good)
    assert bench.agent.counts.accepted == 1


def test_an_unknown_session_is_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    bench.turn(bench.sealed(0))

    (question,) = bench.told(Stage.NEED_SESSION)
    assert question.session_id == bench.session().session_id


def test_a_wearable_whose_clock_is_ten_years_ahead_is_put_right_and_said(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()

    bench.turn(bench.sealed(0, t_ms=NOW + 3_653 * 24 * HOUR))
    bench.pass_time()

    (arrived,) = bench.arrived()
    message = decode_edge_vitals(arrived.payload)
    assert message.at_ms == message.received_ms
    assert message.vitals.t_ms == NOW + 3_653 * 24 * HOUR  # as the wearable said


def test_a_new_session_every_hour_and_the_old_one_is_still_sent(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.hand.connected = False
    bench.turn(bench.sealed(0))
    bench.pass_time(HOUR + SECOND)
    bench.turn(bench.sealed(5_000))
    bench.pass_time()

    bench.hand.connected = True
    for _ in range(3):
        bench.pass_time()
        for opened in bench.arrived(FrameClass.VITALS, FrameClass.ALARM):
            bench.hear(bench.cloud_says(Stage.STORED, opened.session_id, [(0, opened.counter)]))

    assert bench.agent.waiting == 0


def test_a_session_that_the_cloud_refuses_is_given_up_and_written_down(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.turn(bench.sealed(0), bench.sealed(5_000))
    bench.pass_time()
    session_id = bench.arrived()[0].session_id

    bench.hear(bench.cloud_says(Stage.NEED_SESSION, session_id, last_number=NOW + HOUR))

    assert bench.agent.waiting == 0
    assert bench.agent.counts.given_up == 2
    (gap,) = bench.agent._keeper.outbox.gaps()
    assert (gap.rows, gap.reason) == (2, "session refused")
    bench.turn(bench.sealed(10_000))  # and on it goes, with a number above the one that the cloud knows
    bench.pass_time()
    assert bench.agent.waiting == 1


def test_one_patient_s_poison_is_forwarded_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Pipeline.judge
    bench = Bench(tmp_path)
    ann = bench.site.wearables[0].me.device_id

    def judge(pipeline: Pipeline, opened: Any, vitals: Any, binding: Any, **when: int) -> object:
        if opened.sender == ann:
            raise ZeroDivisionError
        return sound(pipeline, opened, vitals, binding, **when)

    monkeypatch.setattr(Pipeline, "judge", judge)
    bench.begin(0, 1)

    bench.turn(bench.sealed(0))
    bench.turn(bench.sealed(0, patient=1), patient=1)
    bench.pass_time()

    assert bench.agent.counts.not_judged == 1
    assert len(bench.arrived()) == 2


def test_one_patient_s_binding_that_cannot_be_applied_leaves_the_others_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Pipeline.on_binding
    bench = Bench(tmp_path)
    ann, ben = (one.binding_id.hex() for one in bench.site.bindings)

    def on_binding(pipeline: Pipeline, period: BindingPeriod) -> object:
        if period.stay_id == ann:
            raise ZeroDivisionError
        return sound(pipeline, period)

    monkeypatch.setattr(Pipeline, "on_binding", on_binding)
    for _ in range(12):
        bench.pass_time(MINUTE)
    assert {alarm.stay_id for alarm in bench.agent._patients.open_alarms()} == {ben}
    assert bench.agent.counts.not_judged > 0

    monkeypatch.undo()
    for _ in range(12):
        bench.pass_time(MINUTE)
    assert {alarm.stay_id for alarm in bench.agent._patients.open_alarms()} == {ann, ben}


def test_the_bedside_sounds_when_the_cloud_is_silent_and_an_alarm_is_high(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    for second in range(0, 90, 5):
        bench.turn(bench.sealed(second * SECOND, **ILL))
        bench.pass_time(5 * SECOND)

    assert (tmp_path / "local_alarm").read_text() == "on\n"
    assert bench.agent.counts.local_alarms == 1

    bench.hear(bench.cloud_says(Stage.DURABLE, bytes(16)))
    assert (tmp_path / "local_alarm").read_text() == "off\n"


def test_a_heartbeat_says_how_the_edge_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.turn(bench.sealed(0), b"garbage" * 20)
    bench.pass_time()
    bench.arrived()
    bench.pass_time(31 * SECOND)

    beats = [decode_heartbeat(one.payload) for one in bench.arrived(FrameClass.HEARTBEAT)]

    said = beats[-1]
    assert said.outbox_rows == 1
    assert said.outbox_oldest_ms is not None
    assert said.outbox_oldest_ms >= 31 * SECOND
    assert said.rejected == {"magic": 1}
    assert said.model.startswith("rules + sepsis ")
    assert 0 <= said.outbox_used < 0.1
    assert [(frame_class, last) for _, frame_class, last in said.last_counters] == [(FrameClass.VITALS, 0)]
    assert (tmp_path / "alive").exists()


def test_a_wearable_that_answers_to_nobody_cannot_fill_memory(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    stranger = demo_site(wearables=1, edges=1, now_ms=NOW, name="another site").wearables[0]
    assert stranger.recipient is not None
    frames = [bench.new_session(number=NOW + n).frame[:8] + os.urandom(16) + b"\x00" * 288 for n in range(200)]

    bench.turn(*frames)

    assert bench.agent.counts.rejected[Reason.UNKNOWN_SENDER] + bench.agent.counts.rejected[Reason.TOPIC] == 200
    assert bench.agent._keeper.outbox.received() == []


def test_an_edge_s_identity_without_a_cloud_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.agent.close()
    nobody = Provision(me=bench.site.edges[0].me, directory=bench.site.edges[0].directory, recipient=None)

    with pytest.raises(Exception, match="names no recipient"):
        EdgeAgent(bench.config, nobody, bench.clock, rng=None)  # type: ignore[arg-type]


def test_readings_of_the_same_minute_are_still_accepted_while_timers_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.turn(bench.sealed(0))
    bench.pass_time(40 * MINUTE)  # signs became late and stale meanwhile

    bench.turn(bench.session().seal(encode(bench.vitals(40 * MINUTE)))[1])
    bench.pass_time()

    assert bench.agent.counts.accepted == 2
    assert bench.agent.counts.not_judged == 0


# Models


def scores(bench: Bench) -> list[ScoreV1]:
    return [score for one in bench.arrived(FrameClass.VITALS) for score in decode_edge_vitals(one.payload).scores]


def test_a_score_goes_to_the_cloud_with_its_reading(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    bench.turn(bench.sealed(0))
    bench.pass_time()

    (score,) = scores(bench)

    assert score.model == "sepsis"
    assert score.score is not None


def test_what_models_remember_outlives_kill_9(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    for minutes in range(0, 125, 5):
        bench.turn(bench.sealed(minutes * MINUTE))
        bench.pass_time(5 * MINUTE)
    known = bench.agent._patients._scoring._patients

    bench.crash()

    (before,), (after,) = known.values(), bench.agent._patients._scoring._patients.values()
    assert before.sepsis is not None
    assert after.sepsis is not None
    assert after.hour_ends_ms == before.hour_ends_ms
    assert after.sepsis.snapshot() == before.sepsis.snapshot()


def test_a_memory_is_not_readable_on_the_disk_and_fits_no_other_place(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.begin()
    for minutes in (0, 61):
        bench.turn(bench.sealed(minutes * MINUTE))
        bench.pass_time(61 * MINUTE)

    ((binding_id, locked),) = bench.agent._keeper.outbox.memories().items()

    assert bench.agent._patients._lock.unlock(binding_id, locked) is None
    assert bench.agent._patients._lock.unlock(b"memories" + binding_id, locked) is not None
    assert msgspec.msgpack.encode(98.0) not in locked


def test_a_damaged_model_is_told_in_heartbeat_and_alarm_and_the_rules_go_on(tmp_path: Path) -> None:
    (copied("sepsis", tmp_path / "models") / "model.onnx").write_bytes(b"damaged")
    bench = Bench(tmp_path, models=tmp_path / "models")
    bench.begin()
    bench.turn(bench.sealed(0, **ILL))
    bench.pass_time()

    arrived = [one for one in bench.arrived(FrameClass.HEARTBEAT, FrameClass.ALARM) if one.payload]
    beats = [decode_heartbeat(one.payload) for one in arrived if one.frame_class == FrameClass.HEARTBEAT]
    told = {decode_edge_alarm(one.payload).rule_id for one in arrived if one.frame_class == FrameClass.ALARM}
    assert beats[-1].model == "rules only (sepsis refused: hash)"
    assert told == {"news2", "model_unavailable"}


def test_a36_an_older_model_is_refused_by_an_edge_that_has_believed_a_newer_one(tmp_path: Path) -> None:
    home = copied("sepsis", tmp_path / "models")
    older = (home / FILE).read_bytes()
    resigned(home, version="99.0.0")
    bench = Bench(tmp_path, models=tmp_path / "models", model_keys=(PUBLIC,))
    assert bench.agent.judged_by == "rules + sepsis 99.0.0"

    (home / FILE).write_bytes(older)
    bench.crash()

    assert bench.agent.judged_by == "rules only (sepsis refused: version)"
