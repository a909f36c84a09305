"""The monitors of all patients of one place: routes each message to its monitor and fires each timer when it is due.

No I/O and no clock: an engine applies messages and calls `drain` for the snapshots and events to commit. The cost of a
message does not depend on the number of patients.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Final

import msgspec

from vitals.alarms import ClockText, clock_text
from vitals.errors import BadSnapshot
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    BindingPeriod,
    Event,
    Message,
    ModelScore,
    Observation,
    Reading,
    Silence,
    Tick,
)
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan

PlanOf = Callable[[str], MonitoringPlan]

RETRY_MS: Final = 60_000
"""Delay after which a timer that failed is tried again."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """Snapshots and events that have to be stored in one transaction."""

    snapshots: dict[str, bytes]  # by stay, of the patients whose state changed
    events: list[Event]


class Patients:
    """The monitors of many patients.

    Args:
        plan_of: what was ordered for a stay.
        states: (stay, snapshot) as they were committed; the timers of these patients run on.
        clock_of: what writes the times in texts, by the time zone of a plan.
    """

    def __init__(
        self,
        plan_of: PlanOf,
        states: Iterable[tuple[str, bytes]] = (),
        clock_of: Callable[[str], ClockText] = lambda _: clock_text,
    ) -> None:
        self._plan_of = plan_of
        self._clock_of = clock_of
        self._monitors: dict[str, PatientMonitor] = {}
        self._touched: dict[str, None] = {}
        self._defects: list[tuple[str, str]] = []
        self._events: list[Event] = []
        self._timers: list[tuple[int, str]] = []  # a heap; an entry counts only if it is the newest of its stay
        self._timer_of: dict[str, int] = {}
        self._now_ms = 0
        self._newly_ordered: dict[str, None] = {}  # whose monitor has orders by which it has not judged yet
        for stay_id, snapshot in states:
            try:
                monitor = self._restored(stay_id, snapshot)
            except BadSnapshot:
                # One damaged row must not stop the monitoring of the whole ward: this patient starts with an empty
                # state, and the defect is reported.
                monitor = self._restored(stay_id, None)
                self._defects.append((stay_id, BadSnapshot.__name__))
            self._monitors[stay_id] = monitor
            if monitor.has_new_orders:
                self._newly_ordered[stay_id] = None
            at_ms = monitor.timer_at()
            if at_ms is not None:
                self._timer_of[stay_id] = at_ms
                self._timers.append((at_ms, stay_id))
        heapify(self._timers)

    def apply(self, message: Message) -> list[Event]:
        """Apply one message, after the timers that were due before it."""
        events = self._fire(_time_of(message))
        if not isinstance(message, Tick) and not self._is_known(message):
            monitor = self._monitor(message.stay_id)
            if isinstance(message, Reading):
                events += monitor.on_reading(message)
            elif isinstance(message, ModelScore):
                events += monitor.on_score(message)
            elif isinstance(message, Acknowledge):
                events += monitor.on_acknowledge(message)
            elif isinstance(message, Silence):
                events += monitor.on_silence(message)
            elif isinstance(message, Observation):
                events += monitor.on_observation(message)
            else:
                events += monitor.on_binding(message)
            self._touch(monitor)
        self._events += events
        return events

    def shift(self, by_ms: int) -> None:
        """The clock of this place was set by so much: move the state of every patient with it."""
        self._now_ms += by_ms
        self._timers, self._timer_of = [], {}
        for monitor in self._monitors.values():
            monitor.shift(by_ms)
            self._touch(monitor)

    def forget(self, stay_id: str) -> None:
        """This place watches the patient no longer, though the stay goes on; should it begin again, it begins anew."""
        for known in (self._monitors, self._timer_of, self._touched):
            known.pop(stay_id, None)

    def reorder(self, stay_id: str) -> None:
        """The orders for a patient have changed: from here on, judge by the plan of `plan_of`.

        What changes about alarms that stand is told with the next message, also a Tick.
        """
        monitor = self._monitors.get(stay_id)
        if monitor is not None:
            self._monitors[stay_id] = monitor = self._restored(stay_id, monitor.snapshot())
            if monitor.has_new_orders:
                self._newly_ordered[stay_id] = None
            self._touch(monitor)  # the orders belong to the state that is stored

    def timer_at(self) -> int | None:
        """When a Tick has to be applied next; None if no timer is set."""
        at_ms = self._next_timer_ms()
        return min(at_ms or self._now_ms, self._now_ms) if self._newly_ordered and self._now_ms else at_ms

    def drain(self) -> Commit:
        """Snapshots and events since the last call."""
        commit = Commit(
            snapshots={stay_id: self._monitors[stay_id].snapshot() for stay_id in self._touched},
            events=self._events,
        )
        self._touched, self._events = {}, []
        return commit

    def drain_defects(self) -> list[tuple[str, str]]:
        """(stay, error class) of every timer and stored state that failed since the last call. Report them."""
        defects, self._defects = self._defects, []
        return defects

    def open_alarms(self) -> list[AlarmChanged]:
        """Every open alarm of every patient."""
        return [alarm for monitor in self._monitors.values() for alarm in monitor.open_alarms()]

    def monitors(self) -> Iterable[tuple[str, PatientMonitor]]:
        """(stay, monitor) of every known patient."""
        return self._monitors.items()

    def monitor(self, stay_id: str) -> PatientMonitor | None:
        """The monitor of a patient; None if the stay is unknown."""
        return self._monitors.get(stay_id)

    def __len__(self) -> int:
        return len(self._monitors)

    def _fire(self, now_ms: int) -> list[Event]:
        if now_ms > self._now_ms:
            self._now_ms = now_ms
        events = self._accept_orders() if self._newly_ordered else []
        while (at_ms := self._next_timer_ms()) is not None and at_ms <= self._now_ms:
            _, stay_id = heappop(self._timers)
            del self._timer_of[stay_id]
            monitor = self._at(stay_id, at_ms)
            try:
                events += monitor.on_orders(at_ms)
                events += monitor.on_timer(at_ms)
            except Exception as error:  # noqa: BLE001 - a defect met by one patient must not stop the time of the others
                self._defects.append((stay_id, type(error).__name__))
                self._arm(stay_id, at_ms + RETRY_MS)  # missing data must still be noticed
                continue
            self._touch(monitor)
        return events

    def _accept_orders(self) -> list[Event]:
        events: list[Event] = []
        waiting, self._newly_ordered = self._newly_ordered, {}
        for stay_id in waiting:
            monitor = self._at(stay_id, self._now_ms)
            try:
                events += monitor.on_orders(self._now_ms)
            except Exception as error:  # noqa: BLE001 - as of timers
                self._defects.append((stay_id, type(error).__name__))
            self._touch(monitor)
        return events

    def _at(self, stay_id: str, now_ms: int) -> PatientMonitor:
        """The monitor with the plan of a moment: an order that has begun or ended by then gives another."""
        monitor = self._monitors[stay_id]
        if monitor.plan.until_ms is None or monitor.plan.until_ms > now_ms:
            return monitor
        plan = monitor.plan.at(now_ms)
        later = PatientMonitor.restore(stay_id, monitor.snapshot(), plan, self._clock_of(plan.time_zone))
        self._monitors[stay_id] = later
        return later

    def _next_timer_ms(self) -> int | None:
        while self._timers and self._timer_of.get(self._timers[0][1]) != self._timers[0][0]:
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _monitor(self, stay_id: str) -> PatientMonitor:
        monitor = self._monitors.get(stay_id)
        if monitor is None:
            monitor = self._monitors[stay_id] = self._restored(stay_id, None)
        return monitor

    def _restored(self, stay_id: str, snapshot: bytes | None) -> PatientMonitor:
        plan = self._plan_of(stay_id).at(self._now_ms)
        return PatientMonitor.restore(stay_id, snapshot, plan, self._clock_of(plan.time_zone))

    def _is_known(self, message: Message) -> bool:
        """Whether it is a binding that is known already: it is repeated every few minutes, and nothing is written."""
        if not isinstance(message, BindingPeriod):
            return False
        monitor = self._monitors.get(message.stay_id)
        return monitor is not None and monitor.knows(message)

    def _touch(self, monitor: PatientMonitor) -> None:
        stay_id = monitor.stay_id
        self._touched[stay_id] = None
        at_ms = monitor.timer_at()
        if at_ms is None:
            self._timer_of.pop(stay_id, None)
        else:
            self._arm(stay_id, at_ms)

    def _arm(self, stay_id: str, at_ms: int) -> None:
        if self._timer_of.get(stay_id) != at_ms:
            self._timer_of[stay_id] = at_ms
            heappush(self._timers, (at_ms, stay_id))


def _time_of(message: Message) -> int:
    if isinstance(message, Tick):
        return message.now_ms
    if isinstance(message, Acknowledge | Silence):
        return message.at_ms
    return message.heard_ms
