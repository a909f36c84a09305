"""The alarm that sounds at the bedside while the cloud is silent.

Pure: its inputs are the last sign of the cloud and the open alarms, its output when the sound goes on and off.
"""

from collections.abc import Iterable

from vitals.messages import AlarmChanged, AlarmState, Priority


class LocalAlarm:
    """One sounder for all patients of an edge.

    Args:
        after_ms: so long without a signature of the cloud means that it is away; monotonic.
    """

    def __init__(self, *, after_ms: int, mono_ms: int) -> None:
        self._after_ms = after_ms
        self._heard_ms = mono_ms
        self._open: dict[bytes, AlarmChanged] = {}
        self.sounding = False

    def heard(self, mono_ms: int) -> None:
        """The cloud has signed something."""
        self._heard_ms = max(self._heard_ms, mono_ms)

    def on_alarms(self, changed: Iterable[AlarmChanged]) -> None:
        """Alarms as they stand now."""
        for alarm in changed:
            if _deserves_sound(alarm):
                self._open[alarm.alarm_id] = alarm
            else:
                self._open.pop(alarm.alarm_id, None)

    def cloud_is_silent(self, mono_ms: int) -> bool:
        return mono_ms - self._heard_ms > self._after_ms

    @property
    def open(self) -> int:
        """How many alarms would sound."""
        return len(self._open)

    def switch(self, mono_ms: int) -> bool | None:
        """True: sound now; False: stop the sound; None: no change."""
        wanted = bool(self._open) and self.cloud_is_silent(mono_ms)
        if wanted == self.sounding:
            return None
        self.sounding = wanted
        return wanted


def _deserves_sound(alarm: AlarmChanged) -> bool:
    return (
        alarm.priority is Priority.HIGH
        and alarm.state is AlarmState.ACTIVE
        and alarm.acknowledged_by is None
        and alarm.silenced_until_ms is None
        and not alarm.retrospective
    )
