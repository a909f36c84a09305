"""Sends messages and records what became of them, for each recipient by itself."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from runtime.logs import get
from stream.desk import decisions
from stream.desk.book import DeskBook
from stream.desk.decisions import DeliveryStatus, OutgoingMessage
from stream.desk.desk_clock import DeskClock
from stream.desk.notify import Address, Notifier
from stream.desk.people import People
from stream.desk.texts import Message
from stream.errors import CommitFailed, NotificationNotAccepted
from vitals.escalation import Attempt

_RECORD_AGAIN_S: Final = 2.0
_ENDING_S: Final = 3.0

_log = get(__name__)

DeliveryName: TypeAlias = tuple[str, str, str]
"""Key, person and recipient."""


class Sending:
    """Messages on their way.

    Args:
        text: of a message, at the moment at which it is sent.
        receipts: channels of which a service's acceptance counts as delivery.
        on_settled: called with the ids of the alarms whose notifications have a result.
        notifier: None: one with this timeout.
    """

    def __init__(
        self,
        people: People,
        book: DeskBook,
        clock: DeskClock,
        text: Callable[[OutgoingMessage], Message],
        *,
        receipts: Collection[str],
        on_settled: Callable[[Collection[bytes]], None],
        within_s: float,
        notifier: Notifier | None,
    ) -> None:
        self.people = people
        self.accepted = 0
        self.late = 0
        self.digests = 0
        self.failed: Counter[str] = Counter()  # by channel
        self._book = book
        self._clock = clock
        self._text = text
        self._receipts = receipts
        self._on_settled = on_settled
        self._notifier = notifier or Notifier(within_s=within_s, on_late=self._late)
        self._flying: dict[DeliveryName, asyncio.Task[None]] = {}
        self._down: dict[Address | tuple[str, str], str] = {}  # the last problem of an address that fails

    @property
    def flying(self) -> Collection[DeliveryName]:
        """What is being sent."""
        return self._flying.keys()

    def start(self, messages: Iterable[OutgoingMessage]) -> None:
        """Send messages whose beginning is stored."""
        for outgoing in messages:
            task = asyncio.create_task(self._send(outgoing), name=f"{outgoing.person}/{outgoing.channel}")
            for one in outgoing.deliveries:
                self._flying[one.name] = task

    async def end(self) -> None:
        """Wait for what is being sent, for a few seconds at most."""
        if self._flying:
            await asyncio.wait(list(self._flying.values()), timeout=_ENDING_S)
        for task in list(self._flying.values()):
            task.cancel()

    async def _send(self, outgoing: OutgoingMessage) -> None:
        """Send one message and record its result, even if the book refuses commits for a while."""
        names = [one.name for one in outgoing.deliveries]
        alarms: Collection[bytes] = ()
        try:
            alarms = await self._record(names, accepted=await self._is_accepted(outgoing, names))
        finally:
            for name in names:
                self._flying.pop(name, None)
            self._on_settled(alarms)

    async def _is_accepted(self, outgoing: OutgoingMessage, names: Sequence[DeliveryName]) -> bool:
        address = self.people.address_of(outgoing.deliveries[0])
        line = address or (outgoing.person, outgoing.channel)
        try:
            if address is None:
                raise NotificationNotAccepted(f"{outgoing.person}/{outgoing.channel}: the address was removed")
            await self._notifier.send(address, self._text(outgoing), name=names)
        except NotificationNotAccepted as error:
            self.failed[outgoing.channel] += 1
            if self._down.get(line) != str(error):
                self._down[line] = str(error)
                _log.warning("notification service does not accept messages", problem=str(error))
            return False
        if self._down.pop(line, None) is not None:
            _log.info("notification service accepts messages again", person=outgoing.person, channel=outgoing.channel)
        self.accepted += 1
        self.digests += len(names) > 1
        return True

    async def _record(self, names: Iterable[DeliveryName], *, accepted: bool) -> Collection[bytes]:
        """Record a result; returns the ids of the alarms."""
        while True:
            try:
                return self._settle(names, accepted=accepted)
            except CommitFailed as error:
                # Until it is written the message counts as being sent, so that it is not repeated every second.
                _log.error("cannot record the result of a notification; tried again", problem=str(error))
                await asyncio.sleep(_RECORD_AGAIN_S)

    def _settle(self, names: Iterable[DeliveryName], *, accepted: bool) -> Collection[bytes]:
        now_ms = self._clock.now_ms()
        alarms = set()
        deliveries = self._book.deliveries
        with self._book.transaction():
            for name in names:
                one = deliveries.get(*name)
                if one is None or one.fate is DeliveryStatus.SENT:
                    continue
                if accepted:
                    one = msgspec.structs.replace(one, fate=DeliveryStatus.SENT, done_ms=now_ms)
                elif one.is_open:
                    one = msgspec.structs.replace(
                        one, fate=DeliveryStatus.FAILED, again_ms=decisions.again_ms(one.tries, now_ms)
                    )
                deliveries.change(one)
                trusted = one.channel in self._receipts
                outcome = decisions.outcome(deliveries.together(one.key), accepted_is_delivered=trusted)
                if outcome is not None:
                    deliveries.put_attempt(one.alarm_id, Attempt(key=one.key, at_ms=now_ms, outcome=outcome))
                alarms.add(one.alarm_id)
        return alarms

    def _late(self, address: Address, name: object) -> None:
        """A service accepted a message after the timeout: record it, so that it is not sent again."""
        self.late += 1
        _log.info("notification accepted after the timeout", channel=address.channel, person=address.person)
        task = asyncio.get_running_loop().create_task(self._record_late(name), name="late")  # type: ignore[arg-type]
        place = ("late", str(id(task)), "")
        self._flying[place] = task
        task.add_done_callback(lambda _: self._flying.pop(place, None))

    async def _record_late(self, names: Iterable[DeliveryName]) -> None:
        self._on_settled(await self._record(names, accepted=True))
