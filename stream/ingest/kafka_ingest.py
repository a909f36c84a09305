"""Ingest of a cluster: appends the content of frames to Kafka, and acknowledges frames when InfluxDB has stored them.

A frame is confirmed to the MQTT broker (PUBACK) when Kafka has its content, and acknowledged to the edge, signed, when
InfluxDB has it; until then the edge keeps it. A repeated frame is only dropped if it is known to be stored, because
Kafka may have lost the first one.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from runtime.clock import Clock
from runtime.logs import get
from runtime.version import __version__
from stream.config import IngestConfig
from stream.delivery import OutgoingRecord, RecordSender, RefusedRecord
from stream.errors import CommitFailed
from stream.ingest.courier import Courier
from stream.ingest.frames import OpenedFrame, ReadingWithScores
from stream.ingest.ledger import Ledger
from stream.ingest.reception import Reception, ReceptionCounts, Rejections
from stream.ingest.stays import location_of, stays_of, terms_of
from stream.kafka import consumer, topic
from stream.records import (
    DeadLetter,
    EdgeAlarmRecord,
    FrameRef,
    HeartbeatRecord,
    ObservationRecord,
    PatientLocation,
    PatientRecord,
    PeriodRecord,
    ReadingRecord,
    StoredFrames,
    decode_stored_frames,
    encode_record,
)
from stream.refusals import Cause
from vitals.messages import BindingPeriod, Observation
from wire.binding_periods import BindingPeriods
from wire.codec import EdgeAlarmV1, HeartbeatV1
from wire.counters import CounterSet, RangesFull
from wire.errors import DecodeError, Reason
from wire.identity import DeviceIdentity, Directory
from wire.lanes import Lanes
from wire.mqtt import Inbound
from wire.receiver import RateLimits, SessionRow
from wire.topics import (
    KAFKA_ALARMS,
    KAFKA_DEAD_LETTERS,
    KAFKA_HEALTH,
    KAFKA_HEARTBEATS,
    KAFKA_READINGS,
    KAFKA_STORED,
)

_log = get(__name__)

_OFFSET: Final = "stored_offset"  # key in the ledger: next offset of `vl.stored.v1` to read
_SAVE_EVERY_MS: Final = 2_000
_REREAD_RECORDS: Final = 100  # of `vl.stored.v1`, when the ledger has no offset
_RETRY_S: Final = 0.5
_LOCATIONS_EVERY_MS: Final = 60_000
_ENDED_STAY_MS: Final = 86_400_000
"""The location of a patient is published this long after the end of the stay, for screens that were off."""
_REASONS: Final = {reason.value: reason for reason in Reason}


class IngestCounts(ReceptionCounts):
    """Counts of frames from edges and of their way to Kafka."""

    sent: int = 0  # frames appended to Kafka, including repeats
    repeats: int = 0  # of them, frames that had been received before
    failed_sends: int = 0  # batches that Kafka did not accept at once
    waiting_since_ms: int | None = None  # monotonic: when Kafka stopped accepting records; None: it accepts
    waiting_for: str = Cause.UNAVAILABLE  # what the failure depends on, see `stream.refusals`
    why_waiting: str = ""
    heard_ms: int = 0  # monotonic: when Kafka last answered a poll of `vl.stored.v1`


class KafkaIngest:
    """Forwards frames from edges to Kafka, and acknowledgements from Kafka to edges.

    Args:
        me: identity of the data centre.
        directory: devices and bindings of the site.
        ledger: saves sessions, and which of their frames are stored.
        limits: rate limits for each sender; None: the defaults.
        ack_interval_ms: how long acknowledgements of a session are collected before one is sent.
        courier: sends documents to edges; None: no documents are sent.
        on_turn: called with the monotonic time before every batch.
        on_stored: called with the ids of readings that were stored; None: the ids are not tracked.
    """

    def __init__(
        self,
        me: DeviceIdentity,
        directory: Directory,
        ledger: Ledger,
        config: IngestConfig,
        clock: Clock,
        *,
        limits: RateLimits | None = None,
        ack_interval_ms: int = 1_000,
        courier: Courier | None = None,
        on_turn: Callable[[int], None] | None = None,
        on_stored: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self.counts = IngestCounts()
        self._on_stored = on_stored
        self._awaited: dict[tuple[bytes, int], bytes] = {}  # ids of readings, by session and counter
        self._ledger = ledger
        self._kafka = config.kafka
        self._in_flight = config.in_flight
        self._clock = clock
        self._on_turn = on_turn
        self._stored = {row.session_id: CounterSet.of(row.ranges) for row in ledger.sessions()}
        self._unsaved: dict[bytes, None] = {}  # sessions with stored frames that the ledger does not have yet
        self._rows = {row.session_id: row for row in ledger.sessions()}
        self._saved_ms = 0
        self._directory = directory
        self._periods = BindingPeriods(directory)
        self._located_ms: int | None = None  # monotonic: when patient locations were last published
        self._offset: int | None = None
        self._reception = Reception(
            me,
            directory,
            clock,
            ledger.sessions,
            limits=limits,
            ack_interval_ms=ack_interval_ms,
            courier=courier,
            repeats=True,
        )

    async def run(self, client: Lanes) -> None:
        """Serve until cancelled."""
        listening = asyncio.create_task(self._follow_stored_frames(), name="stored frames")
        speaking = asyncio.create_task(self._send_answers(client), name="answers")
        sender = RecordSender(self._kafka, on_trouble=self._note_trouble)
        try:
            while not listening.done() and not speaking.done():
                inbound = await client.receive(self._in_flight, within_s=0.05)
                if self._on_turn is not None:
                    self._on_turn(self._clock.mono_ms())
                await self._publish_locations(sender)
                await self._publish_periods(sender)
                if inbound and await self._forward(sender, inbound):
                    for message in inbound:
                        client.acknowledge(message)
                self._save_stored()
                self.counts.turned_ms = self._clock.mono_ms()
            for task in (listening, speaking):
                if task.done():
                    task.result()
        finally:
            for task in (listening, speaking):
                task.cancel()
            for task in (listening, speaking):
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            self._save_stored(at_once=True)
            await sender.stop()

    async def _forward(self, sender: RecordSender, inbound: Sequence[Inbound]) -> bool:
        """Append one batch to Kafka; False if sessions cannot be saved and the MQTT broker must repeat the batch."""
        rejections: Rejections = Counter()
        opened = [one for message in inbound if (one := self._reception.accept(message, rejections)) is not None]
        try:
            self._save_sessions(rejections)
        except CommitFailed as error:
            _log.error("cannot save sessions; the MQTT broker will repeat the frames", problem=str(error))
            self._reception.restore()
            return False
        records: list[OutgoingRecord] = []
        letters: list[OutgoingRecord] = []
        of_frame: dict[int, int] = {}
        for index, one in enumerate(opened):
            for record in self._records(one):
                (letters if one.error is not None else records).append(record)
                of_frame[id(record)] = index
        refused = {of_frame[id(found.record)]: found for found in await self._deliver(sender, records)}
        letters += [self._refused(opened[index], found) for index, found in refused.items()]
        # An edge deletes a frame that is rejected: nothing is settled before its dead letter is in Kafka.
        await sender.deliver(letters, all_of_them=True)
        self.counts.waiting_since_ms = None
        self._settle(opened, rejections, len(inbound), refused.keys())
        return True

    def _records(self, one: OpenedFrame) -> list[OutgoingRecord]:
        if one.opened is None or self._is_stored(one):
            return []
        opened = one.opened
        frame = FrameRef(opened.sender, opened.session_id, opened.frame_class, opened.counter)
        binding = opened.binding_id.hex()
        if one.error is not None:
            return [self._dead_letter(one.error.reason, str(one.error), opened.payload, frame, binding)]
        now_ms = self._clock.now_ms()
        match one.content:
            case ReadingWithScores() as found:
                if self._on_stored is not None:
                    self._awaited[frame.session_id, frame.counter] = found.reading.reading_id
                reading = ReadingRecord(
                    messages=tuple(found.messages),  # type: ignore[arg-type]
                    frame=frame,
                    spo2_scale=found.spo2_scale,
                    group=found.group,
                )
                return [self._record_for(KAFKA_READINGS, found.reading.stay_id, reading)]
            case Observation() as observation:
                observed = ObservationRecord(message=observation, frame=frame)
                return [self._record_for(KAFKA_READINGS, observation.stay_id, observed)]
            case HeartbeatV1() as beat:
                return [
                    self._record_for(
                        KAFKA_HEARTBEATS,
                        frame.edge_id.hex(),
                        HeartbeatRecord(heartbeat=beat, arrived_ms=now_ms, frame=frame),
                    )
                ]
            case EdgeAlarmV1() as alarm:
                stay = self._reception.stay_of(opened.binding_id)
                edge_alarm = EdgeAlarmRecord(
                    stay_id=stay,
                    alarm=alarm,
                    arrived_ms=now_ms,
                    frame=frame,
                    is_clock_known=self._reception.clocks.is_known(frame.edge_id),
                )
                return [self._record_for(KAFKA_ALARMS, stay, edge_alarm)]
            case _:
                return []  # a frame without content, which keeps the connection open

    def _record_for(
        self,
        name: str,
        key: str,
        record: PatientRecord | HeartbeatRecord | EdgeAlarmRecord | PatientLocation | DeadLetter,
    ) -> OutgoingRecord:
        return OutgoingRecord(topic(self._kafka, name), key.encode(), encode_record(record))

    def _refused(self, one: OpenedFrame, found: RefusedRecord) -> OutgoingRecord:
        """The dead letter of a frame whose record Kafka refuses."""
        assert one.opened is not None  # noqa: S101 - it had a record
        opened = one.opened
        frame = FrameRef(opened.sender, opened.session_id, opened.frame_class, opened.counter)
        _log.error("frame moved to dead letters", edge=opened.sender.hex(), problem=found.problem)
        return self._dead_letter("refused", found.problem, opened.payload, frame, opened.binding_id.hex())

    def _dead_letter(self, reason: str, problem: str, payload: bytes, frame: FrameRef, binding: str) -> OutgoingRecord:
        letter = DeadLetter(
            stage="ingest",
            reason=reason,
            problem=problem,
            at_ms=self._clock.now_ms(),
            source=f"session {frame.session_id.hex()}/{frame.counter}",
            payload=payload,
            version=__version__,
            frame=frame,
            binding_id=binding,
        )
        return self._record_for(KAFKA_DEAD_LETTERS, frame.edge_id.hex(), letter)

    async def _deliver(self, sender: RecordSender, records: list[OutgoingRecord]) -> list[RefusedRecord]:
        """Send until Kafka has all records but those it refuses for what they are; returns these.

        Until then no frame is confirmed, and the MQTT broker holds back others.
        """
        return await sender.deliver(records)

    def _note_trouble(self, cause: Cause, problem: str) -> None:
        counts = self.counts
        counts.failed_sends += 1
        if counts.waiting_since_ms is None:
            counts.waiting_since_ms = self._clock.mono_ms()
        counts.waiting_for, counts.why_waiting = cause, problem

    def _settle(
        self, opened: Sequence[OpenedFrame], rejections: Rejections, received: int, refused: Collection[int]
    ) -> None:
        """Kafka has the batch: count it, and acknowledge frames whose content is not written to InfluxDB."""
        counts = self.counts
        counts.received += received
        for (_, reason), count in rejections.items():
            counts.rejected[reason] += count
        for index, one in enumerate(opened):
            if one.opened is None:
                continue
            if self._is_stored(one):
                counts.duplicates += 1
                self._reception.acknowledge(one.opened)
                continue
            counts.repeats += one.opened.duplicate
            if one.error is not None or index in refused:
                reason = Reason.VALUE if one.error is None else one.error.reason
                counts.dead_letters += 1
                counts.rejected[reason] += 1
                self._reception.acknowledge(one.opened, reason)
            elif one.content is None:
                self._reception.acknowledge(one.opened)
            else:
                counts.sent += 1
                counts.edge_alarms += isinstance(one.content, EdgeAlarmV1)
                if isinstance(one.content, HeartbeatV1):
                    counts.heartbeats += 1
                    counts.gaps_detected += self._reception.note_heartbeat(one.sender, one.content)
                    self._reception.note_clocks(counts)

    def _is_stored(self, one: OpenedFrame) -> bool:
        assert one.opened is not None  # noqa: S101 - asked of frames with content only
        found = self._stored.get(one.opened.session_id)
        return found is not None and one.opened.counter in found

    async def _publish_locations(self, sender: RecordSender) -> None:
        """Publish which patient is in which bed, once a minute, for dashboards. A failure is only logged."""
        mono_ms, now_ms = self._clock.mono_ms(), self._clock.now_ms()
        if self._located_ms is not None and mono_ms - self._located_ms < _LOCATIONS_EVERY_MS:
            return
        self._located_ms = mono_ms
        try:
            for bindings in stays_of(self._directory):
                location = location_of(bindings, now_ms)
                if location.valid_to_ms is not None and location.valid_to_ms < now_ms - _ENDED_STAY_MS:
                    continue
                record = self._record_for(KAFKA_HEALTH, location.stay_id, location)
                sent = await sender.send_unconfirmed(record)
                sent.add_done_callback(_log_failed_send)
        except (KafkaError, OSError) as error:
            _log.warning("cannot publish patient locations to Kafka", problem=repr(error))

    async def _publish_periods(self, sender: RecordSender) -> None:
        """Tell workers of bindings that are new, have ended or have other orders, before readings of them.

        Waits until Kafka has it.
        """
        mono_ms = self._clock.mono_ms()
        periods = self._periods.due(self._clock.now_ms(), mono_ms, edge_heard_ms=self._reception.edge_heard_ms)
        if not periods:
            return
        records = [self._record_for(KAFKA_READINGS, one.stay_id, self._period_record(one)) for one in periods]
        refused = {id(found.record) for found in await self._deliver(sender, records)}
        self.counts.waiting_since_ms = None
        # What Kafka refuses is told again a second later: there is nothing else that could be done with it.
        delivered = [one for one, record in zip(periods, records, strict=True) if id(record) not in refused]
        self._periods.told(delivered, mono_ms)

    def _period_record(self, period: BindingPeriod) -> PeriodRecord:
        binding = next(reversed(self._directory.of_stay(bytes.fromhex(period.stay_id))), None)
        if binding is None:
            return PeriodRecord(message=period)
        orders = self._periods.orders_of(period.stay_id)
        terms = terms_of(self._directory, binding)
        return PeriodRecord(
            message=period,
            spo2_scale=terms.spo2_scale,
            group=terms.group,
            orders=b"" if orders is None else orders.orders,
        )

    # Acknowledgements of stored frames

    async def _follow_stored_frames(self) -> None:
        """Read all of `vl.stored.v1`, for ever. If a record was missed, the edge sends its frames again."""
        while True:
            try:
                await self._read_stored_frames()
            except (KafkaError, OSError) as error:
                _log.warning("cannot read from Kafka which frames are stored; trying again", problem=repr(error))
                await asyncio.sleep(_RETRY_S)

    async def _read_stored_frames(self) -> None:
        stored_topic = TopicPartition(topic(self._kafka, KAFKA_STORED), 0)
        reader = consumer(self._kafka, group=None)
        try:
            await reader.start()
            reader.assign([stored_topic])
            first = (await reader.beginning_offsets([stored_topic]))[stored_topic]
            end = (await reader.end_offsets([stored_topic]))[stored_topic]
            saved = self._ledger.fact(_OFFSET) if self._offset is None else self._offset
            # Frames may have been stored before this process started; acknowledging one twice is harmless.
            start = max(first, end - _REREAD_RECORDS) if saved is None else int(saved)
            reader.seek(stored_topic, start if first <= start <= end else first)
            polled = None
            while True:
                found = await reader.getmany(timeout_ms=1_000)
                if (now_polled := reader.last_poll_timestamp(stored_topic)) != polled:
                    polled, self.counts.heard_ms = now_polled, self._clock.mono_ms()
                for records in found.values():
                    for record in records:
                        with contextlib.suppress(DecodeError):  # only store writers and workers write to this topic
                            self._acknowledge_stored(decode_stored_frames(record.value))
                        self._offset = record.offset + 1
        finally:
            await reader.stop()

    def _acknowledge_stored(self, stored: StoredFrames) -> None:
        reason = _REASONS.get(stored.reason, Reason.PROCESSING) if stored.reason else None
        for one in stored.frames:
            known = self._stored.get(one.session_id)
            if known is not None:
                try:
                    known.add(one.counter)
                except RangesFull:  # a cache: a frame that is not in it is sent again, which is harmless
                    self._stored[one.session_id] = CounterSet.of(known.ranges[len(known.ranges) // 2 :])
                self._unsaved[one.session_id] = None
            self._reception.acknowledge_frame(one.session_id, one.edge_id, one.frame_class, one.counter, reason)
            self.counts.stored += reason is None
        if self._on_stored is not None:
            found = [self._awaited.pop((one.session_id, one.counter), None) for one in stored.frames]
            self._on_stored([one for one in found if one is not None])

    async def _send_answers(self, client: Lanes) -> None:
        while True:
            self._reception.send_due(client)
            await asyncio.sleep(0.02)

    # The ledger

    def _save_sessions(self, rejections: Rejections) -> None:
        """Save new sessions before their frames are used: after a restart an old session must not be accepted again."""
        new = []
        for row in self._reception.dirty():
            if row.session_id not in self._stored:
                self._stored[row.session_id] = CounterSet()
                new.append(row)
            self._rows[row.session_id] = row
        forgotten = self._reception.forget_old()
        if not new and not forgotten and not rejections:
            return
        with self._ledger.transaction():
            self._ledger.put_sessions(map(self._row, new))
            self._ledger.drop_sessions(forgotten)
            for (device, reason), count in rejections.items():
                self._ledger.count_reject(device, reason, self._clock.now_ms(), count)
        for session_id in forgotten:
            self._stored.pop(session_id, None)
            self._rows.pop(session_id, None)
            self._unsaved.pop(session_id, None)

    def _save_stored(self, *, at_once: bool = False) -> None:
        """Save which frames are stored. If that is lost, edges send frames again that are stored already."""
        mono_ms = self._clock.mono_ms()
        if not self._unsaved or (mono_ms - self._saved_ms < _SAVE_EVERY_MS and not at_once):
            return
        self._saved_ms = mono_ms
        try:
            with self._ledger.transaction():
                self._ledger.put_sessions(self._row(self._rows[one]) for one in self._unsaved if one in self._rows)
                if self._offset is not None:
                    self._ledger.put_fact(_OFFSET, str(self._offset))
        except CommitFailed as error:
            _log.warning("cannot save which frames are stored; edges may send them again", problem=str(error))
            return
        self._unsaved.clear()

    def _row(self, row: SessionRow) -> SessionRow:
        """The session row, with the counters of stored frames instead of received ones."""
        return msgspec.structs.replace(row, ranges=self._stored[row.session_id].ranges)


def _log_failed_send(sent: "asyncio.Future[Any]") -> None:
    if not sent.cancelled() and sent.exception() is not None:
        _log.warning("cannot publish patient locations to Kafka", problem=repr(sent.exception()))
