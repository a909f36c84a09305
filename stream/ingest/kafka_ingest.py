"""The gateway: what edges send goes into the log, and what is stored comes back to them as signed acknowledgements.

The only process of a cluster that holds the opening keys. A frame is confirmed to the broker when Kafka has it, and
signed for when the database has it; between the two the edge keeps it. Nothing is dropped as a duplicate that is not
known to be stored, for Kafka may have lost it.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from runtime.clock import Clock
from runtime.logs import get
from runtime.version import __version__
from stream.config import IngestConfig
from stream.errors import StoreRefused
from stream.ingest.courier import Courier
from stream.ingest.frames import Observed, Taken
from stream.ingest.ledger import Ledger
from stream.ingest.reception import Reception, ReceptionCounts, Refused
from stream.kafka import consumer, producer, topic
from stream.records import (
    Arrived,
    Beat,
    DeadLetter,
    EdgeAlarmed,
    FrameRef,
    Placed,
    Stored,
    decode_stored,
    encode_record,
)
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

_OFFSET: Final = "stored_offset"
_KEEP_EVERY_MS: Final = 2_000
_SIGNED_AGAIN: Final = 100  # records, by one who does not know where to begin
_AGAIN_S: Final = 0.5
_PLACES_EVERY_MS: Final = 60_000
_ENDED_TOLD_MS: Final = 86_400_000
"""For so long after its end is a binding told of: a screen that was off has to hear of it, too."""
_REASONS: Final = {reason.value: reason for reason in Reason}


class IngestCounts(ReceptionCounts):
    """What became of the frames that edges sent, on their way to Kafka."""

    sent: int = 0  # to Kafka, repeats among them
    repeats: int = 0  # of them, frames that had come before
    failed_sends: int = 0  # batches that Kafka did not accept at once
    waiting_since_ms: int | None = None  # monotonic: since when Kafka accepts nothing
    heard_ms: int = 0  # monotonic: when Kafka last answered the question what is stored


class _OutgoingRecord:
    """One record on its way."""

    __slots__ = ("key", "topic", "value")

    def __init__(self, topic: str, key: bytes, value: bytes) -> None:
        self.topic, self.key, self.value = topic, key, value


class KafkaIngest:
    """Between the edges' frames and the log.

    Args:
        me: who this is.
        directory: whom it may hear.
        ledger: keeps sessions, and which frames of them are stored.
        courier: brings documents to edges; None where nobody changes any.
        on_turn: called with the monotonic time before every batch.
        on_stored: told the ids of readings when they are stored; somebody in this process waits for them.
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
        self._awaited: dict[tuple[bytes, int], bytes] = {}  # readings, by session and counter
        self._ledger = ledger
        self._kafka = config.kafka
        self._in_flight = config.in_flight
        self._clock = clock
        self._on_turn = on_turn
        self._stored = {row.session_id: CounterSet.of(row.ranges) for row in ledger.sessions()}
        self._unkept: dict[bytes, None] = {}  # sessions of which more is stored than the ledger says
        self._rows = {row.session_id: row for row in ledger.sessions()}
        self._kept_ms = 0
        self._directory = directory
        self._placed_ms: int | None = None  # monotonic: when it was last told who is where
        self._offset: int | None = None
        self._reception = Reception(
            me, directory, clock, ledger.sessions, limits=limits, ack_interval_ms=ack_interval_ms, courier=courier,
            repeats=True,
        )  # fmt: skip

    async def run(self, client: Lanes) -> None:
        """Serve until cancelled."""
        listening = asyncio.create_task(self._hear_of_stored(), name="stored")
        speaking = asyncio.create_task(self._speak(client), name="answers")
        sender = await self._sender()
        try:
            while not listening.done() and not speaking.done():
                inbound = await client.receive(self._in_flight, within_s=0.05)
                if self._on_turn is not None:
                    self._on_turn(self._clock.mono_ms())
                await self._tell_places(sender)
                if inbound and await self._pass_on(sender, inbound):
                    for message in inbound:
                        client.acknowledge(message)
                self._keep_stored()
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
            self._keep_stored(at_once=True)
            await sender.stop()

    async def _pass_on(self, sender: AIOKafkaProducer, inbound: Sequence[Inbound]) -> bool:
        """One batch into the log; False if sessions could not be kept, and everything must come again."""
        refused: Refused = Counter()
        taken = [one for message in inbound if (one := self._reception.take(message, refused)) is not None]
        try:
            self._keep_sessions(refused)
        except StoreRefused as error:
            _log.error("sessions cannot be kept, everything will be sent again", problem=str(error))
            self._reception.begin_anew()
            return False
        letters = [letter for one in taken for letter in self._letters(one)]
        await self._deliver(sender, letters)
        self._settle(taken, refused, len(inbound))
        return True

    def _letters(self, one: Taken) -> list[_OutgoingRecord]:
        if one.opened is None or self._is_stored(one):
            return []
        opened = one.opened
        uplink = FrameRef(opened.sender, opened.session_id, opened.frame_class, opened.counter)
        binding = opened.binding_id.hex()
        if one.refused is not None:
            return [self._dead(one.refused, opened.payload, uplink, binding)]
        now_ms = self._clock.now_ms()
        match one.content:
            case Observed() as seen:
                if self._on_stored is not None:
                    self._awaited[uplink.session_id, uplink.counter] = seen.reading.reading_id
                arrived = Arrived(messages=tuple(seen.messages), uplink=uplink, spo2_scale=seen.spo2_scale)  # type: ignore[arg-type]
                return [self._record_for(KAFKA_READINGS, binding, arrived)]
            case HeartbeatV1() as beat:
                return [
                    self._record_for(KAFKA_HEARTBEATS, uplink.edge_id.hex(),
                                 Beat(heartbeat=beat, arrived_ms=now_ms, uplink=uplink))
                ]  # fmt: skip
            case EdgeAlarmV1() as alarm:
                found = EdgeAlarmed(binding_id=binding, alarm=alarm, arrived_ms=now_ms, uplink=uplink)
                return [self._record_for(KAFKA_ALARMS, binding, found)]
            case _:
                return []  # it kept a lane warm

    def _record_for(
        self, name: str, key: str, record: Arrived | Beat | EdgeAlarmed | Placed | DeadLetter
    ) -> _OutgoingRecord:
        return _OutgoingRecord(topic(self._kafka, name), key.encode(), encode_record(record))

    def _dead(self, error: DecodeError, payload: bytes, uplink: FrameRef, binding: str) -> _OutgoingRecord:
        letter = DeadLetter(
            stage="ingest", reason=error.reason, problem=str(error), at_ms=self._clock.now_ms(),
            source=f"session {uplink.session_id.hex()}/{uplink.counter}", payload=payload, version=__version__,
            uplink=uplink, binding_id=binding,
        )  # fmt: skip
        return self._record_for(KAFKA_DEAD_LETTERS, uplink.edge_id.hex(), letter)

    async def _deliver(self, sender: AIOKafkaProducer, letters: list[_OutgoingRecord]) -> None:
        """Until Kafka has them all. Meanwhile nothing is confirmed, so the broker holds back what is behind."""
        while letters:
            try:
                waiting = [await sender.send(one.topic, key=one.key, value=one.value) for one in letters]
                answers: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
            except KafkaError as error:
                answers = [error] * len(letters)
            failed = [
                (one, answer) for one, answer in zip(letters, answers, strict=True) if isinstance(answer, Exception)
            ]
            if not failed:
                self.counts.waiting_since_ms = None
                return
            if not isinstance(failed[0][1], KafkaError | TimeoutError):
                raise failed[0][1]
            self.counts.failed_sends += 1
            if self.counts.waiting_since_ms is None:
                self.counts.waiting_since_ms = self._clock.mono_ms()
            _log.warning("Kafka does not take what edges send", waiting=len(failed), problem=repr(failed[0][1]))
            letters = [one for one, _ in failed]
            await asyncio.sleep(_AGAIN_S)

    def _settle(self, taken: Sequence[Taken], refused: Refused, received: int) -> None:
        """It is in the log: count, and answer what needs no database."""
        counts = self.counts
        counts.received += received
        for (_, reason), count in refused.items():
            counts.rejected[reason] += count
        for one in taken:
            if one.opened is None:
                continue
            if self._is_stored(one):
                counts.duplicates += 1
                self._reception.acknowledge(one.opened)
                continue
            counts.repeats += one.opened.duplicate
            if one.refused is not None:
                counts.dead_letters += 1
                counts.rejected[one.refused.reason] += 1
                self._reception.acknowledge(one.opened, one.refused.reason)
            elif one.content is None:
                self._reception.acknowledge(one.opened)
            else:
                counts.sent += 1
                counts.edge_alarms += isinstance(one.content, EdgeAlarmV1)
                if isinstance(one.content, HeartbeatV1):
                    counts.heartbeats += 1
                    counts.tails_missing += self._reception.heard_beat(one.sender, one.content)

    def _is_stored(self, one: Taken) -> bool:
        assert one.opened is not None  # noqa: S101 - asked of frames with content only
        found = self._stored.get(one.opened.session_id)
        return found is not None and one.opened.counter in found

    async def _tell_places(self, sender: AIOKafkaProducer) -> None:
        """Who is where, once a minute. For screens: what Kafka does not take now is told again, nobody waits for it."""
        mono_ms, now_ms = self._clock.mono_ms(), self._clock.now_ms()
        if self._placed_ms is not None and mono_ms - self._placed_ms < _PLACES_EVERY_MS:
            return
        self._placed_ms = mono_ms
        try:
            for one in self._directory.bindings():
                if one.valid_to_ms is not None and one.valid_to_ms < now_ms - _ENDED_TOLD_MS:
                    continue
                placed = Placed(
                    binding_id=one.binding_id.hex(), patient=one.patient, bed=one.bed, edge_id=one.edge_id.hex(),
                    at_ms=now_ms, valid_from_ms=one.valid_from_ms, valid_to_ms=one.valid_to_ms,
                )  # fmt: skip
                letter = self._record_for(KAFKA_HEALTH, placed.binding_id, placed)
                sent = await sender.send(letter.topic, key=letter.key, value=letter.value)
                sent.add_done_callback(_whatever_came_of_it)
        except KafkaError as error:
            _log.warning("Kafka does not take who is where", problem=repr(error))

    # What is stored

    async def _hear_of_stored(self) -> None:
        """Every gateway hears all of it, from where it last listened; what it missed for good, edges send again."""
        while True:
            try:
                await self._listen()
            except (KafkaError, OSError) as error:
                _log.warning("what is stored cannot be heard", problem=repr(error))
                await asyncio.sleep(_AGAIN_S)

    async def _listen(self) -> None:
        place = TopicPartition(topic(self._kafka, KAFKA_STORED), 0)
        reader = consumer(self._kafka, group=None)
        try:
            await reader.start()
            reader.assign([place])
            first = (await reader.beginning_offsets([place]))[place]
            end = (await reader.end_offsets([place]))[place]
            kept = self._ledger.noted(_OFFSET) if self._offset is None else self._offset
            # To sign twice does no harm, and something may have been stored before we could begin to listen.
            start = max(first, end - _SIGNED_AGAIN) if kept is None else int(kept)
            reader.seek(place, start if first <= start <= end else first)
            polled = None
            while True:
                found = await reader.getmany(timeout_ms=1_000)
                if (now_polled := reader.last_poll_timestamp(place)) != polled:
                    polled, self.counts.heard_ms = now_polled, self._clock.mono_ms()
                for records in found.values():
                    for record in records:
                        with contextlib.suppress(DecodeError):  # nobody but the store writer may write here
                            self._note(decode_stored(record.value))
                        self._offset = record.offset + 1
        finally:
            await reader.stop()

    def _note(self, stored: Stored) -> None:
        reason = _REASONS.get(stored.reason, Reason.PROCESSING) if stored.reason else None
        for one in stored.uplinks:
            known = self._stored.get(one.session_id)
            if known is not None:
                try:
                    known.add(one.counter)
                except RangesFull:  # a cache: what it does not hold is sent again, and harmless
                    self._stored[one.session_id] = CounterSet.of(known.ranges[len(known.ranges) // 2 :])
                self._unkept[one.session_id] = None
            self._reception.sign(one.session_id, one.edge_id, one.frame_class, one.counter, reason)
            self.counts.stored += reason is None
        if self._on_stored is not None:
            found = [self._awaited.pop((one.session_id, one.counter), None) for one in stored.uplinks]
            self._on_stored([one for one in found if one is not None])

    async def _speak(self, client: Lanes) -> None:
        while True:
            self._reception.speak(client)
            await asyncio.sleep(0.02)

    # What is kept

    def _keep_sessions(self, refused: Refused) -> None:
        """A session that was accepted must be known after a restart as well, or an old one could be played again."""
        new = []
        for row in self._reception.dirty():
            if row.session_id not in self._stored:
                self._stored[row.session_id] = CounterSet()
                new.append(row)
            self._rows[row.session_id] = row
        forgotten = self._reception.forget_old()
        if not new and not forgotten and not refused:
            return
        with self._ledger.transaction():
            self._ledger.put_sessions(map(self._row, new))
            self._ledger.drop_sessions(forgotten)
            for (device, reason), count in refused.items():
                self._ledger.count_reject(device, reason, self._clock.now_ms(), count)
        for session_id in forgotten:
            self._stored.pop(session_id, None)
            self._rows.pop(session_id, None)
            self._unkept.pop(session_id, None)

    def _keep_stored(self, *, at_once: bool = False) -> None:
        """Which frames are stored. A cache: to lose it costs sending again."""
        mono_ms = self._clock.mono_ms()
        if not self._unkept or (mono_ms - self._kept_ms < _KEEP_EVERY_MS and not at_once):
            return
        self._kept_ms = mono_ms
        try:
            with self._ledger.transaction():
                self._ledger.put_sessions(self._row(self._rows[one]) for one in self._unkept if one in self._rows)
                if self._offset is not None:
                    self._ledger.note(_OFFSET, str(self._offset))
        except StoreRefused as error:
            _log.warning("what is stored cannot be noted", problem=str(error))
            return
        self._unkept.clear()

    def _row(self, row: SessionRow) -> SessionRow:
        """With what is stored in the place of what was received."""
        return msgspec.structs.replace(row, ranges=self._stored[row.session_id].ranges)

    async def _sender(self) -> AIOKafkaProducer:
        said = False
        while True:
            made = producer(self._kafka)
            try:
                await made.start()
            except (KafkaError, OSError) as error:
                if not said:
                    _log.warning("Kafka does not answer yet", address=self._kafka.bootstrap, problem=str(error))
                said = True
                await made.stop()
                await asyncio.sleep(_AGAIN_S)
            else:
                return made


def _whatever_came_of_it(sent: "asyncio.Future[Any]") -> None:
    if not sent.cancelled() and sent.exception() is not None:
        _log.warning("Kafka does not take who is where", problem=repr(sent.exception()))
