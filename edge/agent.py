"""The agent beside the bed: opens, judges, keeps, forwards, and alarms alone when the cloud is silent.

One loop, one thread: take what came, judge it, commit it, and only then acknowledge it. What cannot be committed is not
acknowledged, and whoever sent it still has it.
"""

import contextlib
import os
import random
import ssl
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from edge.at_rest import StateLock
from edge.config import EdgeConfig
from edge.errors import BadEdgeConfig, NotCommitted, OutboxDamaged
from edge.health import LANES, Beats, Facts, heartbeat
from edge.local_alarm import LocalAlarm
from edge.model_versions import ModelVersions
from edge.outbox import FILLING, Batch, Gap, Keep, Outbox, Sealed, SentSession
from edge.pipeline import Judged, Pipeline
from edge.scoring import Scoring
from edge.sealing import Sealer
from edge.status import EVERY_MS, Bed, Status
from models.artifacts import RELEASED, find
from models.passport import RELEASE_KEYS
from runtime import logs
from runtime.clock import Clock
from runtime.version import __version__
from vitals.messages import AlarmChanged, AlarmState, ClockQuality, Priority, SensorFlag
from vitals.plan import MonitoringPlan
from wire.acks import AckBook
from wire.answers import is_answer, open_answer
from wire.codec import EdgeAlarmV1, VitalsV1, decode_vitals, encode
from wire.enrol.documents import EVERYBODY, WANTED, DocumentType, is_document
from wire.enrol.wallet import Wallet
from wire.envelope import Ack, FrameClass, Stage, frame_class_of, open_ack
from wire.errors import BadTopic, DecodeError, Reason, Rejected
from wire.identity import LATE_MS, NOTHING, About, BindingRecord, Provision
from wire.lanes import ALARM_RECEIVE_MAXIMUM, Lanes, tls_context
from wire.mqtt import Inbound, MqttClient
from wire.receiver import Opened, Receiver, SessionOpened
from wire.sender import Row, Sender
from wire.sender import SendingSession as Sending
from wire.topics import Topic, e_down, e_down_alarm, e_up, parse, w_down, w_up_of

RETRY_COMMIT_MS: Final = 1_000
STUCK_LOG_MS: Final = 60_000

TELL_WEARABLES_MS: Final = 300_000
TELL_AGAIN_MS: Final = 1_000  # at most, to one that asks
TOLD_FOR_MS: Final = 86_400_000  # that a binding has ended

OVERDUE_MS: Final = 30_000
"""A commit that is due for so long, on a disk that is not full, is a defect; then there is no progress to speak of."""

_TURN_S: Final = 0.05  # the loop looks at its timers at least this often
_BATCH: Final = 64
_REFUSED_KEPT: Final = 10_000
_FREED_LATER_ROWS: Final = 256

_log = logs.get(__name__)


class AgentCounts(msgspec.Struct):
    """What became of what the wearables sent; since the start."""

    received: int = 0
    accepted: int = 0  # readings, each once
    duplicates: int = 0
    postponed: int = 0  # frames that came while nothing could be committed; their senders still have them
    documents: int = 0  # of the data centre, each once
    commits: int = 0
    failed_commits: int = 0
    alarms: int = 0
    local_alarms: int = 0
    not_judged: int = 0  # times that judging failed; readings are forwarded all the same
    given_up: int = 0  # rows that were shed, or whose session the cloud refuses
    forged_acks: int = 0
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    turned_ms: int = 0  # monotonic: when the loop last turned
    stuck_since_ms: int | None = None  # monotonic: since when nothing can be kept


class EdgeAgent:
    """One agent on one outbox.

    Args:
        config: see `edge.config`; paths in it are absolute or relative to the working directory.
        provision: who this is, whom it may hear and whom it writes to.
        clock: wall for what is stamped, monotonic for timers.
        rng: jitter.
        wallet: where documents of the data centre are kept; None where nobody sends any.
        lock: for patient states on the disk; None: nobody after this agent can read them.
        tell: is given the status every second; None: nobody asks.

    Raises:
        OutboxInUse, NotCommitted: as `Outbox.open`.
        BadEdgeConfig: the provision names nobody to write to.
    """

    def __init__(
        self,
        config: EdgeConfig,
        provision: Provision,
        clock: Clock,
        *,
        rng: random.Random,
        wallet: Wallet | None = None,
        lock: StateLock | None = None,
        tell: Callable[[Status], None] | None = None,
    ) -> None:
        if provision.recipient is None:
            raise BadEdgeConfig(f"{config.identity}: names no recipient; this is not an edge's identity")
        self.counts = AgentCounts()
        self._config = config
        self._me = provision.me
        self._provision = provision
        self._directory = provision.directory
        self._wallet = wallet
        self._clock = clock
        self._rng = rng
        self._boot_id = os.urandom(8)
        self._started_ms = clock.mono_ms()
        self._outbox = Outbox.open(
            config.data_dir / "outbox.sqlite", budget_bytes=config.outbox.budget_mb << 20, now_ms=clock.now_ms()
        )
        self._floor_ms = self._outbox.latest_ms()
        self._receiver = Receiver(
            self._me, self._directory, limits=config.limits, restored=tuple(self._outbox.received())
        )
        self._lock = StateLock.open(None) if lock is None else lock
        self._scoring = self._open_models()
        self._pipeline = Pipeline(
            self._plan_of, self._unlocked("states", self._outbox.patients()).items(), self._scoring
        )
        # A connection and an uplink each: what one of them waits for, the other does not.
        self._uplinks = {
            int(frame_class): Sender(
                backlog=self._outbox, frees_at=Stage.STORED, rng=rng, windows=config.windows, timing=config.timing
            )
            for frame_class in (FrameClass.ALARM, FrameClass.VITALS)
        }
        sent = self._outbox.sessions()
        self._take_up(sent)
        self._sealer = Sealer(self._me, provision.recipient, sent)
        self._acks = AckBook(self._me, interval_ms=config.ack_interval_ms)
        self._beats = Beats(self._me, provision.recipient)
        self._local = LocalAlarm(after_ms=int(config.local_alarm.after_s * 1_000), mono_ms=clock.mono_ms())
        self._local.on_alarms(self._pipeline.open_alarms())
        # What the next transaction does, and what follows when it is on disk.
        self._batch = Batch()
        self._begun: list[Sending] = []
        self._rows: list[Row] = []
        self._to_acknowledge: list[Opened] = []
        self._refused: dict[tuple[bytes, int], Reason] = {}  # frames that were not signed for, the newest last
        self._to_puback: list[Inbound] = []
        self._commit_ms: int | None = None  # monotonic: when the batch is due
        self._stuck_since_ms: int | None = None
        self._stuck_logged_ms: int | None = None
        self._beat_ms = 0
        self._tell = False
        self._tell_again_ms = 0
        self._asked: dict[bytes, int] = {}  # wearables of ours, and when they were answered
        self._told: set[tuple[bytes, bytes]] = set()  # wearable, and the end of a frame that it was sent
        self._subscribed = set(self.subscriptions)
        self._followed = 0 if wallet is None else wallet.changes
        self._sensors: dict[bytes, str] = {}
        self._tell_status = tell
        self._status_ms = self._progress_ms = self._started_ms
        self._cloud_ms: int | None = None
        self._heard: dict[bytes, Bed] = {}  # by binding

    def _unlocked(self, what: str, kept: Mapping[bytes, bytes]) -> dict[str, bytes]:
        """What an earlier run knew of patients, as far as it can be unlocked. Of the others judging begins anew."""
        opened = {
            binding_id: self._lock.unlock(_place(what, binding_id), locked) for binding_id, locked in kept.items()
        }
        found = {binding_id.hex(): state for binding_id, state in opened.items() if state is not None}
        if gone := len(kept) - len(found):
            _log.warning(f"patient {what} were locked with a key that is gone; judging begins anew", patients=gone)
        return found

    def _open_models(self) -> Scoring:
        """The models of this edge: believed, and not older than any that it has ever believed."""
        accepted = ModelVersions(self._config.data_dir / "models.json")
        found = find(
            self._config.models or RELEASED,
            trusted=(*RELEASE_KEYS, *self._config.model_keys),
            not_below=accepted.newest,
        )
        scoring = Scoring(found, self._about, self._unlocked("memories", self._outbox.memories()))
        for name, error in scoring.refused.items():
            _log.error("a model is refused; the rules judge without it", model=name, problem=str(error))
        if scoring.forgotten:
            _log.warning("what models remembered could not be read; they begin anew", patients=scoring.forgotten)
        accepted.accept(scoring.versions)
        return scoring

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What the agent hears on its lane of vital signs: its own wearables, and the cloud's answers."""
        wearables = {binding.wearable_id for binding in self._directory.bindings()}
        return (*(w_up_of(one) for one in sorted(wearables)), e_down(self._me.device_id))

    @property
    def uplinks(self) -> Mapping[int, Sender]:
        """By class."""
        return self._uplinks

    @property
    def sent(self) -> int:
        """Frames that were handed to the broker, some of them again."""
        return sum(one.counts.rows_sent + one.counts.sessions_sent for one in self._uplinks.values())

    @property
    def waiting(self) -> int:
        """Rows that the cloud has not signed for."""
        return self._outbox.depth

    def client(self) -> Lanes:
        """Connections for `run`: with certificates one for each lane, without one for both."""
        tls = self._provision.tls if self._config.broker.tls else None
        down_alarm = e_down_alarm(self._me.device_id)
        name = self._me.device_id.hex()
        if tls is None:
            return Lanes(self._connection(f"edge-{name}", (*self.subscriptions, down_alarm), None))
        return Lanes(
            self._connection(name, self.subscriptions, tls_context(tls)),
            self._connection(f"{name}-a", (down_alarm,), tls_context(tls, alarm=True), ALARM_RECEIVE_MAXIMUM),
        )

    def _connection(
        self,
        client_id: str,
        subscriptions: Sequence[str],
        tls: Callable[[], ssl.SSLContext] | None,
        receive_maximum: int | None = None,
    ) -> MqttClient:
        broker = self._config.broker
        announced = None if self._wallet is None else self._wallet.broker
        return MqttClient(
            host=broker.host or ("127.0.0.1" if announced is None else announced.host),
            port=broker.port or (1883 if announced is None else announced.port),
            client_id=client_id,
            subscriptions=subscriptions,
            receive_maximum=receive_maximum or broker.receive_maximum,
            jitter=self._rng,
            tls=tls,
        )

    async def run(self, client: Lanes) -> None:
        """Serve until cancelled.

        Raises:
            OutboxDamaged: start anew; the new agent salvages.
        """
        try:
            while True:
                inbound = await client.receive(_BATCH, within_s=self._idle_s())
                self._turn(client, inbound)
        finally:
            with contextlib.suppress(NotCommitted, OutboxDamaged):
                self._commit(client)

    def _idle_s(self) -> float:
        """How long the loop may wait for a message."""
        if self._commit_ms is None:
            return _TURN_S
        return min(_TURN_S, max(self._commit_ms - self._clock.mono_ms(), 0) / 1_000)

    def close(self) -> None:
        """Let go of the outbox."""
        self._outbox.close()

    def _turn(self, client: Lanes, inbound: Sequence[Inbound]) -> None:
        self._watch_connection(client)
        now_ms, mono_ms = self._now_ms(), self._clock.mono_ms()
        for message in inbound:
            self._take(client, message, now_ms, mono_ms)
        self._follow_documents(client)
        self._keep_alarms(self._pipeline.on_timer(now_ms), now_ms)
        for problem in self._pipeline.take_defects():
            self.counts.not_judged += 1
            _log.error("the passing of time could not be judged for a patient", problem=problem)
        if self._commit_ms is not None and self._clock.mono_ms() >= self._commit_ms:
            self._commit(client)
        self._sound(mono_ms)
        self._beat(client, now_ms, mono_ms)
        self._tell_wearables(client, now_ms, mono_ms)
        self._send(client)
        self.counts.turned_ms = self._clock.mono_ms()
        self.counts.stuck_since_ms = self._stuck_since_ms
        if self._tell_status is not None and mono_ms >= self._status_ms:
            self._status_ms = mono_ms + EVERY_MS
            self._tell_status(self._status(client, now_ms, mono_ms))

    def _now_ms(self) -> int:
        """The wall clock, never below the latest moment that this edge has put on disk."""
        return max(self._clock.now_ms(), self._floor_ms)

    # What comes in

    def _take(self, client: Lanes, message: Inbound, now_ms: int, mono_ms: int) -> None:
        self.counts.received += 1
        try:
            topic = parse(message.topic)
        except BadTopic:
            self.counts.rejected[Reason.TOPIC] += 1
            client.acknowledge(message)
            return
        if topic.branch == "e":
            if is_document(message.payload):
                self._take_document(message.payload)
            elif is_answer(message.payload):
                self._take_answer(message.payload, now_ms)
            else:
                self._hear_cloud(message.payload, mono_ms)
            client.acknowledge(message)
        elif message.payload == WANTED:
            self._hear_question(topic.device_id, mono_ms)
            client.acknowledge(message)
        elif self._stuck_since_ms is not None:
            # The wearable has not been answered, so it keeps the reading; the broker need not.
            self.counts.postponed += 1
            client.acknowledge(message)
        else:
            self._take_frame(client, message, topic, now_ms, mono_ms)

    def _take_frame(self, client: Lanes, message: Inbound, topic: Topic, now_ms: int, mono_ms: int) -> None:
        try:
            found = self._receiver.receive(
                message.payload, topic_device=topic.device_id, now_ms=now_ms, mono_ms=mono_ms
            )
        except Rejected as error:
            self.counts.rejected[error.reason] += 1
            if error.session_id is not None and error.reason in (Reason.NEED_SESSION, Reason.CLONE_OR_ROLLBACK):
                self._acks.need_session(
                    error.session_id, topic.device_id, topic.frame_class or 1, last_number=error.last_number or 0
                )
            client.acknowledge(message)
            return
        self._to_puback.append(message)
        if isinstance(found, SessionOpened):
            self._want_commit(self._config.outbox.commit_ms)
            return
        self._to_acknowledge.append(found)
        if found.duplicate:
            self.counts.duplicates += 1
            if (found.session_id, found.counter) in self._refused:
                self._refuse(found, self._refused[found.session_id, found.counter])
            if found.conflict:
                self.counts.rejected[Reason.COUNTER_CONFLICT] += 1
        else:
            self._take_reading(found, now_ms)
        self._want_commit(self._config.outbox.commit_ms)

    def _take_reading(self, opened: Opened, now_ms: int) -> None:
        binding = self._directory.binding(opened.binding_id)
        try:
            if binding is None or opened.frame_class != FrameClass.VITALS:
                raise DecodeError(Reason.CLASS, f"class {opened.frame_class} is not for an edge")
            vitals = decode_vitals(opened.payload)
        except DecodeError as error:
            self.counts.rejected[error.reason] += 1
            self._refuse(opened, error.reason)
            return
        judged = self._judge(opened, vitals, binding, now_ms)
        self.counts.accepted += 1
        self._sensors[opened.sender] = _sensor_text(judged.message.sensor_flags)
        self._heard[opened.binding_id] = Bed(
            bed=binding.bed,
            heard_ms=self._clock.mono_ms(),
            battery=vitals.battery,
            flags=_flag_names(judged.message.sensor_flags),
        )
        self._keep(binding.binding_id, FrameClass.VITALS, encode(judged.message), judged.keep, now_ms)
        self._keep_alarms(judged.alarms, now_ms)
        if len(self._batch.rows) >= self._config.outbox.commit_rows:
            self._want_commit(0)

    def _refuse(self, opened: Opened, reason: Reason) -> None:
        """Say no instead of signing, and say it again should the frame come again."""
        self._to_acknowledge.pop()
        self._refused[opened.session_id, opened.counter] = reason
        while len(self._refused) > _REFUSED_KEPT:
            del self._refused[next(iter(self._refused))]
        self._acks.add(
            opened.session_id, opened.sender, opened.frame_class, opened.counter, Stage.REJECTED, reason=reason
        )

    def _judge(self, opened: Opened, vitals: VitalsV1, binding: BindingRecord, now_ms: int) -> Judged:
        try:
            return self._pipeline.take(opened, vitals, binding, received_ms=now_ms)
        except Exception as error:  # noqa: BLE001 - one patient's poison must not stop the others; the cloud gets it all
            self.counts.not_judged += 1
            _log.error("a reading could not be judged and goes on as it is", problem=type(error).__name__)
            return self._pipeline.unjudged(opened, vitals, binding, received_ms=now_ms)

    def _keep_alarms(self, alarms: Sequence[AlarmChanged], now_ms: int) -> None:
        self._local.on_alarms(alarms)
        for alarm in alarms:
            binding_id = bytes.fromhex(alarm.binding_id)
            if alarm.state is AlarmState.PENDING:
                continue
            self.counts.alarms += 1
            self._keep(binding_id, FrameClass.ALARM, encode(_told(alarm)), Keep.ALWAYS, now_ms)
        if alarms:
            # Alarms do not wait for company.
            self._want_commit(0 if any(alarm.state is not AlarmState.PENDING for alarm in alarms) else 1_000)

    # What is kept

    def _keep(self, binding_id: bytes, frame_class: int, payload: bytes, keep: Keep, now_ms: int) -> None:
        stream = (binding_id, int(frame_class))
        counter, frame, session, begun, closed = self._sealer.seal(
            stream, payload, now_ms=now_ms, mono_ms=self._clock.mono_ms()
        )
        if closed is not None:
            self._batch.sessions[closed.session_id] = closed
        if begun:
            self._begun.append(Sending(session.session_id, stream, session.number, session.frame))
        row_id = self._outbox.new_id()
        self._batch.rows.append(Sealed(row_id, stream[1], int(keep), session.session_id, counter, now_ms, frame))
        self._batch.sessions[session.session_id] = session
        self._rows.append(Row(row_id, session.session_id, counter, binding_id, frame))

    def _want_commit(self, within_ms: int) -> None:
        due_ms = self._clock.mono_ms() + within_ms
        if self._commit_ms is None or due_ms < self._commit_ms:
            self._commit_ms = due_ms

    def _commit(self, client: Lanes) -> None:
        """Put the batch on disk, then let its consequences happen. After a failure it stays, and is tried again."""
        mono_ms = self._clock.mono_ms()
        self._batch.received += self._receiver.dirty()
        for binding_id, state in self._pipeline.take_states().items():
            patient = bytes.fromhex(binding_id)
            self._batch.patients[patient] = self._lock.lock(_place("states", patient), state)
        for binding_id, memory in self._pipeline.take_memories().items():
            patient = bytes.fromhex(binding_id)
            self._batch.memories[patient] = self._lock.lock(_place("memories", patient), memory)
        for uplink in self._uplinks.values():
            self._batch.retired += uplink.retired()
        try:
            if self._batch:
                self._outbox.commit(self._batch)
                self.counts.commits += 1
            self._stuck_since_ms = None
        except NotCommitted as error:
            self._on_full_disk(client, error, mono_ms)
            return
        self._commit_ms = None
        self._floor_ms = max(self._floor_ms, self._clock.now_ms() if self._batch.received else 0)
        self._batch = Batch()
        for sending in self._begun:
            self._uplinks[sending.stream[1]].open(sending)
        for row in self._rows:
            self._uplinks[frame_class_of(row.frame)].offer(row)
        self._begun, self._rows = [], []
        for opened in self._to_acknowledge:
            self._acks.add(opened.session_id, opened.sender, opened.frame_class, opened.counter, Stage.DURABLE)
        for message in self._to_puback:
            client.acknowledge(message)
        self._to_acknowledge, self._to_puback = [], []
        self._shed()

    def _on_full_disk(self, client: Lanes, error: NotCommitted, mono_ms: int) -> None:
        self.counts.failed_commits += 1
        if self._stuck_since_ms is None:
            self._stuck_since_ms = mono_ms
        if self._stuck_logged_ms is None or mono_ms - self._stuck_logged_ms >= STUCK_LOG_MS:
            self._stuck_logged_ms = mono_ms
            _log.error("readings cannot be kept; wearables keep theirs", problem=str(error))
        self._commit_ms = mono_ms + RETRY_COMMIT_MS
        # The senders have not been answered and keep these. The broker need not, and its answers bring relief.
        for message in self._to_puback:
            client.acknowledge(message)
        self._to_puback.clear()
        with contextlib.suppress(NotCommitted):
            # Make room by what the cloud has signed for, and then by what may be given up.
            self._outbox.commit(Batch(freed=self._batch.freed))
            self._batch.freed = []
            self._shed()

    def _shed(self) -> None:
        if self._outbox.used() < FILLING:
            return
        with contextlib.suppress(NotCommitted):
            for session_id, low, high in self._outbox.shed(self._now_ms()):
                for uplink in self._uplinks.values():
                    uplink.forget(session_id, low, high)
                self.counts.given_up += high - low + 1

    # The cloud

    def _hear_cloud(self, frame: bytes, mono_ms: int) -> None:
        try:
            ack = open_ack(frame, *self._provision.recipient_keys)
        except Rejected:
            self.counts.forged_acks += 1
            return
        self._local.heard(mono_ms)
        self._cloud_ms = mono_ms
        if self._beats.owns(ack.session_id):
            self._beats.on_ack(ack)
            return
        self._free(ack, mono_ms)

    def _take_answer(self, frame: bytes, now_ms: int) -> None:
        """A person answered an alarm in the data centre: it does not sound here either, now or if the cloud is lost."""
        try:
            answer = open_answer(frame, self._me.device_id, *self._provision.recipient_keys)
        except Rejected as error:
            self.counts.rejected[error.reason] += 1
            return
        # It may be a recording, so it does not show that the cloud is there.
        alarms = self._pipeline.answer(answer, now_ms)
        if alarms:
            # Not sent to the cloud, which said it.
            self._local.on_alarms(alarms)
            self._want_commit(0)

    def _free(self, ack: Ack, mono_ms: int) -> None:
        uplink = self._uplinks.get(ack.frame_class)
        if uplink is None:
            return
        effect = uplink.on_ack(ack, mono_ms)
        if effect.freed:
            self._batch.freed += effect.freed
            self._want_commit(0 if len(self._batch.freed) > _FREED_LATER_ROWS else self._config.outbox.commit_ms)
        if effect.refused is not None:
            self._give_up(effect.refused.session_id, effect.refused.stream, effect.refused.last_number)

    def _give_up(self, session_id: bytes, stream: tuple[bytes, int], last_number: int) -> None:
        """The cloud knows a younger session of this stream, so these rows can never be opened: write that down."""
        waiting = self._outbox.waiting().get(session_id)
        ranges = [] if waiting is None else waiting[1]
        rows = sum(high - low + 1 for low, high in ranges)
        _log.error("a session is refused as rolled back; was this card copied or restored?", rows=rows)
        now_ms = self._now_ms()
        self._batch.freed += [(session_id, low, high) for low, high in ranges]
        if rows:
            oldest_ms = self._outbox.oldest_ms() or now_ms
            self._batch.gaps.append(Gap(stream[0], stream[1], oldest_ms, now_ms, rows, "session refused"))
        self.counts.given_up += rows
        self._sealer.refused(stream, session_id, last_number)
        for low, high in ranges:
            self._uplinks[stream[1]].forget(session_id, low, high)
        self._want_commit(0)

    def _send(self, client: Lanes) -> None:
        mono_ms = self._clock.mono_ms()
        for owed in self._acks.due(mono_ms=mono_ms, now_ms=self._now_ms()):
            client.publish(w_down(owed.to), owed.frame)
        for frame_class, uplink in self._uplinks.items():
            while client.room(frame_class) > 0 and (out := uplink.next(mono_ms)) is not None:
                if not client.publish(e_up(self._me.device_id, out.frame_class), out.frame):
                    break
                uplink.sent(out, mono_ms)

    def _watch_connection(self, client: Lanes) -> None:
        for frame_class, uplink in self._uplinks.items():
            is_up = client.is_up(frame_class)
            if is_up == uplink.connected:
                continue
            if is_up:
                uplink.on_connected(self._clock.mono_ms())
                self._beats.on_connected(frame_class)
                self._beat_ms = self._tell_again_ms = 0
            else:
                uplink.on_disconnected()
                # What the broker had not heard of is sent again by the broker or by its wearable.
                self._to_puback.clear()

    # Documents

    def _take_document(self, frame: bytes) -> None:
        """What the data centre says of devices and bindings: kept, and in force from now on."""
        try:
            document = None if self._wallet is None else self._wallet.take(frame)
        except Rejected as error:
            self.counts.rejected[error.reason] += 1
            return
        if document is None:
            return
        self.counts.documents += 1
        _log.info("document taken", kind=document.type.name.lower(), version=document.version)

    def _follow_documents(self, client: Lanes) -> None:
        """They came over MQTT or with an answer of the registry; what follows from them is the same."""
        if self._wallet is None or self._wallet.changes == self._followed:
            return
        self._followed = self._wallet.changes
        if self._provision.recipient is not None:
            self._sealer.write_to(self._provision.recipient)
            self._beats.write_to(self._provision.recipient)
        new = [one for one in self.subscriptions if one not in self._subscribed]
        if new:
            self._subscribed.update(new)
            client.subscribe(new)
        self._beat_ms = min(self._beat_ms, self._clock.mono_ms() + 1_000)  # say soon what was taken
        self._tell = True

    def _tell_wearables(self, client: Lanes, now_ms: int, mono_ms: int) -> None:
        """Pass on what wearables have to know: whom they are on, and what this edge signs with and is sealed to.

        It is said again when they ask, and now and then; what they know already costs them nothing.
        """
        if self._wallet is None or not client.is_up(FrameClass.VITALS):
            return
        if mono_ms >= self._tell_again_ms:
            self._tell_again_ms = mono_ms + TELL_WEARABLES_MS
            self._told.clear()
            self._tell = True
        room = min(client.room(FrameClass.VITALS) // 2, _BATCH)
        for wearable_id, frame in self._to_tell(now_ms) if self._tell else ():
            if room == 0 or not client.publish(w_down(wearable_id), frame):
                return
            room -= 1
            self._told.add((wearable_id, frame[-16:]))
        self._tell = False

    def _hear_question(self, wearable_id: bytes, mono_ms: int) -> None:
        """A wearable does not know whom it is on: it was not there, or not ours yet, when it was told."""
        if mono_ms - self._asked.get(wearable_id, -TELL_AGAIN_MS) < TELL_AGAIN_MS:
            return
        told = {one for one in self._told if one[0] == wearable_id}
        if told:
            self._asked[wearable_id] = mono_ms
            self._told -= told
            self._tell = True

    def _to_tell(self, now_ms: int) -> Iterator[tuple[bytes, bytes]]:
        assert self._wallet is not None  # noqa: S101 - asked before
        device, control = DocumentType.DEVICE, DocumentType.CONTROL_KEYS
        general = (self._wallet.frame(control, EVERYBODY), self._wallet.frame(device, self._me.device_id))
        for binding in self._directory.bindings():
            if binding.valid_to_ms is not None and binding.valid_to_ms + TOLD_FOR_MS < now_ms:
                continue
            for frame in (*general, self._wallet.frame(DocumentType.ASSIGNMENT, binding.binding_id)):
                # The end of its signature names a frame.
                if frame is not None and (binding.wearable_id, frame[-16:]) not in self._told:
                    yield binding.wearable_id, frame

    # Health

    def _beat(self, client: Lanes, now_ms: int, mono_ms: int) -> None:
        is_up = any(client.is_up(frame_class) for frame_class in LANES)
        if mono_ms < self._beat_ms or not is_up or self._stuck_since_ms is not None:
            return
        self._beat_ms = mono_ms + int(self._config.heartbeat_s * 1_000)
        self._forget_old_sessions(now_ms)
        body = heartbeat(self._boot_id, __version__, self._facts(now_ms, mono_ms))
        for frame_class, frame in self._beats.frames(body, now_ms=now_ms, mono_ms=mono_ms):
            client.publish(e_up(self._me.device_id, frame_class), frame)
        # Somebody outside may watch this file: it is touched only by an agent that gets things done.
        (self._config.data_dir / "alive").write_text(f"{now_ms}\n", encoding="ascii")

    def _forget_old_sessions(self, now_ms: int) -> None:
        forgotten = self._receiver.forget(before_ms=now_ms - LATE_MS)
        for session_id in forgotten:
            self._acks.forget(session_id)
        self._batch.forgotten += forgotten

    def _committed_counters(self) -> list[tuple[bytes, int, int]]:
        """The last counters that are on disk: whoever hears of them may expect their frames, whatever happens here."""
        waiting: dict[bytes, int] = {}
        for row in self._batch.rows:
            waiting[row.session_id] = min(row.counter, waiting.get(row.session_id, row.counter))
        counters = (
            (session_id, frame_class, waiting.get(session_id, last + 1) - 1)
            for session_id, frame_class, last in self._sealer.last_counters()
        )
        return [one for one in counters if one[2] >= 0]

    def _facts(self, now_ms: int, mono_ms: int) -> Facts:
        return Facts(
            at_ms=now_ms,
            uptime_ms=mono_ms - self._started_ms,
            clock_quality=int(ClockQuality.FREE_RUNNING),
            outbox_rows=self._outbox.depth,
            outbox_oldest_ms=self._outbox.oldest_ms(),
            outbox_used=self._outbox.used(),
            last_counters=self._committed_counters(),
            void=(),
            closed=(),
            model=self._scoring.title,
            sensors=tuple(self._sensors.items()),
            rejected=self.counts.rejected,
            salvaged=self._outbox.start.text,
            local_alarms=self.counts.local_alarms,
            duplicates=self.counts.duplicates,
            documents=b"" if self._wallet is None else self._wallet.digest,
        )

    def _status(self, client: Lanes, now_ms: int, mono_ms: int) -> Status:
        """What the person in front of this machine may know, and whoever watches whether there is progress.

        Raises:
            OutboxDamaged: the outbox was asked, and turned out to be.
        """
        oldest_ms = self._outbox.oldest_ms()  # touches the file: an agent that cannot even read it achieves nothing
        is_stuck = self._stuck_since_ms is not None
        if is_stuck or self._commit_ms is None or mono_ms - self._commit_ms <= OVERDUE_MS:
            self._progress_ms = mono_ms
        return Status(
            version=__version__,
            device=self._me.device_id.hex(),
            mono_ms=mono_ms,
            at_ms=now_ms,
            started_ms=self._started_ms,
            progress_ms=self._progress_ms,
            lanes={
                "readings": client.is_up(int(FrameClass.VITALS)),
                "alarms": client.is_up(int(FrameClass.ALARM)),
            },
            heard_ms=self._cloud_ms,
            waiting=self._outbox.depth,
            oldest_age_ms=None if oldest_ms is None else max(now_ms - oldest_ms, 0),
            used=self._outbox.used(),
            salvaged=self._outbox.start.text,
            stuck=is_stuck,
            alarms=_by_priority(self._pipeline.open_alarms()),
            sounding=self._local.sounding,
            models=self._scoring.title,
            refused_models=tuple(self._scoring.refused),
            credential_ends_ms=None if self._wallet is None else self._me.not_after_ms,
            beds=tuple(
                self._heard.get(one.binding_id, Bed(bed=one.bed))
                for one in sorted(self._directory.bindings(), key=lambda one: one.bed)
                if one.valid_from_ms <= now_ms and (one.valid_to_ms is None or now_ms < one.valid_to_ms)
            ),
        )

    def _sound(self, mono_ms: int) -> None:
        switched = self._local.switch(mono_ms)
        if switched is None:
            return
        self.counts.local_alarms += switched
        word = "on" if switched else "off"
        _log.warning("local alarm", sound=word, alarms=self._local.open)
        (self._config.data_dir / "local_alarm").write_text(f"{word}\n", encoding="ascii")
        if self._config.local_alarm.command:
            try:
                subprocess.Popen([*self._config.local_alarm.command, word])  # noqa: S603 - the site's own command
            except OSError as error:
                _log.error("the local alarm's command cannot be run", problem=error.strerror)

    # Start

    def _plan_of(self, binding_id: str) -> MonitoringPlan:
        binding = self._directory.binding(bytes.fromhex(binding_id))
        scale = 1 if binding is None else binding.spo2_scale
        return MonitoringPlan(spo2_scale=scale, cadence_ms=self._config.cadence_ms)

    def _about(self, binding_id: str) -> About:
        binding = self._directory.binding(bytes.fromhex(binding_id))
        return NOTHING if binding is None else binding.about

    @property
    def judged_by(self) -> str:
        """As every heartbeat says it."""
        return self._scoring.title

    def _take_up(self, sent: Sequence[SentSession]) -> None:
        """Go on sending what an earlier run has kept. Nothing is sealed with its sessions: their secrets are gone."""
        waiting = self._outbox.waiting()
        for session in sent:
            first_row, ranges = waiting.get(session.session_id, (0, []))
            place = (session.binding_id, session.frame_class)
            done = _complement(ranges, session.last_counter)
            uplink = self._uplinks[session.frame_class]
            uplink.open(Sending(session.session_id, place, session.number, session.frame, session.last_counter, done))
            if ranges:
                uplink.resume(session.session_id, first_row)


def _complement(ranges: Sequence[tuple[int, int]], last: int) -> tuple[tuple[int, int], ...]:
    """Counters from 0 to `last` that are in none of the ranges."""
    done, at = [], 0
    for low, high in ranges:
        if low > at:
            done.append((at, low - 1))
        at = high + 1
    if at <= last:
        done.append((at, last))
    return tuple(done)


def _place(what: str, binding_id: bytes) -> bytes:
    """What something locked is good for: a memory put in the place of a state opens nothing."""
    return binding_id if what == "states" else what.encode() + binding_id


def _told(alarm: AlarmChanged) -> EdgeAlarmV1:
    return EdgeAlarmV1(
        alarm_id=alarm.alarm_id,
        rule_id=alarm.rule_id,
        key=alarm.key,
        kind=alarm.kind.value,
        priority=int(alarm.priority),
        state=alarm.state.value,
        at_ms=alarm.at_ms,
        onset_ms=alarm.onset_ms,
        revision=alarm.revision,
        text=alarm.text,
    )


def _sensor_text(flags: int) -> str:
    return "ok" if not flags else f"flags {flags}"


def _flag_names(flags: int) -> tuple[str, ...]:
    return tuple((one.name or "").lower().replace("_", " ") for one in SensorFlag(flags))


def _by_priority(alarms: Sequence[AlarmChanged]) -> dict[str, int]:
    """How many stand, pending ones aside."""
    found = {one.name.lower(): 0 for one in sorted(Priority, reverse=True)}
    for alarm in alarms:
        if alarm.state is not AlarmState.PENDING:
            found[alarm.priority.name.lower()] += 1
    return found
