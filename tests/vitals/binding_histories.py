"""Random histories of bindings, for the kernel, the edge and the data centre: who is watched, and who is no longer.

A `Place` judges; `play` binds and unbinds patients in it, has their wearables send, fail, resend and send late, stops
it and starts it again, and says what was wrong at which moment. The rules:

- of every patient who is bound, data is recent or an alarm says that it is not;
- of a binding that has ended there is no open alarm, no timer and no news but for the record, and each alarm that stood
  at its end was announced as ended, with the reason.
"""

import random
from collections.abc import Iterable
from typing import Final, Protocol

from vitals.messages import AlarmChanged, AlarmState

SECOND, MINUTE = 1_000, 60_000
WELL: Final = {"heart_rate": 70.0, "respiratory_rate": 14.0, "spo2": 98.0, "temperature": 37.0}
ILL: Final = {"heart_rate": 128.0, "respiratory_rate": 29.0, "spo2": 88.0, "temperature": 39.4}
EXPECTED: Final = ("heart_rate", "respiratory_rate", "spo2")
NEVER_HEARD_MS: Final = 10 * MINUTE + 2 * SECOND
"""Deadline for a patient of whom nothing was heard, with the second in which a place looks at its bindings."""
MISSING_MS: Final = 30 * MINUTE + 2 * SECOND
"""The latest deadline of any sign: that of a patient with a NEWS2 of 0."""


class Place(Protocol):
    """Where patients are judged. Time is in ms by the place's own clock."""

    announced: list[AlarmChanged]  # every alarm as it was announced, in order

    def now_ms(self) -> int: ...
    def advance(self, by_ms: int) -> None:
        """Time passes; what is due happens."""
        ...

    def bind(self, bed: int) -> str:
        """The binding of a new patient in this bed, of which the place is told."""
        ...

    def unbind(self, stay_id: str) -> None: ...
    def send(self, stay_id: str, at_ms: int, signs: dict[str, float]) -> None:
        """A reading that was measured at `at_ms` arrives now."""
        ...

    def send_again(self, stay_id: str) -> None:
        """The last reading of this binding arrives once more."""
        ...

    def restart(self) -> None: ...
    def open_alarms(self) -> Iterable[AlarmChanged]: ...
    def has_timer(self, stay_id: str) -> bool: ...


class _Bound:
    def __init__(self, stay_id: str, bed: int, since_ms: int, habit: str) -> None:
        self.stay_id, self.bed, self.since_ms, self.habit = stay_id, bed, since_ms, habit
        self.live: dict[str, int] = {}  # when each sign was last measured and heard at once
        self.first_ms: int | None = None
        self.ended_ms: int | None = None
        self.stood: set[bytes] = set()  # alarms that were open when it ended
        self.announced_before = 0

    def missing(self, now_ms: int) -> str:
        """What an alarm has to say by now; empty: nothing."""
        if self.first_ms is None:
            return "nothing was ever heard" if now_ms - self.since_ms > NEVER_HEARD_MS else ""
        late = [sign for sign in EXPECTED if now_ms - self.live.get(sign, self.first_ms) > MISSING_MS]
        return ", ".join(late)


HABITS: Final = ("silent", "well", "ill", "without spo2", "temperature only")


def play(place: Place, seed: int, *, steps: int = 40, beds: int = 3) -> list[str]:
    """What was wrong, one line each; empty: nothing."""
    rng = random.Random(seed)
    everybody: list[_Bound] = []
    wrong: list[str] = []
    for step in range(steps):
        place.advance(rng.choice((5 * SECOND, 30 * SECOND, 2 * MINUTE, 6 * MINUTE, 11 * MINUTE)))
        present = [one for one in everybody if one.ended_ms is None]
        for one in present:
            _send(place, one, rng)
        match rng.randrange(8):
            case 0 | 1 if len(present) < beds:
                bed = rng.choice(sorted(set(range(beds)) - {one.bed for one in present}))
                everybody.append(_Bound(place.bind(bed), bed, place.now_ms(), rng.choice(HABITS)))
            case 2 if present:
                _unbind(place, rng.choice(present))
            case 3 if present:
                rng.choice(present).habit = rng.choice(HABITS)
            case 4:
                place.restart()
            case 5 if everybody:
                _send_late(place, rng.choice(everybody), rng)
            case 6 if everybody:
                place.send_again(rng.choice(everybody).stay_id)
            case _:
                pass
        place.advance(0)
        wrong += [f"seed {seed}, step {step}: {problem}" for problem in _problems(place, everybody)]
    return wrong


def _send(place: Place, one: _Bound, rng: random.Random) -> None:
    signs = {
        "silent": {},
        "well": WELL,
        "ill": ILL,
        "without spo2": {sign: value for sign, value in WELL.items() if sign != "spo2"},
        "temperature only": {"temperature": 37.0},
    }[one.habit]
    if not signs:
        return
    now_ms = place.now_ms()
    jitter = {sign: value + rng.choice((0.0, 1.0)) for sign, value in signs.items()}  # no flat line
    place.send(one.stay_id, now_ms, jitter)
    one.first_ms = now_ms if one.first_ms is None else one.first_ms
    one.live |= dict.fromkeys(signs, now_ms)


def _send_late(place: Place, one: _Bound, rng: random.Random) -> None:
    """A reading from the backlog; of a binding that has ended also one that was measured after its end."""
    now_ms = place.now_ms()
    if one.ended_ms is None and one.first_ms is None:
        return  # the first reading of all is never from a backlog here: whether it is live is another story
    at_ms = now_ms if one.ended_ms is not None and rng.random() < 0.5 else rng.randint(one.since_ms, now_ms)
    place.send(one.stay_id, at_ms, dict(ILL))
    one.live |= {sign: max(at_ms, one.live.get(sign, 0)) for sign in ILL}  # old, and with its age the newest there is


def _unbind(place: Place, one: _Bound) -> None:
    place.advance(0)  # what was due before the end happens before it
    one.stood = {alarm.alarm_id for alarm in place.open_alarms() if alarm.stay_id == one.stay_id}
    one.announced_before = len(place.announced)
    place.unbind(one.stay_id)
    one.ended_ms = place.now_ms()


def _problems(place: Place, everybody: list[_Bound]) -> list[str]:
    now_ms, standing = place.now_ms(), list(place.open_alarms())
    found = []
    for one in everybody:
        own = [alarm for alarm in standing if alarm.stay_id == one.stay_id]
        if one.ended_ms is None:
            missing = one.missing(now_ms)
            if missing and not any(alarm.rule_id == "no_data" for alarm in own):
                found.append(f"{one.habit}: {missing}, and no alarm says so")
            continue
        since = [alarm for alarm in place.announced[one.announced_before :] if alarm.stay_id == one.stay_id]
        if own:
            found.append(f"{len(own)} alarms are open after the end")
        if place.has_timer(one.stay_id):
            found.append("a timer runs after the end")
        if any(alarm.state is not AlarmState.CLEARED for alarm in since if not alarm.retrospective):
            found.append("an alarm was raised after the end")
        said = {alarm.alarm_id for alarm in since if alarm.text.startswith("monitoring ended at ")}
        if one.stood - said:
            found.append("an alarm that stood at the end was not announced as ended")
    return found
