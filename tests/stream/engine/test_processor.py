"""The processor of a partition, without Kafka: restored states, damaged states, and the records it returns."""

from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from runtime.time_zone import clock_or_utc
from stream.engine.processor import EVENTS_PER_RECORD, CommitBatch, Processor
from stream.records import (
    AlarmRecord,
    FrameRef,
    ObservationRecord,
    PeriodRecord,
    ReadingRecord,
    StayEndedRecord,
    decode_alarm_record,
    decode_judgement_record,
    decode_state_row,
    encode_record,
    mark_of,
)
from tests.stream.cluster import record_of
from tests.stream.nights import BED_1, BED_2, a_bad_night, as_it_arrived, reading, stays_of_many_devices
from tests.stream.receiving_site import HOUR, NOW, SECOND
from tests.stream.test_records import BED, BEFORE_STAYS, GOLDEN
from vitals.messages import (
    AlarmChanged,
    BindingPeriod,
    Consciousness,
    Event,
    Message,
    ModelScore,
    News2Scored,
    Observation,
    ObservationRecorded,
    Reading,
    ReadingJudged,
    Tick,
)
from vitals.patient_group import PatientGroup
from vitals.patients import Patients
from vitals.plan import MonitoringPlan
from wire.errors import DecodeError


def record(
    message: Message, *, frame: int | None = None, scale: int = 1, group: PatientGroup = PatientGroup.UNSTATED
) -> bytes:
    assert not isinstance(message, Tick)
    if not isinstance(message, Reading | ModelScore):
        return record_of(message)
    ref = None if frame is None else FrameRef(b"e" * 16, b"s" * 16, 1, frame)
    return encode_record(
        ReadingRecord(messages=(message,), frame=ref, spo2_scale=scale, group=group)  # type: ignore[arg-type]
    )


def test_each_changed_patient_has_one_state_row() -> None:
    processor = Processor()
    for offset in range(20):
        processor.apply(offset, record(reading(offset * SECOND)))
    processor.apply(20, record(reading(0, bed=BED_2)))

    output = processor.drain()

    rows = {key.decode(): decode_state_row(value) for key, value in output.states}
    assert {bed: row.last_offset for bed, row in rows.items()} == {BED_1: 19, BED_2: 20}
    assert processor.drain().is_empty


def test_a_record_that_a_state_includes_is_not_applied_again() -> None:
    first = Processor()
    for offset in range(5):
        first.apply(offset, record(reading(offset * SECOND)))
    rows = first.drain().states

    again = Processor(rows, end=7)
    for offset in range(7):
        again.apply(offset, record(reading(offset * SECOND), frame=offset))

    (judged,) = [decode_judgement_record(value) for _, value in again.drain().judgements]
    assert [event.reading.at_ms - NOW for event in judged.events if isinstance(event, ReadingJudged)] == [5_000, 6_000]
    assert [one.counter for one in judged.frames] == [5, 6]


def test_a_state_of_a_deleted_topic_keeps_its_patient_and_forgets_its_offset() -> None:
    first = Processor()
    for offset in range(50):
        first.apply(offset, record(reading(offset * SECOND)))

    again = Processor(first.drain().states, end=3)
    again.apply(0, record(reading(60 * SECOND)))

    assert again.topic_was_recreated
    (judged,) = [decode_judgement_record(value) for _, value in again.drain().judgements]
    assert sum(isinstance(event, ReadingJudged) for event in judged.events) == 1


def test_a_state_knows_the_record_that_it_includes_last() -> None:
    first = Processor()
    values = [record(reading(offset * SECOND)) for offset in range(3)]
    for offset, value in enumerate(values):
        first.apply(offset, value)
    rows = first.drain().states

    again = Processor(rows, end=3)
    assert again.newest() == (2, mark_of(values[2]))
    assert Processor(again.drain().states or rows, end=3).newest() == (2, mark_of(values[2]))

    again.forget_offsets()  # another topic
    again.apply(0, record(reading(60 * SECOND)))
    assert again.applied == 1


def test_a_damaged_state_row_affects_only_its_patient() -> None:
    first = Processor()
    first.apply(0, record(reading(0)))
    first.apply(1, record(reading(0, bed=BED_2)))
    rows = [(key, b"damaged" if key == BED_1.encode() else value) for key, value in first.drain().states]

    again = Processor(rows, end=2)

    assert again.damaged == [BED_1]
    assert len(again) == 1


def test_a_snapshot_that_the_monitor_cannot_read_is_a_defect() -> None:
    first = Processor()
    first.apply(0, record(reading(0)))
    ((key, value),) = first.drain().states
    row = decode_state_row(value)
    broken = encode_record(type(row)(row.version, row.last_offset, row.spo2_scale, b"\x93nonsense"))

    again = Processor([(key, broken)], end=1)

    assert [binding for binding, _ in again.drain_defects()] == [BED_1]


def test_an_alarm_is_pending_at_once_and_has_a_record_of_its_own() -> None:
    processor = Processor()
    processor.apply(0, record(reading(0)))
    assert not processor.alarm_pending

    processor.apply(1, record(reading(5 * SECOND, spo2=84.0, respiratory_rate=27.0, systolic_bp=85.0)))
    assert processor.alarm_pending

    alarms = [decode_alarm_record(value) for _, value in processor.drain().alarms]
    assert {one.alarm.rule_id for one in alarms if isinstance(one, AlarmRecord)} == {"news2"}
    assert not processor.alarm_pending
    (_, _, high), unanswered = processor.open_alarms()
    assert high == unanswered > 0


def test_the_ordered_spo2_scale_survives_a_restart() -> None:
    first = Processor()
    first.apply(0, record(reading(0, spo2=90.0), scale=2))
    output = first.drain()
    again = Processor(output.states, end=1)
    again.apply(1, record(reading(5 * SECOND, spo2=90.0), scale=2))

    scales = {
        event.spo2_scale
        for one in (output, again.drain())
        for _, value in one.judgements
        for event in decode_judgement_record(value).events
        if isinstance(event, News2Scored)
    }
    assert scales == {2}


def scores_in(*outputs: CommitBatch) -> list[News2Scored]:
    return [
        event
        for one in outputs
        for _, value in one.judgements
        for event in decode_judgement_record(value).events
        if isinstance(event, News2Scored)
    ]


def test_a_child_has_no_score_before_and_after_a_restart() -> None:
    first = Processor()
    first.apply(0, record(reading(0, spo2=90.0), group=PatientGroup.CHILD))
    output = first.drain()
    again = Processor(output.states, end=1)
    again.apply(1, record(reading(5 * SECOND, spo2=90.0), group=PatientGroup.CHILD))

    assert scores_in(output, again.drain()) == []


def test_a_state_of_before_groups_were_stated_learns_it_from_the_next_reading() -> None:
    first = Processor()
    first.apply(0, record(reading(0, spo2=90.0)))
    output = first.drain()
    again = Processor(output.states, end=1)
    again.apply(1, record(reading(5 * SECOND, spo2=90.0), group=PatientGroup.CHILD))

    assert len(scores_in(output)) == 1
    assert scores_in(again.drain()) == []


def test_many_events_are_several_records_and_the_last_one_names_the_frames() -> None:
    processor = Processor()
    for offset in range(EVENTS_PER_RECORD):
        processor.apply(offset, record(reading(offset * SECOND), frame=offset))

    records = [decode_judgement_record(value) for _, value in processor.drain().judgements]

    assert len(records) > 1
    assert all(len(one.events) <= EVENTS_PER_RECORD for one in records)
    assert [len(one.frames) for one in records] == [0] * (len(records) - 1) + [EVENTS_PER_RECORD]


def test_a_value_that_is_not_a_record_changes_nothing() -> None:
    processor = Processor()

    for value in (b"", b"nonsense", None, b"\x92\xa7arrived\xc0"):
        with pytest.raises(DecodeError):
            processor.apply(0, value)

    assert processor.drain().is_empty


@pytest.mark.slow
@pytest.mark.parametrize("night", [a_bad_night, stays_of_many_devices])
def test_a_processor_restored_after_every_piece_of_a_night_ends_in_the_same_state(
    night: Callable[[], list[Message]],
) -> None:
    story = [one for one in as_it_arrived(night()) if not isinstance(one, Tick)]
    whole, rows = Processor(), []
    for offset, message in enumerate(story):
        whole.apply(offset, record(message))
    whole.tick(NOW + 6 * HOUR)
    for start in range(0, len(story), 37):
        piece = Processor(rows, end=len(story))
        for offset in range(start, min(start + 37, len(story))):
            piece.apply(offset, record(story[offset]))
        rows = list((dict(rows) | dict(piece.drain().states)).items())
    last = Processor(rows, end=len(story))
    last.tick(NOW + 6 * HOUR)

    assert dict(rows) | dict(last.drain().states) == dict(whole.drain().states)


def test_what_a_person_observed_at_an_edge_is_acknowledged_with_its_events() -> None:
    frame = FrameRef(b"e" * 16, b"s" * 16, 1, 9)
    processor = Processor()

    processor.apply(0, encode_record(ObservationRecord(message=observed(), frame=frame)))
    ((_, judged),) = processor.drain().judgements
    processor.apply(1, encode_record(ObservationRecord(message=observed(), frame=frame)))
    again = [decode_judgement_record(value) for _, value in processor.drain().judgements]

    first = decode_judgement_record(judged)
    assert first.frames == (frame,)
    (recorded,) = [one for one in first.events if isinstance(one, ObservationRecorded)]
    assert recorded.observation == observed()
    assert [one.frames for one in again] == [(frame,)]  # its first events may have been lost before they were stored


def test_an_observation_of_the_desk_moves_no_timer_of_the_workers() -> None:
    processor = Processor()

    processor.apply(0, encode_record(ObservationRecord(message=observed())))

    assert processor.heard_ms is None


@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_readings_of_all_devices_of_a_stay_meet_in_one_monitor(count: int) -> None:
    processor, direct = Processor(), Patients(lambda _: MonitoringPlan(), clock_of=clock_or_utc)
    events: list[Event] = []
    for number in range(12):
        device = number % count
        one = replace(
            reading(number * SECOND),
            binding_id=f"{device:032x}" if device else "",
            session_id=bytes([device]) * 16,
            counter=number // count,
        )
        events += direct.apply(one)
        processor.apply(number, encode_record(ReadingRecord(messages=(one,), frame=FrameRef(b"e", b"s", 1, number))))

    batch = processor.drain()

    ((key, row),) = batch.states
    assert (key.decode(), decode_state_row(row).snapshot) == (BED_1, direct.drain().snapshots[BED_1])
    ((_, value),) = batch.judgements
    assert list(decode_judgement_record(value).events) == [one for one in events if not isinstance(one, AlarmChanged)]
    assert [frame.counter for frame in decode_judgement_record(value).frames] == list(range(12))


def observed() -> Observation:
    return Observation(
        stay_id=BED_1,
        observation_id=b"o" * 16,
        by="anna",
        at_ms=NOW,
        entered_ms=NOW + SECOND,
        heard_ms=NOW + 2 * SECOND,
        consciousness=Consciousness.ALERT,
    )


def bound(after_ms: int, *, to_ms: int | None = None, group: PatientGroup = PatientGroup.UNSTATED) -> bytes:
    period = BindingPeriod(stay_id=BED_1, from_ms=NOW, to_ms=to_ms, heard_ms=NOW + after_ms)
    return encode_record(PeriodRecord(message=period, spo2_scale=2, group=group))


def test_a_binding_without_any_reading_has_a_state_a_deadline_and_its_own_scale() -> None:
    processor = Processor()
    processor.apply(0, bound(0))
    rows = processor.drain().states
    assert decode_state_row(rows[0][1]).spo2_scale == 2

    again = Processor(rows, end=1)
    again.tick(NOW + HOUR)

    (alarm,) = [decode_alarm_record(value) for _, value in again.drain().alarms][:1]
    assert isinstance(alarm, AlarmRecord)
    assert alarm.alarm.rule_id == "no_data"


def test_a_binding_states_the_group_of_the_patient_and_the_time_of_ingest() -> None:
    processor = Processor()
    processor.apply(0, bound(5 * SECOND, group=PatientGroup.CHILD))
    processor.apply(1, record(reading(6 * SECOND, heart_rate=140.0), group=PatientGroup.CHILD))

    batch = processor.drain()

    assert processor.heard_ms == NOW + 6 * SECOND
    assert decode_state_row(batch.states[0][1]).group is PatientGroup.CHILD
    events = [event for _, value in batch.judgements for event in decode_judgement_record(value).events]
    assert not any(isinstance(event, News2Scored) for event in events)
    processor.apply(2, bound(7 * SECOND, group=PatientGroup.CHILD))
    assert processor.heard_ms == NOW + 7 * SECOND


def test_a_repeated_binding_writes_nothing_after_the_first_reading() -> None:
    processor = Processor()
    processor.apply(0, bound(0))
    processor.apply(1, record(reading(SECOND)))
    processor.drain()

    processor.apply(2, bound(2 * SECOND))

    assert processor.drain().is_empty


def test_the_end_of_a_binding_comes_after_the_ends_of_its_alarms() -> None:
    processor = Processor()
    processor.apply(0, bound(0))
    processor.apply(1, record(reading(SECOND, heart_rate=140.0, respiratory_rate=25.0)))
    processor.drain()

    processor.apply(2, bound(2 * SECOND, to_ms=NOW + 2 * SECOND))

    *alarms, last = [decode_alarm_record(value) for _, value in processor.drain().alarms]
    assert alarms
    assert all(isinstance(one, AlarmRecord) and one.alarm.stay_ended for one in alarms)
    assert last == StayEndedRecord(stay_id=BED_1, ended_ms=NOW + 2 * SECOND, at_ms=NOW + 2 * SECOND)
    assert processor.timer_at() is None


def test_a_topic_and_states_of_the_version_before_stays_are_taken_over() -> None:
    before = {type(GOLDEN[place][0]): bytes.fromhex(earlier) for place, earlier in BEFORE_STAYS}
    first = Processor()
    first.apply(0, before[ReadingRecord])
    ((key, row),) = first.drain().states
    assert key.decode() == BED
    shorter = msgspec.msgpack.encode(msgspec.msgpack.decode(row)[:6])  # six fields, as it was

    again = Processor([(key, shorter)], end=2)
    again.apply(0, before[ReadingRecord])
    assert again.drain().is_empty  # the state includes it
    again.apply(1, before[PeriodRecord])

    assert not again.damaged
    ((_, ended),) = again.drain().states
    assert decode_state_row(ended).spo2_scale == 2
