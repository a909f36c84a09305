"""Carries out the local alarm: a file for programs that watch it, and the command that the site has configured."""

import subprocess

from edge.config import EdgeConfig
from edge.counts import AgentCounts
from edge.local_alarm import LocalAlarm
from runtime import logs

_log = logs.get(__name__)


class Sounder:
    """Switches the sound as `LocalAlarm` decides."""

    def __init__(self, config: EdgeConfig, local: LocalAlarm, counts: AgentCounts) -> None:
        self._file = config.data_dir / "local_alarm"
        self._command = config.local_alarm.command
        self._local = local
        self._counts = counts

    def follow(self, mono_ms: int) -> None:
        """Switch the sound on or off if that is due."""
        switched = self._local.switch(mono_ms)
        if switched is None:
            return
        self._counts.local_alarms += switched
        word = "on" if switched else "off"
        _log.warning("local alarm", sound=word, alarms=self._local.open)
        self._file.write_text(f"{word}\n", encoding="ascii")
        if self._command:
            try:
                subprocess.Popen([*self._command, word])  # noqa: S603 - the site's own command
            except OSError as error:
                _log.error("cannot run local_alarm.command", problem=error.strerror)
