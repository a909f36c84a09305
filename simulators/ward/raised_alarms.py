"""Alarms that were raised while a ward ran: the newest for the screen, and the time to the first one."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from vitals.messages import AlarmChanged, AlarmState

RECENT: Final = 6
"""How many alarms the screen lists below its table."""


class RaisedAlarms:
    """Remembers each alarm when it becomes active, and again when its priority rises.

    Args:
        beds: bed name by binding id.
        began_s: when the command began, by `time.monotonic`.
        announce: called with bed and alarm for each one remembered.
    """

    def __init__(
        self, beds: Mapping[str, str], *, began_s: float, announce: Callable[[str, AlarmChanged], None] | None = None
    ) -> None:
        self.recent: deque[tuple[str, AlarmChanged]] = deque(maxlen=RECENT)
        self.first_after_s: float | None = None  # real seconds from the start of the command to the first alarm
        self._beds = beds
        self._began_s = began_s
        self._announce = announce
        self._priorities: dict[bytes, int] = {}  # highest so far, by alarm id

    def add(self, alarm: AlarmChanged) -> None:
        """Take note of an alarm change. Retrospective alarms count as seen but are not shown."""
        if alarm.state is not AlarmState.ACTIVE or self._priorities.get(alarm.alarm_id, 0) >= alarm.priority:
            return
        self._priorities[alarm.alarm_id] = int(alarm.priority)
        if alarm.retrospective:
            return
        if self.first_after_s is None:
            self.first_after_s = time.monotonic() - self._began_s
        bed = self._beds[alarm.stay_id]
        milder = next((one for one in self.recent if one[1].alarm_id == alarm.alarm_id), None)
        if milder is not None:
            self.recent.remove(milder)
        self.recent.append((bed, alarm))
        if self._announce is not None:
            self._announce(bed, alarm)
