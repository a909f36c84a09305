"""What people have entered of one patient: whether it counts, what it corrects, until when devices are off on purpose.

An observation that does not count is recorded with the reason, never lost.
"""

from math import isfinite
from typing import Any, Final

from vitals.measuring_interval import TWELVE_HOURLY
from vitals.messages import Observation
from vitals.risk import duration
from vitals.signs import INDEX, SIGNS, SPEC, ValueClass, VitalSign, classify

KEPT_IDS: Final = 32
"""So many observations are known again. An older one that comes twice is older than what counts and changes nothing."""
KEPT_VALUES: Final = 12
"""Of so many the values are kept, so that a correction can take them back."""
OLDEST_MS: Final = TWELVE_HOURLY
"""An observation that is older when it is heard counts no longer: a full set is due at least every 12 h (RCP 2017,
chart 4), so nothing older may enter a score. An hour-old one, entered at the end of a round, counts as of its time."""
FUTURE_MS: Final = 60_000
"""People enter minutes: a time that lies so far in the future counts as now, one that lies further is refused."""
LONGEST_OFF_MS: Final = 2 * 3_600_000
"""Devices that are off on purpose are expected back after this time at most, whatever was entered."""
BACK_AFTER_MS: Final = 60_000
"""A device that sends again after so long without a usable value was taken off and is back."""
WORN_ON_MS: Final = 10 * 60_000
"""Usable values this long after "off" was entered say that nothing was taken off."""

ROOM_AIR: Final = 21.0
_PER_LITRE: Final = 4.0
"""The usual estimate: each litre a minute adds 4 % to the oxygen that is breathed in. NEWS2 asks only whether it is
more than air."""
UNKNOWN_FLOW: Final = 1.0
"""L/min that stand for oxygen from a device of which no flow was entered."""
_NO_DEVICE: Final = frozenset({"", "air", "room air", "none", "no"})

_DIRECT: Final = (
    VitalSign.HEART_RATE,
    VitalSign.RESPIRATORY_RATE,
    VitalSign.SPO2,
    VitalSign.SYSTOLIC_BP,
    VitalSign.DIASTOLIC_BP,
    VitalSign.TEMPERATURE,
    VitalSign.CONSCIOUSNESS,
)
Values = list[tuple[VitalSign, float]]


def values_of(observation: Observation) -> Values:
    """The signs of an observation, as a reading would bring them. Glucose and notes are recorded only."""
    found: Values = [
        (sign, float(value)) for sign in _DIRECT if (value := getattr(observation, sign.value)) is not None
    ]
    oxygen = _oxygen(observation)
    return found if oxygen is None else [*found, (VitalSign.SUPPLEMENTAL_OXYGEN, oxygen)]


def why_refused(observation: Observation, *, future_ms: int = FUTURE_MS) -> str:
    """Why the values of an observation do not count; empty if they do. One wrong value makes the others doubtful.

    Args:
        future_ms: how far its time may lie in the future.
    """
    ahead_ms = observation.at_ms - observation.heard_ms
    if ahead_ms > future_ms:
        return f"observed {duration(ahead_ms)} in the future; enter the time of the observation again"
    if -ahead_ms > OLDEST_MS:
        return f"observed {duration(-ahead_ms)} ago, more than {duration(OLDEST_MS)}"
    for sign in (*_DIRECT, VitalSign.SUPPLEMENTAL_OXYGEN):
        value = getattr(observation, sign.value)
        if value is not None and classify(sign, value).value_class is ValueClass.NO_VALUE:
            low, high = SPEC[sign].possible
            return f"{SPEC[sign].label} {value:g} is not possible: {low:g} to {high:g} {SPEC[sign].unit}".rstrip()
    inspired = observation.inspired_oxygen
    if inspired is not None and not (isfinite(inspired) and ROOM_AIR <= inspired <= 100):
        return f"inspired oxygen {inspired:g} is not possible: 21 to 100 %"
    systolic, diastolic = observation.systolic_bp, observation.diastolic_bp
    if systolic is not None and diastolic is not None and systolic <= diastolic:
        return f"systolic pressure {systolic:g} is not above diastolic {diastolic:g}"
    return ""


def _oxygen(observation: Observation) -> float | None:
    """Oxygen in L/min. Where flow, share and device do not agree, the patient breathes oxygen."""
    flow, inspired = observation.supplemental_oxygen, observation.inspired_oxygen
    if inspired is not None and inspired > ROOM_AIR and not flow:
        return (inspired - ROOM_AIR) / _PER_LITRE
    if flow is not None:
        return flow
    if observation.oxygen_device.strip().casefold() not in _NO_DEVICE and inspired is None:
        return UNKNOWN_FLOW
    return None if inspired is None and not observation.oxygen_device.strip() else 0.0


class KeptObservations:
    """The newest observations of one patient: which are known, and what those say that count."""

    __slots__ = ("_ids", "_values")

    def __init__(self) -> None:
        self._ids: dict[bytes, None] = {}  # oldest first
        self._values: dict[bytes, tuple[int, str, Values]] = {}  # of those that count: when, by whom, what

    def add(self, observation_id: bytes) -> bool:
        """An observation is heard; False if it was heard before."""
        if observation_id in self._ids:
            return False
        self._ids[observation_id] = None
        if len(self._ids) > KEPT_IDS:
            del self._ids[next(iter(self._ids))]
        return True

    def keep(self, observation_id: bytes, at_ms: int, source: str, values: Values) -> None:
        """The values of an observation count."""
        self._values[observation_id] = (at_ms, source, values)
        if len(self._values) > KEPT_VALUES:
            del self._values[next(iter(self._values))]

    def take_back(self, observation_id: bytes) -> tuple[int, str, Values] | None:
        """An observation is corrected: when, by whom and what it said; None if that is not known here."""
        return self._values.pop(observation_id, None)

    def __bool__(self) -> bool:
        """Whether anything was entered."""
        return bool(self._ids)

    def newest(self, sign: VitalSign) -> tuple[float, int, str] | None:
        """The newest value of a sign that a person entered and that was not corrected: value, when, source."""
        found = [
            (value, at_ms, source)
            for at_ms, source, values in self._values.values()
            for one, value in values
            if one is sign
        ]
        return max(found, key=lambda one: one[1], default=None)

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every time with it."""
        self._values = {one: (at_ms + by_ms, source, values) for one, (at_ms, source, values) in self._values.items()}

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode; empty where nobody entered anything."""
        if not self._ids:
            return []
        values = [
            [one, at_ms, source, [[INDEX[sign], value] for sign, value in found]]
            for one, (at_ms, source, found) in self._values.items()
        ]
        return [list(self._ids), values]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        if state:
            ids, values = state
            self._ids = dict.fromkeys(ids)
            self._values = {
                one: (at_ms, source, [(SIGNS[index].sign, value) for index, value in found])
                for one, at_ms, source, found in values
            }


class DevicesOff:
    """Devices are off the patient on purpose, for a bath or an examination: until when nobody is called for that."""

    __slots__ = ("_began_ms", "_last_ms", "until_ms")

    def __init__(self) -> None:
        self.until_ms: int | None = None
        self._began_ms = 0
        self._last_ms = 0  # when a usable value last came, or when a device said that it was off

    def begin(self, at_ms: int, until_ms: int, now_ms: int) -> bool:
        """A person says so. True if it is so now."""
        until_ms = min(until_ms, at_ms + LONGEST_OFF_MS)
        if until_ms <= now_ms:
            return False
        self.until_ms, self._began_ms, self._last_ms = until_ms, now_ms, now_ms
        return True

    def is_on(self, now_ms: int) -> bool:
        return self.until_ms is not None and now_ms < self.until_ms

    def on_reading(self, at_ms: int, *, is_usable: bool, is_off: bool) -> None:
        """A reading of a worn device: one with a usable value says that the device is back, if it was away."""
        if self.until_ms is None:
            return
        if is_off:
            self._last_ms = min(self._last_ms, at_ms - BACK_AFTER_MS)  # away: the next usable value ends it
        elif is_usable:
            if at_ms - self._last_ms >= BACK_AFTER_MS or at_ms - self._began_ms >= WORN_ON_MS:
                self.until_ms = None
            else:
                self._last_ms = max(self._last_ms, at_ms)

    def end(self) -> None:
        """The time is over, or nobody is monitored any more."""
        self.until_ms = None

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every time with it."""
        if self.until_ms is not None:
            self.until_ms += by_ms
            self._began_ms += by_ms
            self._last_ms += by_ms

    def to_state(self) -> list[Any]:
        """Plain list that msgspec can encode; empty while it is not so."""
        return [] if self.until_ms is None else [self.until_ms, self._began_ms, self._last_ms]

    def load_state(self, state: list[Any]) -> None:
        """Replace the state with that of `to_state`."""
        if state:
            self.until_ms, self._began_ms, self._last_ms = state
