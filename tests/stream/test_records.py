"""Kafka records: the bytes of every record type are fixed, whatever the classes and fields are called."""

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from stream.records import (
    STATE_VERSION,
    AlarmRecord,
    AnswerRecord,
    DeadLetter,
    EdgeAlarmRecord,
    FrameRef,
    HeartbeatRecord,
    JudgementRecord,
    ObservationRecord,
    PartitionHealth,
    PatientLocation,
    PatientStateRow,
    PeriodRecord,
    ReadingRecord,
    Record,
    RewriteRecord,
    StayEndedRecord,
    StoredFrames,
    decode_alarm_record,
    decode_dead_letter,
    decode_event_record,
    decode_health,
    decode_heartbeat_record,
    decode_judgement_record,
    decode_patient_record,
    decode_state_row,
    decode_stored_frames,
    encode_record,
)
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    AlarmKind,
    AlarmState,
    BindingPeriod,
    Consciousness,
    FreshnessChanged,
    ModelScore,
    ModelScored,
    News2Part,
    News2Scored,
    Observation,
    Priority,
    Reading,
    ReadingJudged,
    Silence,
    WindowClosed,
    WindowOutdated,
)
from vitals.patient_group import PatientGroup
from wire.codec import EdgeAlarmV1, HeartbeatV1
from wire.errors import DecodeError

BED = "ab" * 16
FRAME = FrameRef(b"edge-1-edge-1-ed", b"session-1-sessio", 1, 7)
READING = Reading(
    stay_id=BED,
    reading_id=b"r" * 16,
    session_id=b"s" * 16,
    counter=7,
    at_ms=1_000,
    received_ms=1_200,
    heart_rate=70.0,
    spo2=97.0,
    supplemental_oxygen=0.0,
    arrived_ms=1_500,
)
SCORE = ModelScore(
    stay_id=BED,
    reading_id=b"r" * 16,
    at_ms=1_000,
    received_ms=1_200,
    model="sepsis",
    version="1.2",
    score=0.25,
    threshold=0.5,
)
OBSERVATION = Observation(
    stay_id=BED,
    observation_id=b"o" * 16,
    by="nurse",
    at_ms=1_000,
    entered_ms=1_100,
    heard_ms=1_500,
    consciousness=Consciousness.VOICE,
    glucose=5.5,
    note="tired",
    edge="0e",
)
ALARM = AlarmChanged(
    stay_id=BED,
    alarm_id=b"a" * 16,
    rule_id="news2",
    kind=AlarmKind.PHYSIOLOGICAL,
    priority=Priority.HIGH,
    state=AlarmState.ACTIVE,
    at_ms=1_000,
    onset_ms=900,
    revision=1,
    text="NEWS2 7",
    basis="NEWS2",
)
EVENTS = (
    ReadingJudged(reading=READING, late=False, backfilled=False),
    News2Scored(
        stay_id=BED,
        reading_id=b"r" * 16,
        at_ms=1_000,
        total=None,
        at_least=3,
        risk="low",
        spo2_scale=1,
        parts=(News2Part("spo2", 97.0, 0, 0),),
    ),
    ModelScored(score=SCORE, late=False, backfilled=True),
    WindowClosed(stay_id=BED, sign="spo2", start_ms=0, width_ms=60_000, count=2, mean=96.5, minimum=96.0, maximum=97.0),
    WindowOutdated(stay_id=BED, sign="spo2", start_ms=0, width_ms=60_000),
    FreshnessChanged(stay_id=BED, sign="spo2", at_ms=1_000, state="fresh", age_ms=0),
)
EDGE_ALARM = EdgeAlarmV1(
    alarm_id=b"a" * 16,
    rule_id="news2",
    key="",
    kind="physiological",
    priority=3,
    state="active",
    at_ms=1_000,
    onset_ms=900,
    revision=1,
    text="NEWS2 7",
)
HEARTBEAT = HeartbeatV1(
    boot_id=b"b" * 8,
    at_ms=1_000,
    uptime_ms=500,
    clock_quality=2,
    outbox_rows=3,
    outbox_oldest_ms=None,
    outbox_used=0.5,
    last_counters=[(b"s" * 16, 1, 7)],
    void=[],
    closed=[],
    model="rules only",
    sensors=[],
    version="0.1.0",
    rejected={"auth": 1},
)

Decode = Callable[[bytes | None], Any]
GOLDEN: tuple[tuple[Record, Decode, str], ...] = (
    (
        ReadingRecord(messages=(READING, SCORE), frame=FRAME, spo2_scale=2),
        decode_patient_record,
        (
            "95a76172726976656492dc0018a772656164696e67d920616261626162616261626162616261626162616261626162616261"
            "6261626162c41072727272727272727272727272727272c4107373737373737373737373737373737307cd03e8cd04b0cb40"
            "51800000000000c0cb4058400000000000c0c0c0cb0000000000000000c000c000cd05dcc000a0a0009cab6d6f64656c5f73"
            "636f7265d9206162616261626162616261626162616261626162616261626162616261626162c41072727272727272727272"
            "727272727272cd03e8cd04b0a6736570736973a3312e32cb3fd0000000000000cb3fe0000000000000a0c0a094c410656467"
            "652d312d656467652d312d6564c41073657373696f6e2d312d73657373696f01070200"
        ),
    ),
    (
        AnswerRecord(message=Acknowledge(stay_id=BED, alarm_id=b"a" * 16, by="nurse", at_ms=2_000, revision=1)),
        decode_patient_record,
        (
            "92a76f72646572656498ab61636b6e6f776c65646765d9206162616261626162616261626162616261626162616261626162"
            "616261626162c41061616161616161616161616161616161a56e75727365cd07d001c0c0"
        ),
    ),
    (
        AnswerRecord(message=Silence(stay_id=BED, rule_id="news2", by="nurse", at_ms=2_000, until_ms=3_000)),
        decode_patient_record,
        (
            "92a76f72646572656499a773696c656e6365d920616261626162616261626162616261626162616261626162616261626162"
            "6162a56e65777332a56e75727365cd07d0cd0bb8c0c0c0"
        ),
    ),
    (
        JudgementRecord(stay_id=BED, events=EVENTS, frames=(FRAME,)),
        decode_judgement_record,
        (
            "94a66a7564676564d92061626162616261626162616261626162616261626162616261626162616261629694ae7265616469"
            "6e675f6a7564676564dc0018a772656164696e67d92061626162616261626162616261626162616261626162616261626162"
            "61626162c41072727272727272727272727272727272c4107373737373737373737373737373737307cd03e8cd04b0cb4051"
            "800000000000c0cb4058400000000000c0c0c0cb0000000000000000c000c000cd05dcc000a0a000c2c29cac6e657773325f"
            "73636f726564d9206162616261626162616261626162616261626162616261626162616261626162c4107272727272727272"
            "7272727272727272cd03e8c003a36c6f77019195a473706f32cb40584000000000000000a090000094ac6d6f64656c5f7363"
            "6f7265649cab6d6f64656c5f73636f7265d92061626162616261626162616261626162616261626162616261626162616261"
            "62c41072727272727272727272727272727272cd03e8cd04b0a6736570736973a3312e32cb3fd0000000000000cb3fe00000"
            "00000000a0c0a0c2c399ad77696e646f775f636c6f736564d920616261626162616261626162616261626162616261626162"
            "6162616261626162a473706f3200cdea6002cb4058200000000000cb4058000000000000cb405840000000000095af77696e"
            "646f775f6f75746461746564d9206162616261626162616261626162616261626162616261626162616261626162a473706f"
            "3200cdea6096b166726573686e6573735f6368616e676564d920616261626162616261626162616261626162616261626162"
            "6162616261626162a473706f32cd03e8a56672657368009194c410656467652d312d656467652d312d6564c4107365737369"
            "6f6e2d312d73657373696f0107"
        ),
    ),
    (
        AlarmRecord(alarm=ALARM),
        decode_alarm_record,
        (
            "92a7616c61726d6564dc0016ad616c61726d5f6368616e676564d92061626162616261626162616261626162616261626162"
            "61626162616261626162c41061616161616161616161616161616161a56e65777332a0ad70687973696f6c6f676963616c03"
            "a6616374697665cd03e8cd038401a74e455753322037a54e45575332c2c0c0c0c2a0cb0000000000000000c200"
        ),
    ),
    (
        EdgeAlarmRecord(stay_id=BED, alarm=EDGE_ALARM, arrived_ms=1_500, frame=FRAME),
        decode_alarm_record,
        (
            "96ac656467655f616c61726d6564d92061626162616261626162616261626162616261626162616261626162616261629c01"
            "c41061616161616161616161616161616161a56e65777332a0ad70687973696f6c6f676963616c03a6616374697665cd03e8"
            "cd038401a74e455753322037cb0000000000000000cd05dc94c410656467652d312d656467652d312d6564c4107365737369"
            "6f6e2d312d73657373696f0107c3"
        ),
    ),
    (
        HeartbeatRecord(heartbeat=HEARTBEAT, arrived_ms=1_500, frame=FRAME),
        decode_heartbeat_record,
        (
            "94a462656174dc001301c4086262626262626262cd03e8cd01f40203c0cb3fe00000000000009193c4107373737373737373"
            "737373737373737301079090aa72756c6573206f6e6c7990a5302e312e3081a46175746801a00000c400cd05dc94c4106564"
            "67652d312d656467652d312d6564c41073657373696f6e2d312d73657373696f0107"
        ),
    ),
    (
        StoredFrames(frames=(FRAME,), reason="value"),
        decode_stored_frames,
        "93a673746f7265649194c410656467652d312d656467652d312d6564c41073657373696f6e2d312d73657373696f0107a576616c7565",
    ),
    (
        PartitionHealth(
            partition=3,
            worker="w-1",
            at_ms=1_000,
            patients=2,
            open_alarms=(1, 0, 2),
            unanswered=1,
            lag=5,
            worst_age_ms=40,
        ),
        decode_health,
        "99b0706172746974696f6e5f6865616c746803a3772d31cd03e80293010002010528",
    ),
    (
        PatientLocation(stay_id=BED, patient="p-1", bed="north/1", edge_id="0e", at_ms=1_000, valid_from_ms=500),
        decode_health,
        (
            "9ba6706c61636564d9206162616261626162616261626162616261626162616261626162616261626162a3702d31a76e6f72"
            "74682f31a23065cd03e8cd01f4c0009090"
        ),
    ),
    (
        DeadLetter(
            stage="ingest",
            reason="schema",
            problem="x",
            at_ms=1_000,
            source="s/1",
            payload=b"?",
            version="0.1.0",
            frame=FRAME,
            binding_id=BED,
        ),
        decode_dead_letter,
        (
            "9aab646561645f6c6574746572a6696e67657374a6736368656d61a178cd03e8a3732f31c4013fa5302e312e3094c4106564"
            "67652d312d656467652d312d6564c41073657373696f6e2d312d73657373696f0107d9206162616261626162616261626162"
            "616261626162616261626162616261626162"
        ),
    ),
    (
        RewriteRecord(topic="vl.events.v1", value=b"a record"),
        decode_event_record,
        "94a772657772697465ac766c2e6576656e74732e7631c40861207265636f7264a0",
    ),
    (
        PatientStateRow(STATE_VERSION, 41, 2, b"snapshot"),
        decode_state_row,
        "97012902c408736e617073686f7400c400c400",
    ),
    (
        PeriodRecord(
            message=BindingPeriod(stay_id=BED, from_ms=1_000, to_ms=2_000, heard_ms=2_100, edge_heard_ms=2_050),
            spo2_scale=2,
            group=PatientGroup.CHILD,
        ),
        decode_patient_record,
        (
            "95a5626f756e649aae62696e64696e675f706572696f64d92061626162616261626162616261626162616261626162616261"
            "62616261626162cd03e8cd07d0cd0834cd0802a0c2c0a00202c400"
        ),
    ),
    (
        ObservationRecord(message=OBSERVATION, frame=FRAME),
        decode_patient_record,
        (
            "93a86f62736572766564dc0016ab6f62736572766174696f6ed9206162616261626162616261626162616261626162616261"
            "626162616261626162c4106f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6fa56e75727365cd03e8cd044ccd05dc02c0c0a0c0c0c0c0"
            "c0c0cb4016000000000000c0a57469726564c400a2306594c410656467652d312d656467652d312d6564c41073657373696f"
            "6e2d312d73657373696f0107"
        ),
    ),
    (
        StayEndedRecord(stay_id=BED, ended_ms=2_000, at_ms=2_100),
        decode_alarm_record,
        (
            "94ad62696e64696e675f656e646564d9206162616261626162616261626162616261626162616261626162616261626162cd"
            "07d0cd0834"
        ),
    ),
)


@pytest.mark.parametrize(
    ("record", "decode", "expected"), GOLDEN, ids=[f"{n}-{type(row[0]).__name__}" for n, row in enumerate(GOLDEN)]
)
def test_a_record_has_the_same_bytes_as_in_earlier_versions(record: Record, decode: Decode, expected: str) -> None:
    assert encode_record(record).hex() == expected
    assert decode(bytes.fromhex(expected)) == record


# Before answers and silences named a sign and a grade, alarms had a grade, and states a mark; by place in GOLDEN.
EARLIER = {
    12: ("94012902c408736e617073686f74"),  # before states had the mark of a record
    1: (
        "92a76f72646572656497ab61636b6e6f776c65646765d9206162616261626162616261626162616261626162616261626162"
        "616261626162c41061616161616161616161616161616161a56e75727365cd07d001c0"
    ),
    2: (
        "92a76f72646572656497a773696c656e6365d920616261626162616261626162616261626162616261626162616261626162"
        "6162a56e65777332a56e75727365cd07d0cd0bb8c0"
    ),
    4: (
        "92a7616c61726d6564dc0013ad616c61726d5f6368616e676564d92061626162616261626162616261626162616261626162"
        "61626162616261626162c41061616161616161616161616161616161a56e65777332a0ad70687973696f6c6f676963616c03"
        "a6616374697665cd03e8cd038401a74e455753322037a54e45575332c2c0c0c0c2a0"
    ),
    5: (
        "95ac656467655f616c61726d6564d92061626162616261626162616261626162616261626162616261626162616261629b01"
        "c41061616161616161616161616161616161a56e65777332a0ad70687973696f6c6f676963616c03a6616374697665cd03e8"
        "cd038401a74e455753322037cd05dc94c410656467652d312d656467652d312d6564c41073657373696f6e2d312d73657373"
        "696f0107"
    ),
}


@pytest.mark.parametrize("place", EARLIER)
def test_a_record_of_an_earlier_version_is_still_read(place: int) -> None:
    record, decode, _ = GOLDEN[place]

    assert decode(bytes.fromhex(EARLIER[place])) == record


@pytest.mark.parametrize(
    ("earlier", "place"),
    [
        (
            (
                "94a76172726976656492dc0013a772656164696e67d920616261626162616261626162616261626162616261626162616261"
                "6261626162c41072727272727272727272727272727272c4107373737373737373737373737373737307cd03e8cd04b0cb40"
                "51800000000000c0cb4058400000000000c0c0c0cb0000000000000000c000c000cd05dc9bab6d6f64656c5f73636f7265d9"
                "206162616261626162616261626162616261626162616261626162616261626162c410727272727272727272727272727272"
                "72cd03e8cd04b0a6736570736973a3312e32cb3fd0000000000000cb3fe0000000000000a0c094c410656467652d312d6564"
                "67652d312d6564c41073657373696f6e2d312d73657373696f010702"
            ),
            0,
        ),
        (
            (
                "94a66a7564676564d92061626162616261626162616261626162616261626162616261626162616261629694ae7265616469"
                "6e675f6a7564676564dc0013a772656164696e67d92061626162616261626162616261626162616261626162616261626162"
                "61626162c41072727272727272727272727272727272c4107373737373737373737373737373737307cd03e8cd04b0cb4051"
                "800000000000c0cb4058400000000000c0c0c0cb0000000000000000c000c000cd05dcc2c299ac6e657773325f73636f7265"
                "64d9206162616261626162616261626162616261626162616261626162616261626162c41072727272727272727272727272"
                "727272cd03e8c003a36c6f77019194a473706f32cb4058400000000000000094ac6d6f64656c5f73636f7265649bab6d6f64"
                "656c5f73636f7265d9206162616261626162616261626162616261626162616261626162616261626162c410727272727272"
                "72727272727272727272cd03e8cd04b0a6736570736973a3312e32cb3fd0000000000000cb3fe0000000000000a0c0c2c399"
                "ad77696e646f775f636c6f736564d9206162616261626162616261626162616261626162616261626162616261626162a473"
                "706f3200cdea6002cb4058200000000000cb4058000000000000cb405840000000000095af77696e646f775f6f7574646174"
                "6564d9206162616261626162616261626162616261626162616261626162616261626162a473706f3200cdea6096b1667265"
                "73686e6573735f6368616e676564d9206162616261626162616261626162616261626162616261626162616261626162a473"
                "706f32cd03e8a56672657368009194c410656467652d312d656467652d312d6564c41073657373696f6e2d312d7365737369"
                "6f0107"
            ),
            3,
        ),
    ],
)
def test_a_reading_of_before_it_told_its_age_is_still_read(earlier: str, place: int) -> None:
    record, decode, _ = GOLDEN[place]

    assert decode(bytes.fromhex(earlier)) == record


@pytest.mark.parametrize(
    ("fields", "end"),
    [("12", ""), ("13", "a0"), ("14", "a0cb0000000000000000")],
    ids=["no recommended response", "no grade", "no end of a binding"],
)
def test_an_alarm_of_an_earlier_version_is_still_read(fields: str, end: str) -> None:
    earlier = (
        f"92a7616c61726d6564dc00{fields}ad616c61726d5f6368616e676564d92061626162616261626162616261626162616261626162"
        "61626162616261626162c41061616161616161616161616161616161a56e65777332a0ad70687973696f6c6f676963616c03"
        f"a6616374697665cd03e8cd038401a74e455753322037a54e45575332c2c0c0c0c2{end}"
    )

    assert decode_alarm_record(bytes.fromhex(earlier)) == AlarmRecord(alarm=ALARM)


@pytest.mark.parametrize(
    ("number", "earlier"),
    [
        (
            0,
            (
                "94a76172726976656492dc0013a772656164696e67d920616261626162616261626162616261626162616261626162616261"
                "6261626162c41072727272727272727272727272727272c4107373737373737373737373737373737307cd03e8cd04b0cb40"
                "51800000000000c0cb4058400000000000c0c0c0cb0000000000000000c000c000cd05dc9bab6d6f64656c5f73636f7265d9"
                "206162616261626162616261626162616261626162616261626162616261626162c410727272727272727272727272727272"
                "72cd03e8cd04b0a6736570736973a3312e32cb3fd0000000000000cb3fe0000000000000a0c094c410656467652d312d6564"
                "67652d312d6564c41073657373696f6e2d312d73657373696f010702"
            ),
        ),
        (
            9,
            (
                "98a6706c61636564d9206162616261626162616261626162616261626162616261626162616261626162a3702d31a76e6f72"
                "74682f31a23065cd03e8cd01f4c0"
            ),
        ),
        (
            12,
            ("94012902c408736e617073686f74"),
        ),
    ],
)
def test_a_record_of_before_the_group_of_a_patient_was_stated_is_still_read(number: int, earlier: str) -> None:
    record, decode, _ = GOLDEN[number]

    assert decode(bytes.fromhex(earlier)) == record


def test_judgements_of_before_a_score_said_what_is_due_are_still_read() -> None:
    earlier = (
        "94a66a7564676564d92061626162616261626162616261626162616261626162616261626162616261629694ae7265616469"
        "6e675f6a7564676564dc0013a772656164696e67d92061626162616261626162616261626162616261626162616261626162"
        "61626162c41072727272727272727272727272727272c4107373737373737373737373737373737307cd03e8cd04b0cb4051"
        "800000000000c0cb4058400000000000c0c0c0cb0000000000000000c000c000cd05dcc2c299ac6e657773325f73636f7265"
        "64d9206162616261626162616261626162616261626162616261626162616261626162c41072727272727272727272727272"
        "727272cd03e8c003a36c6f77019194a473706f32cb4058400000000000000094ac6d6f64656c5f73636f7265649bab6d6f64"
        "656c5f73636f7265d9206162616261626162616261626162616261626162616261626162616261626162c410727272727272"
        "72727272727272727272cd03e8cd04b0a6736570736973a3312e32cb3fd0000000000000cb3fe0000000000000a0c0c2c399"
        "ad77696e646f775f636c6f736564d9206162616261626162616261626162616261626162616261626162616261626162a473"
        "706f3200cdea6002cb4058200000000000cb4058000000000000cb405840000000000095af77696e646f775f6f7574646174"
        "6564d9206162616261626162616261626162616261626162616261626162616261626162a473706f3200cdea6096b1667265"
        "73686e6573735f6368616e676564d9206162616261626162616261626162616261626162616261626162616261626162a473"
        "706f32cd03e8a56672657368009194c410656467652d312d656467652d312d6564c41073657373696f6e2d312d7365737369"
        "6f0107"
    )

    assert decode_judgement_record(bytes.fromhex(earlier)) == GOLDEN[3][0]


@pytest.mark.parametrize(
    ("earlier", "order"),
    [
        (
            (
                "92a76f72646572656496ab61636b6e6f776c65646765d9206162616261626162616261626162616261626162616261626162"
                "616261626162c41061616161616161616161616161616161a56e75727365cd07d001"
            ),
            Acknowledge(stay_id=BED, alarm_id=b"a" * 16, by="nurse", at_ms=2_000, revision=1),
        ),
        (
            (
                "92a76f72646572656496a773696c656e6365d920616261626162616261626162616261626162616261626162616261626162"
                "6162a56e65777332a56e75727365cd07d0cd0bb8"
            ),
            Silence(stay_id=BED, rule_id="news2", by="nurse", at_ms=2_000, until_ms=3_000),
        ),
    ],
    ids=["acknowledge", "silence"],
)
def test_an_order_of_before_it_named_a_priority_is_still_read(earlier: str, order: Acknowledge | Silence) -> None:
    assert decode_patient_record(bytes.fromhex(earlier)) == AnswerRecord(message=order)


# Bytes of the version in which a patient was one binding, where they differ, by place in `GOLDEN`.
BEFORE_STAYS: tuple[tuple[int, str], ...] = (
    (
        0,
        (
            "95a76172726976656492dc0016a772656164696e67d9206162616261626162616261626162616261626162616261626162"
            "616261626162c41072727272727272727272727272727272c4107373737373737373737373737373737307cd03e8cd04b0"
            "cb4051800000000000c0cb4058400000000000c0c0c0cb0000000000000000c000c000cd05dcc000a09bab6d6f64656c5f"
            "73636f7265d9206162616261626162616261626162616261626162616261626162616261626162c4107272727272727272"
            "7272727272727272cd03e8cd04b0a6736570736973a3312e32cb3fd0000000000000cb3fe0000000000000a0c094c41065"
            "6467652d312d656467652d312d6564c41073657373696f6e2d312d73657373696f01070200"
        ),
    ),  # ReadingRecord
    (
        3,
        (
            "94a66a7564676564d92061626162616261626162616261626162616261626162616261626162616261629694ae72656164"
            "696e675f6a7564676564dc0016a772656164696e67d9206162616261626162616261626162616261626162616261626162"
            "616261626162c41072727272727272727272727272727272c4107373737373737373737373737373737307cd03e8cd04b0"
            "cb4051800000000000c0cb4058400000000000c0c0c0cb0000000000000000c000c000cd05dcc000a0c2c29bac6e657773"
            "325f73636f726564d9206162616261626162616261626162616261626162616261626162616261626162c4107272727272"
            "7272727272727272727272cd03e8c003a36c6f77019194a473706f32cb40584000000000000000900094ac6d6f64656c5f"
            "73636f7265649bab6d6f64656c5f73636f7265d92061626162616261626162616261626162616261626162616261626162"
            "61626162c41072727272727272727272727272727272cd03e8cd04b0a6736570736973a3312e32cb3fd0000000000000cb"
            "3fe0000000000000a0c0c2c399ad77696e646f775f636c6f736564d9206162616261626162616261626162616261626162"
            "616261626162616261626162a473706f3200cdea6002cb4058200000000000cb4058000000000000cb4058400000000000"
            "95af77696e646f775f6f75746461746564d920616261626162616261626162616261626162616261626162616261626162"
            "6162a473706f3200cdea6096b166726573686e6573735f6368616e676564d9206162616261626162616261626162616261"
            "626162616261626162616261626162a473706f32cd03e8a56672657368009194c410656467652d312d656467652d312d65"
            "64c41073657373696f6e2d312d73657373696f0107"
        ),
    ),  # JudgementRecord
    (
        4,
        (
            "92a7616c61726d6564dc0015ad616c61726d5f6368616e676564d920616261626162616261626162616261626162616261"
            "6261626162616261626162c41061616161616161616161616161616161a56e65777332a0ad70687973696f6c6f67696361"
            "6c03a6616374697665cd03e8cd038401a74e455753322037a54e45575332c2c0c0c0c2a0cb0000000000000000c2"
        ),
    ),  # AlarmRecord
    (
        9,
        (
            "99a6706c61636564d9206162616261626162616261626162616261626162616261626162616261626162a3702d31a76e6f"
            "7274682f31a23065cd03e8cd01f4c000"
        ),
    ),  # PatientLocation
    (12, ("96012902c408736e617073686f7400c400")),  # PatientStateRow
    (
        13,
        (
            "94a5626f756e6496ae62696e64696e675f706572696f64d920616261626162616261626162616261626162616261626162"
            "6162616261626162cd03e8cd07d0cd0834cd08020202"
        ),
    ),  # PeriodRecord
)


@pytest.mark.parametrize(("place", "earlier"), BEFORE_STAYS)
def test_a_record_of_before_stays_is_still_read(place: int, earlier: str) -> None:
    record, decode, now = GOLDEN[place]

    assert earlier != now
    assert decode(bytes.fromhex(earlier)) == record


def test_every_record_type_is_in_the_table_of_bytes() -> None:
    assert {type(record) for record, _, _ in GOLDEN} == set(get_args(Record))


def test_a_state_row_of_another_version_is_refused() -> None:
    other = msgspec.msgpack.encode([STATE_VERSION + 1, 41, 2, b"snapshot"])

    with pytest.raises(DecodeError, match=f"version {STATE_VERSION + 1}"):
        decode_state_row(other)
