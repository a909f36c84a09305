"""Scenarios of simulated patients as data, one row each.

A story is a list of timed effects on the drives of `simulators.physiology`, and the alarms that a monitoring system
must raise. Times are milliseconds of simulated time since the start of the story. The sizes are chosen so that every
seeded patient ends up in the range of scores that the row gives, whatever their resting values.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from simulators.draws import Floats
from simulators.errors import UnknownScenario
from simulators.physiology import Drive
from vitals.messages import Priority

MINUTE_MS: Final = 60_000


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One drive rises from 0 to `size`, holds, and may fall back to 0."""

    what: Drive
    size: float  # in the unit of the drive
    onset_ms: int
    ramp_ms: int = 0  # time to rise, and to fall
    hold_ms: int | None = None  # at full size; None: until the end of the story

    def at(self, elapsed_ms: int) -> float:
        """How much of the drive this effect adds `elapsed_ms` into the story."""
        since = elapsed_ms - self.onset_ms
        if since < 0:
            return 0.0
        if since < self.ramp_ms:
            return self.size * since / self.ramp_ms
        if self.hold_ms is None:
            return self.size
        over = since - self.ramp_ms - self.hold_ms
        if over < 0:
            return self.size
        return self.size * max(0.0, 1 - over / self.ramp_ms) if self.ramp_ms else 0.0


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm that must come within a span of the story. Others may come as well: a story is not a full list."""

    rule_id: str  # of `vitals.rules`
    priority: Priority  # at least
    from_ms: int  # an alarm before this is a false one
    by_ms: int  # an alarm after this is a missed one


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One story of one patient, or a ward of stories when `beds` is given."""

    name: str
    summary: str
    effects: tuple[Effect, ...] = ()
    expects: tuple[Expected, ...] = ()
    settled_ms: int = 0  # from here on the body, at rest, scores within `news2`
    news2: tuple[int, int] = (0, 4)  # least and most points of the body itself, noise and sensors aside
    beds: tuple[tuple[int, str], ...] = ()  # (place in every 40 beds, story); all other beds are stable
    tells_activity: bool = False  # whether the wearables of this story tell what their wearers do

    def for_bed(self, bed: int) -> "Scenario":
        """The story of one bed: itself, except in a ward of stories."""
        if not self.beds:
            return self
        return scenario(dict(self.beds).get(bed % _BEDS, "stable"))

    def later(self, by_ms: int) -> "Scenario":
        """The same story with its first `by_ms` left out, so that its events come sooner."""
        effects = tuple(msgspec.structs.replace(one, onset_ms=one.onset_ms - by_ms) for one in self.effects)
        return msgspec.structs.replace(self, effects=effects, settled_ms=max(0, self.settled_ms - by_ms))


def _minutes(value: float) -> int:
    return round(value * MINUTE_MS)


def _effect(what: Drive, size: float, onset: float, ramp: float = 0, hold: float | None = None) -> Effect:
    """An effect, with times in minutes."""
    return Effect(
        what=what,
        size=size,
        onset_ms=_minutes(onset),
        ramp_ms=_minutes(ramp),
        hold_ms=None if hold is None else _minutes(hold),
    )


def _expected(rule_id: str, priority: Priority, first: float, last: float) -> Expected:
    return Expected(rule_id=rule_id, priority=priority, from_ms=_minutes(first), by_ms=_minutes(last))


def _walks(size: float, first: float, *, every: float, minutes: float, times: int) -> tuple[Effect, ...]:
    """The same exertion again and again; a patient is at full pace within half a minute."""
    return tuple(
        _effect(Drive.EXERTION, size, onset=first + every * number, ramp=0.5, hold=minutes) for number in range(times)
    )


_BEDS: Final = 40
_WALK: Final = 0.32  # to the bathroom and along the ward
_PHYSIOTHERAPY: Final = 0.5  # stairs
_TRAINING: Final = 0.75

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(
        name="stable",
        summary="a healthy adult: daily rhythm and short walks",
    ),
    Scenario(
        name="sepsis-onset",
        summary="fever, then fast breathing and heart rate, then low blood pressure and confusion, over three hours",
        effects=(
            _effect(Drive.FEVER, 2.6, onset=10, ramp=90),
            _effect(Drive.CHRONOTROPY, 14, onset=20, ramp=90),
            _effect(Drive.VENTILATION, 9, onset=20, ramp=100),
            _effect(Drive.DESATURATION, 4, onset=40, ramp=90),
            _effect(Drive.HYPOTENSION, 0.28, onset=60, ramp=100),
            _effect(Drive.CLOUDING, 1, onset=165),
        ),
        expects=(_expected("news2", Priority.MEDIUM, 20, 150), _expected("news2", Priority.HIGH, 30, 190)),
        settled_ms=_minutes(185),
        news2=(7, 20),
    ),
    Scenario(
        name="hypoxia",
        summary="oxygen saturation falls below 90 % within minutes; breathing and heart rate rise",
        effects=(
            _effect(Drive.DESATURATION, 14, onset=2, ramp=6),
            _effect(Drive.VENTILATION, 6, onset=2, ramp=6),
            _effect(Drive.CHRONOTROPY, 14, onset=3, ramp=6),
        ),
        expects=(
            _expected("red_sign", Priority.HIGH, 3, 16),
            _expected("low_spo2", Priority.MEDIUM, 4, 18),
            _expected("news2", Priority.MEDIUM, 3, 20),
        ),
        settled_ms=_minutes(14),
        news2=(5, 20),
    ),
    Scenario(
        name="atrial-fibrillation",
        summary="heart rate becomes fast and irregular within a minute; blood pressure falls slightly",
        effects=(
            _effect(Drive.FIBRILLATION, 1, onset=5, ramp=1),
            _effect(Drive.CHRONOTROPY, 90, onset=5, ramp=1),
            _effect(Drive.HYPOTENSION, 0.08, onset=5, ramp=5),
            _effect(Drive.VENTILATION, 2, onset=6, ramp=5),
        ),
        expects=(_expected("red_sign", Priority.HIGH, 6, 20),),
        settled_ms=_minutes(13),
        news2=(2, 8),
    ),
    Scenario(
        name="haemorrhage",
        summary="heart rate rises, then blood pressure falls, within half an hour",
        effects=(
            _effect(Drive.CHRONOTROPY, 30, onset=5, ramp=15),
            _effect(Drive.HYPOTENSION, 0.42, onset=10, ramp=20),
            _effect(Drive.VENTILATION, 11, onset=8, ramp=20),
            _effect(Drive.DESATURATION, 2, onset=15, ramp=15),
            _effect(Drive.FEVER, -0.7, onset=10, ramp=40),
            _effect(Drive.CLOUDING, 1, onset=35),
        ),
        expects=(_expected("news2", Priority.MEDIUM, 6, 40), _expected("news2", Priority.HIGH, 8, 65)),
        settled_ms=_minutes(45),
        news2=(7, 20),
    ),
    Scenario(
        name="sensor-off",
        summary="a healthy patient whose wearable is off the skin for half an hour",
        effects=(_effect(Drive.DETACHED, 1, onset=5, hold=30),),
        expects=(_expected("sensor_off", Priority.LOW, 5, 10),),
    ),
    Scenario(
        name="flat-battery",
        summary="a healthy patient whose wearable stops sending when its battery is empty, within half an hour",
        effects=(_effect(Drive.DRAIN, 300, onset=1),),
        expects=(_expected("battery", Priority.LOW, 10, 25), _expected("no_data", Priority.MEDIUM, 16, 90)),
    ),
    Scenario(
        name="motion",
        summary="a healthy, restless patient: motion artefacts in every sign, no alarms expected",
        effects=tuple(_effect(Drive.ACTIVITY, 1, onset=minute, ramp=0.5, hold=4) for minute in range(3, 243, 10)),
    ),
    Scenario(
        name="walks",
        summary="a healthy patient who walks for eight minutes of every hour, and climbs stairs in the third",
        effects=(
            *_walks(_WALK, 12, every=60, minutes=8, times=2),
            *_walks(_PHYSIOTHERAPY, 132, every=60, minutes=10, times=1),
            *_walks(_WALK, 192, every=60, minutes=8, times=1),
        ),
        tells_activity=True,
        news2=(0, 7),  # a fast heart and fast breathing, at the pace of the walk
    ),
    Scenario(
        name="training",
        summary="an athlete at home, with a slow heart, who trains for an hour and cools down",
        effects=(
            _effect(Drive.CHRONOTROPY, -15, onset=0),
            *_walks(_TRAINING, 30, every=240, minutes=60, times=1),
            *_walks(_WALK, 91, every=240, minutes=10, times=1),
        ),
        tells_activity=True,
        news2=(0, 7),
    ),
    Scenario(
        name="sepsis-on-a-walk",
        summary="as sepsis-onset, in a patient who walks for ten minutes of every half hour until too weak for it",
        effects=(
            *_walks(_WALK, 5, every=30, minutes=10, times=5),
            _effect(Drive.FEVER, 2.6, onset=10, ramp=90),
            _effect(Drive.CHRONOTROPY, 14, onset=20, ramp=90),
            _effect(Drive.VENTILATION, 9, onset=20, ramp=100),
            _effect(Drive.DESATURATION, 4, onset=40, ramp=90),
            _effect(Drive.HYPOTENSION, 0.28, onset=60, ramp=100),
            _effect(Drive.CLOUDING, 1, onset=165),
        ),
        expects=(_expected("news2", Priority.MEDIUM, 5, 150), _expected("news2", Priority.HIGH, 20, 190)),
        tells_activity=True,
        settled_ms=_minutes(185),
        news2=(7, 20),
    ),
    Scenario(
        name="mixed",
        summary="a ward of all scenarios: most patients are stable, one deteriorates within minutes",
        beds=(
            (2, "hypoxia"),
            (5, "sepsis-onset"),
            (7, "sensor-off"),
            (11, "atrial-fibrillation"),
            (14, "motion"),
            (19, "haemorrhage"),
            (26, "flat-battery"),
            (33, "sepsis-onset"),
        ),
    ),
)

NAMES: Final = tuple(row.name for row in SCENARIOS)
_BY_NAME: Final = {row.name: row for row in SCENARIOS}


def scenario(name: str) -> Scenario:
    """The row of a scenario by its name.

    Raises:
        UnknownScenario: the name is not in the table.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UnknownScenario(name, known=NAMES) from None


class Script:
    """The stories of a cohort as one array per moment: each story is evaluated once, however many patients have it."""

    def __init__(self, played: Sequence[Scenario]) -> None:
        self._stories = tuple(dict.fromkeys(played))
        place = {story: index for index, story in enumerate(self._stories)}
        self._played = np.array([place[story] for story in played], dtype=np.intp)

    def drives(self, elapsed_ms: int) -> Floats:
        """Drives of every patient `elapsed_ms` into their story; shape (len(Drive), patients)."""
        total = np.zeros((len(Drive), len(self._stories)))
        for column, story in enumerate(self._stories):
            for effect in story.effects:
                total[effect.what, column] += effect.at(elapsed_ms)
        played: Floats = total[:, self._played]
        return played
