"""The alarm desk: stores alarms, notifies people until an alarm is answered, and forwards their answers.

Connects the decisions (`stream.desk.decisions`), the book and the channels. Every step is written to the book before it
is taken, so that the process can be killed at any instruction: a notification without a recorded result is sent again,
under the same key.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from runtime.clock import Clock
from runtime.logs import get
from stream.config import DeskConfig
from stream.desk import decisions, outages, texts
from stream.desk.binding_ends import end_binding
from stream.desk.book import DeskBook, PendingOrder
from stream.desk.decisions import ActiveSilence, Delivery, DeliveryStatus, Kept, Limit, OutgoingMessage
from stream.desk.notify import Address, Addresses, Notifier
from stream.desk.ports import SourceRecord
from stream.desk.texts import Message, Telling
from stream.errors import CommitFailed, NotificationNotAccepted
from stream.records import AlarmLogRecord, BindingEndedRecord, EdgeAlarmRecord, OrderRecord
from vitals.escalation import Attempt, Due, Outcome
from vitals.messages import Acknowledge, AlarmChanged, AlarmState, Priority, Silence
from vitals.outages import NO_DATA_RULES, Outage, SiteOutages

AGAIN_MS: Final = 60_000
"""If the patient's record does not show an order within this time, the order is sent again."""

_TOGETHER_S: Final = 0.02
_RECORD_AGAIN_S: Final = 2.0
_ENDING_S: Final = 3.0
_FORGET_EVERY_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000

_log = get(__name__)


class Place(NamedTuple):
    """Bed and pseudonym of a patient; empty if not known."""

    bed: str = ""
    patient: str = ""


class Standing(NamedTuple):
    """One alarm of the list, with its place, silence and notifications."""

    kept: Kept
    place: Place
    active_silence: ActiveSilence | None
    told: list[Delivery]
    calls: bool
    outage_id: bytes | None = None  # of the outage that calls instead


class DeskCounts(msgspec.Struct):
    """Counts since the desk started, and its present state."""

    records: int = 0
    unreadable: int = 0
    opened: int = 0
    accepted: int = 0  # messages that a service accepted
    failed: Counter[str] = msgspec.field(
        default_factory=Counter
    )  # by channel, attempts that the service did not accept
    late: int = 0  # accepted after the timeout
    digests: int = 0
    no_address: int = 0  # notifications for which there was no address
    answered: int = 0
    silenced: int = 0
    ordered: int = 0
    refused_commits: int = 0
    slowest_first_ms: int = 0  # longest time from opening to the first attempt, of alarms that notify at once
    open_by_priority: tuple[int, int, int] = (0, 0, 0)
    unanswered_high: int = 0
    waiting: int = 0
    pending_orders: int = 0
    turned_ms: int | None = None  # monotonic
    refusing: str = ""  # why the book cannot be written; empty if it can


class AlarmDesk:
    """One desk on one book.

    Args:
        roles: people of each role; may be replaced at any time, as may `addresses`.
        place_of: bed and patient of a binding.
        patients: number of patients monitored now; None if it is not known.
        notifier: None: one with the configured timeout.
    """

    def __init__(
        self,
        config: DeskConfig,
        book: DeskBook,
        addresses: Addresses,
        clock: Clock,
        *,
        place_of: Callable[[str], Place] = lambda _: Place(),
        patients: Callable[[], int | None] = lambda: None,
        notifier: Notifier | None = None,
    ) -> None:
        self.counts = DeskCounts()
        self.roles: Mapping[str, Sequence[str]] = config.roles
        self.addresses = addresses
        self.kick = asyncio.Event()  # set when a notification may be due
        self.order_queued = asyncio.Event()  # set when an order waits to be sent
        self._config = config
        self._policy = config.policy
        self._limit = Limit(config.digest_after, config.digest_window_ms)
        self._telling = Telling(config.site_name, config.where, config.detail == "values")
        self._book = book
        self._clock = clock
        self._place_of = place_of
        self._patients = patients
        self._outages: SiteOutages | None = None  # None: to be read from the book
        self._notifier = notifier or Notifier(within_s=config.send_timeout_ms / 1_000, on_late=self._late)
        self._look: dict[bytes, tuple[int, int | None]] = {}  # by alarm: its heard_ms, and when to plan it again
        self._flying: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._down: dict[tuple[str, str], str] = {}  # the last problem of an address that fails
        self._forgot_ms: int | None = None

    # Reading alarms

    def hear(self, batch: Sequence[SourceRecord]) -> None:
        """Commit records of the alarm log together with the position behind them.

        Raises:
            CommitFailed: nothing was committed.
        """
        now_ms = self._clock.now_ms()
        opened = 0
        changed: list[AlarmChanged] = []
        with self._keeping_outages(now_ms):
            active_silences = self._book.active_silences(now_ms)
            for read in batch:
                if read.record is not None:
                    opened += self._hear(read.record, now_ms, active_silences, changed)
                self._book.put_position(read.log, read.partition, read.offset + 1)
            self._follow_outages(changed, now_ms)
        counts = self.counts
        counts.records += len(batch)
        counts.unreadable += sum(one.record is None for one in batch)
        counts.opened += opened
        self.kick.set()

    def _hear(
        self,
        record: AlarmLogRecord,
        now_ms: int,
        active_silences: Mapping[tuple[str, str], ActiveSilence],
        changed: list[AlarmChanged],
    ) -> bool:
        """Whether it opened an alarm. The alarms that changed are appended to `changed`."""
        if isinstance(record, BindingEndedRecord):
            changed += end_binding(self._book, record, now_ms)
            return False
        binding_id = record.binding_id if isinstance(record, EdgeAlarmRecord) else record.alarm.binding_id
        alarm = record.alarm
        if alarm.state != AlarmState.CLEARED and self._book.has_ended(binding_id):
            return False  # it was under way when the binding ended; the record of alarms has it
        active_silence = active_silences.get((binding_id, alarm.rule_id))
        before = self._book.alarm(alarm.alarm_id)
        rival = self._book.active(binding_id, alarm.rule_id, alarm.key)
        if rival is not None and rival.alarm.alarm_id == alarm.alarm_id:
            rival = None
        heard = decisions.hear(record, now_ms=now_ms, before=before, rival=rival, active_silence=active_silence)
        if heard is None or not heard.news:
            return False
        if heard.displaced is not None:
            self._book.put_alarm(heard.displaced)
            self._book.stop(heard.displaced.alarm.alarm_id)
            changed.append(msgspec.structs.replace(heard.displaced.alarm, state=AlarmState.CLEARED))
        kept = heard.kept
        changed.append(kept.alarm)
        self._book.put_alarm(kept)
        if heard.order is not None:
            self._queue_answer(kept, now_ms)
        ladder = kept.escalation.ladder if self._calls(kept, active_silence, now_ms) else None
        self._book.stop(alarm.alarm_id, except_ladder=ladder)
        return before is None and kept.is_active

    def _calls(self, kept: Kept, active_silence: ActiveSilence | None, now_ms: int) -> bool:
        return decisions.calls(kept, active_silence, now_ms, by_outage=self._outage_of(kept) is not None)

    def _outage_of(self, kept: Kept) -> bytes | None:
        return None if self._outages is None else self._outages.replaced_by(kept.alarm.alarm_id)

    # Outages

    @contextmanager
    def _keeping_outages(self, now_ms: int) -> Iterator[None]:
        """A transaction of the book. If it fails, outages are read from the book again: memory is not ahead of it."""
        try:
            with self._book.transaction():
                if self._outages is None:
                    self._restore_outages(now_ms)
                yield
        except BaseException:
            self._outages = None
            raise

    def _restore_outages(self, now_ms: int) -> None:
        site, state = self._config.site_name or "this site", self._book.outages()
        if state is not None:
            self._outages = SiteOutages.from_state(site, state)
            return
        self._outages = SiteOutages(site)
        listed = sorted(self._book.listed(), key=lambda one: (one.opened_ms, one.alarm.alarm_id))
        self._follow_outages([one.alarm for one in listed if one.is_active], now_ms, store=True)

    def _follow_outages(self, changed: Sequence[AlarmChanged], now_ms: int, *, store: bool = False) -> None:
        """Update the outages with alarms that changed. Within a transaction.

        Args:
            store: write the state even if no alarm is about missing data.
        """
        about_data = [alarm for alarm in changed if alarm.rule_id in NO_DATA_RULES]
        if self._outages is None or not (about_data or store):
            return
        named = {alarm.alarm_id for alarm in about_data}
        for outage in self._outages.observe_all(about_data, patients=self._patients()):
            self._follow_outage(outage, named, now_ms)
        self._book.put_outages(self._outages.to_state())

    def _follow_outage(self, outage: Outage, changed: Set[bytes], now_ms: int) -> None:
        before = self._book.alarm(outage.outage_id)
        joined = [alarm_id for alarm_id in outage.grouped if before is None or alarm_id in changed]
        members = [kept for alarm_id in joined if (kept := self._book.alarm(alarm_id)) is not None]
        places = [self._where(binding_id) for binding_id in outage.without_data[: outages.MOST_PLACES]]
        kept = outages.follow_outage(outage, places, now_ms=now_ms, before=before, members=members)
        self._book.put_alarm(kept)
        for alarm_id in joined:
            self._book.stop(alarm_id)
        if outage.ended_ms is not None:
            self._book.stop(outage.outage_id)
            self._book.put_deliveries(
                outages.end_notifications(kept, self._book.deliveries(outage.outage_id), now_ms=now_ms)
            )
        if before is None or outage.ended_ms is not None:
            state = "began" if outage.ended_ms is None else "ended"
            count = len(outage.without_data)
            _log.warning(f"outage {state}", alarm=texts.ref(outage.outage_id), patients_without_data=count)

    def _where(self, binding_id: str) -> str:
        place = self._place_of(binding_id)
        return texts.place(place.bed, place.patient, binding_id)

    # Answers of people

    def acknowledge(self, alarm_id: bytes, *, by: str, revision: int) -> Kept:
        """Acknowledge an alarm. Durable when it returns; the order to the patient's monitor follows.

        Raises:
            NoSuchAlarm, AlarmChangedMeanwhile, CommitFailed.
        """
        now_ms = self._clock.now_ms()
        with self._book.transaction():
            before = self._book.alarm(alarm_id)
            kept = decisions.acknowledge(before, by=by, revision=revision, now_ms=now_ms)
            if kept is before:
                return kept
            self._book.put_alarm(kept)
            self._book.stop(alarm_id)
            if not kept.is_outage:
                self._queue_answer(kept, now_ms)
        self.counts.answered += 1
        _log.info("answered", alarm=texts.ref(alarm_id), by=by)
        self.order_queued.set()
        return kept

    def silence(self, alarm_id: bytes, *, by: str, minutes: int, revision: int) -> ActiveSilence:
        """Silence the condition of this alarm for `minutes`; otherwise as `acknowledge`."""
        now_ms = self._clock.now_ms()
        with self._book.transaction():
            kept = self._book.alarm(alarm_id)
            until_ms = now_ms + minutes * 60_000
            active_silence = decisions.silence(kept, by=by, until_ms=until_ms, revision=revision, now_ms=now_ms)
            self._book.put_silence(active_silence)
            order = Silence(
                binding_id=active_silence.binding_id,
                rule_id=active_silence.rule_id,
                by=by,
                at_ms=now_ms,
                until_ms=active_silence.until_ms,
                priority=active_silence.priority,
            )
            if kept is not None and not kept.is_outage:
                self._book.put_order(alarm_id, OrderRecord(message=order), now_ms)
            for one in self._book.listed():
                same = (one.alarm.binding_id, one.alarm.rule_id) == (active_silence.binding_id, active_silence.rule_id)
                if same and not self._calls(one, active_silence, now_ms):
                    self._book.stop(one.alarm.alarm_id)
        self.counts.silenced += 1
        _log.info("silenced", alarm=texts.ref(alarm_id), by=by, minutes=minutes)
        self.order_queued.set()
        return active_silence

    def standing(self) -> list[Standing]:
        """The list of alarms: unanswered ones first, then by priority, then by age."""
        now_ms = self._clock.now_ms()
        active_silences = self._book.active_silences(now_ms)
        found = []
        for kept in self._book.listed():
            alarm = kept.alarm
            active_silence = active_silences.get((alarm.binding_id, alarm.rule_id))
            told = [one for one in self._book.deliveries(alarm.alarm_id) if one.begun_ms is not None]
            place = Place() if kept.is_outage else self._place_of(alarm.binding_id)
            calls, outage_id = self._calls(kept, active_silence, now_ms), self._outage_of(kept)
            found.append(Standing(kept, place, active_silence, told, calls, outage_id))
        return sorted(
            found,
            key=lambda one: (
                one.kept.is_answered,
                not one.kept.is_active,
                -one.kept.alarm.priority,
                one.kept.opened_ms,
            ),
        )

    def _queue_answer(self, kept: Kept, now_ms: int) -> None:
        answer, alarm = kept.answer, kept.alarm
        assert answer is not None  # noqa: S101 - the caller has just set it
        order = Acknowledge(
            binding_id=alarm.binding_id,
            alarm_id=alarm.alarm_id,
            by=answer.by,
            at_ms=answer.at_ms,
            revision=answer.revision if answer.revision >= 0 else None,
            priority=alarm.priority,
        )
        self._book.put_order(alarm.alarm_id, OrderRecord(message=order), now_ms)

    # Forwarding orders

    def to_pass_on(self) -> list[PendingOrder]:
        """Orders to be sent now. Orders that are confirmed, or can no longer be, are removed."""
        now_ms = self._clock.now_ms()
        wanted, done = [], []
        for pending in self._book.pending_orders():
            if pending.sent_ms is not None and self._is_fulfilled(pending, now_ms):
                done.append(pending)
            elif pending.sent_ms is None or now_ms - pending.sent_ms >= AGAIN_MS:
                wanted.append(pending)
        if done:
            with self._book.transaction():
                for pending in done:
                    self._book.order_done(pending.order_id)
        self.counts.pending_orders = sum(one.sent_ms is None for one in wanted)
        return wanted

    def passed_on(self, pending: PendingOrder) -> None:
        """Record that the sink has stored an order."""
        with self._book.transaction():
            self._book.order_sent(pending.order_id, self._clock.now_ms())
        self.counts.ordered += 1

    def _is_fulfilled(self, pending: PendingOrder, now_ms: int) -> bool:
        kept = self._book.alarm(pending.alarm_id)
        return kept is None or decisions.is_fulfilled(pending.order.message, kept, now_ms)

    # Notifying

    async def serve(self, *, every_s: float = 1.0) -> None:
        """Run a turn every second and at every event until cancelled; then wait for messages that are being sent."""
        try:
            while True:
                self.kick.clear()
                self.turn()
                try:
                    async with asyncio.timeout(every_s):
                        await self.kick.wait()
                except TimeoutError:
                    continue
                if self._flying:  # in an alarm storm many results arrive together: one turn for all
                    await asyncio.sleep(_TOGETHER_S)
        finally:
            if self._flying:
                await asyncio.wait(list(self._flying.values()), timeout=_ENDING_S)
            for task in list(self._flying.values()):
                task.cancel()

    def turn(self) -> None:
        """Plan due notifications, commit the attempts, and start sending."""
        now_ms = self._clock.now_ms()
        try:
            with self._keeping_outages(now_ms):
                standing = self._plan(now_ms)
                begun = self._begin(now_ms, standing)
                self._forget(now_ms)
        except CommitFailed as error:
            if not self.counts.refusing:
                _log.error("cannot write to the desk's book; no notifications for new alarms", problem=str(error))
            self.counts.refusing = str(error)
            self.counts.refused_commits += 1
            return
        self.counts.refusing = ""
        self.counts.turned_ms = self._clock.mono_ms()
        for outgoing in begun:
            task = asyncio.create_task(self._send(outgoing), name=f"{outgoing.person}/{outgoing.channel}")
            for one in outgoing.deliveries:
                self._flying[one.key, one.person] = task

    def _plan(self, now_ms: int) -> dict[bytes, Kept]:
        standing = {one.alarm.alarm_id: one for one in self._book.listed()}
        active_silences = self._book.active_silences(now_ms)
        by_priority, unanswered = [0, 0, 0], 0
        ended: list[AlarmChanged] = []
        for alarm_id, kept in list(standing.items()):
            if decisions.is_over(kept, now_ms):
                self._book.put_alarm(msgspec.structs.replace(kept, replaced=True, heard_ms=now_ms))
                ended.append(msgspec.structs.replace(kept.alarm, state=AlarmState.CLEARED))
                continue
            alarm = kept.alarm
            by_priority[alarm.priority - 1] += kept.is_active
            unanswered += kept.is_active and alarm.priority is Priority.HIGH and not kept.is_answered
            if not self._calls(kept, active_silences.get((alarm.binding_id, alarm.rule_id)), now_ms):
                self._look.pop(alarm_id, None)
                continue
            heard_ms, look_ms = self._look.get(alarm_id, (None, None))
            if heard_ms != kept.heard_ms or (look_ms is not None and look_ms <= now_ms):
                self._look[alarm_id] = (kept.heard_ms, self._plan_one(kept, now_ms))
        for alarm_id in self._look.keys() - standing.keys():
            del self._look[alarm_id]
        self._follow_outages(ended, now_ms)
        low, medium, high = by_priority
        self.counts.open_by_priority, self.counts.unanswered_high = (low, medium, high), unanswered
        return standing

    def _plan_one(self, kept: Kept, now_ms: int) -> int | None:
        """Store due notifications; returns when to plan the alarm again."""
        alarm_id, ladder = kept.alarm.alarm_id, kept.escalation.ladder
        while True:
            known = frozenset(one.key for one in self._book.deliveries(alarm_id))
            attempts = self._book.attempts(alarm_id, ladder)
            plan = decisions.plan(self._policy, kept, attempts, now_ms=now_ms, known=known)
            self._book.put_passed(plan.passed, now_ms)
            is_unreachable = False
            for due in plan.due:
                deliveries = self._deliveries(due)
                self._book.put_deliveries(deliveries)
                for one in deliveries:
                    self._book.overtake(one)
                if not deliveries:
                    # No person of this role has this channel: go on to the next channel at once, and report it.
                    is_unreachable = True
                    self.counts.no_address += 1
                    _log.error("no address for a due notification", role=due.who, channel=due.channel)
                    self._book.put_attempt(alarm_id, Attempt(key=due.key, at_ms=now_ms, outcome=Outcome.FAILED))
            if not is_unreachable:
                return plan.look_ms

    def _deliveries(self, due: Due) -> list[Delivery]:
        return [
            Delivery(
                key=due.key,
                person=person,
                channel=due.channel,
                who=due.who,
                alarm_id=due.alarm_id,
                priority=due.priority,
                due_ms=due.due_ms,
            )
            for person in dict.fromkeys(self.roles.get(due.who, ()))
            if self.addresses.get(person, due.channel) is not None
        ]

    def _begin(self, now_ms: int, standing: Mapping[bytes, Kept]) -> list[OutgoingMessage]:
        waiting = []
        for one in self._book.waiting():
            if outages.is_too_late(one, now_ms):
                self._book.change(msgspec.structs.replace(one, fate=DeliveryStatus.STOPPED))
            elif (one.key, one.person) not in self._flying:
                waiting.append(one)
        self.counts.waiting = len(waiting)
        sent = self._book.begun_since(now_ms - self._limit.within_ms)
        found = decisions.outgoing_messages(waiting, sent, now_ms=now_ms, limit=self._limit)
        begun = []
        for outgoing in found:
            deliveries = tuple(
                msgspec.structs.replace(one, tries=one.tries + 1, begun_ms=now_ms, leads=index == 0)
                for index, one in enumerate(outgoing.deliveries)
            )
            for one in deliveries:
                self._book.change(one)
                kept = standing.get(one.alarm_id)
                if one.tries == 1 and kept is not None and _is_first_call(kept, one):
                    self.counts.slowest_first_ms = max(self.counts.slowest_first_ms, now_ms - one.due_ms)
            begun.append(outgoing._replace(deliveries=deliveries))
        return begun

    async def _send(self, outgoing: OutgoingMessage) -> None:
        """Send one message and record its result, even if the book refuses commits for a while."""
        names = [(one.key, one.person) for one in outgoing.deliveries]
        try:
            await self._record(names, accepted=await self._is_accepted(outgoing, names))
        finally:
            for name in names:
                self._flying.pop(name, None)
            self.kick.set()

    async def _is_accepted(self, outgoing: OutgoingMessage, names: list[tuple[str, str]]) -> bool:
        address = self.addresses.get(outgoing.person, outgoing.channel)
        try:
            if address is None:
                raise NotificationNotAccepted(f"{outgoing.person}/{outgoing.channel}: the address was removed")
            await self._notifier.send(address, self._message(outgoing), name=names)
        except NotificationNotAccepted as error:
            self.counts.failed[outgoing.channel] += 1
            if self._down.get((outgoing.person, outgoing.channel)) != str(error):
                self._down[outgoing.person, outgoing.channel] = str(error)
                _log.warning("notification service does not accept messages", problem=str(error))
            return False
        if self._down.pop((outgoing.person, outgoing.channel), None) is not None:
            _log.info("notification service accepts messages again", person=outgoing.person, channel=outgoing.channel)
        self.counts.accepted += 1
        self.counts.digests += len(names) > 1
        return True

    async def _record(self, names: Iterable[tuple[str, str]], *, accepted: bool) -> None:
        while True:
            try:
                self._settle(names, accepted=accepted)
            except CommitFailed as error:
                # Until it is written the message counts as being sent, so that it is not repeated every second.
                _log.error("cannot record the result of a notification; tried again", problem=str(error))
                await asyncio.sleep(_RECORD_AGAIN_S)
            else:
                return

    def _settle(self, names: Iterable[tuple[str, str]], *, accepted: bool) -> None:
        now_ms = self._clock.now_ms()
        with self._book.transaction():
            for key, person in names:
                one = self._book.delivery(key, person)
                if one is None or one.fate is DeliveryStatus.SENT:
                    continue
                if accepted:
                    one = msgspec.structs.replace(one, fate=DeliveryStatus.SENT, done_ms=now_ms)
                elif one.is_open:
                    one = msgspec.structs.replace(
                        one, fate=DeliveryStatus.FAILED, again_ms=decisions.again_ms(one.tries, now_ms)
                    )
                self._book.change(one)
                trusted = one.channel in self._config.receipts
                outcome = decisions.outcome(self._book.together(key), accepted_is_delivered=trusted)
                if outcome is not None:
                    self._book.put_attempt(one.alarm_id, Attempt(key=key, at_ms=now_ms, outcome=outcome))
                self._look.pop(one.alarm_id, None)

    def _late(self, address: Address, name: object) -> None:
        """A service accepted a message after the timeout: record it, so that it is not sent again."""
        self.counts.late += 1
        _log.info("notification accepted after the timeout", channel=address.channel, person=address.person)
        task = asyncio.get_running_loop().create_task(self._record(name, accepted=True), name="late")  # type: ignore[arg-type]
        self._flying["late", str(id(task))] = task
        task.add_done_callback(lambda _: self._flying.pop(("late", str(id(task))), None))

    def _message(self, outgoing: OutgoingMessage) -> Message:
        now_ms = self._clock.now_ms()
        alarms = []
        for alarm_id in dict.fromkeys(one.alarm_id for one in outgoing.deliveries):
            kept = self._book.alarm(alarm_id)
            if kept is not None:
                place = Place() if kept.is_outage else self._place_of(kept.alarm.binding_id)
                alarms.append((kept, texts.where(kept, place.bed, place.patient)))
        if len(alarms) == 1:
            return texts.of_alarm(*alarms[0], self._telling, now_ms=now_ms)
        return texts.of_many(alarms, self._telling)

    def _forget(self, now_ms: int) -> None:
        if self._forgot_ms is None or now_ms - self._forgot_ms >= _FORGET_EVERY_MS:
            self._forgot_ms = now_ms
            self._book.forget(now_ms=now_ms, before_ms=now_ms - self._config.keep_days * _DAY_MS)


def _is_first_call(kept: Kept, one: Delivery) -> bool:
    # The ladder of an outage began before the outage was found, with that of its first alarm.
    return kept.escalation.begins_ms == one.due_ms and not kept.is_outage
