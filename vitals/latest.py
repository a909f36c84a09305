"""The newest usable value of each sign of one patient, whoever gave it, and NEWS2 of these values.

Precedence, where several sources measure one sign: the value that was measured last counts, never an average. Of values
measured at the same moment that of a person counts before a device's, and of two devices the one that scores more. So
a later value of a device always counts, whether it scores more or less; where the sources differ, `vitals.disagreement`
says so.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from vitals.measuring_interval import ALLOWED_LATE_MS, TWELVE_HOURLY, MeasuringInterval
from vitals.messages import News2Part
from vitals.news2 import News2, with_due
from vitals.news2 import score as score_news2
from vitals.plan import MonitoringPlan
from vitals.signs import INDEX, SIGNS, SPEC, VitalSign, mask_of
from vitals.sources import FIRST, is_person

ALL_SIGNS: Final = mask_of(*SPEC)
_ALLOWED_LATE_MS: Final = tuple(ALLOWED_LATE_MS.items())

ENTERED_VALID_MS: Final = TWELVE_HOURLY
"""What a person has entered may enter a score for as long as the longest interval between two sets of observations. It
becomes due earlier, by the risk that it is part of."""
KEPT_SOURCES: Final = 8
"""So many sources of one sign are kept; the oldest values go."""


class SignValue(NamedTuple):
    """A usable value of a sign, its event time and its source."""

    value: float
    at_ms: int
    source: str = FIRST


class LatestValues:
    """The newest usable value of each sign, however old it is.

    Attributes:
        by_sign: the values that count. A sign that was never measured is absent.
        by_source: the newest value of each source, of the signs that have more than one.
        validity: how old the value of each sign may be and still be scored.
        interval: how often a set of observations is due.
    """

    __slots__ = (
        "_entered",
        "_has_sources",
        "_interval_ms",
        "_last",
        "_of_any_age_last",
        "_plan",
        "by_sign",
        "by_source",
        "interval",
        "validity",
    )

    def __init__(self, plan: MonitoringPlan) -> None:
        self._plan = plan
        self.validity = plan.validity
        self.by_sign: dict[VitalSign, SignValue] = {}
        self.by_source: dict[VitalSign, dict[str, SignValue]] = {}
        self._entered: frozenset[VitalSign] = frozenset()  # the signs whose value a person has entered
        self._has_sources = False  # whether a value is not of the first device
        self.interval = MeasuringInterval()
        # The last score that was worked out, and what belongs to it.
        self._last: News2 | None = None
        self._of_any_age_last: News2 | None = None
        self._interval_ms = TWELVE_HOURLY

    def learn(self, values: Iterable[tuple[VitalSign, float]], at_ms: int, source: str) -> bool:
        """Values that one source measured at one moment, in its order. True if a sign had no value before."""
        by_sign, by_source, any_first = self.by_sign, self.by_source, False
        for sign, value in values:
            held = by_sign.get(sign)
            if held is not None and held.source == source and sign not in by_source:  # nearly always
                by_sign[sign] = _new_tuple(SignValue, (value, at_ms, source))  # half the time of the constructor
            else:
                any_first = any_first or held is None
                self.put(sign, SignValue(value, at_ms, source))
        return any_first

    def put(self, sign: VitalSign, new: SignValue) -> bool:
        """One value, also one that is late. True if it is the one that counts from now on."""
        held, table = self.by_sign.get(sign), self.by_source.get(sign)
        if held is not None and (table is not None or held.source != new.source):
            if table is None:
                table = self.by_source[sign] = {held.source: held}
            own = table.get(new.source)
            if own is not None and own.at_ms > new.at_ms:
                return False
            table[new.source] = new
            if held.at_ms < new.at_ms and len(table) <= KEPT_SOURCES:  # nearly always
                oldest_ms = new.at_ms - self._plan.validity[sign]
                if not any(value.at_ms < oldest_ms for value in table.values()):
                    self._set(sign, new)
                    return True
            return self._choose(sign, table) is new
        if held is not None and held.at_ms > new.at_ms:
            return False
        self._set(sign, new)
        return True

    def counts(self, sign: VitalSign, at_ms: int, source: str) -> bool:
        """Whether the value that counts is the one that this source measured then."""
        held = self.by_sign.get(sign)
        return held is not None and held.at_ms == at_ms and held.source == source

    def withdraw(self, sign: VitalSign, withdrawn: SignValue, instead: SignValue | None) -> None:
        """A value turned out to be wrong. The newest other one that is known counts; without one the sign is missing.

        Args:
            instead: an earlier value of a person, which is not known here any more.
        """
        table = dict(self.by_source.pop(sign, {}))
        held = self.by_sign.get(sign)
        if held is not None:
            table.setdefault(held.source, held)
        if table.get(withdrawn.source) == withdrawn:
            del table[withdrawn.source]
        if instead is not None and instead.source not in table:
            table[instead.source] = instead
        self.by_sign.pop(sign, None)
        self._note_entered(sign, is_entered=False)
        for value in table.values():
            self.put(sign, value)

    @property
    def has_entered(self) -> bool:
        """Whether a value that counts was entered by a person."""
        return bool(self._entered)

    @property
    def entered_mask(self) -> int:
        """Mask of the signs whose value a person has entered."""
        return mask_of(*self._entered)

    def next_expiry_ms(self, now_ms: int) -> int | None:
        """When the next entered value may be scored no longer; None: there is none. No cadence says when it is late."""
        due = [self.by_sign[sign].at_ms + self.validity[sign] + 1 for sign in self._entered]
        return min((at_ms for at_ms in due if at_ms > now_ms), default=None)

    def current(self, sign: VitalSign, now_ms: int) -> list[SignValue]:
        """The values of all sources of a sign that are not too old, the one that counts first."""
        held, table = self.by_sign.get(sign), self.by_source.get(sign, {})
        rest = [one for one in table.values() if one is not held]
        rest.sort(key=lambda one: -one.at_ms)
        return [
            one
            for one in ([held] if held is not None else []) + rest
            if now_ms - one.at_ms <= self._valid_ms(sign, one)
        ]

    def inputs(self, now_ms: int) -> dict[VitalSign, tuple[float | None, int | None]]:
        """Every value with its age in ms, as the scores expect them."""
        return {sign: (latest.value, now_ms - latest.at_ms) for sign, latest in self.by_sign.items()}

    def missing(self, now_ms: int) -> int:
        """Mask of the signs without a value that may still enter a score."""
        mask, validity = ALL_SIGNS, self.validity
        for sign, latest in self.by_sign.items():
            if now_ms - latest.at_ms <= validity[sign]:
                mask ^= 1 << INDEX[sign]
        return mask

    def news2(self, now_ms: int) -> News2 | None:
        """NEWS2 of the values that are still valid. One that is older than the risk allows makes it incomplete.

        None for a patient who is no adult or pregnant: there is no NEWS2 for them.
        """
        if not self._plan.group.has_adult_scores:
            return None
        found = score_news2(self.inputs(now_ms), spo2_scale=self._plan.spo2_scale, valid_ms=self.validity)
        # The risk is that of all values, however old: an old value that scores keeps its own interval in force, and
        # what becomes due never changes what is due.
        of_any_age = self._of_any_age(found)
        interval_ms = self.interval.at(of_any_age, now_ms)
        if interval_ms < TWELVE_HOURLY:
            due = self._due(found, now_ms, interval_ms)
            if due:
                found = with_due(found, due, interval_ms)
        if self._has_sources:
            found = self._with_sources(found)
        self._last, self._of_any_age_last, self._interval_ms = found, of_any_age, interval_ms
        return found

    def note(self, score: News2, at_ms: int) -> int:
        """The patient was seen at a score, that of `news2`: its risk decides what is due.

        Returns how often a set of observations is due, in ms.
        """
        self.interval.note(self.news2_of_any_age(score), at_ms)
        return self._interval_ms

    def news2_of_any_age(self, score: News2) -> News2:
        """NEWS2 if the signs that `score` misses still had their last value, however old.

        A patient whose data stopped is not presumed to be better.
        """
        last = self._of_any_age_last
        return last if last is not None and self._last is score else self._of_any_age(score)

    def _of_any_age(self, score: News2) -> News2:
        if not score.missing or not any(sign in self.by_sign for sign in score.missing):
            return score
        last = {sign: (latest.value, 0) for sign, latest in self.by_sign.items()}
        return score_news2(last, spo2_scale=self._plan.spo2_scale)

    def _due(self, score: News2, now_ms: int, interval_ms: int) -> tuple[VitalSign, ...]:
        due: tuple[VitalSign, ...] = ()
        for sign, late_ms in _ALLOWED_LATE_MS:
            latest = self.by_sign.get(sign)
            if latest is not None and now_ms - latest.at_ms > interval_ms + late_ms and sign not in score.missing:
                due = (*due, sign)
        for sign in _CONTINUOUS if self._entered else ():  # those that a person has entered become due like the others
            is_entered = sign in self._entered and sign not in score.missing
            if is_entered and now_ms - self.by_sign[sign].at_ms > interval_ms:
                due = (*due, sign)
        return due

    def shift(self, by_ms: int) -> None:
        """The clock was set by so much: move every event time with it."""
        self.by_sign = {sign: value._replace(at_ms=value.at_ms + by_ms) for sign, value in self.by_sign.items()}
        for sign, table in self.by_source.items():
            moved = {source: value._replace(at_ms=value.at_ms + by_ms) for source, value in table.items()}
            self.by_source[sign] = moved

    def shift_source(self, source: str, by_ms: int) -> None:
        """The clock of one device turned out to be wrong by so much: move what it has measured."""
        for sign, held in list(self.by_sign.items()):
            table = self.by_source.get(sign)
            if table is not None and source in table:
                table[source] = table[source]._replace(at_ms=table[source].at_ms + by_ms)
                self._choose(sign, table)
            elif held.source == source:
                self._set(sign, held._replace(at_ms=held.at_ms + by_ms))

    def to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode: the values that count."""
        if not self._has_sources:
            return [[INDEX[sign], value, at_ms] for sign, (value, at_ms, _) in self.by_sign.items()]
        return [[INDEX[sign], *(latest if latest.source else latest[:2])] for sign, latest in self.by_sign.items()]

    def load_state(self, state: list[Any]) -> None:
        """Replace the values with those of `to_state`."""
        self.by_sign = {SIGNS[index].sign: SignValue(*value) for index, *value in state}
        self._has_sources = any(value.source for value in self.by_sign.values())
        if self._has_sources:
            for sign, value in self.by_sign.items():
                self._note_entered(sign, is_entered=is_person(value.source))

    def sources_to_state(self) -> list[Any]:
        """Plain lists that msgspec can encode: the values of each source; empty where no sign has two."""
        return [[INDEX[sign], *map(list, table.values())] for sign, table in self.by_source.items()]

    def load_sources(self, state: list[Any]) -> None:
        """Replace the values of each source with those of `sources_to_state`, after `load_state`."""
        self.by_source = {}
        for index, *values in state:
            table = [SignValue(*value) for value in values]
            self.by_source[SIGNS[index].sign] = {value.source: value for value in table}

    def _choose(self, sign: VitalSign, table: dict[str, SignValue]) -> SignValue:
        """The value that counts, by precedence. Those that nobody would show beside it are forgotten."""
        newest_ms = max(value.at_ms for value in table.values())
        rivals = [value for value in table.values() if value.at_ms == newest_ms]
        chosen = rivals[0] if len(rivals) == 1 else max(rivals, key=lambda value: self._rank(sign, value))
        if len(table) > 1:
            kept_ms = self._plan.validity[sign]
            for source, value in list(table.items()):
                if value is not chosen and chosen.at_ms - value.at_ms > kept_ms:
                    del table[source]
            while len(table) > KEPT_SOURCES:
                del table[min((one for one in table.values() if one is not chosen), key=lambda one: one.at_ms).source]
        if len(table) == 1:
            self.by_source.pop(sign, None)
        self._set(sign, chosen)
        return chosen

    def _rank(self, sign: VitalSign, value: SignValue) -> tuple[bool, int, str]:
        points = score_news2({sign: (value.value, 0)}, spo2_scale=self._plan.spo2_scale).at_least
        return is_person(value.source), points, value.source

    def _set(self, sign: VitalSign, value: SignValue) -> None:
        held = self.by_sign.get(sign)
        self.by_sign[sign] = value
        if value.source and (held is None or held.source != value.source):
            self._has_sources = True
            self._note_entered(sign, is_entered=is_person(value.source))
        elif sign in self._entered and not value.source:
            self._note_entered(sign, is_entered=False)

    def _note_entered(self, sign: VitalSign, *, is_entered: bool) -> None:
        if is_entered == (sign in self._entered):
            return
        self._entered = self._entered | {sign} if is_entered else self._entered - {sign}
        plan = self._plan.validity
        self.validity = {**plan, **{one: max(plan[one], ENTERED_VALID_MS) for one in self._entered}}

    def _valid_ms(self, sign: VitalSign, value: SignValue) -> int:
        plan_ms = self._plan.validity[sign]
        return max(plan_ms, ENTERED_VALID_MS) if is_person(value.source) else plan_ms

    def _with_sources(self, score: News2) -> News2:
        parts = tuple(
            News2Part(part.sign, part.value, part.points, part.age_ms, self._source_of(part.sign))
            for part in score.parts
        )
        return msgspec.structs.replace(score, parts=parts)

    def _source_of(self, sign: str) -> str:
        held = self.by_sign.get(VitalSign(sign))
        return FIRST if held is None else held.source


_new_tuple: Final = tuple.__new__
_CONTINUOUS: Final = tuple(
    sign for part in score_news2({}).parts if (sign := VitalSign(part.sign)) not in ALLOWED_LATE_MS
)
"""The signs of NEWS2 that devices measure continuously, in its order."""
