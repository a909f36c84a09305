"""Payloads are checked before a value is believed; whatever is thrown at the wire, only its own errors come out."""

import contextlib
from collections.abc import Callable
from math import inf, nan
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.wire.sites import AT_MS, Site, begin, named
from vitals.messages import Activity, Consciousness, Observation, SensorFlag
from wire.codec import (
    MAX_BYTES,
    MAX_TIME_MS,
    EdgeAlarmV1,
    EdgeVitalsV1,
    HeartbeatV1,
    OriginV1,
    ScoreV1,
    VitalsV1,
    VitalsV2,
    activity_of,
    decode_edge_alarm,
    decode_edge_vitals,
    decode_heartbeat,
    decode_observation,
    decode_vitals,
    encode,
    from_observation,
    holds_observation,
    reading_id,
    to_observation,
    to_reading,
    to_scores,
)
from wire.errors import DecodeError, Reason, Rejected
from wire.receiver import Opened

VITALS = VitalsV1(
    t_ms=AT_MS,
    t_quality=2,
    uptime_ms=60_000,
    heart_rate=72.0,
    respiratory_rate=16.0,
    spo2=97.0,
    supplemental_oxygen=0.0,
    systolic_bp=120.0,
    diastolic_bp=80.0,
    temperature=36.8,
    consciousness=0,
    sensor_flags=0,
    battery=88.0,
)
WALKING = VitalsV2(activity=int(Activity.WALK), **msgspec.structs.asdict(VITALS))
EDGE_VITALS = EdgeVitalsV1(
    origin=OriginV1(wearable_id=named("ann"), session_id=named("session"), counter=7),
    vitals=VITALS,
    at_ms=AT_MS,
    received_ms=AT_MS + 40,
    sensor_flags=int(SensorFlag.MOTION),
    unusable=0b10,
    scores=(
        ScoreV1(model="sepsis", version="1.0.0", score=0.061, threshold=0.0286, reason="RR 28 (+1.2)"),
        ScoreV1(model="heart", version="", score=None, threshold=1.0, reason="refused: hash"),
    ),
)
ALARM = EdgeAlarmV1(
    alarm_id=named("alarm"), rule_id="spo2-low", key="spo2", kind="physiological", priority=3, state="active",
    at_ms=AT_MS, onset_ms=AT_MS - 10_000, revision=1, text="SpO2 low",
)  # fmt: skip
HEARTBEAT = HeartbeatV1(
    boot_id=named("boot"), at_ms=AT_MS, uptime_ms=60_000, clock_quality=2, outbox_rows=3, outbox_oldest_ms=None,
    outbox_used=0.01, last_counters=[(named("session"), 1, 7)], void=[], closed=[(named("old"), 99)],
    model="rules only", sensors=[(named("ann"), "on")], version="0.1.0", rejected={"auth": 2},
)  # fmt: skip

MESSAGES: tuple[tuple[Any, Callable[[bytes], Any]], ...] = (
    (VITALS, decode_vitals),
    (WALKING, decode_vitals),
    (EDGE_VITALS, decode_edge_vitals),
    (ALARM, decode_edge_alarm),
    (HEARTBEAT, decode_heartbeat),
)
NAMES = [type(message).__name__ for message, _ in MESSAGES]
MEASURES = (
    "heart_rate",
    "respiratory_rate",
    "spo2",
    "supplemental_oxygen",
    "systolic_bp",
    "diastolic_bp",
    "temperature",
    "battery",
)
PACK = msgspec.msgpack.encode


def as_list(message: Any) -> Any:
    """The message as the plain list that goes over the wire."""
    return msgspec.msgpack.decode(encode(message))


def with_place(message: Any, place: int, value: object) -> bytes:
    """The message's bytes with another value in one place."""
    fields = as_list(message)
    fields[place] = value
    return PACK(fields)


def refusal(decode: Callable[[bytes], Any], payload: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(payload)
    return caught.value


@pytest.mark.parametrize(("message", "decode"), MESSAGES, ids=NAMES)
def test_a_message_comes_back_as_it_was(message: Any, decode: Callable[[bytes], Any]) -> None:
    assert decode(encode(message)) == message
    assert encode(decode(encode(message))) == encode(message)


# 15 fields: schema 2, the twelve values and flags of schema 1 after the times, and the activity at the end.
WALK_IN_HEX = (
    "9f02cf000001a0c4506c0002cdea60cb4052000000000000cb4030000000000000cb4058400000000000cb0000000000"
    "000000cb405e000000000000cb4054000000000000cb40426666666666660000cb405600000000000003"
)


def test_what_a_wearable_says_of_a_walk_is_the_last_byte_and_the_schema_number() -> None:
    without = encode(VITALS)

    assert encode(WALKING).hex() == WALK_IN_HEX
    assert encode(WALKING) == bytes([without[0] + 1, 2]) + without[2:] + bytes([3])


def test_a_wearable_that_knows_no_activity_sends_what_it_always_sent() -> None:
    assert encode(VITALS)[:2].hex() == "9e01"
    assert type(decode_vitals(encode(VITALS))) is VitalsV1
    assert activity_of(VITALS) is Activity.UNKNOWN


@pytest.mark.parametrize("activity", Activity)
def test_an_edge_passes_on_what_the_wearer_does(activity: Activity) -> None:
    told = replace(EDGE_VITALS, vitals=replace(WALKING, activity=int(activity)))

    arrived = decode_edge_vitals(encode(told))

    assert arrived == told
    assert to_reading(arrived, named("binding")).activity == activity
    assert to_reading(EDGE_VITALS, named("binding")).activity == Activity.UNKNOWN


@pytest.mark.parametrize("number", [5, 99, -1, 2**40, -(2**40)])
def test_an_activity_of_a_later_version_is_unknown_and_the_vital_signs_count(number: int) -> None:
    arrived = decode_vitals(encode(replace(WALKING, activity=number)))

    assert activity_of(arrived) is Activity.UNKNOWN
    assert arrived.heart_rate == WALKING.heart_rate


@pytest.mark.parametrize("value", ["walk", None, 3.5, [], True])
def test_an_activity_that_is_no_number_is_refused_by_name(value: object) -> None:
    refused = refusal(decode_vitals, with_place(WALKING, 14, value))

    assert refused.reason is Reason.SCHEMA
    assert "activity" in str(refused)


def test_an_activity_that_is_missing_or_told_in_the_first_schema_is_refused() -> None:
    assert refusal(decode_vitals, PACK(as_list(WALKING)[:-1])).reason is Reason.SCHEMA
    assert refusal(decode_vitals, with_place(WALKING, 0, 1)).reason is Reason.SCHEMA


def test_a_fault_in_a_reading_inside_an_edges_is_named_in_either_schema() -> None:
    for vitals in (VITALS, WALKING):
        fields = as_list(replace(EDGE_VITALS, vitals=vitals))
        fields[2][4] = "fast"

        assert "vitals.heart_rate" in str(refusal(decode_edge_vitals, PACK(fields)))


def test_a_reading_with_nothing_measured_is_a_reading() -> None:
    empty = VitalsV1(t_ms=0, t_quality=0, uptime_ms=0)

    assert decode_vitals(encode(empty)) == empty


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("value", [nan, inf, -inf, 10_000.5, -10_000.5, 1e308, -1e308])
def test_what_no_sensor_can_say_is_refused_by_name(name: str, value: float) -> None:
    refused = refusal(decode_vitals, encode(msgspec.structs.replace(VITALS, **{name: value})))

    assert refused.reason is Reason.VALUE
    assert str(refused).startswith(f"{name}:")


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, 10_000.0, -10_000.0, 5e-324])
def test_what_is_merely_implausible_is_for_the_kernel_to_judge(value: float) -> None:
    assert decode_vitals(encode(msgspec.structs.replace(VITALS, heart_rate=value))).heart_rate == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("t_ms", -1),
        ("t_ms", MAX_TIME_MS),
        ("uptime_ms", -1),
        ("uptime_ms", 2**63),
        ("t_quality", -1),
        ("t_quality", 3),
        ("consciousness", -1),
        ("consciousness", 5),
        ("sensor_flags", -1),
        ("sensor_flags", 2**16),
    ],
)
def test_whole_numbers_have_bounds_too(name: str, value: int) -> None:
    refused = refusal(decode_vitals, encode(msgspec.structs.replace(VITALS, **{name: value})))

    assert refused.reason is Reason.VALUE
    assert str(refused).startswith(f"{name}:")


@pytest.mark.parametrize(
    ("name", "value"),
    [("t_ms", 0), ("t_ms", MAX_TIME_MS - 1), ("consciousness", 4), ("t_quality", 0), ("sensor_flags", 2**16 - 1)],
)
def test_bounds_include_their_ends(name: str, value: int) -> None:
    assert getattr(decode_vitals(encode(msgspec.structs.replace(VITALS, **{name: value}))), name) == value


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (1, "t_ms", "now"),
        (1, "t_ms", 1.5),
        (1, "t_ms", None),
        (2, "t_quality", True),
        (4, "heart_rate", "72"),
        (4, "heart_rate", True),
        (4, "heart_rate", [72]),
        (5, "respiratory_rate", b"16"),
        (11, "consciousness", "A"),
        (12, "sensor_flags", {}),
        (13, "battery", "full"),
    ],
)
def test_a_wrong_type_is_refused_by_name(place: int, name: str, value: object) -> None:
    refused = refusal(decode_vitals, with_place(VITALS, place, value))

    assert refused.reason is Reason.SCHEMA
    assert str(refused).endswith(f"at `{name}`")


@pytest.mark.parametrize(
    ("message", "decode", "path", "name"),
    [
        (EDGE_VITALS, decode_edge_vitals, (2, 4), "vitals.heart_rate"),
        (EDGE_VITALS, decode_edge_vitals, (1, 0), "origin.wearable_id"),
        (ALARM, decode_edge_alarm, (5,), "priority"),
        (HEARTBEAT, decode_heartbeat, (8, 0, 1), "last_counters[0][1]"),
    ],
)
def test_a_wrong_type_within_is_named_with_its_path(
    message: Any, decode: Callable[[bytes], Any], path: tuple[int, ...], name: str
) -> None:
    fields = as_list(message)
    within = fields
    for place in path[:-1]:
        within = within[place]
    within[path[-1]] = "high"

    assert str(refusal(decode, PACK(fields))).endswith(f"at `{name}`")


@pytest.mark.parametrize("schema", [0, 3, -1, 2**40, "1", None])
@pytest.mark.parametrize(("message", "decode"), MESSAGES, ids=NAMES)
def test_another_schema_is_refused(message: Any, decode: Callable[[bytes], Any], schema: object) -> None:
    refused = refusal(decode, with_place(message, 0, schema))

    assert refused.reason is Reason.SCHEMA
    assert "schema" in str(refused)


@pytest.mark.parametrize(("message", "decode"), MESSAGES, ids=NAMES)
def test_a_field_too_many_is_refused(message: Any, decode: Callable[[bytes], Any]) -> None:
    fields = as_list(message)

    assert refusal(decode, PACK([*fields, 1])).reason is Reason.SCHEMA


@pytest.mark.parametrize(("message", "decode"), MESSAGES, ids=NAMES)
def test_every_required_field_is_required(message: Any, decode: Callable[[bytes], Any]) -> None:
    fields = as_list(message)

    for kept in range(4):
        assert refusal(decode, PACK(fields[:kept])).reason is Reason.SCHEMA


@pytest.mark.parametrize(("message", "decode"), MESSAGES, ids=NAMES)
@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"\x90", b"\x80", b"\xc0", b"{}", b"\x91" * 8_000, b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"],
    ids=["nothing", "no type", "[]", "{}", "nil", "JSON", "nested", "a huge array", "a huge string"],
)
def test_what_is_no_message_is_refused(message: Any, decode: Callable[[bytes], Any], payload: bytes) -> None:
    assert refusal(decode, payload).reason is Reason.SCHEMA


@pytest.mark.parametrize(("message", "decode"), MESSAGES, ids=NAMES)
def test_a_message_that_is_cut_off_or_goes_on_is_refused(message: Any, decode: Callable[[bytes], Any]) -> None:
    payload = encode(message)

    for length in range(len(payload)):
        assert refusal(decode, payload[:length]).reason is Reason.SCHEMA
    assert refusal(decode, payload + b"\x00").reason is Reason.SCHEMA


def test_too_many_bytes_are_not_even_looked_at() -> None:
    long = msgspec.structs.replace(HEARTBEAT, model="x" * MAX_BYTES)

    refused = refusal(decode_heartbeat, encode(long))

    assert refused.reason is Reason.SCHEMA
    assert "at most 8192 are read" in str(refused)


def test_text_that_is_not_utf8_is_refused() -> None:
    payload = encode(ALARM).replace(b"SpO2 low", b"SpO2 \xff\xfe\xfd")

    assert refusal(decode_edge_alarm, payload).reason is Reason.SCHEMA


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"origin": OriginV1(wearable_id=b"short", session_id=named("s"), counter=0)}, "origin"),
        ({"origin": OriginV1(wearable_id=named("ann"), session_id=bytes(17), counter=0)}, "origin"),
        ({"origin": OriginV1(wearable_id=named("ann"), session_id=named("s"), counter=-1)}, "origin"),
        ({"origin": OriginV1(wearable_id=named("ann"), session_id=named("s"), counter=2**32)}, "origin"),
        ({"at_ms": -1}, "at_ms"),
        ({"at_ms": MAX_TIME_MS}, "at_ms"),
        ({"received_ms": MAX_TIME_MS}, "received_ms"),
        ({"sensor_flags": 2**16}, "sensor_flags"),
        ({"unusable": -1}, "unusable"),
        ({"vitals": msgspec.structs.replace(VITALS, spo2=nan)}, "spo2"),
    ],
)
def test_an_edge_is_checked_like_a_wearable(changed: dict[str, Any], name: str) -> None:
    refused = refusal(decode_edge_vitals, encode(msgspec.structs.replace(EDGE_VITALS, **changed)))

    assert refused.reason is Reason.VALUE
    assert str(refused).startswith(f"{name}:")


@pytest.mark.parametrize(
    "changed",
    [
        {"alarm_id": b""},
        {"priority": 0},
        {"priority": 4},
        {"revision": -1},
        {"revision": 2**63},
        {"at_ms": -1},
        {"onset_ms": MAX_TIME_MS},
    ],
)
def test_an_alarm_has_bounds(changed: dict[str, Any]) -> None:
    assert refusal(decode_edge_alarm, encode(msgspec.structs.replace(ALARM, **changed))).reason is Reason.VALUE


@pytest.mark.parametrize(
    "changed",
    [
        {"at_ms": -1},
        {"uptime_ms": -1},
        {"clock_quality": 3},
        {"outbox_rows": -1},
        {"outbox_rows": 2**63},
        {"outbox_oldest_ms": -1},
        {"outbox_used": -0.1},
        {"outbox_used": 1.1},
        {"outbox_used": nan},
        {"outbox_used": inf},
        {"local_alarms": -1},
        {"duplicates": 2**64 - 1},
    ],
)
def test_a_heartbeat_has_bounds(changed: dict[str, Any]) -> None:
    assert refusal(decode_heartbeat, encode(msgspec.structs.replace(HEARTBEAT, **changed))).reason is Reason.VALUE


def test_a_reading_has_one_name_for_ever() -> None:
    # SHA-256("VSE1 rid\0" || 16 zeros || 16 zeros || 0), the first half.
    assert reading_id(bytes(16), bytes(16), 0).hex() == "baadab0f8b9d47848bdc616fae1d0608"
    names = {reading_id(named(who), named(which), n) for who in "ab" for which in "cd" for n in range(100)}
    assert len(names) == 400


def test_the_kernel_gets_every_value_under_its_own_name() -> None:
    message = msgspec.structs.replace(
        EDGE_VITALS, vitals=msgspec.structs.replace(VITALS, consciousness=2, sensor_flags=1)
    )

    reading = to_reading(message, named("binding 1"))

    assert (reading.heart_rate, reading.respiratory_rate, reading.spo2) == (72.0, 16.0, 97.0)
    assert (reading.systolic_bp, reading.diastolic_bp, reading.temperature) == (120.0, 80.0, 36.8)
    assert reading.consciousness is Consciousness.VOICE
    assert reading.sensor_flags == SensorFlag.MOTION  # the edge's, which contain the device's where it agrees
    assert (reading.at_ms, reading.received_ms, reading.counter, reading.unusable) == (AT_MS, AT_MS + 40, 7, 0b10)
    assert reading.stay_id == named("binding 1").hex()
    assert reading.reading_id == reading_id(named("ann"), named("session"), 7)


MEASURE = st.none() | st.floats(min_value=-10_000, max_value=10_000)


@given(st.lists(MEASURE, min_size=8, max_size=8), st.integers(min_value=0, max_value=MAX_TIME_MS - 1))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_every_reading_within_the_bounds_comes_back(measures: list[float | None], t_ms: int) -> None:
    vitals = msgspec.structs.replace(VITALS, t_ms=t_ms, **dict(zip(MEASURES, measures, strict=True)))

    assert decode_vitals(encode(vitals)) == vitals


@pytest.mark.parametrize("seed", range(4))
def test_twenty_thousand_damaged_frames_bring_out_nothing_but_refusals(seed: int) -> None:
    # Half are damaged on the way. The other half are sealed by a device that has gone mad, and so pass the tag.
    site = Site()
    draw = Random(seed)
    receiver = site.receiver()
    session = site.session()
    begin(receiver, session)
    payloads = [encode(message) for message, _ in MESSAGES]
    sound = session.seal(payloads[0])[1]  # never delivered as it is, so that each counter but this one arrives
    decoders = [decode for _, decode in MESSAGES]
    outcomes = {"opened": 0, "decoded": 0, "rejected": 0, "undecodable": 0}

    for _ in range(5_000):
        if draw.random() < 0.5:
            frame = session.seal(_damaged(draw, draw.choice(payloads)))[1]
        else:
            frame = _damaged(draw, session.frame if draw.random() < 0.1 else sound)
        try:
            opened = receiver.receive(frame, topic_device=None, now_ms=AT_MS, mono_ms=0)
        except Rejected:
            outcomes["rejected"] += 1
            continue
        outcomes["opened"] += 1
        if not isinstance(opened, Opened):
            continue
        for decode in decoders:
            try:
                message: VitalsV1 | EdgeVitalsV1 | EdgeAlarmV1 | HeartbeatV1 = decode(opened.payload)
            except DecodeError:
                outcomes["undecodable"] += 1
            else:
                outcomes["decoded"] += 1
                encode(message)
                if isinstance(message, EdgeVitalsV1):
                    to_reading(message, opened.binding_id)

    # It was worth it: each way out was taken often.
    assert min(outcomes["opened"], outcomes["rejected"], outcomes["undecodable"]) > 1_500
    assert outcomes["decoded"] > 100


def _damaged(draw: Random, whole: bytes) -> bytes:
    """A few bytes changed, cut out, put in, doubled or cut off."""
    damaged = bytearray(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        at = draw.randrange(len(damaged) + 1)
        match draw.randrange(6):
            case 0:
                damaged[at:at] = draw.randbytes(draw.randrange(1, 9))
            case 1:
                del damaged[at : at + draw.randrange(1, 9)]
            case 2:
                del damaged[at:]
            case 3:
                damaged[at : at + 1] = bytes([draw.choice((0x00, 0x7F, 0x80, 0xC0, 0xC1, 0xCB, 0xDD, 0xFF))])
            case 4:
                damaged += damaged[:at]
            case _ if at < len(damaged):
                damaged[at] ^= 1 << draw.randrange(8)
    return bytes(damaged[:9_000])


# What models said


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"score": nan}, "not a probability"),
        ({"score": -0.001}, "not a probability"),
        ({"score": 1.001}, "not a probability"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": nan}, "threshold"),
        ({"threshold": inf}, "threshold"),
        ({"version": "1.0"}, "version"),
        ({"version": "1.0.0; DROP"}, "version"),
        ({"reason": "x" * 301}, "reason"),
        ({"reason": "\x1b[2J"}, "reason"),
    ],
)
def test_a_score_is_bounded_before_it_is_believed(changed: dict[str, Any], problem: str) -> None:
    said = msgspec.structs.replace(EDGE_VITALS.scores[0], **changed)

    refused = refusal(decode_edge_vitals, encode(msgspec.structs.replace(EDGE_VITALS, scores=(said,))))

    assert refused.reason is Reason.VALUE
    assert str(refused).startswith("scores.sepsis: ")
    assert problem in str(refused)


def test_a_model_speaks_once_of_a_reading_and_is_one_that_is_known() -> None:
    one, other = EDGE_VITALS.scores
    twice = msgspec.structs.replace(EDGE_VITALS, scores=(one, one))
    unknown = with_place(EDGE_VITALS, 7, [["horoscope", "1.0.0", 0.5, 0.5, ""]])

    assert refusal(decode_edge_vitals, encode(twice)).reason is Reason.VALUE
    assert refusal(decode_edge_vitals, unknown).reason is Reason.SCHEMA
    assert decode_edge_vitals(encode(EDGE_VITALS)).scores == (one, other)


def test_an_edge_from_before_there_were_models_is_still_understood() -> None:
    earlier = PACK(as_list(EDGE_VITALS)[:7])

    assert decode_edge_vitals(earlier) == msgspec.structs.replace(EDGE_VITALS, scores=())


def test_a_score_is_filed_under_the_reading_that_it_was_made_at() -> None:
    reading = to_reading(EDGE_VITALS, named("binding"))

    sepsis, heart = to_scores(EDGE_VITALS, reading)

    assert {(one.stay_id, one.reading_id, one.at_ms) for one in (sepsis, heart)} == {
        (reading.stay_id, reading.reading_id, reading.at_ms)
    }
    assert (sepsis.model, sepsis.version, sepsis.score, sepsis.threshold) == ("sepsis", "1.0.0", 0.061, 0.0286)
    assert (heart.model, heart.score, heart.reason) == ("heart", None, "refused: hash")


def test_a_reading_of_an_edge_that_tells_no_uptime_is_read() -> None:
    told = replace(EDGE_VITALS, boot_id=b"bootboot", uptime_ms=5_000, age_ms=120, clock_ms=-7_000)
    earlier = msgspec.msgpack.encode(msgspec.msgpack.decode(encode(told))[:8])

    message = decode_edge_vitals(earlier)

    assert (message.boot_id, message.uptime_ms, message.age_ms, message.clock_ms) == (b"", 0, None, 0)
    assert message.vitals == EDGE_VITALS.vitals
    assert decode_edge_vitals(encode(told)) == told


@pytest.mark.parametrize(
    "wrong", [{"boot_id": b"short"}, {"uptime_ms": -1}, {"age_ms": -1}, {"age_ms": 2**60}, {"clock_ms": 2**50}]
)
def test_a_time_of_an_edge_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_edge_vitals(encode(replace(EDGE_VITALS, **wrong)))

    assert caught.value.reason is Reason.VALUE


# What people enter at an edge

OBSERVED = Observation(
    stay_id="ab" * 16,
    observation_id=named("observation"),
    by="anna",
    at_ms=AT_MS,
    entered_ms=AT_MS + 60_000,
    heard_ms=AT_MS + 90_000,
    consciousness=Consciousness.CONFUSION,
    supplemental_oxygen=2.0,
    oxygen_device="nasal cannula",
    temperature=37.9,
    off_until_ms=AT_MS + 1_200_000,
    note="family present",
    edge="0a0b0c0d",
)


def test_an_observation_comes_out_as_it_went_in() -> None:
    payload = encode(from_observation(OBSERVED))

    again = to_observation(
        decode_observation(payload), OBSERVED.stay_id, edge=OBSERVED.edge, heard_ms=OBSERVED.heard_ms
    )

    assert again == OBSERVED
    assert len(payload) < MAX_BYTES / 8


def test_the_alarm_lane_says_what_it_carries() -> None:
    assert holds_observation(encode(from_observation(OBSERVED)))
    assert not holds_observation(encode(ALARM))
    assert not holds_observation(b"")
    assert encode(ALARM)[1] == 1  # as before there were observations


def test_an_earlier_data_centre_refuses_an_observation_by_name() -> None:
    with pytest.raises(DecodeError) as refused:
        decode_edge_alarm(encode(from_observation(OBSERVED)))

    assert refused.value.reason is Reason.SCHEMA


@given(st.binary(max_size=200))
def test_bytes_of_the_alarm_lane_are_an_observation_or_an_error_of_ours(payload: bytes) -> None:
    holds_observation(payload)
    with contextlib.suppress(DecodeError):
        decode_observation(payload)


@pytest.mark.parametrize(
    "changes",
    [
        {"by": ""},
        {"by": "x" * 65},
        {"by": "an\nna"},
        {"note": "x" * 501},
        {"note": "\x07"},
        {"oxygen_device": "x" * 41},
        {"observation_id": b""},
        {"corrects": b"x"},
        {"at_ms": MAX_TIME_MS},
        {"entered_ms": -1},
        {"off_until_ms": -1},
        {"temperature": nan},
        {"glucose": inf},
        {"inspired_oxygen": 1e9},
        {"heart_rate": -1e9},
    ],
)
def test_an_observation_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError) as refused:
        decode_observation(encode(from_observation(replace(OBSERVED, **changes))))

    assert refused.value.reason is Reason.VALUE
