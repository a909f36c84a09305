"""What one level says: a difference from the level below. Site, ward, profile, patient.

A level that says nothing of something leaves it as it is below. Nothing here is checked: see `check`.
"""

from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from vitals.messages import Activity, AlarmKind, Priority
from vitals.rules import AlarmLimit, Rule
from vitals.signs import VitalSign

LevelName: TypeAlias = Literal["site", "ward", "profile", "patient"]

LEVELS: Final[tuple[LevelName, ...]] = ("site", "ward", "profile", "patient")
"""Lowest first. Below them all is the default of the RCP, `vitals.rules.DEFAULT_RULES`."""

OBSERVE: Final = "observe"
"""In the place of the name of a ladder: an alarm is listed, and no person is called."""

CALL_CLASSES: Final = ("high", "medium", "low", "technical")
"""What a call may be ordered for, besides a single rule: alarms of a priority, and alarms about devices and data."""

CONDITION_PREFIX: Final = "ordered_"
"""Begins the id of a rule that an order has made, so that no rule of a later version has the same."""

DAY_MINUTES: Final = 24 * 60


class QuietHours(msgspec.Struct, frozen=True, array_like=True):
    """From when to when alarms of low priority call nobody, in minutes after midnight, by the clock of the site.

    Alarms of medium and high priority have no quiet hours. The same minute twice: no quiet hours.
    """

    from_minute: int
    to_minute: int

    def is_quiet(self, minute: int) -> bool:
        """Whether a minute of the day is a quiet one; the last one is not.

        >>> [QuietHours(22 * 60, 7 * 60).is_quiet(hour * 60) for hour in (21, 22, 3, 7)]
        [False, True, True, False]
        """
        if self.from_minute <= self.to_minute:
            return self.from_minute <= minute < self.to_minute
        return minute >= self.from_minute or minute < self.to_minute


class Prescription(msgspec.Struct, frozen=True, array_like=True):
    """Who decided on SpO2 scale 2, when, and why. RCP 2017: a competent clinical decision maker, and documented."""

    by: str
    at_ms: int
    why: str


class RuleChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a level says of one rule. None and UNSET: nothing."""

    # By priority: the threshold; None: no alarm of this priority; UNSET: as below.
    low: float | UnsetType | None = UNSET
    medium: float | UnsetType | None = UNSET
    high: float | UnsetType | None = UNSET
    for_ms: int | None = None
    clear_margin: float | None = None
    clear_for_ms: int | None = None
    clear_count: int | None = None
    latching: bool | None = None
    enabled: bool | None = None
    call: str | None = None  # name of a ladder of the desk, or OBSERVE

    def applied(self, rule: Rule) -> Rule:
        """The rule with what this change says. Limits that could never be reached are left out: the stricter stays."""
        limits = {limit.priority: limit.threshold for limit in rule.limits}
        for priority, threshold in self.thresholds():
            if threshold is None:
                limits.pop(priority, None)
            else:
                limits[priority] = threshold
        said = {
            name: value
            for name in ("for_ms", "clear_margin", "clear_for_ms", "clear_count", "latching", "enabled")
            if (value := getattr(self, name)) is not None
        }
        if not limits:  # no priority is left: the rule is off
            return msgspec.structs.replace(rule, **(said | {"enabled": False}))
        ordered = reachable(limits, rule.comparison)
        return msgspec.structs.replace(rule, **(said | {"limits": ordered}))

    def thresholds(self) -> list[tuple[Priority, float | None]]:
        """What is said of limits, by priority."""
        said = ((Priority.LOW, self.low), (Priority.MEDIUM, self.medium), (Priority.HIGH, self.high))
        return [(priority, threshold) for priority, threshold in said if not isinstance(threshold, UnsetType)]


class OrderLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One level of orders: what it says, who says it, why, and from when to when."""

    level: LevelName
    name: str = ""  # of the ward or of the profile
    by: str = ""
    why: str = ""
    by_prescriber: bool = False  # whoever signed it may prescribe; known from their account, never from a file
    valid_from_ms: int | None = None
    valid_until_ms: int | None = None  # excluded
    profile: str | None = None  # the profile that this level chooses; the highest level that chooses one decides
    spo2_scale: int | None = None
    prescription: Prescription | None = None
    expected: tuple[VitalSign, ...] | None = None
    cadence_ms: dict[VitalSign, int] = {}
    valid_ms: dict[VitalSign, int] = {}
    stale_after_ms: int | None = None
    lost_after_ms: int | None = None
    rules: dict[str, RuleChange] = {}  # by id
    conditions: tuple[Rule, ...] = ()  # rules of its own: combined and trends
    calls: dict[str, str] = {}  # by one of CALL_CLASSES: name of a ladder of the desk, or OBSERVE
    quiet: QuietHours | None = None
    holds_up_to: Activity | None = None  # alarms that such an activity explains are held back; UNKNOWN: none are
    learns_by_activity: bool | None = None  # the patient's own normal is learned for each activity by itself

    def is_valid(self, now_ms: int) -> bool:
        """Whether it is in force at a moment."""
        has_begun = self.valid_from_ms is None or self.valid_from_ms <= now_ms
        return has_begun and (self.valid_until_ms is None or now_ms < self.valid_until_ms)


def reachable(limits: dict[Priority, float], comparison: Literal[">=", "<="]) -> tuple[AlarmLimit, ...]:
    """Limits from the mildest to the worst, without those that only a value crosses which is worse already."""
    found: list[AlarmLimit] = []
    for priority in sorted(limits, reverse=True):
        threshold = limits[priority]
        if not found or (threshold < found[0].threshold if comparison == ">=" else threshold > found[0].threshold):
            found.insert(0, AlarmLimit(threshold, priority))
    return tuple(found)


def call_class(kind: AlarmKind, priority: Priority) -> str:
    """The one of CALL_CLASSES that an alarm is in."""
    return "technical" if kind is AlarmKind.TECHNICAL else priority.name.lower()
