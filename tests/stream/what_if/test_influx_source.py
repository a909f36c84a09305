"""What the store writer wrote to InfluxDB is read back as it was, but for what InfluxDB does not have."""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from stream.store.line_protocol import line_of
from stream.what_if.influx_source import alarm_of, in_order, observation_of, reading_of, score_of
from tests.vitals.stories import BINDING, MINUTE, START, a_reading, a_score
from vitals.messages import (
    AlarmChanged,
    AlarmKind,
    AlarmState,
    Consciousness,
    ModelScored,
    Observation,
    ObservationRecorded,
    Priority,
    Reading,
    ReadingJudged,
)

_LINE = re.compile(r"(?P<tags>[^ ]+) (?P<fields>.*) (?P<at_ns>\d+)")
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^,]+)')


def row_of(event: Any) -> dict[str, Any]:
    """The row that a query gives of the line of an event, its fields as columns."""
    found = _LINE.fullmatch(line_of(event))
    assert found is not None
    tags = dict(tag.split("=") for tag in found["tags"].split(",")[1:])
    fields = {name: _value(text) for name, text in _FIELD.findall(found["fields"])}
    at = datetime.fromtimestamp(int(found["at_ns"]) // 1_000_000 / 1_000, UTC)
    return {"_time": at, **tags, **fields}


def _value(text: str) -> Any:
    if text.startswith('"'):
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if text in ("true", "false"):
        return text == "true"
    return int(text[:-1]) if text.endswith("i") else float(text)


def judged(reading: Reading, **facts: bool) -> ReadingJudged:
    return ReadingJudged(reading=reading, late=False, backfilled=facts.get("backfilled", False))


def without_ids(reading: Reading) -> Reading:
    return msgspec.structs.replace(reading, reading_id=b"", arrived_ms=None, age_ms=None)


def test_a_reading_comes_back_with_all_its_values_and_none_that_it_had_not() -> None:
    reading = msgspec.structs.replace(
        a_reading(1_234, heart_rate=71.5, spo2=97.0, consciousness=Consciousness.VOICE, supplemental_oxygen=2.0),
        unusable=4,
        battery=55.0,
        binding_id="c2" * 16,
        activity=3,
        sensor_flags=12,
    )

    found = reading_of(row_of(judged(reading)))

    assert without_ids(found) == without_ids(reading)
    assert found.reading_id == reading_of(row_of(judged(reading))).reading_id
    assert found.reading_id != reading_of(row_of(judged(a_reading(2_000, heart_rate=70)))).reading_id


def test_what_came_too_late_to_alarm_comes_too_late_again() -> None:
    live, late = (reading_of(row_of(judged(a_reading(0, spo2=90.0), backfilled=one))) for one in (False, True))

    assert live.heard_ms - live.at_ms == 0
    assert late.heard_ms - late.at_ms > 5 * MINUTE


def test_an_alarm_comes_back() -> None:
    alarm = AlarmChanged(
        stay_id=BINDING,
        alarm_id=bytes(range(16)),
        rule_id="red_sign",
        key="spo2",
        kind=AlarmKind.PHYSIOLOGICAL,
        priority=Priority.HIGH,
        state=AlarmState.ACTIVE,
        at_ms=START + 5,
        onset_ms=START,
        revision=3,
        text='SpO2 "82", limit >= 3',
        basis="NEWS2",
        acknowledged_by="anna",
        acknowledged_ms=START + 4,
        silenced_until_ms=START + 9,
    )

    assert alarm_of(row_of(alarm)) == alarm


def test_scores_stand_with_their_reading_and_observations_where_they_were_entered() -> None:
    readings = [reading_of(row_of(judged(a_reading(second * 1_000, heart_rate=70.0)))) for second in (3, 1, 2)]
    score = score_of(row_of(ModelScored(score=a_score(2_000, 0.7), late=False, backfilled=False)))
    observed = Observation(
        stay_id=BINDING,
        observation_id=bytes(16),
        by="ben",
        at_ms=START,
        entered_ms=START + 1_500,
        heard_ms=START + 1_500,
        consciousness=Consciousness.ALERT,
        glucose=5.5,
    )
    observation = observation_of(row_of(ObservationRecorded(observation=observed, late=False)))

    found = in_order(readings, [score], [observation])

    assert observation == observed
    assert [type(one).__name__ for one in found] == ["Reading", "Observation", "Reading", "ModelScore", "Reading"]
    assert found[3].reading_id == found[2].reading_id  # type: ignore[union-attr]
