"""The devices of one stay: what is known of each of them, by its binding.

A stay begins with the device whose binding has the stay's id. Its state stands in a snapshot where it stood before
there were further devices, so that each snapshot of an earlier version is read; what is known of further ones follows
at the end. A person who enters observations is a source, too, and has no state: see `vitals.observations`.
"""

from collections.abc import Iterator
from typing import Any, Final

from vitals.alarms import ClockText, clock_text
from vitals.binding_term import BindingTerm, StayTerm
from vitals.freshness import FreshnessLimits, limits_for
from vitals.messages import Reading
from vitals.plan import MEASURED, MonitoringPlan
from vitals.quality import Quality
from vitals.seen import Seen
from vitals.sender_clock import SenderClock
from vitals.signs import INDEX

KEPT_DEVICES: Final = 12
"""So many devices of one stay are kept, besides the first. Ended ones go before others, and silent ones next."""
KEPT_ENDED: Final = 64
"""Of so many bindings that are no longer kept it is remembered that they have ended: what still comes of them is for
the record only. A thermometer that goes from bed to bed begins a binding with each use."""

FIRST: Final = ""
"""The source of a value that the stay's first device has measured."""
_BY: Final = "by:"
_LONGEST_PACE_MS: Final = 2 * 3_600_000
_SHORT: Final = 8
_NO_FACTS: Final = ["", None, 0, 0]
_MEASURED: Final = tuple((sign, sign.value, 1 << INDEX[sign]) for sign in MEASURED)


def by_person(name: str) -> str:
    """The source of a value that a person has entered."""
    return _BY + name


def is_person(source: str) -> bool:
    """Whether a value was entered by a person."""
    return source.startswith(_BY)


class Source:
    """One device of a stay.

    Attributes:
        binding_id: its binding; that of the first device is the id of the stay.
        tag: the source of its values; `FIRST` of the first device, else its binding.
        key: stands in the alarms about this device; empty for the first one, else a short id of the binding.
        name: what people call it; empty: not known.
        frontier_ms: event time of its newest reading; None: it was never heard.
        battery: of its newest reading that says it, %.
        brought: mask of the signs that it has measured. Kept only where there are several devices.
        pace_ms: how often it is heard. Likewise.
    """

    __slots__ = (
        "battery",
        "binding_id",
        "brought",
        "clock",
        "frontier_ms",
        "key",
        "name",
        "pace_ms",
        "quality",
        "seen",
        "tag",
        "term",
    )

    def __init__(
        self,
        binding_id: str,
        plan: MonitoringPlan,
        *,
        is_first: bool = False,
        seen: Seen | None = None,
        quality: Quality | None = None,
    ) -> None:
        self.binding_id = binding_id
        self.tag = FIRST if is_first else binding_id
        self.key = "" if is_first else binding_id[:_SHORT]
        self.name = ""
        self.seen = seen or Seen()
        self.quality = quality or Quality(plan.spo2_scale)
        self.clock = SenderClock(bound_ms=plan.clock_bound_ms)
        self.term = BindingTerm()
        self.frontier_ms: int | None = None
        self.battery: float | None = None
        self.brought = 0
        self.pace_ms = 0

    @property
    def is_bound(self) -> bool:
        """Whether it is on the patient as far as it is known: bound or heard, and not ended."""
        return not self.term.has_ended and (self.frontier_ms is not None or self.term.known_ms is not None)

    @property
    def label(self) -> str:
        """How a text names it: `oximeter`, or `device 1a2b3c4d`."""
        return self.name or f"device {self.binding_id[:_SHORT]}"

    def note(self, reading: Reading) -> None:
        """Remember what it measures and how often. Call before `frontier_ms` is set to this reading's."""
        for _, name, bit in _MEASURED:
            if getattr(reading, name) is not None:
                self.brought |= bit
        if self.frontier_ms is not None:
            interval_ms = min(max(reading.at_ms - self.frontier_ms, 0), _LONGEST_PACE_MS)
            self.pace_ms = (3 * self.pace_ms + interval_ms) // 4 if self.pace_ms else interval_ms

    def silent_limits(self, plan: MonitoringPlan) -> FreshnessLimits:
        """After which silence it is late, stale, lost: by its fastest sign, or by its own pace if that is slower."""
        cadence_ms = min((plan.cadence(sign) for sign, _, bit in _MEASURED if self.brought & bit), default=0)
        return limits_for(None, max(cadence_ms, self.pace_ms))

    def shift(self, by_ms: int) -> None:
        """Move every event time of this device."""
        self.quality.shift(by_ms)
        if self.frontier_ms is not None:
            self.frontier_ms += by_ms

    def facts(self) -> list[Any]:
        """What is new of the first device since there are further ones; plain values that msgspec can encode."""
        battery = None if self.battery is None else round(self.battery)
        return [self.name, battery, self.brought, self.pace_ms]

    def load_facts(self, state: list[Any]) -> None:
        """Replace the facts with those of `facts`."""
        self.name, self.battery, self.brought, self.pace_ms = state

    def to_state(self) -> list[Any]:
        """The whole state of a further device."""
        return [
            bytes.fromhex(self.binding_id) if _is_hex(self.binding_id) else self.binding_id,
            self.frontier_ms,
            self.facts(),
            self.seen.to_state(),
            self.quality.to_state(),
            self.clock.to_state(),
            self.term.to_state(),
        ]

    @classmethod
    def from_state(cls, state: list[Any], plan: MonitoringPlan) -> "Source":
        name, frontier_ms, facts, seen, quality, clock, term, *_ = state
        source = cls(
            name.hex() if isinstance(name, bytes) else name,
            plan,
            seen=Seen.from_state(seen),
            quality=Quality.from_state(quality, plan.spo2_scale),
        )
        source.frontier_ms = frontier_ms
        source.load_facts(facts)
        source.clock.load_state(clock)
        source.term.load_state(term)
        return source


class Sources:
    """The devices of one stay.

    Args:
        stay_id: the binding of the first device.
        plan: what was ordered.
        clock: writes the times in texts.
        seen, quality: of the first device, if they were stored.

    Attributes:
        term: from when to when the patient is monitored.
        first: the device whose binding has the stay's id. It may never be heard.
        others: the further ones, by binding.
        forgotten: bindings that have ended and are no longer kept, with the time of their end.
    """

    __slots__ = ("_plan", "first", "forgotten", "others", "stay_id", "term")

    def __init__(
        self,
        stay_id: str,
        plan: MonitoringPlan,
        clock: ClockText = clock_text,
        *,
        seen: Seen | None = None,
        quality: Quality | None = None,
    ) -> None:
        self.stay_id = stay_id
        self._plan = plan
        self.first = Source(stay_id, plan, is_first=True, seen=seen, quality=quality)
        self.others: dict[str, Source] = {}
        self.forgotten: dict[str, int] = {}
        self.term = StayTerm(self.first.term, clock)

    def find(self, binding_id: str) -> Source | None:
        """A device that is known."""
        return self.first if binding_id == self.stay_id else self.others.get(binding_id)

    def add(self, binding_id: str) -> tuple[Source, Source | None]:
        """A further device, and the one that had to go for it."""
        gone = self._make_room() if len(self.others) >= KEPT_DEVICES else None
        source = self.others[binding_id] = Source(binding_id, self._plan)
        self.term.terms.append(source.term)
        return source, gone

    def __iter__(self) -> Iterator[Source]:
        yield self.first
        yield from self.others.values()

    def bound(self) -> list[Source]:
        """The devices that are on the patient as far as it is known: bound or heard, and not ended."""
        return [one for one in self if one.is_bound]

    def is_open(self, tag: str) -> bool:
        """Whether a source of values is still on the patient."""
        if is_person(tag):
            return True
        device = self.first if tag == FIRST else self.others.get(tag)
        return device is not None and not device.term.has_ended

    def unsure_until_ms(self) -> int | None:
        """Until when it is open whether what was heard first is a backlog; None: it is not, or nothing was heard."""
        if not self.others:
            return self.first.clock.unsure_until_ms
        heard = [one.clock.unsure_until_ms for one in self if one.frontier_ms is not None]
        known = [until_ms for until_ms in heard if until_ms is not None]
        return min(known) if known and len(known) == len(heard) else None

    def shift_clocks(self, by_ms: int) -> None:
        """The clock of this place was set by so much."""
        for source in self:
            source.clock.shift(by_ms)
        self.term.shift_arrivals(by_ms)

    def label_of(self, tag: str) -> str:
        """How a text names the source of a value."""
        if is_person(tag):
            return f"entered by {tag[len(_BY) :]}"
        source = self.first if tag == FIRST else self.others.get(tag)
        return f"device {tag[:_SHORT]}" if source is None else source.label

    def to_state(self, frontier_ms: int | None) -> list[Any]:
        """Plain lists that msgspec can encode; empty where there is nothing but a first device without a battery.

        Args:
            frontier_ms: event time of the newest message of the stay.
        """
        facts = self.first.facts()
        has_end = self.term.ends_ms is not None or self.first.term.ends_ms is not None
        if not (has_end or self.others or self.forgotten) and self.first.frontier_ms == frontier_ms:  # nearly always
            return [facts] if facts != _NO_FACTS else []
        own_ms = None if self.first.frontier_ms == frontier_ms else [self.first.frontier_ms]
        end, others = self.term.own_end(), [one.to_state() for one in self.others.values()]
        forgotten = [[binding_id, ended_ms] for binding_id, ended_ms in self.forgotten.items()]
        rest = [own_ms, end, others, forgotten]
        while rest and not rest[-1]:
            rest.pop()
        return [facts, *rest] if rest or facts != _NO_FACTS else []

    def load_state(self, state: list[Any], frontier_ms: int | None) -> None:
        """Replace the state with that of `to_state`, after those of the first device and of the term."""
        self.first.frontier_ms = frontier_ms
        if not state:
            return
        facts, own_ms, end, others, forgotten = [*state, *[None] * 4][:5]  # the last ones are left out if empty
        self.first.load_facts(facts)
        if own_ms is not None:
            self.first.frontier_ms = own_ms[0]
        self.term.load_own_end(end or [])
        for one in others or ():
            source = Source.from_state(one, self._plan)
            self.others[source.binding_id] = source
            self.term.terms.append(source.term)
        self.forgotten = dict(forgotten or ())

    def _make_room(self) -> Source:
        gone = min(self.others.values(), key=_worth)
        del self.others[gone.binding_id]
        self.term.terms.remove(gone.term)
        if gone.term.has_ended and gone.term.ended_ms is not None:
            self.forgotten[gone.binding_id] = gone.term.ended_ms
            if len(self.forgotten) > KEPT_ENDED:
                del self.forgotten[next(iter(self.forgotten))]
        return gone


def _worth(source: Source) -> tuple[bool, bool, int]:
    """Which device is kept before another: one that is bound, then one that is heard, the one heard last."""
    heard_ms = source.term.known_ms if source.frontier_ms is None else source.frontier_ms
    return not source.term.has_ended, source.frontier_ms is not None, heard_ms or 0


def _is_hex(text: str) -> bool:
    return len(text) == 32 and all(one in "0123456789abcdef" for one in text)
