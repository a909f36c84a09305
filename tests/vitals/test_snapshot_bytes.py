"""The stored state of a patient keeps its bytes: a monitor of another version has to read what this one writes.

A long made-up story runs through everything that a monitor can meet: missing and unusable values, late and backfilled
readings, duplicates, silence, lost sensors, models, answers and restarts. Texts of alarms are
part of a snapshot, so new wording takes new digests. So does a field with a default at the end of a record;
`test_response.py` restores a state without it. Any other change of the format raises `SNAPSHOT_VERSION` as well.
"""

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator
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


PLANS: Final = {"default plan": a_plan(), "every rule": EVERY_RULE}
DIGESTS: Final = Path(__file__).parent / "snapshot_digests.json"
"""By plan and step: digest of every snapshot so far, digest of every event so far."""


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


def digests_of(plan: MonitoringPlan, steps: Iterable[str]) -> dict[str, list[str]]:
    states, told = sha256(), sha256()
    found: dict[str, list[str]] = {}
    for step, (monitor, events) in enumerate(a_story(plan), start=1):
        states.update(monitor.snapshot())
        told.update(msgspec.msgpack.encode(events))
        if str(step) in steps:
            found[str(step)] = [states.hexdigest()[:16], told.hexdigest()[:16]]
    return found


@pytest.mark.parametrize("name", PLANS)
def test_snapshots_and_events_keep_their_bytes(name: str) -> None:
    """`python -m tests.snapshot_digests` writes new digests, where the format was meant to change."""
    kept = json.loads(DIGESTS.read_text(encoding="utf-8"))[name]

    assert digests_of(PLANS[name], kept) == kept


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


def test_a_snapshot_of_the_time_of_one_binding_a_patient_is_read_with_all_that_is_in_it() -> None:
    """Written at step 777 of the story above with every rule, before a stay had several devices."""
    old = b64decode((Path(__file__).parent / "snapshot_of_one_binding.txt").read_text(encoding="ascii"))

    monitor = PatientMonitor.restore(BINDING, old, EVERY_RULE)

    assert _extends(msgspec.msgpack.decode(monitor.snapshot()), msgspec.msgpack.decode(old))
    assert monitor.open_alarms()


def _extends(new: Any, old: Any) -> bool:
    """Whether everything in an old state stands in the new one at its place; records may have further fields."""
    if isinstance(old, list):
        return isinstance(new, list) and len(new) >= len(old) and all(map(_extends, new, old))
    return bool(new == old)
