"""The agent beside the bed: opens, judges, keeps and forwards readings, and sounds an alarm when the cloud is silent.

One loop, one thread: accept what arrived, judge it, commit it, and only then acknowledge it. What cannot be committed
is not acknowledged, so its sender keeps it.
"""

import contextlib
import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from edge.announcer import Announcer
from edge.answers import AnswerIntake
from edge.at_rest import StateLock
from edge.cloud import CloudLink
from edge.config import EdgeConfig
from edge.connections import BrokerConnections
from edge.counts import AgentCounts
from edge.errors import BadEdgeConfig, NotCommitted, OutboxDamaged
from edge.intake import Intake
from edge.keeper import Changes, Keeper
from edge.local_alarm import LocalAlarm
from edge.local_alarm_output import Sounder
from edge.observing import EdgeObserving
from edge.outbox import Outbox
from edge.patients import EdgePatients, can_read_orders
from edge.people import EdgePeople, EntryDoor
from edge.reporting import HeartbeatReporter, Parts, StatusReporter
from edge.sealing import Sealer
from edge.status import Status
from runtime import logs
from runtime.clock import Clock
from runtime.time_zone import clock_or_utc
from wire.acks import AckBook
from wire.answers import is_answer
from wire.enrol.documents import WANTED, is_document
from wire.enrol.wallet import Wallet
from wire.errors import BadTopic, Reason
from wire.identity import Provision
from wire.lanes import Lanes
from wire.mqtt import Inbound
from wire.receiver import Receiver
from wire.sender import Sender
from wire.sessions import Recipient
from wire.topics import parse

_log = logs.get(__name__)

_TURN_S: Final = 0.05  # the loop looks at its timers at least this often
_BATCH: Final = 64
_BEAT_AFTER_DOCUMENTS_MS: Final = 1_000  # the data centre learns soon what was accepted


class EdgeAgent:
    """One agent on one outbox: makes the parts and turns the loop that drives them.

    Args:
        config: see `edge.config`; paths in it are absolute or relative to the working directory.
        provision: identity of this edge, the devices that it hears, and the recipient that it writes to.
        clock: wall for what is stamped, monotonic for timers.
        rng: jitter.
        wallet: where documents of the data centre are kept; None: none arrive.
        lock: for patient states on the disk; None: no later agent can read them.
        tell: is given the status every second; None: no status is made.

    Raises:
        OutboxInUse, NotCommitted: as `Outbox.open`.
        BadEdgeConfig: the provision names no recipient.
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
        recipient = _recipient(config, provision)
        me, directory = provision.me, provision.directory
        self.counts = AgentCounts()
        boot_id, started_ms = os.urandom(8), clock.mono_ms()
        self._provision = provision
        self._clock = clock
        outbox = _outbox(config, clock)
        sent = outbox.sessions()
        local = LocalAlarm(after_ms=int(config.local_alarm.after_s * 1_000), mono_ms=clock.mono_ms())
        self._connections = BrokerConnections(config, provision, wallet, rng)
        self._keeper = Keeper(
            outbox,
            Sealer(me, recipient, sent),
            config.outbox,
            clock,
            self.counts,
            clock_can_be_set=config.clock_file is None,
        )
        self._patients = EdgePatients(
            config, directory, outbox, lock or StateLock.open(None), self.counts, boot_id=boot_id
        )
        self._intake = Intake(
            receiver=Receiver(me, directory, limits=config.limits, restored=tuple(outbox.received())),
            directory=directory,
            patients=self._patients,
            keeper=self._keeper,
            acks=AckBook(me, interval_ms=config.ack_interval_ms),
            local=local,
            clock=clock,
            started_ms=started_ms,
            counts=self.counts,
        )
        self._cloud = CloudLink(
            config,
            provision,
            recipient,
            keeper=self._keeper,
            sent=sent,
            local=local,
            clock=clock,
            rng=rng,
            counts=self.counts,
        )
        self._answers = AnswerIntake(
            provision, patients=self._patients, keeper=self._keeper, local=local, counts=self.counts
        )
        self.observing = self._make_observing(config, clock)
        self._announcer = Announcer(_reading_orders(wallet), directory, me.device_id, self.counts)
        local.on_alarms(self._patients.open_alarms())
        self._sounder = Sounder(config, local, self.counts)
        parts = Parts(self._keeper, self._patients, self._intake, self._cloud, self._announcer, local, self.counts)
        self._heartbeats = HeartbeatReporter(
            parts,
            clock,
            boot_id=boot_id,
            started_ms=started_ms,
            every_ms=int(config.heartbeat_s * 1_000),
            alive_file=config.data_dir / "alive",
        )
        self._status = StatusReporter(parts, provision, clock, has_wallet=wallet is not None, report=tell)

    def _make_observing(self, config: EdgeConfig, clock: Clock) -> EdgeObserving:
        """What people enter here; it is told what the data centre refuses of it."""
        observing = EdgeObserving(
            EntryDoor(EdgePeople(config.data_dir), clock.mono_ms),
            self._provision.directory,
            patients=self._patients,
            intake=self._intake,
            keeper=self._keeper,
            counts=self.counts,
            edge_id=self._provision.me.device_id.hex()[:8],
            clock_text=clock_or_utc(""),
        )
        self._cloud.on_refused = observing.refused_by_cloud
        return observing

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Topics on the lane of vital signs: this edge's wearables, and the cloud's answers."""
        return self._connections.subscriptions

    @property
    def senders(self) -> Mapping[int, Sender]:
        """Towards the cloud, by frame class."""
        return self._cloud.senders

    @property
    def sent(self) -> int:
        """Frames that were handed to the broker, repeated ones included."""
        return self._cloud.sent

    @property
    def waiting(self) -> int:
        """Rows that the cloud has not signed for."""
        return self._keeper.outbox.depth

    @property
    def judged_by(self) -> str:
        """Rules and models in use, as every heartbeat reports them."""
        return self._patients.judged_by

    def client(self) -> Lanes:
        """Connections for `run`."""
        return self._connections.lanes()

    async def run(self, client: Lanes) -> None:
        """Serve until cancelled.

        Raises:
            OutboxDamaged: make a new agent; it salvages.
        """
        try:
            while True:
                inbound = await client.receive(_BATCH, within_s=self._idle_s())
                self._turn(client, inbound)
        finally:
            with contextlib.suppress(NotCommitted, OutboxDamaged):
                self._commit(client)

    def close(self) -> None:
        """Close the outbox."""
        self._keeper.close()

    def _idle_s(self) -> float:
        """How long the loop may wait for a message."""
        due_ms = self._keeper.commit_due_ms
        if due_ms is None:
            return _TURN_S
        return min(_TURN_S, max(due_ms - self._clock.mono_ms(), 0) / 1_000)

    def _turn(self, client: Lanes, inbound: Sequence[Inbound]) -> None:
        self._follow_clock()
        self._follow_connection(client)
        now_ms, mono_ms = self._keeper.now_ms(), self._clock.mono_ms()
        for message in inbound:
            self._accept(client, message, now_ms, mono_ms)
        self._follow_documents(client)
        self._intake.follow_bindings(now_ms, mono_ms)
        self.observing.apply(now_ms)
        self._intake.keep_alarms(self._patients.on_timer(now_ms), now_ms)
        due_ms = self._keeper.commit_due_ms
        if due_ms is not None and self._clock.mono_ms() >= due_ms:
            self._commit(client)
        self._sounder.follow(mono_ms)
        self._heartbeats.beat_if_due(client, now_ms, mono_ms)
        self._announcer.announce(client, now_ms, mono_ms)
        self._intake.send_acks(client, self._keeper.now_ms(), self._clock.mono_ms())
        self._cloud.send(client)
        self.counts.turned_ms = self._clock.mono_ms()
        self.counts.stuck_since_ms = self._keeper.stuck_since_ms
        self._status.report_if_due(client, now_ms, mono_ms)

    def _accept(self, client: Lanes, message: Inbound, now_ms: int, mono_ms: int) -> None:
        self.counts.received += 1
        try:
            topic = parse(message.topic)
        except BadTopic:
            self.counts.rejected[Reason.TOPIC] += 1
            client.acknowledge(message)
            return
        is_reading = topic.branch != "e" and message.payload != WANTED
        if is_reading and not self._keeper.is_stuck:
            # An edge whose clock is behind would refuse a patient who was bound a moment ago.
            valid_ms = max(now_ms, self._cloud.least_ms(mono_ms))
            self._intake.accept(client, message, topic, now_ms, mono_ms, valid_ms=valid_ms)
            return
        if is_reading:
            self.counts.postponed += 1  # the wearable is not answered, so it keeps the reading; the broker need not
        elif topic.branch != "e":
            self._announcer.on_question(topic.device_id, mono_ms)
        elif is_document(message.payload):
            self._announcer.accept(message.payload)
        elif is_answer(message.payload):
            self._answers.accept(message.payload, now_ms, ahead_ms=self._cloud.clock_ms(now_ms, mono_ms) or 0)
        else:
            self._cloud.on_ack(message.payload, mono_ms)
        client.acknowledge(message)

    def _commit(self, client: Lanes) -> None:
        """Put the batch on disk, and then let its consequences happen."""
        committed = self._keeper.commit(
            Changes(
                self._intake.drain_received(),
                self._patients.drain_states(),
                self._patients.drain_memories(),
                self._cloud.drain_retired(),
                self._patients.drain_forgotten(),
            )
        )
        if not self._keeper.is_stuck:
            self.observing.confirm()
        self._cloud.offer(committed)
        self._intake.sign(committed.opened)
        for message in committed.messages:
            client.acknowledge(message)
        self._cloud.forget(self._keeper.make_room())

    def _follow_clock(self) -> None:
        """Where the wall clock was set, move the patients with it, and tell the data centre soon."""
        by_ms = self._keeper.follow_clock()
        if by_ms:
            _log.warning("the wall clock was set", by_ms=by_ms)
            self.counts.clock_steps += 1
            self._patients.shift(by_ms)
            self._heartbeats.beat_within(0)

    def _follow_connection(self, client: Lanes) -> None:
        change = self._cloud.follow_connection(client)
        if change.came_up:
            self._heartbeats.beat_within(0)
            self._announcer.restart_round()
        if change.went_down:
            self._keeper.drop_messages()

    def _follow_documents(self, client: Lanes) -> None:
        """Act on documents that were accepted since the last turn."""
        if not self._announcer.drain_change():
            return
        if self._provision.recipient is not None:
            self._keeper.write_to(self._provision.recipient)
            self._cloud.write_to(self._provision.recipient)
        self._connections.subscribe_new(client)
        self._heartbeats.beat_within(_BEAT_AFTER_DOCUMENTS_MS)


def _recipient(config: EdgeConfig, provision: Provision) -> Recipient:
    if provision.recipient is None:
        raise BadEdgeConfig(f"{config.identity}: names no recipient; this is not an edge's identity")
    return provision.recipient


def _reading_orders(wallet: Wallet | None) -> Wallet | None:
    """The wallet, which refuses orders that this agent cannot judge by."""
    if wallet is not None:
        wallet.can_read = can_read_orders
    return wallet


def _outbox(config: EdgeConfig, clock: Clock) -> Outbox:
    budget_bytes = config.outbox.budget_mb << 20
    return Outbox.open(config.data_dir / "outbox.sqlite", budget_bytes=budget_bytes, now_ms=clock.now_ms())
