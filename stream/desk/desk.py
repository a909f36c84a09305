"""The alarm desk: stores alarms, notifies people until an alarm is answered, and forwards their answers.

Connects the decisions (`stream.desk.decisions`), the book and the channels. Every step is written to the book before it
is taken, so that the process can be killed at any instruction: a notification without a recorded result is sent again,
under the same key.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from runtime.clock import ElapsedClock
from runtime.logs import get
from runtime.time_zone import clock_of, zone_of
from stream.config import DeskConfig
from stream.desk import decisions, texts
from stream.desk.book import DeskBook
from stream.desk.calling import Calling
from stream.desk.clock_alarm import follow_clock
from stream.desk.decisions import ActiveSilence, Delivery, DeskAnswer, Finding, Kept, Limit, OutgoingMessage
from stream.desk.desk_clock import ClockWatch, DeskClock
from stream.desk.desk_outages import DeskOutages
from stream.desk.notify import Addresses, Notifier
from stream.desk.observing import Observing
from stream.desk.ordered_calls import NOTHING, OrdersOf, is_held, ladder_of, words
from stream.desk.people import People
from stream.desk.ports import LogPosition, SourceRecord
from stream.desk.sending import Sending
from stream.desk.stay_ends import end_stay
from stream.desk.tables import PendingEntry
from stream.desk.texts import Message, Telling
from stream.errors import CommitFailed
from stream.records import (
    AlarmLogRecord,
    AlarmRecord,
    AnswerRecord,
    EdgeAlarmRecord,
    ObservationRecord,
    StayEndedRecord,
)
from vitals.escalation import key_prefix
from vitals.messages import Acknowledge, AlarmChanged, AlarmState, Priority, Silence
from vitals.orders import Orders
from wire.stays import KnownStay

AGAIN_MS: Final = 60_000
"""If the patient's record does not show an order within this time, the order is sent again."""

_TOGETHER_S: Final = 0.02
_FORGET_EVERY_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000

_log = get(__name__)


class Place(NamedTuple):
    """Bed and pseudonym of a patient, and the devices; empty if not known."""

    bed: str = ""
    patient: str = ""
    devices: Mapping[str, str] = {}  # names, by binding

    def device(self, key: str) -> str:
        """The name of the device that the key of an alarm is about; empty if it is about none."""
        return next((name for binding_id, name in self.devices.items() if binding_id in key), "")


class Standing(NamedTuple):
    """One alarm of the list, with its place, silence and notifications."""

    kept: Kept
    place: Place
    active_silence: ActiveSilence | None
    told: list[Delivery]
    calls: bool
    outage_id: bytes | None = None  # of the outage that calls instead
    offset_ms: int = 0  # the wall clock minus the desk's time, in which all of this is
    ordered: str = ""  # how orders change who is called; empty: they do not


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
    passed_on: int = 0
    refused_commits: int = 0
    slowest_first_ms: int = 0  # longest time from opening to the first attempt, of alarms that notify at once
    open_by_priority: tuple[int, int, int] = (0, 0, 0)
    unanswered_high: int = 0
    waiting: int = 0
    pending_entries: int = 0
    turned_ms: int | None = None  # monotonic
    other_logs: int = 0  # times that the alarm log was found to be another one and was read from its beginning
    refusing: str = ""  # why the book cannot be written; empty if it can


class AlarmDesk:
    """One desk on one book.

    Args:
        place_of: bed, patient and devices of a stay.
        orders_of: the orders of a stay that are in force now.
        patients: number of patients monitored now; None if it is not known.
        stays: stays of the site, about which people may enter what they observe.
        notifier: None: one with the configured timeout.
    """

    def __init__(
        self,
        config: DeskConfig,
        book: DeskBook,
        addresses: Addresses,
        clock: ElapsedClock,
        *,
        place_of: Callable[[str], Place] = lambda _: Place(),
        orders_of: OrdersOf = NOTHING,
        patients: Callable[[], int | None] = lambda: None,
        stays: Callable[[], list[KnownStay]] = list,
        notifier: Notifier | None = None,
    ) -> None:
        self.counts = DeskCounts()
        self.kick = asyncio.Event()  # set when a notification may be due
        self.entry_queued = asyncio.Event()  # set when an entry waits to be sent
        self.clock = DeskClock(clock, book.clock_anchor())
        self.clock_watch = ClockWatch(self.clock)
        book.anchor = self.clock.anchor
        self.people = people = People(config.roles, addresses)
        self._mono = clock
        self._config = config
        self._clock_text, self._zone = clock_of(config.time_zone), zone_of(config.time_zone)
        self._telling = Telling(config.site_name, config.where, config.detail == "values", self._clock_text)
        self._book = book
        self._place_of = place_of
        self._orders_of = orders_of
        self._held: set[bytes] = set()  # alarms that orders keep from calling
        self._unknown_ladders: set[str] = set()
        self._outages = DeskOutages(
            config.site_name or "this site", book, where=self._where, patients=patients, clock=self._clock_text
        )
        self.observing = Observing(
            book, self.clock, stays, clock_text=self._clock_text, on_entered=self.entry_queued.set
        )
        limit = Limit(config.digest_after, config.digest_window_ms)
        self._calling = Calling(config.policy, limit, people, book, receipts=config.receipts)
        self._sending = Sending(
            people,
            book,
            self.clock,
            self._message,
            receipts=config.receipts,
            on_settled=self._settled,
            within_s=config.send_timeout_ms / 1_000,
            notifier=notifier,
        )
        self._forgot_ms: int | None = None

    def set_people(self, roles: Mapping[str, Sequence[str]], addresses: Addresses) -> None:
        """Roles or addresses have changed: the next turn calls who has a role now and was not called."""
        self.people = people = People(roles, addresses)
        self._calling.set_people(people)
        self._sending.people = people
        self.kick.set()

    # Reading alarms

    def hear(self, batch: Sequence[SourceRecord], *, is_another_log: bool = False) -> None:
        """Commit records of the alarm log together with the position behind them.

        Args:
            is_another_log: the source has found that its log is not the one that was read before.

        Raises:
            CommitFailed: nothing was committed.
        """
        now_ms = self.clock.now_ms()
        opened = 0
        changed: list[AlarmChanged] = []
        with self._outages.keeping(now_ms):
            positions = self._book.positions
            if is_another_log or positions.are_of_other_logs({read.log for read in batch}):
                self._book.begin_log()
                self.counts.other_logs += 1
                _log.error("the alarm log is not the one that was read before; every open alarm in it is judged again")
            log = self._book.log_number
            for read in batch:
                if read.record is not None:
                    opened += self._hear(read.record, now_ms, log, changed)
                positions.put(read.log, read.partition, LogPosition(read.offset + 1, read.mark or None))
            moved = self._outages.follow(changed, now_ms)
        for alarm_id in moved:
            self._calling.forget(alarm_id)
        counts = self.counts
        counts.records += len(batch)
        counts.unreadable += sum(one.record is None for one in batch)
        counts.opened += opened
        self.kick.set()

    def hear_own(self, alarms: Iterable[AlarmChanged]) -> None:
        """Commit alarms about the site that the desk raises, changes or clears itself; they stand in no log.

        Raises:
            CommitFailed: nothing was committed.
        """
        now_ms, changed = self.clock.now_ms(), list[AlarmChanged]()
        with self._outages.keeping(now_ms):
            log = self._book.log_number
            opened = sum(self._hear(AlarmRecord(alarm=one), now_ms, log, changed) for one in alarms)
        self.counts.opened += opened
        self.kick.set()

    def own_alarms(self, rule_id: str) -> list[Kept]:
        """The alarms of a rule that the desk has raised itself, also those that are over."""
        return [one for one in self._book.alarms.of_rule(rule_id) if one.is_own]

    def _hear(self, record: AlarmLogRecord, now_ms: int, log: int, changed: list[AlarmChanged]) -> bool:
        """Whether it opened an alarm. The alarms that changed are appended to `changed`."""
        if isinstance(record, StayEndedRecord):
            changed += end_stay(self._book, record, self._clock_text, now_ms)
            return False
        stay_id = record.stay_id if isinstance(record, EdgeAlarmRecord) else record.alarm.stay_id
        alarm, alarms = record.alarm, self._book.alarms
        if alarm.state != AlarmState.CLEARED and self._book.ended.has(stay_id):
            return False  # it was under way when the stay ended; the record of alarms has it
        silence = self._book.silences.of(stay_id, alarm.rule_id, alarm.key)
        before = alarms.standing_for(alarm.alarm_id)
        if before is not None and before.log != log and before.alarm.alarm_id != alarm.alarm_id:
            before = None  # it had joined another in a log that is gone
        rival = alarms.active(stay_id, alarm.rule_id, alarm.key)
        if rival is not None and before is not None and rival.alarm.alarm_id == before.alarm.alarm_id:
            rival = None
        until_ms = record.alarm.silenced_until_ms if isinstance(record, AlarmRecord) else None
        heard = decisions.hear(
            record,
            now_ms=now_ms,
            before=before,
            rival=rival,
            silence=silence,
            log=log,
            silenced_until_ms=None if until_ms is None else self.clock.from_wall(until_ms),
        )
        if heard is None or not heard.news:
            return False
        if heard.displaced is not None:
            alarms.put(heard.displaced)
            self._book.deliveries.stop(heard.displaced.alarm.alarm_id)
            changed.append(msgspec.structs.replace(heard.displaced.alarm, state=AlarmState.CLEARED))
        kept = heard.kept
        lead = kept.alarm.alarm_id
        changed.append(kept.alarm)
        alarms.put(kept)
        if lead != alarm.alarm_id:
            alarms.join(alarm.alarm_id, lead)
        if heard.order is not None and heard.told is not None:
            self._queue_answer(kept, heard.order, heard.told, now_ms)
        ladder = key_prefix(kept.escalation) if self._calls(kept, silence, now_ms) else None
        self._book.deliveries.stop(lead, except_ladder=ladder)
        return before is None and kept.is_active and lead == alarm.alarm_id

    def _calls(self, kept: Kept, silence: ActiveSilence | None, now_ms: int) -> bool:
        by_outage = self._outages.replaced_by(kept.alarm.alarm_id) is not None
        return decisions.calls(kept, silence, now_ms, by_outage=by_outage, is_held=self._is_held(kept))

    def _orders(self, kept: Kept) -> Orders | None:
        """The orders for the patient of an alarm."""
        return None if kept.is_own else self._orders_of(kept.alarm.stay_id)

    def _is_held(self, kept: Kept) -> bool:
        return is_held(self._orders(kept), kept.alarm, self.clock.wall_ms(), self._zone)

    def _ladder(self, kept: Kept) -> str:
        """Name of the ladder that is ordered for an alarm; empty: none."""
        ladder = ladder_of(self._orders(kept), kept.alarm)
        if ladder and ladder not in self._config.policy.named and ladder not in self._unknown_ladders:
            self._unknown_ladders.add(ladder)
            _log.error("orders name a ladder that the policy does not have; the site's calls", ladder=ladder)
        return ladder

    def _words(self, kept: Kept) -> str:
        return words(self._config.policy, self._orders(kept), kept.alarm, is_held=self._is_held(kept))

    def _where(self, stay_id: str) -> str:
        place = self._place_of(stay_id)
        return texts.place(place.bed, place.patient, stay_id)

    # Answers of people

    def acknowledge(self, alarm_id: bytes, *, by: str, revision: int) -> Kept:
        """Acknowledge an alarm. Durable when it returns; the order to the patient's monitor follows.

        Raises:
            NoSuchAlarm, AlarmChangedMeanwhile, CommitFailed.
        """
        now_ms = self.clock.now_ms()
        with self._book.transaction():
            before = self._book.alarms.get(alarm_id)
            kept = decisions.acknowledge(before, by=by, revision=revision, now_ms=now_ms)
            if kept is before:
                return kept
            self._book.alarms.put(kept)
            self._book.deliveries.stop(alarm_id)
            if not kept.is_own and kept.answer is not None:
                for told in kept.findings:
                    self._queue_answer(kept, kept.answer, told, now_ms)
        self.counts.answered += 1
        _log.info("answered", alarm=texts.ref(alarm_id), by=by)
        self.entry_queued.set()
        return kept

    def silence(self, alarm_id: bytes, *, by: str, minutes: int, revision: int) -> ActiveSilence:
        """Silence the condition of this alarm for `minutes`; otherwise as `acknowledge`."""
        now_ms, wall_ms = self.clock.now_ms(), self.clock.wall_ms()
        with self._book.transaction():
            kept = self._book.alarms.get(alarm_id)
            silence = decisions.silence(
                kept,
                by=by,
                until_ms=now_ms + minutes * 60_000,
                told_until_ms=wall_ms + minutes * 60_000,
                revision=revision,
                now_ms=now_ms,
            )
            self._book.silences.put(silence)
            order = Silence(
                stay_id=silence.stay_id,
                rule_id=silence.rule_id,
                key=silence.key,
                by=by,
                at_ms=wall_ms,
                until_ms=decisions.told_until_ms(silence),
                priority=silence.priority,
            )
            if kept is not None and not kept.is_own:
                self._book.entries.put(alarm_id, AnswerRecord(message=order), now_ms)
            for one in self._book.alarms.listed():
                if decisions.is_of(one, silence) and not self._calls(one, silence, now_ms):
                    self._book.deliveries.stop(one.alarm.alarm_id)
        self.counts.silenced += 1
        _log.info("silenced", alarm=texts.ref(alarm_id), by=by, minutes=minutes)
        self.entry_queued.set()
        return silence

    def standing(self) -> list[Standing]:
        """The list of alarms: unanswered ones first, then by priority, then by age."""
        now_ms = self.clock.now_ms()
        offset_ms = self.clock.wall_ms() - now_ms
        silences = self._book.silences.active(now_ms)
        found = []
        for kept in self._book.alarms.listed():
            alarm = kept.alarm
            silence = silences.get(kept.condition)
            told = [one for one in self._book.deliveries.of(alarm.alarm_id) if one.begun_ms is not None]
            place = Place() if kept.is_own else self._place_of(alarm.stay_id)
            calls, outage_id = self._calls(kept, silence, now_ms), self._outages.replaced_by(alarm.alarm_id)
            found.append(Standing(kept, place, silence, told, calls, outage_id, offset_ms, self._words(kept)))
        return sorted(
            found,
            key=lambda one: (
                one.kept.is_answered,
                not one.kept.is_active,
                -one.kept.alarm.priority,
                one.kept.opened_ms,
            ),
        )

    def _queue_answer(self, kept: Kept, answer: DeskAnswer, told: Finding, now_ms: int) -> None:
        """Queue an answer for one of those who have found the alarm, with the id and revision that it has there."""
        alarm = told.alarm if kept.joined else kept.alarm
        revision = alarm.revision if kept.joined else answer.revision
        order = Acknowledge(
            stay_id=alarm.stay_id,
            alarm_id=alarm.alarm_id,
            by=answer.by,
            at_ms=self.clock.to_wall(answer.at_ms),
            revision=revision if revision >= 0 else None,
            priority=kept.alarm.priority,
        )
        self._book.entries.put(kept.alarm.alarm_id, AnswerRecord(message=order), now_ms)

    # Forwarding what people entered

    def to_pass_on(self) -> list[PendingEntry]:
        """Entries to be sent now. Entries that are confirmed, or can no longer be, are removed."""
        now_ms, wall_ms = self.clock.now_ms(), self.clock.wall_ms()
        wanted, done = [], []
        for pending in self._book.entries.all():
            if pending.sent_ms is not None and self._is_fulfilled(pending, wall_ms):
                done.append(pending)
            elif pending.sent_ms is None or now_ms - pending.sent_ms >= AGAIN_MS:
                wanted.append(pending)
        if done:
            with self._book.transaction():
                for pending in done:
                    self._book.entries.done(pending.entry_id)
        self.counts.pending_entries = sum(one.sent_ms is None for one in wanted)
        return wanted

    def passed_on(self, pending: PendingEntry) -> None:
        """Record that the sink has stored an entry. An observation is done then, an answer when an alarm shows it."""
        with self._book.transaction():
            self._book.entries.sent(pending.entry_id, self.clock.now_ms())
            if isinstance(pending.entry, ObservationRecord):
                self._book.entries.done(pending.entry_id)
        self.counts.passed_on += 1

    def _is_fulfilled(self, pending: PendingEntry, wall_ms: int) -> bool:
        if isinstance(pending.entry, ObservationRecord):
            return True
        kept = self._book.alarms.get(pending.alarm_id)
        return kept is None or decisions.is_fulfilled(pending.entry.message, kept, wall_ms)

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
                if self._sending.flying:  # in an alarm storm many results arrive together: one turn for all
                    await asyncio.sleep(_TOGETHER_S)
        finally:
            await self._sending.end()

    def turn(self) -> None:
        """Plan due notifications, commit the attempts, and start sending."""
        step_ms = self.clock_watch.look()
        if step_ms:
            _log.error("the wall clock was set; calls go on by elapsed time", by_s=round(step_ms / 1_000, 1))
        now_ms = self.clock.now_ms()
        try:
            with self._outages.keeping(now_ms):
                self._follow_clock(now_ms)
                standing = self._plan(now_ms)
                begun = self._calling.begin(now_ms, standing, self._sending.flying)
                self._forget(now_ms)
        except CommitFailed as error:
            if not self.counts.refusing:
                _log.error("cannot write to the desk's book; no notifications for new alarms", problem=str(error))
            self.counts.refusing = str(error)
            self.counts.refused_commits += 1
            return
        counts, calling = self.counts, self._calling
        counts.refusing = ""
        counts.turned_ms = self._mono.mono_ms()
        counts.waiting, counts.no_address = calling.waiting, calling.no_address
        counts.slowest_first_ms = calling.slowest_first_ms
        self._sending.start(begun)

    def _count_sent(self) -> None:
        counts, sending = self.counts, self._sending
        counts.accepted, counts.late, counts.digests = sending.accepted, sending.late, sending.digests
        counts.failed = sending.failed

    def _plan(self, now_ms: int) -> dict[bytes, Kept]:
        standing = {one.alarm.alarm_id: one for one in self._book.alarms.listed()}
        silences, log = self._book.silences.active(now_ms), self._book.log_number
        by_priority, unanswered = [0, 0, 0], 0
        ended: list[AlarmChanged] = []
        calling = self._calling
        for alarm_id, kept in list(standing.items()):
            if decisions.is_over(kept, now_ms, log=log):
                self._book.alarms.put(msgspec.structs.replace(kept, replaced=True, heard_ms=now_ms))
                ended.append(msgspec.structs.replace(kept.alarm, state=AlarmState.CLEARED))
                continue
            priority = kept.alarm.priority
            by_priority[priority - 1] += kept.is_active
            unanswered += kept.is_active and priority is Priority.HIGH and not kept.is_answered
            standing[alarm_id] = kept = self._follow_orders(kept, now_ms)
            if self._calls(kept, silences.get(kept.condition), now_ms):
                calling.plan(kept, now_ms, self._ladder(kept))
            else:
                calling.forget(alarm_id)
        calling.keep_only(standing.keys())
        self._held &= standing.keys()
        for alarm_id in self._outages.follow(ended, now_ms):
            calling.forget(alarm_id)
        low, medium, high = by_priority
        self.counts.open_by_priority, self.counts.unanswered_high = (low, medium, high), unanswered
        return standing

    def _follow_orders(self, kept: Kept, now_ms: int) -> Kept:
        """An alarm that orders hold calls nobody any more; one that they hold no longer begins its ladder now."""
        alarm_id = kept.alarm.alarm_id
        if not kept.is_own and self._is_held(kept):
            if alarm_id not in self._held:
                self._held.add(alarm_id)
                self._book.deliveries.stop(alarm_id)
        elif alarm_id in self._held:
            self._held.discard(alarm_id)
            kept = decisions.release(kept, now_ms)
            self._book.alarms.put(kept)
        return kept

    def _follow_clock(self, now_ms: int) -> None:
        """Raise or end the alarm about this machine's clock."""
        before = next((one for one in self._book.alarms.listed() if one.is_own_clock), None)
        kept = follow_clock(self.clock_watch.problem(), before, now_ms=now_ms, wall_ms=self.clock.wall_ms())
        if kept is not None:
            self._book.alarms.put(kept)
            if not kept.is_active:
                self._book.deliveries.stop(kept.alarm.alarm_id)

    def _settled(self, alarm_ids: Collection[bytes]) -> None:
        for alarm_id in alarm_ids:
            self._calling.forget(alarm_id)
        self._count_sent()
        self.kick.set()

    def _message(self, outgoing: OutgoingMessage) -> Message:
        wall_ms = self.clock.wall_ms()
        alarms = []
        for alarm_id in dict.fromkeys(one.alarm_id for one in outgoing.deliveries):
            kept = self._book.alarms.get(alarm_id)
            if kept is not None:
                place = Place() if kept.is_own else self._place_of(kept.alarm.stay_id)
                device = place.device(kept.alarm.key)
                alarms.append((kept, texts.where(kept, place.bed, place.patient, device)))
        if len(alarms) == 1:
            return texts.of_alarm(*alarms[0], self._telling, now_ms=wall_ms, ordered=self._words(alarms[0][0]))
        return texts.of_many(alarms, self._telling)

    def _forget(self, now_ms: int) -> None:
        if self._forgot_ms is None or now_ms - self._forgot_ms >= _FORGET_EVERY_MS:
            self._forgot_ms = now_ms
            before_ms = now_ms - self._config.keep_days * _DAY_MS
            self._book.forget(now_ms=now_ms, before_ms=before_ms, wall_ms=self.clock.wall_ms())
