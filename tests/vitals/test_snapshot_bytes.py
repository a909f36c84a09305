"""The stored state of a patient keeps its bytes: a monitor of another version has to read what this one writes.

A long made-up story runs through everything that a monitor can meet: missing and unusable values, late and backfilled
readings, duplicates, silence, lost sensors, models, answers and restarts. Texts of alarms are
part of a snapshot, so new wording takes new digests. So does a field with a default at the end of a record;
`test_response.py` restores a state without it. Any other change of the format raises `SNAPSHOT_VERSION` as well.
"""

from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from tests.vitals.stories import (
    BINDING,
    HOUR,
    MINUTE,
    SECOND,
    WELL,
    a_plan,
    a_reading,
    a_rule,
    a_score,
    a_silence,
    a_tick,
    an_answer,
    apply,
    restarted,
    wait,
)
from vitals.messages import Consciousness, Event, Message, Priority, Reading, SensorFlag
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.rules import DEFAULT_RULES, AlarmLimit
from vitals.signs import VitalSign

STEPS: Final = 2_000
EVERY_RULE: Final = a_plan(
    *(msgspec.structs.replace(rule, enabled=True) for rule in DEFAULT_RULES),
    a_rule("mews", AlarmLimit(3, Priority.LOW), AlarmLimit(5, Priority.MEDIUM)),
    a_rule("baseline:respiratory_rate", AlarmLimit(3.0, Priority.LOW), clear_margin=1.0),
    a_rule("baseline:heart_rate", AlarmLimit(2.0, Priority.LOW)),
    spo2_scale=2,
    cadence_ms={VitalSign.SYSTOLIC_BP: 15 * MINUTE},
    stale_after_ms=5 * MINUTE,
    lost_after_ms=20 * MINUTE,
)
GAPS_MS: Final = (5 * SECOND,) * 8 + (30 * SECOND,) * 4 + (MINUTE, 3 * MINUTE, 11 * MINUTE, 40 * MINUTE)
FLAGS: Final = (SensorFlag.NONE,) * 9 + (SensorFlag.SENSOR_OFF, SensorFlag.MOTION, SensorFlag.CLOCK_CORRECTED)
WORSE: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"heart_rate": 95, "respiratory_rate": 26, "spo2": 91},
    {"heart_rate": 135, "systolic_bp": 95, "respiratory_rate": 23},
    {"spo2": 84, "supplemental_oxygen": 3},
    {"consciousness": Consciousness.CONFUSION, "temperature": 39.2},
    {"heart_rate": 33, "systolic_bp": 85},
)


# Step -> digest of every snapshot so far, digest of every event so far.
DIGESTS: Final = (
    (
        a_plan(),
        {
            1: ("617dc64340fbfd74", "e4366d62a4aa615a"),
            10: ("4443c1a75df1bdff", "7f6d640b2073307c"),
            100: ("af2b38153b83541d", "c69463c8458400f6"),
            500: ("0a58113cbfcff515", "ff7c2db4c8313b91"),
            1_000: ("caa3e0e38acc179b", "9c006624bb586b98"),
            2_000: ("16318c56520e7067", "ea920ef2c89f4569"),
        },
    ),
    (
        EVERY_RULE,
        {
            1: ("617dc64340fbfd74", "e4366d62a4aa615a"),
            10: ("1807fbebc74c4ddd", "938f1c820795d74e"),
            100: ("ea6902a02216c65d", "dfb8331c162e8969"),
            500: ("f8b13e5ea342a67d", "391774a912e674ca"),
            1_000: ("52ecb27d925dc022", "0711ebce682bd676"),
            2_000: ("13e202e95de24342", "2e7cb32b0cb4ce0a"),
        },
    ),
)


class Dice:
    """Numbers that are the same with every Python: Knuth's linear congruential generator."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, limit: int) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self._state >> 33) % limit


def a_story_reading(dice: Dice, now_ms: int, counter: int, held_up_ms: int) -> Reading:
    # A state of health lasts for a while, so that durations run out and conditions end.
    signs = {**WELL, **WORSE[(now_ms // (25 * MINUTE)) % len(WORSE)], "battery": 60 - counter % 60}
    signs["heart_rate"] += dice.below(7)
    for sign in list(signs):
        if dice.below(6) == 0 or (sign == "systolic_bp" and dice.below(4)):
            del signs[sign]
    if dice.below(40) == 0:
        signs["heart_rate"] = 400
    return a_reading(
        now_ms - held_up_ms, held_up_ms=held_up_ms, counter=counter, flags=FLAGS[dice.below(len(FLAGS))], **signs
    )


def a_story(plan: MonitoringPlan) -> Iterator[tuple[PatientMonitor, list[Event]]]:
    """The monitor and its events after every step."""
    monitor, dice, now_ms = PatientMonitor(BINDING, plan), Dice(14), HOUR
    sent: list[Reading] = []
    for step in range(STEPS):
        now_ms += GAPS_MS[dice.below(len(GAPS_MS))]
        what = dice.below(40)
        message: Message | None = None
        events: list[Event] = []
        if what < 24:
            message = a_story_reading(dice, now_ms, step, (0, 0, 0, 0, 20 * SECOND, 6 * MINUTE)[dice.below(6)])
            sent.append(message)
        elif what < 26 and sent:
            message = sent[-1 - dice.below(min(len(sent), 30))]
        elif what < 29:
            rule_id = ("news2", "red_sign", "no_data", "low_spo2")[dice.below(4)]
            message = a_silence(rule_id, now_ms, until_ms=now_ms + dice.below(10) * MINUTE)
        elif what < 32:
            model = ("sepsis", "heart")[dice.below(2)]
            message = a_score(now_ms, (None, 0.2, 0.9)[dice.below(3)], model=model)
        elif what < 34 and monitor.open_alarms():
            standing = monitor.open_alarms()
            message = an_answer(standing[dice.below(len(standing))], now_ms)
        elif what == 34:
            message = a_tick(now_ms)
        elif what == 35:
            monitor = restarted(monitor, plan)
        else:
            events = wait(monitor, now_ms)
        if message is not None:
            events = apply(monitor, message)
        yield monitor, events


@pytest.mark.parametrize(("plan", "digests"), DIGESTS, ids=["default plan", "every rule"])
def test_snapshots_and_events_keep_their_bytes(plan: MonitoringPlan, digests: dict[int, tuple[str, str]]) -> None:
    states, told = sha256(), sha256()
    found: dict[int, tuple[str, str]] = {}
    for step, (monitor, events) in enumerate(a_story(plan), start=1):
        states.update(monitor.snapshot())
        told.update(msgspec.msgpack.encode(events))
        if step in digests:
            found[step] = (states.hexdigest()[:16], told.hexdigest()[:16])

    assert found == digests


def test_a_snapshot_of_an_earlier_version_is_read_with_all_that_is_in_it() -> None:
    """Written at step 120 of the story above, before intervals of measuring were part of a snapshot."""
    old = b64decode((Path(__file__).parent / "snapshot_before_measuring_intervals.txt").read_text(encoding="ascii"))

    monitor = PatientMonitor.restore(BINDING, old, a_plan())

    parts = msgspec.msgpack.decode(old)
    silences = parts[12][2]
    # A silence named no sign then; of rules that are judged sign by sign it is not believed.
    silences[:] = [one for one in silences if one[0] not in ("red_sign", "no_data")]
    assert _extends(msgspec.msgpack.decode(monitor.snapshot()), parts)
    assert monitor.open_alarms()
    assert PatientMonitor.restore(BINDING, monitor.snapshot(), a_plan()).snapshot() == monitor.snapshot()


def _extends(new: Any, old: Any) -> bool:
    """Whether everything in an old state stands in the new one at its place; records may have further fields."""
    if isinstance(old, list):
        return isinstance(new, list) and len(new) >= len(old) and all(map(_extends, new, old))
    return bool(new == old)
