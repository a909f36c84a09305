"""The embedded engine: ingest, processor and store in one process, one transaction a batch.

A frame is acknowledged after its commit. State in memory is never ahead of the file: if a commit fails, the state is
restored from the last commit, and the edges send the frames again.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from runtime.clock import Clock, SteadyClock
from runtime.logs import get
from runtime.time_zone import clock_or_utc
from stream.embedded.store import Store
from stream.errors import CommitFailed, RowRefused
from stream.ingest.courier import Courier
from stream.ingest.edge_answers import EdgeAnswers
from stream.ingest.frames import OpenedFrame, ReadingWithScores
from stream.ingest.reception import Reception, ReceptionCounts, Rejections
from stream.records import EdgeAlarmRecord, EntryRecord, FrameRef, ObservationRecord
from vitals.messages import (
    Acknowledge,
    AlarmChanged,
    BindingPeriod,
    Event,
    Message,
    Observation,
    ObservationRecorded,
    ReadingJudged,
    Silence,
    Tick,
)
from vitals.orders_in_force import OrdersInForce
from vitals.patients import Patients, PlanOf
from wire.acks import OwedAck
from wire.answers import Answer
from wire.binding_periods import BindingPeriods, known_orders
from wire.codec import EdgeAlarmV1, HeartbeatV1
from wire.errors import DecodeError, Reason
from wire.identity import DeviceIdentity, Directory
from wire.lanes import Lanes
from wire.mqtt import Inbound
from wire.receiver import Opened, RateLimits

_log = get(__name__)
_EVENTS: Final = msgspec.msgpack.Encoder()

KEEP_ALARM_LOG_MS: Final = 90 * 86_400_000
"""How long the alarm log keeps records for the alarm desk; as long as the alarm topic of a cluster."""

_PRUNE_EVERY_MS: Final = 3_600_000


def encode_events(events: Iterable[Event]) -> bytes:
    """Events as bytes; the same events give the same bytes."""
    return _EVENTS.encode(list(events))


class Engine:
    """Processor and store: messages in, committed events out. Knows no network.

    Args:
        store: storage of all state; patients' states are restored from it.
        plan_of: monitoring plan of a stay.
    """

    def __init__(self, store: Store, plan_of: PlanOf) -> None:
        self.store = store
        self._plan_of = plan_of
        self._patients = Patients(plan_of, store.states(), clock_or_utc)
        self.defects = 0  # timers that failed, each of one patient

    def apply(self, messages: Sequence[Message], *, beside: Callable[[], None] | None = None) -> list[Event]:
        """Apply messages and commit them.

        Args:
            messages: in the order in which they are to be applied.
            beside: writes further rows in the same transaction.

        Raises:
            CommitFailed: nothing was committed, and the state in memory is as before.
        """
        try:
            for message in messages:
                self._patients.apply(message)
            return self._commit(beside)
        except Exception:
            self.forget()
            raise

    def reorder(self, stay_id: str) -> None:
        """Judge a patient by the plan that is ordered now; committed with the next messages."""
        self._patients.reorder(stay_id)

    def open_alarms(self) -> list[AlarmChanged]:
        """Every open alarm, of every patient."""
        return self._patients.open_alarms()

    def timer_at(self) -> int | None:
        """Time at which the next Tick is due, ms; None if no timer runs."""
        return self._patients.timer_at()

    def forget(self) -> None:
        """Discard uncommitted changes: restore every patient's committed state."""
        self._patients = Patients(self._plan_of, self.store.states(), clock_or_utc)

    def _commit(self, beside: Callable[[], None] | None) -> list[Event]:
        for _, problem in self._patients.drain_defects():
            self.defects += 1
            _log.error("the timer of a patient failed", problem=problem)
        commit = self._patients.drain()
        with self.store.transaction():
            self.store.put_events(commit.events)
            self.store.put_states(commit.snapshots)
            if beside is not None:
                beside()
        return commit.events


class StreamCounts(ReceptionCounts):
    """Counts of received frames by result, of commits and of entries."""

    commits: int = 0
    failed_commits: int = 0
    entries: int = 0  # acknowledgements, silences and observations of people that were applied
    observations: int = 0  # that are in the record, from the desk or from an edge, each time that it was told
    failed_entries: int = 0  # that the processor could not apply
    unreadable_orders: int = 0  # orders of stays that could not be read


class EmbeddedStream:
    """Everything between the edges' frames and the store, in one process.

    Args:
        me: identity of ingest.
        directory: registered devices; frames of others are refused.
        store: storage of all state.
        plan_of: monitoring plan of a stay.
        orders: what `plan_of` judges by; it is told of the orders of the directory. None: nothing is ordered.
        clock: wall and monotonic.
        on_stored: called with the ids of readings when they are committed.
        on_alarm: called with every alarm that was committed.
        courier: sends documents to edges; None where documents never change.
        on_turn: called with the monotonic time before every batch.
    """

    def __init__(
        self,
        me: DeviceIdentity,
        directory: Directory,
        store: Store,
        plan_of: PlanOf,
        clock: Clock,
        *,
        limits: RateLimits | None = None,
        ack_interval_ms: int = 1_000,
        on_stored: Callable[[list[bytes]], None] | None = None,
        on_alarm: Callable[[AlarmChanged], None] | None = None,
        courier: Courier | None = None,
        on_turn: Callable[[int], None] | None = None,
        orders: OrdersInForce | None = None,
    ) -> None:
        self.counts = StreamCounts()
        self._orders = OrdersInForce() if orders is None else orders
        for stay_id, known in known_orders(directory):  # before the patients' states are restored
            self._orders.accept(stay_id, known.orders)
        self._on_turn = on_turn
        self._store = store
        self._clock = clock
        self._engine = Engine(store, plan_of)
        self._reception = Reception(
            me, directory, clock, store.sessions, limits=limits, ack_interval_ms=ack_interval_ms, courier=courier
        )
        self._on_stored = on_stored
        self._on_alarm = on_alarm
        self._periods = BindingPeriods(directory)
        self._edge_answers = EdgeAnswers(
            me, directory, found=store.edge_alarms(), answers=(Answer(*one) for one in store.edge_answers())
        )
        for alarm in self._engine.open_alarms():
            self._edge_answers.alarm_changed(alarm)
        self._pruned_ms: int | None = None
        self._entries: deque[tuple[EntryRecord, asyncio.Future[None]]] = deque()

    async def put_entry(self, entry: EntryRecord) -> None:
        """Apply what a person entered; returns once it is committed, and waits while commits fail.

        If the process is killed before, the entry has had no effect; it may be put again.
        """
        applied: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._entries.append((entry, applied))
        await applied

    async def run(self, client: Lanes, *, batch: int = 256, idle_s: float = 0.05, gather_s: float = 0.01) -> None:
        """Serve until cancelled.

        Args:
            client: see `stream.ingest.edge_link.open_lanes`.
            batch: messages in one transaction, at most.
            idle_s: interval at which timers are checked while no message arrives.
            gather_s: time to wait for further messages of a batch: a commit costs more than a message.
        """
        while True:
            inbound = await client.receive(batch, within_s=idle_s)
            if inbound and len(inbound) < batch:
                await asyncio.sleep(gather_s)
                inbound += await client.receive(batch - len(inbound), within_s=0)
            if self._on_turn is not None:
                self._on_turn(self._clock.mono_ms())
            if self.accept(inbound):
                for message in inbound:
                    client.acknowledge(message)
                self.counts.turned_ms = self._clock.mono_ms()
            self.apply_entries()
            self._prune_alarm_log()
            self._reception.send_due(client)
            self.send_answers_to_edges(client.publish)

    def _prune_alarm_log(self) -> None:
        """Once an hour: records that no desk needs any more."""
        now_ms, mono_ms = self._clock.now_ms(), self._clock.mono_ms()
        if self._pruned_ms is not None and mono_ms - self._pruned_ms < _PRUNE_EVERY_MS:
            return
        self._pruned_ms = mono_ms
        standing = {one.alarm_id for one in self._engine.open_alarms()}
        standing |= {one.alarm.alarm_id for one in self._store.edge_alarms()}
        try:
            with self._store.transaction():
                self._store.prune_alarm_log(before_ms=now_ms - KEEP_ALARM_LOG_MS, open_alarms=standing)
        except CommitFailed as error:
            _log.error("cannot delete old records of the alarm log; tried again in an hour", problem=str(error))

    def send_answers_to_edges(self, publish: Callable[[str, bytes], bool]) -> None:
        """Send people's answers to edges; see `EdgeAnswers.send`."""
        self._edge_answers.send(publish)

    def apply_entries(self) -> None:
        """Apply waiting entries, each in its own transaction; if a commit fails, it and the rest stay in the queue."""
        while self._entries:
            entry, applied = self._entries[0]
            if not applied.cancelled() and not self._try_to_apply(entry):
                return
            self._entries.popleft()
            if not applied.done():
                applied.set_result(None)

    def _try_to_apply(self, entry: EntryRecord) -> bool:
        """False if the store refuses the commit."""
        now_ms = self._clock.now_ms()
        to_edges: list[Answer] = []
        if isinstance(entry, ObservationRecord):
            message: Message = replace(entry.message, heard_ms=now_ms)
        else:
            message, to_edges = entry.message, self._answers_to_edges(entry.message)
        try:
            events = self._engine.apply(
                [message, Tick(now_ms=now_ms)],
                beside=lambda: self._store.put_edge_answers(to_edges),
            )
        except CommitFailed as error:
            if not isinstance(error, RowRefused):
                _log.error("cannot commit an entry; it is tried again", problem=str(error))
                self.counts.failed_commits += 1
                return False
            _log.error("an entry cannot be stored", problem=str(error))
            self.counts.failed_entries += 1
            return True
        except Exception as error:  # noqa: BLE001 - a defect in one patient's data must not stop the ward
            # The desk sends an answer again if the alarm does not show it after a minute.
            _log.error("the processor failed on an entry", problem=type(error).__name__)
            self.counts.failed_entries += 1
            return True
        self.counts.entries += 1
        self._announce(events)
        self._edge_answers.answered(to_edges)
        return True

    def _answers_to_edges(self, entry: Acknowledge | Silence) -> list[Answer]:
        """What an answer means for alarms that only edges have found; that of alarms here stands in their record."""
        # The desk has the clock of the machine, arrivals have one that does not step.
        behind_ms = self._clock.behind_ms if isinstance(self._clock, SteadyClock) else 0
        answers = self._edge_answers.answers_to(entry, given_ms=entry.at_ms - behind_ms)
        here = {one.alarm_id for one in self._engine.open_alarms()} if answers else set()
        return [one for one in answers if one.alarm_id not in here]

    def accept(self, inbound: Sequence[Inbound]) -> bool:
        """Process and commit one batch from the broker; False if the broker must deliver it again."""
        now_ms = self._clock.now_ms()
        refused: Rejections = Counter()
        periods = self._periods.due(now_ms, self._clock.mono_ms(), edge_heard_ms=self._reception.edge_heard_ms)
        self._follow_orders(periods)
        frames = [one for message in inbound if (one := self._reception.accept(message, refused)) is not None]
        if not frames and not refused and not periods and not self._is_due(now_ms):
            return True
        return self._try_to_commit(inbound, frames, refused, now_ms, periods=periods)

    def _follow_orders(self, periods: Sequence[BindingPeriod]) -> None:
        """Judge by the newest orders of these stays from now on."""
        for stay_id in dict.fromkeys(one.stay_id for one in periods):
            ordered = self._periods.orders_of(stay_id)
            if ordered is not None and self._orders.accept(stay_id, ordered.orders):
                self._engine.reorder(stay_id)
                _log.info("orders in force", stay=stay_id[:8], version=ordered.version)
        for stay_id in self._orders.drain_unreadable():
            self.counts.unreadable_orders += 1
            _log.error("orders cannot be read; those before stay in force", stay=stay_id[:8])

    def _try_to_commit(
        self,
        inbound: Sequence[Inbound],
        frames: list[OpenedFrame],
        refused: Rejections,
        now_ms: int,
        *,
        periods: Sequence[BindingPeriod] = (),
        as_dead_letter: bool = False,
    ) -> bool:
        try:
            events = self._commit(frames, refused, now_ms, periods)
        except RowRefused as error:
            return self._divide(inbound, periods, now_ms, problem=str(error), as_dead_letter=as_dead_letter)
        except CommitFailed as error:
            _log.error("commit failed; edges send these frames again", problem=str(error))
            self.counts.failed_commits += 1
            self._reception.restore()
            return False
        except Exception as error:  # noqa: BLE001 - a defect in one patient's data must not stop the ward
            return self._divide(inbound, periods, now_ms, problem=type(error).__name__, as_dead_letter=as_dead_letter)
        self._periods.told(periods, self._clock.mono_ms())
        self._settle(events, frames, refused, len(inbound), now_ms)
        return True

    def _divide(
        self,
        inbound: Sequence[Inbound],
        periods: Sequence[BindingPeriod],
        now_ms: int,
        *,
        problem: str,
        as_dead_letter: bool,
    ) -> bool:
        """A batch failed for what is in it: process its messages one by one, each even if an earlier one failed.

        So are bindings; one that fails is told again a second later, and no message is held responsible for it.
        """
        _log.error("the processor failed", problem=problem, messages=len(inbound))
        self._reception.restore()
        if len(inbound) + len(periods) > 1:
            for period in periods:
                self._try_to_commit([], [], Counter(), now_ms, periods=[period])
            return [self.accept([message]) for message in inbound].count(False) == 0
        return bool(inbound) and not as_dead_letter and self._dead_letter(inbound[0], now_ms)

    def _dead_letter(self, message: Inbound, now_ms: int) -> bool:
        """Store a message on which the processor failed as a dead letter, so that it does not block the others."""
        one = self._reception.accept(message, Counter())
        if one is None:
            return False
        failed = one._replace(content=None, error=DecodeError(Reason.PROCESSING, "the processor failed"))
        return self._try_to_commit([message], [failed], Counter(), now_ms, as_dead_letter=True)

    def _is_due(self, now_ms: int) -> bool:
        timer_at = self._engine.timer_at()
        return timer_at is not None and timer_at <= now_ms

    def owed(self) -> list[OwedAck]:
        """Acknowledgements to edges that are due now."""
        return self._reception.due_acknowledgements()

    def _commit(
        self, frames: list[OpenedFrame], refused: Rejections, now_ms: int, periods: Sequence[BindingPeriod]
    ) -> list[Event]:
        messages: list[Message] = []
        for one in frames:
            if isinstance(one.content, ReadingWithScores):
                messages += one.content.messages
            elif isinstance(one.content, Observation):
                messages.append(one.content)
        forgotten = self._reception.forget_old()

        def beside() -> None:
            self._store.drop_sessions(forgotten)
            self._store.put_sessions(self._reception.dirty())
            for one in frames:
                self._keep(one, now_ms)
            for (device, reason), count in refused.items():
                self._store.count_reject(device, reason, now_ms, count)

        return self._engine.apply([*periods, *messages, Tick(now_ms=now_ms)], beside=beside)

    def _keep(self, one: OpenedFrame, now_ms: int) -> None:
        if isinstance(one.content, HeartbeatV1):
            self._store.put_heartbeat(one.sender.hex(), now_ms, msgspec.json.encode(one.content))
        if isinstance(one.content, EdgeAlarmV1) and one.opened is not None:
            found = self._found_by_edge(one.content, one.opened, now_ms)
            self._store.put_alarm_records([found])
            self._store.put_edge_alarm(found)
        if one.error is not None and one.opened is not None:
            self._store.put_dead_letter(
                session_id=one.opened.session_id,
                counter=one.opened.counter,
                at_ms=now_ms,
                reason=one.error.reason,
                stage="ingest",
                payload=one.opened.payload,
            )
            self._store.count_reject(one.sender.hex(), one.error.reason, now_ms)

    def _settle(
        self, events: list[Event], frames: list[OpenedFrame], refused: Rejections, received: int, now_ms: int
    ) -> None:
        """After a commit: count, acknowledge the frames, notify listeners."""
        counts = self.counts
        counts.commits += 1
        counts.received += received
        for (_, reason), count in refused.items():
            counts.rejected[reason] += count
        for one in frames:
            if one.opened is None:
                continue
            opened = one.opened
            self._reception.acknowledge(opened, self._refusal(one))
            counts.duplicates += opened.duplicate
            if isinstance(one.content, HeartbeatV1):
                counts.heartbeats += 1
                counts.gaps_detected += self._reception.note_heartbeat(one.sender, one.content)
                self._reception.note_clocks(counts)
                self._edge_answers.edge_heard(one.sender)
            if isinstance(one.content, EdgeAlarmV1):
                counts.edge_alarms += 1
                self._edge_answers.found_by_edge(self._found_by_edge(one.content, opened, now_ms))
            if one.error is not None:
                counts.dead_letters += 1
                counts.rejected[one.error.reason] += 1
        self._announce(events)

    def _announce(self, events: Iterable[Event]) -> None:
        """Notify listeners of committed events."""
        stored = [event.reading.reading_id for event in events if isinstance(event, ReadingJudged)]
        self.counts.stored += len(stored)
        if self._on_stored is not None and stored:
            self._on_stored(stored)
        for event in events:
            self.counts.observations += isinstance(event, ObservationRecorded)
            if isinstance(event, AlarmChanged):
                self._edge_answers.alarm_changed(event)
                if self._on_alarm is not None:
                    self._on_alarm(event)

    def _refusal(self, one: OpenedFrame) -> Reason | None:
        """Why a frame was refused, now or at its first delivery; None if it was accepted."""
        if one.error is not None:
            return one.error.reason
        if one.opened is None or not one.opened.duplicate:
            return None
        found = self._store.refusal(one.opened.session_id, one.opened.counter)
        return None if found is None else Reason(found)

    def _found_by_edge(self, alarm: EdgeAlarmV1, opened: Opened, now_ms: int) -> EdgeAlarmRecord:
        return EdgeAlarmRecord(
            stay_id=self._reception.stay_of(opened.binding_id),
            alarm=alarm,
            arrived_ms=now_ms,
            frame=FrameRef(opened.sender, opened.session_id, opened.frame_class, opened.counter),
            is_clock_known=self._reception.clocks.is_known(opened.sender),
        )
