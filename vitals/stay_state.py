"""The stored state of one stay: the bytes of its parts, in the order in which they came to be.

Parts that later versions added follow those of earlier ones, so that each snapshot of an earlier version is read; what
few patients have stands at the end and is left out while it is empty.
"""

from typing import Any, Final, NamedTuple, Protocol

import msgspec

from vitals.alarms import AlarmBook, ClockText
from vitals.errors import BadSnapshot
from vitals.plan import MonitoringPlan
from vitals.quality import Quality
from vitals.seen import Seen
from vitals.stay_devices import StayDevices
from vitals.stay_judge import StayJudge
from vitals.stay_values import StayValues
from vitals.stay_windows import StayWindows

SNAPSHOT_VERSION: Final = 1

_ENCODER: Final = msgspec.msgpack.Encoder()


class _StatefulPart(Protocol):
    def to_state(self) -> list[Any]: ...
    def load_state(self, state: list[Any], /) -> None: ...


class StayState(NamedTuple):
    """What one stay consists of."""

    values: StayValues
    devices: StayDevices
    judge: StayJudge

    def encode(self) -> bytes:
        """The complete state."""
        values, devices, judge = self
        news2_points, freshness = judge.freshness.to_state()
        baselines, history = judge.readings.to_state()
        first = devices.sources.first
        states = [part.to_state() for part in self._later_parts()]
        states += self._rare_states()
        return _ENCODER.encode(
            [
                SNAPSHOT_VERSION,
                values.frontier_ms,
                news2_points,
                judge.timer_ms,
                values.latest.to_state(),
                freshness,
                baselines,
                history,
                judge.conditions.to_state(),
                first.seen.to_state(),
                first.quality.to_state(),
                values.windows.to_state(),
                judge.book.to_state(),
                *states,
            ]
        )

    def _later_parts(self) -> tuple[_StatefulPart, ...]:
        """The parts that later versions added, in the order of their states in a snapshot."""
        values, devices, judge = self
        return judge.models, values.latest.interval, devices.sources.first.clock, judge.usability, devices.term

    def _rare_states(self) -> list[list[Any]]:
        """What few patients have: further devices, entries, orders, activity. The last are left out while empty."""
        values, devices, judge = self
        sources = devices.sources.to_state(values.frontier_ms)
        few = (judge.readings.ordered.to_state(), judge.hold.to_state(), judge.book.begun.to_state())
        if not (
            devices.sources.others
            or values.latest.by_source
            or values.observations
            or judge.disagreement.is_watching
            or any(few)
        ):
            return [sources] if sources else []
        states = [
            sources,
            values.latest.sources_to_state(),
            judge.readings.sources_to_state(),
            values.observations.to_state(),
            devices.off.to_state(),
            judge.disagreement.to_state(),
            *few,
        ]
        while states and not states[-1]:
            states.pop()
        return states

    def _load_rare(self, states: list[list[Any]]) -> None:
        values, devices, judge = self
        devices.sources.load_state(states[0] if states else [], values.frontier_ms)
        if len(states) < 2:  # nearly always
            judge.readings.ordered.load_state([])  # it was judged by no orders, whatever the plan says now
            return
        by_source, baselines, observations, off, disagreement, ordered, hold, begun = [
            *states[1:],
            *([] for _ in range(8)),
        ][:8]
        values.latest.load_sources(by_source)
        judge.readings.load_sources(baselines)
        values.observations.load_state(observations)
        devices.off.load_state(off)
        judge.disagreement.load_state(disagreement)
        judge.readings.ordered.load_state(ordered)
        judge.hold.load_state(hold)
        judge.book.begun.load_state(begun)


def new(stay_id: str, plan: MonitoringPlan, clock: ClockText, windows: StayWindows | None = None) -> StayState:
    """A stay of which nothing is known yet.

    Args:
        windows: None: those of the plan.
    """
    values = StayValues(plan, windows or StayWindows(stay_id, plan))
    devices = StayDevices(stay_id, plan, clock)
    book = AlarmBook(stay_id, plan.meant_rules, clock, plan.orders_version)
    return StayState(values, devices, StayJudge(stay_id, plan, book, clock, values, devices))


def decode(stay_id: str, snapshot: bytes, plan: MonitoringPlan, clock: ClockText) -> StayState:
    """The stay in the state of `StayState.encode`.

    Raises:
        BadSnapshot: the bytes are damaged or were written by a newer version.
    """
    try:
        return _loaded(stay_id, msgspec.msgpack.decode(snapshot), plan, clock)
    except (msgspec.DecodeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise BadSnapshot(f"stay {stay_id}: the stored state cannot be read ({error})") from error


def _loaded(stay_id: str, state: list[Any], plan: MonitoringPlan, clock: ClockText) -> StayState:
    version, frontier_ms, news2_points, timer_ms, latest, freshness, baselines, *rest = state
    if version != SNAPSHOT_VERSION:
        raise ValueError(f"version {version}, this program reads {SNAPSHOT_VERSION}")
    history, causes, seen, quality, windows, book, *later = rest
    values = StayValues(plan, StayWindows.from_state(stay_id, plan, windows))
    devices = StayDevices(
        stay_id, plan, clock, seen=Seen.from_state(seen), quality=Quality.from_state(quality, plan.spo2_scale)
    )
    alarms = AlarmBook.from_state(stay_id, plan.meant_rules, book, clock, plan.orders_version)
    judge = StayJudge(stay_id, plan, alarms, clock, values, devices)
    values.frontier_ms, judge.timer_ms = frontier_ms, timer_ms
    values.latest.load_state(latest)
    judge.freshness.load_state(news2_points, freshness)
    judge.readings.load_state(baselines, history)
    judge.conditions.load_state(causes)
    stay = StayState(values, devices, judge)
    parts = stay._later_parts()
    for part, part_state in zip(parts, later, strict=False):  # earlier snapshots lack the last ones
        part.load_state(part_state)
    stay._load_rare(later[len(parts) :])
    return stay
