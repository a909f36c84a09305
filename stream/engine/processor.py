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
    OrderRecord,
    PatientStateRow,
    PeriodRecord,
    ReadingRecord,
    decode_patient_record,
    decode_state_row,
    encode_record,
    ended_record,
    mark_of,
)
from vitals.messages import AlarmChanged, Event, Message, ModelScored, MonitoringEnded, Priority, ReadingJudged, Tick
from vitals.patient_group import PatientGroup
from vitals.patients import Patients
from vitals.plan import MonitoringPlan
from vitals.sender_clock import BOUND_MS
from wire.errors import DecodeError

EVENTS_PER_RECORD: Final = 500
"""Further events go into another record: Kafka brokers reject records of more than a megabyte."""


class _Orders(NamedTuple):
    """What the plan of a patient is made from. A changed order is a new binding."""

    spo2_scale: int = 1
    group: PatientGroup = PatientGroup.UNSTATED


_NO_ORDERS: Final = _Orders()


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
        self._plans: dict[_Orders, MonitoringPlan] = {}
        self._last_offset: dict[str, int] = {}
        self._orders: dict[str, _Orders] = {}
        self._last_value: dict[str, bytes | None] = {}  # of the record at that offset, if it was applied here
        self._mark: dict[str, bytes] = {}
        self._frames: dict[str, list[FrameRef]] = {}
        self.damaged: list[str] = []  # bindings whose state could not be read and starts empty
        states = {}
        for key, value in rows:
            binding_id = key.decode()
            try:
                row = decode_state_row(value)
            except DecodeError:
                self.damaged.append(binding_id)
                continue
            states[binding_id] = row.snapshot
            self._last_offset[binding_id] = row.last_offset
            self._mark[binding_id] = row.mark
            self._orders[binding_id] = _Orders(row.spo2_scale, row.group)
        self.topic_was_recreated = max(self._last_offset.values(), default=-1) >= end
        if self.topic_was_recreated:
            self.forget_offsets()
        self._patients = Patients(self._plan_of, states.items(), clock_or_utc)
        self.alarm_pending = False
        self.applied = 0  # messages
        self.heard_ms: int | None = (
            None  # arrival of the newest reading or binding that was applied, by the clock of ingest
        )

    def newest(self) -> tuple[int, bytes] | None:
        """Offset and mark of the newest record that a stored state includes; None: there is none, or no mark of it."""
        binding_id = max(self._last_offset, key=self._last_offset.__getitem__, default=None)
        if binding_id is None or not self._mark.get(binding_id):
            return None
        return self._last_offset[binding_id], self._mark[binding_id]

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
        binding_id = messages[0].binding_id  # type: ignore[union-attr]
        if offset <= self._last_offset.get(binding_id, -1):
            return
        if not isinstance(record, OrderRecord):
            self._order(binding_id, record)
        if isinstance(record, ReadingRecord):
            if record.frame is not None:
                self._frames.setdefault(binding_id, []).append(record.frame)
            self.heard_ms = record.messages[0].heard_ms
        elif isinstance(record, PeriodRecord):
            self.heard_ms = record.message.heard_ms
        for message in messages:
            self._note(self._patients.apply(message))
        self._last_offset[binding_id] = offset
        self._last_value[binding_id] = value
        self.applied += len(messages)

    def tick(self, now_ms: int) -> None:
        """Run due timers. Call this only when all records have been read: unread ones are older."""
        self._note(self._patients.apply(Tick(now_ms=now_ms)))

    def timer_at(self) -> int | None:
        """When `tick` has to be called next; None: not needed."""
        return self._patients.timer_at()

    def drain_defects(self) -> list[tuple[str, str]]:
        """As `Patients.drain_defects`."""
        return self._patients.drain_defects()

    def drain(self) -> CommitBatch:
        """States, events and alarms since the previous call."""
        commit = self._patients.drain()
        frames, self._frames = self._frames, {}
        self.alarm_pending = False
        judgements: dict[str, list[Judgement]] = {binding_id: [] for binding_id in frames}
        alarms = []
        for event in commit.events:
            if isinstance(event, AlarmChanged):
                alarms.append((event.binding_id.encode(), encode_record(AlarmRecord(alarm=event))))
            elif isinstance(event, MonitoringEnded):
                alarms.append((event.binding_id.encode(), encode_record(ended_record(event))))
            else:
                binding_id = _binding_of(event)
                judgements.setdefault(binding_id, []).append(event)
        return CommitBatch(
            states=[(binding_id.encode(), self._row(binding_id, one)) for binding_id, one in commit.snapshots.items()],
            judgements=[
                (binding_id.encode(), value)
                for binding_id, events in judgements.items()
                for value in _judgement_records(binding_id, events, frames.get(binding_id, []))
            ],
            alarms=alarms,
        )

    def open_alarms(self) -> tuple[tuple[int, int, int], int]:
        """Number of open alarms by priority, low first; and of the high ones, how many are not acknowledged."""
        standing = [alarm for alarm in self._patients.open_alarms() if not alarm.retrospective]
        counts = Counter(alarm.priority for alarm in standing)
        unanswered = sum(alarm.priority is Priority.HIGH and alarm.acknowledged_by is None for alarm in standing)
        return (counts[Priority.LOW], counts[Priority.MEDIUM], counts[Priority.HIGH]), unanswered

    def _order(self, binding_id: str, record: ReadingRecord | PeriodRecord) -> None:
        known = self._orders.setdefault(binding_id, _Orders(record.spo2_scale, record.group))
        if known.group is PatientGroup.UNSTATED is not record.group:
            # The state is of an earlier version, which did not know the group of a patient.
            self._orders[binding_id] = known._replace(group=record.group)
            self._patients.reorder(binding_id)

    def _note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, AlarmChanged | MonitoringEnded):
                self.alarm_pending = True

    def _row(self, binding_id: str, snapshot: bytes) -> bytes:
        if binding_id in self._last_value:
            self._mark[binding_id] = mark_of(self._last_value.pop(binding_id))
        orders = self._orders.get(binding_id, _NO_ORDERS)
        return encode_record(
            PatientStateRow(
                STATE_VERSION,
                self._last_offset.get(binding_id, -1),
                orders.spo2_scale,
                snapshot,
                orders.group,
                self._mark.get(binding_id, b""),
            )
        )

    def _plan_of(self, binding_id: str) -> MonitoringPlan:
        orders = self._orders.get(binding_id, _NO_ORDERS)
        plan = self._plans.get(orders)
        if plan is None:
            plan = self._plans[orders] = MonitoringPlan(
                spo2_scale=orders.spo2_scale,
                group=orders.group,
                cadence_ms=self._cadence_ms,
                time_zone=self._time_zone,
                clock_bound_ms=self._clock_bound_ms,
            )
        return plan


def _binding_of(event: Judgement) -> str:
    if isinstance(event, ReadingJudged):
        return event.reading.binding_id
    return event.score.binding_id if isinstance(event, ModelScored) else event.binding_id


def _judgement_records(binding_id: str, events: list[Judgement], frames: list[FrameRef]) -> list[bytes]:
    """Events in one or more records. The last one names the frames: their events are in it or in earlier ones."""
    first = [
        encode_record(JudgementRecord(binding_id=binding_id, events=tuple(events[start : start + EVENTS_PER_RECORD])))
        for start in range(0, len(events) - EVENTS_PER_RECORD, EVENTS_PER_RECORD)
    ]
    rest = events[len(first) * EVENTS_PER_RECORD :]
    return [*first, encode_record(JudgementRecord(binding_id=binding_id, events=tuple(rest), frames=tuple(frames)))]
