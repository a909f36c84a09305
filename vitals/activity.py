"""What a patient is doing, as wearables tell, and how fast heart and breathing may be because of it: the table.

An activity is context and never a sign: it scores nothing, and NEWS2 is the same with it as without. What is told
counts only while it is fresh, comes from a device that is worn, and goes on for no longer than the plan believes.

Sources:

- Tanaka, J Am Coll Cardiol 2001;37:153: the highest heart rate of an adult is about 208 - 0.7 x age.
- Garber (ACSM), Med Sci Sports Exerc 2011;43:1334: moderate exercise is 64 to 76 % of it, vigorous 77 to 95 %.
- Hodgson, Crit Care 2014;18:658: mobilising in hospital with a respiratory rate up to 30 has a low risk.
- Nicolo, Front Physiol 2017;8:922: healthy adults breathe 40 to 60 times a minute at the end of maximal exercise.
- Cole, N Engl J Med 1999;341:1351: a heart that has not slowed by more than 12 /min one minute after exercise is a
  sign of illness.
"""

from typing import Any, Final, NamedTuple

import msgspec

from vitals.errors import BadPlan
from vitals.messages import Activity, Reading, SensorFlag

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE

FRESH_MS: Final = 90_000
"""What was told counts for so long. After that nobody knows what the patient does, and nothing is held back."""

OLDEST_YEARS: Final = 90.0
"""The age of a patient whose age the plan does not say: the lowest heart rate is explained."""

MOST_HELD_MS: Final = 2 * _HOUR
MOST_BELIEVED_MS: Final = 4 * _HOUR


class Explains(NamedTuple):
    """What one activity explains, and how long afterwards a part of it."""

    heart_share: float  # of the highest heart rate of the patient's age
    respiratory_rate: float  # /min
    recovery_ms: int  # from its end until nothing is explained any more; never longer than the activity itself was
    word: str  # "during a walk"


EXPLAINS: Final[dict[Activity, Explains]] = {
    Activity.WALK: Explains(0.76, 30.0, 5 * _MINUTE, "a walk"),
    Activity.EXERCISE: Explains(0.95, 40.0, 10 * _MINUTE, "exercise"),
}
"""An activity that is not in this table explains nothing."""

RESTING: Final = (90.0, 20.0)
"""Heart and respiratory rate that need no explanation, the highest without a point in NEWS2. In recovery the limits
fall in a straight line from those of the activity to these."""


class Limits(NamedTuple):
    """The highest rates that are explained at one moment."""

    heart_rate: float  # /min
    respiratory_rate: float  # /min


class ActivityPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How far activity is believed for one patient. The default: not at all, every alarm comes as if at rest.

    Orders turn it on, because it makes alarms come later. Nothing is ever held back for a patient who is under 16 or
    pregnant, or of whom neither was stated.
    """

    holds_up_to: Activity = (
        Activity.UNKNOWN
    )  # WALK or EXERCISE: alarms are held back up to it; what is more counts as it
    age_years: float | None = None  # for the highest heart rate; None: as at OLDEST_YEARS
    most_held_ms: int = 20 * _MINUTE  # alarms are held back for no longer in any `within_ms`
    within_ms: int = _HOUR
    most_believed_ms: int = 45 * _MINUTE  # an activity that goes on for longer is a device that is stuck
    learns_by_activity: bool = False  # the patient's own normal is learned for each activity by itself: an athlete's

    def limits(self, activity: Activity) -> Limits:
        """The highest rates that an activity in EXPLAINS explains in a patient of this age.

        >>> ActivityPlan(age_years=40).limits(Activity.WALK)
        Limits(heart_rate=136.8, respiratory_rate=30.0)
        """
        explains = EXPLAINS[activity]
        age_years = OLDEST_YEARS if self.age_years is None else self.age_years
        return Limits(round(explains.heart_share * (208.0 - 0.7 * age_years), 1), explains.respiratory_rate)

    def check(self) -> None:
        """Raise BadPlan, naming the key and the fix, if this plan is invalid."""
        if self.holds_up_to not in (Activity.UNKNOWN, *EXPLAINS):
            raise BadPlan(f"activity.holds_up_to: {self.holds_up_to!r} explains nothing; use UNKNOWN, WALK or EXERCISE")
        if self.age_years is not None and not 16 <= self.age_years <= 130:
            raise BadPlan(f"activity.age_years: {self.age_years} is not the age of an adult; leave it out if not known")
        if not 0 < self.most_held_ms <= MOST_HELD_MS:
            raise BadPlan(f"activity.most_held_ms: must be above 0 and at most {MOST_HELD_MS}")
        if self.within_ms < 2 * self.most_held_ms:
            raise BadPlan(
                "activity.within_ms: must be at least twice most_held_ms, so that no patient is held for good"
            )
        if not 0 < self.most_believed_ms <= MOST_BELIEVED_MS:
            raise BadPlan(f"activity.most_believed_ms: must be above 0 and at most {MOST_BELIEVED_MS}")


NOT_BELIEVED: Final = ActivityPlan()


class _Spell(msgspec.Struct, array_like=True):
    """The last time that a patient was at one activity."""

    from_ms: int
    to_ms: int

    def shift(self, by_ms: int) -> None:
        self.from_ms += by_ms
        self.to_ms += by_ms


class PatientActivity:
    """What one patient does, from what all devices of the stay tell.

    Where two devices disagree the calmer one counts. What a device told before it was off the body counts until it is
    not fresh; what it tells while off is not heard.
    """

    __slots__ = ("_moving_since_ms", "_plan", "_spells", "_told")

    def __init__(self, plan: ActivityPlan) -> None:
        self._plan = plan
        self._told: dict[str, tuple[int, Activity]] = {}  # by device: when, what
        self._moving_since_ms: int | None = None  # since when WALK or more; ends with REST or LIGHT
        self._spells: dict[Activity, _Spell] = {}

    @property
    def is_known(self) -> bool:
        """Whether any device has ever told an activity."""
        return bool(self._told)

    @property
    def since_ms(self) -> int | None:
        """Since when the patient has walked or more; None: at rest, or not known."""
        return self._moving_since_ms

    def note(self, reading: Reading) -> None:
        """What a reading tells, in order or late. UNKNOWN tells nothing: not every device knows."""
        activity = reading.activity
        if activity not in _TOLD or reading.sensor_flags & SensorFlag.SENSOR_OFF:
            return
        before = self._told.get(reading.device)
        if before is None or before[0] <= reading.at_ms:
            self._told[reading.device] = (reading.at_ms, Activity(activity))

    def at(self, now_ms: int) -> Activity:
        """What the patient does now: the calmest of what is fresh. UNKNOWN if nothing is."""
        fresh = [activity for at_ms, activity in self._told.values() if now_ms - at_ms <= FRESH_MS]
        return min(fresh, default=Activity.UNKNOWN)

    def settled_at(self, now_ms: int) -> Activity:
        """What the patient does now, UNKNOWN also while recovering from more and where the device seems stuck."""
        current = self.at(now_ms)
        is_recovering = any(
            activity > current and now_ms - spell.to_ms < _recovery_ms(activity, spell)
            for activity, spell in self._spells.items()
        )
        return Activity.UNKNOWN if is_recovering or self._is_stuck(now_ms) else current

    def advance(self, now_ms: int) -> None:
        """A reading is judged at this moment: note how long the activity lasts."""
        if len(self._told) > 1:
            self._told = {one: told for one, told in self._told.items() if now_ms - told[0] <= FRESH_MS} or self._told
        current = self.at(now_ms)
        if current in (Activity.REST, Activity.LIGHT):
            if self._is_stuck(now_ms):
                self._spells = {}  # there is no recovery from what was not believed
            self._moving_since_ms = None
        elif current in EXPLAINS and self._moving_since_ms is None:
            self._moving_since_ms = now_ms
        for activity in EXPLAINS:
            spell = self._spells.get(activity)
            if activity <= current:
                if spell is None or now_ms - spell.to_ms > max(FRESH_MS, _recovery_ms(activity, spell)):
                    spell = self._spells[activity] = _Spell(now_ms, now_ms)
                spell.to_ms = max(spell.to_ms, now_ms)
            elif spell is not None and now_ms - spell.to_ms > max(FRESH_MS, _recovery_ms(activity, spell)):
                del self._spells[activity]

    def limits(self, now_ms: int) -> Limits | None:
        """The highest rates that what the patient does, or has just done, explains; None: nothing is explained."""
        current = self.at(now_ms)
        if current is Activity.UNKNOWN or self._is_stuck(now_ms):
            return None
        found = [self._left_of(activity, spell, now_ms) for activity, spell in self._believed()]
        left = [one for one in found if one is not None]
        return Limits(max(one[0] for one in left), max(one[1] for one in left)) if left else None

    def ends_ms(self, now_ms: int) -> int:
        """When `limits` becomes None at the latest, if nothing is told any more."""
        told_ms = max((at_ms for at_ms, _ in self._told.values()), default=now_ms)
        ends = [told_ms + FRESH_MS + 1]
        if self._moving_since_ms is not None:
            ends.append(self._moving_since_ms + self._plan.most_believed_ms + 1)
        else:
            ends += [
                max((spell.to_ms + _recovery_ms(one, spell) for one, spell in self._believed()), default=now_ms) + 1
            ]
        return min(ends)

    def word(self) -> str:
        """What the patient does or has just done, for a text: "a walk"."""
        return EXPLAINS[max(self._spells)].word if self._spells else ""

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every time with it."""
        self._told = {one: (at_ms + by_ms, activity) for one, (at_ms, activity) in self._told.items()}
        if self._moving_since_ms is not None:
            self._moving_since_ms += by_ms
        for spell in self._spells.values():
            spell.shift(by_ms)

    def to_state(self) -> list[Any]:
        """What msgspec can encode; empty if no device has ever told."""
        if not self._told:
            return []
        told = [[one, at_ms, int(activity)] for one, (at_ms, activity) in self._told.items()]
        return [told, self._moving_since_ms, [[int(activity), spell] for activity, spell in self._spells.items()]]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        told, self._moving_since_ms, spells = state or ((), None, ())
        self._told = {one: (at_ms, Activity(activity)) for one, at_ms, activity in told}
        self._spells = {Activity(activity): msgspec.convert(spell, _Spell) for activity, spell in spells}

    def _believed(self) -> list[tuple[Activity, _Spell]]:
        return [(one, spell) for one, spell in self._spells.items() if one <= self._plan.holds_up_to]

    def _is_stuck(self, now_ms: int) -> bool:
        begun_ms = self._moving_since_ms
        return begun_ms is not None and now_ms - begun_ms > self._plan.most_believed_ms

    def _left_of(self, activity: Activity, spell: _Spell, now_ms: int) -> Limits | None:
        """What of an activity's limits is left; all of it while it lasts."""
        limits, over_ms, recovery_ms = self._plan.limits(activity), now_ms - spell.to_ms, _recovery_ms(activity, spell)
        if over_ms <= 0:
            return limits
        if over_ms >= recovery_ms:
            return None
        left = 1.0 - over_ms / recovery_ms
        return Limits(*(rest + left * max(0.0, limit - rest) for rest, limit in zip(RESTING, limits, strict=True)))


def _recovery_ms(activity: Activity, spell: _Spell) -> int:
    return min(EXPLAINS[activity].recovery_ms, spell.to_ms - spell.from_ms)


_TOLD: Final = frozenset(int(activity) for activity in Activity) - {int(Activity.UNKNOWN)}
