"""Whom the alarm desk called for which alarm, and who answered: for the screen, a headless ward and the summary.

Pure: the desk's list in, what is new out.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from simulators.ward.screen import CallStatus, time_of_day
from stream.desk.decisions import Delivery, DeliveryStatus
from stream.desk.desk import Standing
from stream.desk.texts import ref

_KEPT: Final = 1_000  # alarms, the newest


class Calls:
    """Follows the desk's list."""

    def __init__(self) -> None:
        self.by_alarm: dict[bytes, CallStatus] = {}
        self.messages: Counter[str] = Counter()  # by person
        self.answered: Counter[str] = Counter()  # alarms, by person

    def update(self, standing: Sequence[Standing]) -> list[str]:
        """Take the list as it is now; returns a line for each call, answer and silence that is new."""
        lines = []
        for one in sorted(standing, key=lambda one: one.kept.opened_ms):
            alarm_id = one.kept.alarm.alarm_id
            before = self.by_alarm.get(alarm_id, CallStatus(alarm=ref(alarm_id)))
            now = _status(one, before)
            if now != before:
                self.by_alarm[alarm_id] = now
                lines += self._new(one, before, now)
        while len(self.by_alarm) > _KEPT:
            del self.by_alarm[next(iter(self.by_alarm))]
        return lines

    def _new(self, one: Standing, before: CallStatus, now: CallStatus) -> list[str]:
        about = f"bed {one.place.bed}, alarm {now.alarm}"
        lines = []
        for person, at_ms in now.called[len(before.called) :]:
            self.messages[person] += 1
            lines.append(f"{time_of_day(at_ms)}  {about}: called {person}")
        if now.answered_by and now.answered_by != before.answered_by:
            self.answered[now.answered_by] += 1
            lines.append(f"{time_of_day(now.answered_ms)}  {about}: answered by {now.answered_by}, calling stopped")
        if now.silenced_until_ms is not None and now.silenced_until_ms != before.silenced_until_ms:
            at_ms = one.active_silence.at_ms if one.active_silence else one.kept.heard_ms
            lines.append(f"{time_of_day(at_ms)}  {about}: silenced until {time_of_day(now.silenced_until_ms)}")
        return lines


def _status(one: Standing, before: CallStatus) -> CallStatus:
    sent = sorted(filter(_was_sent, one.told), key=lambda delivery: (delivery.done_ms or 0, delivery.key))
    known = set(before.called)
    new = [call for call in ((delivery.person, delivery.done_ms or 0) for delivery in sent) if call not in known]
    return msgspec.structs.replace(
        before,
        called=(*before.called, *new),
        answered_by=one.kept.answered_by or "",
        answered_ms=one.kept.answered_ms,
        silenced_until_ms=None if one.active_silence is None else one.active_silence.until_ms,
        is_calling=one.calls,
    )


def _was_sent(delivery: Delivery) -> bool:
    return delivery.fate is DeliveryStatus.SENT
