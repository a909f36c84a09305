"""The technical alarm that a topic group of the store writer makes no progress, for people at the alarm desk.

It has the form of an outage of the site: an alarm about no patient, whose binding is its own id, which the desk calls
people about and which no worker has to confirm. An episode is one alarm, from a minute without progress to its end.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Final

from aiokafka.errors import KafkaError

from runtime.clock import Clock
from runtime.logs import get
from stream.config import KafkaConfig
from stream.delivery import OutgoingRecord, RecordSender
from stream.kafka import topic
from stream.records import AlarmRecord, encode_record
from stream.store.counts import WriterCounts
from stream.store.health import topic_group_trouble
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority
from wire.topics import KAFKA_ALARMS

_log = get(__name__)

AFTER_MS: Final = 60_000
_LOOK_EVERY_S: Final = 5.0
_STOP_WITHIN_S: Final = 2.0
_RULE: Final = "outage"
_TEXT_CHARACTERS: Final = 500


class StoreAlarms:
    """The alarms of all topic groups. Pure: `changes` says what to announce.

    Args:
        application: of the site, as in its Kafka configuration.
    """

    def __init__(self, application: str, counts: Mapping[str, WriterCounts]) -> None:
        self._application = application
        self._counts = counts
        self._since_ms: dict[str, int] = {}  # monotonic: by topic group, when its trouble began
        self._open: dict[str, AlarmChanged] = {}

    def changes(self, *, now_ms: int, mono_ms: int) -> list[AlarmChanged]:
        """Alarms that begin or end now.

        Args:
            now_ms: wall clock.
            mono_ms: the clock of the counts.
        """
        found = []
        for name, counts in self._counts.items():
            trouble, is_open = topic_group_trouble(name, counts, mono_ms), name in self._open
            if not trouble:
                self._since_ms.pop(name, None)
                found += [self._end(name, now_ms)] if is_open else []
                continue
            seen_ms = self._since_ms.setdefault(name, mono_ms)
            lasted_ms = mono_ms - min(seen_ms, seen_ms if counts.waiting_since_ms is None else counts.waiting_since_ms)
            if not is_open and lasted_ms >= AFTER_MS:
                found.append(self._begin(name, trouble, now_ms, lasted_ms=lasted_ms))
        return found

    def end_all(self, *, now_ms: int) -> list[AlarmChanged]:
        """The ends of all open alarms: this process stops, and the next one finds out for itself."""
        return [self._end(name, now_ms) for name in list(self._open)]

    def _begin(self, name: str, trouble: str, now_ms: int, *, lasted_ms: int) -> AlarmChanged:
        onset_ms = now_ms - lasted_ms
        alarm_id = hashlib.sha256(f"store {self._application} {name} {onset_ms}".encode()).digest()[:16]
        text = f"The record of the site stands still; nothing is lost, screens show old values. {trouble}"
        self._open[name] = AlarmChanged(
            stay_id=alarm_id.hex(),
            alarm_id=alarm_id,
            rule_id=_RULE,
            kind=AlarmKind.TECHNICAL,
            priority=Priority.MEDIUM,
            state=AlarmState.ACTIVE,
            at_ms=now_ms,
            onset_ms=onset_ms,
            revision=0,
            text=text[:_TEXT_CHARACTERS],
            basis="store",
        )
        return self._open[name]

    def _end(self, name: str, now_ms: int) -> AlarmChanged:
        opened = self._open.pop(name)
        return AlarmChanged(
            stay_id=opened.stay_id,
            alarm_id=opened.alarm_id,
            rule_id=opened.rule_id,
            kind=opened.kind,
            priority=opened.priority,
            state=AlarmState.CLEARED,
            at_ms=now_ms,
            onset_ms=opened.onset_ms,
            revision=1,
            text=f"The record of the site goes on ({name}).",
            basis=opened.basis,
        )


async def announce(kafka: KafkaConfig, counts: Mapping[str, WriterCounts], clock: Clock) -> None:
    """Announce alarms of the store writer, until cancelled; open ones end then."""
    alarms = StoreAlarms(kafka.application, counts)
    async with RecordSender(kafka) as sender:
        try:
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                changed = alarms.changes(now_ms=clock.now_ms(), mono_ms=clock.mono_ms())
                await sender.deliver([_record(kafka, one) for one in changed], all_of_them=True)
        finally:
            await _say_ends(sender, kafka, alarms.end_all(now_ms=clock.now_ms()))


async def _say_ends(sender: RecordSender, kafka: KafkaConfig, ends: list[AlarmChanged]) -> None:
    try:
        async with asyncio.timeout(_STOP_WITHIN_S):
            await sender.deliver([_record(kafka, one) for one in ends])
    except (KafkaError, OSError, TimeoutError) as error:
        _log.warning("the end of an alarm could not be announced", problem=repr(error))


def _record(kafka: KafkaConfig, alarm: AlarmChanged) -> OutgoingRecord:
    return OutgoingRecord(topic(kafka, KAFKA_ALARMS), alarm.stay_id.encode(), encode_record(AlarmRecord(alarm=alarm)))
