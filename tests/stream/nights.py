"""Stories of patients as messages, for every engine."""

import hashlib
from itertools import takewhile
from pathlib import Path

from msgspec.structs import replace

from simulators.scenarios import NAMES
from simulators.stories import START_MS, Recorded, Simulated, Story
from tests.stream.receiving_site import HOUR, MINUTE, NOW, SECOND
from vitals.messages import Consciousness, Message, ModelScore, Reading, Silence, Tick

BED_1, BED_2 = "b1" * 16, "b2" * 16


def reading(
    at_ms: int, *, bed: str = BED_1, counter: int | None = None, held_up_ms: int = 0, **signs: float
) -> Reading:
    number = at_ms // 100 if counter is None else counter
    return Reading(
        binding_id=bed,
        reading_id=f"{bed[1]}{number:015d}".encode(),
        session_id=bed[:2].encode() * 8,
        counter=number,
        at_ms=NOW + at_ms,
        received_ms=NOW + at_ms + held_up_ms,
        **{"heart_rate": 70.0, "respiratory_rate": 14.0, "spo2": 98.0, **signs},
    )


def a_bad_night() -> list[Message]:
    """Two patients, four hours: one gets worse, is seen to, is silenced, goes silent; much comes late or twice."""
    story: list[Message] = []
    for minute in range(0, 240, 2):
        at_ms = minute * MINUTE
        ill = 60 <= minute < 200
        if minute < 216:
            spo2 = 90.0 if ill else 97.0
            story.append(reading(at_ms, spo2=spo2, respiratory_rate=25.0 if ill else 15.0))
        story.append(reading(at_ms + 7 * SECOND, bed=BED_2, systolic_bp=120.0, heart_rate=70.0 + minute % 9))
        if minute % 14 == 0:
            story.append(story[-1])  # again
        if minute % 22 == 0:  # held up, behind what is known
            story.append(reading(at_ms - 50 * SECOND, held_up_ms=60 * SECOND, systolic_bp=95.0))
        if minute == 100:  # out of an outbox
            story += [
                reading(at_ms - 30 * MINUTE + n * 5 * SECOND, bed=BED_2, held_up_ms=30 * MINUTE, spo2=85.0)
                for n in range(20)
            ]
        story.append(Tick(now_ms=NOW + at_ms + 61 * SECOND))
        if minute == 80:
            story.append(
                Silence(binding_id=BED_1, rule_id="news2", by="n1", at_ms=NOW + at_ms, until_ms=NOW + 2 * HOUR)
            )
    return story


def as_it_arrived(story: list[Message]) -> list[Message]:
    """With the data centre's time on every reading, which never goes back."""
    now_ms, arrived = 0, []
    for message in story:
        if isinstance(message, Tick):
            now_ms = max(now_ms, message.now_ms)
            arrived.append(message)
        elif isinstance(message, Reading | ModelScore):
            now_ms = max(now_ms, message.heard_ms)
            arrived.append(replace(message, arrived_ms=now_ms))
        else:
            now_ms = max(now_ms, message.at_ms)
            arrived.append(replace(message, at_ms=now_ms))
    return arrived


def every_scenario(*, hours: int) -> list[Message]:
    """One patient of each scenario of the simulated ward, a reading a minute."""
    return _in_order(
        [
            message
            for name in NAMES
            for message in _readings(
                Simulated(name, patients=1, seed=1, cadence_ms=MINUTE), name, until_ms=START_MS + hours * HOUR
            )
        ]
    )


def recorded_stays(path: Path, *, patients: int, hours: int) -> list[Message]:
    """The first hours of recorded stays, a reading each ten minutes."""
    story = Recorded(path, patients=patients, seed=1, cadence_ms=10 * MINUTE)
    return _in_order(list(_readings(story, "stay", until_ms=START_MS + hours * HOUR)))


def _readings(story: Story, name: str, *, until_ms: int) -> list[Message]:
    readings: list[Message] = []
    for moment in takewhile(lambda one: one.at_ms < until_ms, story.moments()):
        for patient, said in moment.samples:
            place = hashlib.md5(f"{name} {patient}".encode(), usedforsecurity=False).digest()
            at_ms = said.t_ms - START_MS + NOW
            readings.append(
                Reading(
                    binding_id=place.hex(),
                    reading_id=place[:8] + at_ms.to_bytes(8),
                    session_id=place,
                    counter=(at_ms - NOW) // SECOND,
                    at_ms=at_ms,
                    received_ms=at_ms,
                    heart_rate=said.heart_rate,
                    respiratory_rate=said.respiratory_rate,
                    spo2=said.spo2,
                    systolic_bp=said.systolic_bp,
                    diastolic_bp=said.diastolic_bp,
                    temperature=said.temperature,
                    supplemental_oxygen=said.supplemental_oxygen,
                    battery=said.battery,
                    consciousness=None if said.consciousness is None else Consciousness(said.consciousness),
                    sensor_flags=said.sensor_flags,
                )
            )
    return readings


def _in_order(story: list[Message]) -> list[Message]:
    return as_it_arrived(sorted(story, key=lambda one: one.at_ms))  # type: ignore[union-attr]
