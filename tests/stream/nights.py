"""Scenarios as messages of patients, for both engines."""

import hashlib
import random
from itertools import takewhile
from pathlib import Path

from msgspec.structs import replace

from simulators.scenarios import NAMES
from simulators.stories import START_MS, Recorded, Simulated, Story
from tests.stream.receiving_site import HOUR, MINUTE, NOW, SECOND
from vitals.messages import (
    BindingPeriod,
    Consciousness,
    Message,
    ModelScore,
    Observation,
    Reading,
    Silence,
    Tick,
)
from vitals.signs import SIGNS

BED_1, BED_2 = "b1" * 16, "b2" * 16


def reading(
    at_ms: int, *, bed: str = BED_1, counter: int | None = None, held_up_ms: int = 0, **signs: float
) -> Reading:
    number = at_ms // 100 if counter is None else counter
    return Reading(
        stay_id=bed,
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
            story.append(Silence(stay_id=BED_1, rule_id="news2", by="n1", at_ms=NOW + at_ms, until_ms=NOW + 2 * HOUR))
    return story


MOST_DEVICES = 6
_SIGNS = tuple(spec.sign.value for spec in SIGNS)


def stays_of_many_devices(*, hours: int = 3, seed: int = 1) -> list[Message]:
    """Six patients with one to six devices behind one or two edges, and a nurse who does rounds.

    The readings of a scenario are dealt out: who measures a sign changes from reading to reading, and what the second
    edge hears is held up by twenty seconds. Of the third patient a device is exchanged, the fourth is discharged.
    """
    draw = random.Random(seed)
    story: list[Message] = []
    for count in range(1, MOST_DEVICES + 1):
        patient = Simulated(NAMES[count], patients=1, seed=count, cadence_ms=MINUTE)
        told = _readings(patient, f"stay {count}", until_ms=START_MS + hours * HOUR)
        stay = told[0].stay_id
        devices = [stay, *(_id_of(f"{stay} {number}") for number in range(1, count))]
        story += [_period(stay, device, NOW) for device in devices]
        if count == 3:
            half = NOW + hours * HOUR // 2
            story.append(_period(stay, devices[2], NOW, to_ms=half, stay_goes_on=True))
            devices.append(_id_of(f"{stay} new"))
            story.append(_period(stay, devices[3], half + MINUTE))
        if count == 4:
            story.append(_period(stay, stay, NOW, to_ms=NOW + hours * HOUR - 10 * MINUTE))
        for one in told:
            story += _dealt(one, devices, draw)
        story += [_round(stay, NOW + hour * HOUR + count * MINUTE, draw) for hour in range(hours)]
    return sorted(story, key=_arrival)


def _id_of(name: str) -> str:
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def _dealt(whole: Reading, devices: list[str], draw: random.Random) -> list[Reading]:
    """One reading as several devices would have measured it, each a part of the signs."""
    device_of = {sign: draw.randrange(len(devices)) for sign in _SIGNS}
    found = []
    for number, device in enumerate(devices):
        missing = {sign: None for sign in _SIGNS if device_of[sign] != number}
        part = replace(
            whole,
            binding_id="" if device == whole.stay_id else device,
            reading_id=bytes.fromhex(device)[:7] + bytes([number]) + whole.reading_id[8:],
            session_id=bytes.fromhex(device),
            received_ms=whole.received_ms + (20 * SECOND if number % 2 else 0),
            **missing,
        )
        if any(getattr(part, sign) is not None for sign in _SIGNS):
            found.append(part)
    return found


def _period(stay: str, device: str, from_ms: int, **changes: int | bool) -> BindingPeriod:
    heard_ms = int(changes.get("to_ms") or from_ms)
    return BindingPeriod(
        stay_id=stay,
        binding_id="" if device == stay else device,
        from_ms=from_ms,
        heard_ms=heard_ms,
        edge_heard_ms=heard_ms,
        device_name=f"device {device[:4]}",
        **changes,  # type: ignore[arg-type]
    )


def _round(stay: str, at_ms: int, draw: random.Random) -> Observation:
    return Observation(
        stay_id=stay,
        observation_id=draw.randbytes(16),
        by="nurse-1",
        at_ms=at_ms,
        entered_ms=at_ms + MINUTE,
        heard_ms=at_ms + MINUTE,
        consciousness=Consciousness.ALERT,
        supplemental_oxygen=0.0,
        temperature=draw.choice((None, 37.2, 38.4)),
        systolic_bp=draw.choice((None, 118.0)),
        note="round",
    )


def _arrival(message: Message) -> int:
    if isinstance(message, Tick):
        return message.now_ms
    return message.heard_ms if isinstance(message, Reading | Observation | BindingPeriod) else message.at_ms


def as_it_arrived(story: list[Message]) -> list[Message]:
    """The messages with a time of arrival on each reading, which never decreases."""
    now_ms, arrived = 0, []
    for message in story:
        if isinstance(message, Tick):
            now_ms = max(now_ms, message.now_ms)
            arrived.append(message)
        elif isinstance(message, Reading | ModelScore):
            now_ms = max(now_ms, message.heard_ms)
            arrived.append(replace(message, arrived_ms=now_ms))
        elif isinstance(message, Observation | BindingPeriod):
            now_ms = max(now_ms, message.heard_ms)
            arrived.append(replace(message, heard_ms=now_ms))
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
                    stay_id=place.hex(),
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
