"""A real server as a child process: where it lies, how it is started, how it ends, and what it said if it did not."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.native import tools
from tests.patience import PATIENCE_S
from tests.services.missing import is_required, missing

_LOG_TAIL: Final = 2_000


def installed(name: str) -> Path:
    """The folder of a server that is made once for all.

    Where there is none the test is skipped, or it is made there and then if the environment demands services.
    """
    if not tools.is_installed(name):
        if not is_required():
            missing(name, tools.why_missing(name))
        tools.install(name)
    return tools.folder_of(name)


class Server:
    """A process that serves, on loopback, with its log in a file.

    Args:
        name: for messages.
        command: what is run.
        log: where it writes.
        is_ready: whether it answers.
        within_s: it has to, within so long.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        is_ready: Callable[[], bool],
        within_s: float = PATIENCE_S,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._is_ready = is_ready
        self._within_s = within_s
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and return when it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=None if self._environment is None else os.environ | self._environment,
            )  # fmt: skip
        deadline = time.monotonic() + self._within_s
        while not self._is_ready():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                problem = "ended" if ended else f"did not answer within {self._within_s:.0f} s"
                raise AssertionError(f"{self.name} {problem}: {self.said()}")
            time.sleep(0.05)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:] if self.log.exists() else ""

    def stop(self) -> None:
        """As a service manager would. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE_S)

    def told_to_stop(self, *, within_s: float) -> int:
        """SIGTERM, and the status with which it ends; one that does not end is killed, which is a status, too."""
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        try:
            return process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(PATIENCE_S)

    def kill(self) -> None:
        """As a power cut would. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE_S)

    def freeze(self) -> None:
        """It stands still, and its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
