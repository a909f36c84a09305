"""The processor of one partition: applies records to patients, and returns changed states and events to commit.

No I/O and no clock. The caller applies records in order, and commits what `drain` returns in one transaction with the
offset. If the commit fails, it discards the processor and restores a new one from Kafka: the state in memory is never
ahead of the state in Kafka.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from runtime.time_zone import clock_or_utc
from stream.records import (
    STATE_VERSION,
    AlarmRecord,
    FrameRef,
    Judgement,
    JudgementRecord,
    ObservationRecord,
    PatientStateRow,
    PeriodRecord,
    ReadingRecord,
    decode_patient_record,
    decode_state_row,
    encode_record,
    ended_record,
    mark_of,
)
from vitals.errors import BadOrders
from vitals.messages import (
    AlarmChanged,
    Event,
    Message,
    ModelScored,
    MonitoringEnded,
    ObservationRecorded,
    Priority,
    ReadingJudged,
    Tick,
)
from vitals.orders import plan_of
from vitals.orders_in_force import OrdersInForce
from vitals.patient_group import PatientGroup
from vitals.patients import Patients
from vitals.plan import MonitoringPlan
from vitals.sender_clock import BOUND_MS
from wire.errors import DecodeError

EVENTS_PER_RECORD: Final = 500
"""Further events go into another record: Kafka brokers reject records of more than a megabyte."""


class _Basis(NamedTuple):
    """What the plan of a patient is made from where nothing is ordered."""

    spo2_scale: int = 1
    group: PatientGroup = PatientGroup.UNSTATED


_NO_BASIS: Final = _Basis()


class CommitBatch(NamedTuple):
    """Records to send in one transaction."""

    states: list[tuple[bytes, bytes]]  # key and value for the state topic
    judgements: list[tuple[bytes, bytes]]  # for the events topic
    alarms: list[tuple[bytes, bytes]]  # for the alarms topic

    @property
    def is_empty(self) -> bool:
        return not (self.states or self.judgements or self.alarms)


class Processor:
    """The patients of one partition.

    Args:
        rows: key and value of the newest state of each patient.
        end: end offset of the partition of readings. A state with a later offset belongs to a topic that was deleted.
        cadence_ms, time_zone, clock_bound_ms: as in `MonitoringPlan`, for all patients.
    """

    def __init__(
        self,
        rows: Iterable[tuple[bytes, bytes]] = (),
        *,
        end: int = 0,
        cadence_ms: Mapping[str, int] | None = None,
        time_zone: str = "",
        clock_bound_ms: int = BOUND_MS,
    ) -> None:
        self._time_zone, self._clock_bound_ms = time_zone, clock_bound_ms
        self._cadence_ms = dict(cadence_ms or {})
        self._plans: dict[_Basis, MonitoringPlan] = {}
        self._last_offset: dict[str, int] = {}
        self._bases: dict[str, _Basis] = {}
        self.orders = OrdersInForce()
        self._last_value: dict[str, bytes | None] = {}  # of the record at that offset, if it was applied here
        self._mark: dict[str, bytes] = {}
        self._frames: dict[str, list[FrameRef]] = {}
        self.damaged: list[str] = []  # stays whose state could not be read and starts empty
        states = {}
        for key, value in rows:
            stay_id = key.decode()
            try:
                row = decode_state_row(value)
            except DecodeError:
                self.damaged.append(stay_id)
                continue
            states[stay_id] = row.snapshot
            self._last_offset[stay_id] = row.last_offset
            self._mark[stay_id] = row.mark
            self._bases[stay_id] = _Basis(row.spo2_scale, row.group)
            self.orders.accept(stay_id, row.orders)
        self.topic_was_recreated = max(self._last_offset.values(), default=-1) >= end
        if self.topic_was_recreated:
            self.forget_offsets()
        self._patients = Patients(self._plan_of, states.items(), clock_or_utc)
        self.alarm_pending = False
        self.applied = 0  # messages
        self.heard_ms: int | None = (
            None  # arrival of the newest reading, binding or observation that was applied, by the clock of ingest
        )

    def newest(self) -> tuple[int, bytes] | None:
        """Offset and mark of the newest record that a stored state includes; None: there is none, or no mark of it."""
        stay_id = max(self._last_offset, key=self._last_offset.__getitem__, default=None)
        if stay_id is None or not self._mark.get(stay_id):
            return None
        return self._last_offset[stay_id], self._mark[stay_id]

    def forget_offsets(self) -> None:
        """The topic of the states' offsets is gone: every record of the present one is new."""
        self.topic_was_recreated = True
        self._last_offset = dict.fromkeys(self._last_offset, -1)
        self._mark.clear()

    def __len__(self) -> int:
        return len(self._patients)

    def apply(self, offset: int, value: bytes | None) -> None:
        """Apply one record. A record that the state already includes changes nothing.

        Raises:
            DecodeError: the record cannot be decoded; nothing has changed.
            Exception: a defect; the state in memory may be wrong and has to be discarded.
        """
        record = decode_patient_record(value)
        messages: tuple[Message, ...] = record.messages if isinstance(record, ReadingRecord) else (record.message,)
        if not messages:
            return
        stay_id = messages[0].stay_id  # type: ignore[union-attr]
        if offset <= self._last_offset.get(stay_id, -1):
            return
        if isinstance(record, ReadingRecord | PeriodRecord):
            self._order(stay_id, record)
        if isinstance(record, ReadingRecord):
            if record.frame is not None:
                self._frames.setdefault(stay_id, []).append(record.frame)
            self.heard_ms = record.messages[0].heard_ms
        elif isinstance(record, PeriodRecord):
            self.heard_ms = record.message.heard_ms
        elif isinstance(record, ObservationRecord) and record.frame is not None:
            # One from the desk has the time of another machine: timers of patients do not run by it.
            self.heard_ms = record.message.heard_ms
            self._frames.setdefault(stay_id, []).append(record.frame)
        for message in messages:
            self._note(self._patients.apply(message))
        self._last_offset[stay_id] = offset
        self._last_value[stay_id] = value
        self.applied += len(messages)

    def tick(self, now_ms: int) -> None:
        """Run due timers. Call this only when all records have been read: unread ones are older."""
        self._note(self._patients.apply(Tick(now_ms=now_ms)))

    def timer_at(self) -> int | None:
        """When `tick` has to be called next; None: not needed."""
        return self._patients.timer_at()

    def drain_defects(self) -> list[tuple[str, str]]:
        """As `Patients.drain_defects`; also stays whose new orders could not be read: those before stay in force."""
        unreadable = [(stay_id, BadOrders.__name__) for stay_id in self.orders.drain_unreadable()]
        return self._patients.drain_defects() + unreadable

    def drain(self) -> CommitBatch:
        """States, events and alarms since the previous call."""
        commit = self._patients.drain()
        frames, self._frames = self._frames, {}
        self.alarm_pending = False
        judgements: dict[str, list[Judgement]] = {stay_id: [] for stay_id in frames}
        alarms = []
        for event in commit.events:
            if isinstance(event, AlarmChanged):
                alarms.append((event.stay_id.encode(), encode_record(AlarmRecord(alarm=event))))
            elif isinstance(event, MonitoringEnded):
                alarms.append((event.stay_id.encode(), encode_record(ended_record(event))))
            else:
                stay_id = _stay_of(event)
                judgements.setdefault(stay_id, []).append(event)
        return CommitBatch(
            states=[(stay_id.encode(), self._row(stay_id, one)) for stay_id, one in commit.snapshots.items()],
            judgements=[
                (stay_id.encode(), value)
                for stay_id, events in judgements.items()
                for value in _judgement_records(stay_id, events, frames.get(stay_id, []))
            ],
            alarms=alarms,
        )

    def open_alarms(self) -> tuple[tuple[int, int, int], int]:
        """Number of open alarms by priority, low first; and of the high ones, how many are not acknowledged."""
        standing = [alarm for alarm in self._patients.open_alarms() if not alarm.retrospective]
        counts = Counter(alarm.priority for alarm in standing)
        unanswered = sum(alarm.priority is Priority.HIGH and alarm.acknowledged_by is None for alarm in standing)
        return (counts[Priority.LOW], counts[Priority.MEDIUM], counts[Priority.HIGH]), unanswered

    def _order(self, stay_id: str, record: ReadingRecord | PeriodRecord) -> None:
        known = self._bases.setdefault(stay_id, _Basis(record.spo2_scale, record.group))
        is_new = isinstance(record, PeriodRecord) and self.orders.accept(stay_id, record.orders)
        if known.group is PatientGroup.UNSTATED is not record.group:
            # The state is of an earlier version, which did not know the group of a patient.
            self._bases[stay_id] = known._replace(group=record.group)
            is_new = True
        if is_new:
            self._patients.reorder(stay_id)

    def _note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, AlarmChanged | MonitoringEnded):
                self.alarm_pending = True

    def _row(self, stay_id: str, snapshot: bytes) -> bytes:
        if stay_id in self._last_value:
            self._mark[stay_id] = mark_of(self._last_value.pop(stay_id))
        basis = self._bases.get(stay_id, _NO_BASIS)
        return encode_record(
            PatientStateRow(
                STATE_VERSION,
                self._last_offset.get(stay_id, -1),
                basis.spo2_scale,
                snapshot,
                basis.group,
                self._mark.get(stay_id, b""),
                self.orders.signed(stay_id),
            )
        )

    def _plan_of(self, stay_id: str) -> MonitoringPlan:
        basis, ordered = self._bases.get(stay_id, _NO_BASIS), self.orders.of(stay_id)
        plan = self._plans.get(basis) if ordered is None else None
        if plan is None:
            plan = plan_of(
                ordered,
                spo2_scale=basis.spo2_scale,
                group=basis.group,
                cadence_ms=self._cadence_ms,
                time_zone=self._time_zone,
                clock_bound_ms=self._clock_bound_ms,
            )
        if ordered is None:
            self._plans[basis] = plan  # most patients share one
        return plan


def _stay_of(event: Judgement) -> str:
    if isinstance(event, ReadingJudged):
        return event.reading.stay_id
    if isinstance(event, ObservationRecorded):
        return event.observation.stay_id
    return event.score.stay_id if isinstance(event, ModelScored) else event.stay_id


def _judgement_records(stay_id: str, events: list[Judgement], frames: list[FrameRef]) -> list[bytes]:
    """Events in one or more records. The last one names the frames: their events are in it or in earlier ones."""
    first = [
        encode_record(JudgementRecord(stay_id=stay_id, events=tuple(events[start : start + EVENTS_PER_RECORD])))
        for start in range(0, len(events) - EVENTS_PER_RECORD, EVENTS_PER_RECORD)
    ]
    rest = events[len(first) * EVENTS_PER_RECORD :]
    return [*first, encode_record(JudgementRecord(stay_id=stay_id, events=tuple(rest), frames=tuple(frames)))]
