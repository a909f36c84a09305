"""A real Mosquitto for a test: a free port on loopback, a folder of its own, gone when the test is over."""

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from deploy.native import tools
from simulators.broker import LOOPBACK, free_port
from tests.patience import PATIENCE_S
from tests.services.missing import missing

# As in the field: at QoS 1, small packets, no retained messages; without TLS and names, for this is loopback.
_CONFIG: Final = """\
listener {port} {host}
user {user}
allow_anonymous true
persistence false
retain_available false
max_qos 1
max_packet_size 16384
max_inflight_messages 20
max_queued_messages 20000
log_dest file {log}
"""


class Mosquitto:
    """A broker on a configuration file, which names its port and its log."""

    def __init__(self, binary: str, config: Path, *, port: int, log: Path) -> None:
        self.host = LOOPBACK
        self.port = port
        self.log = log
        self._binary = binary
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        self._process = subprocess.Popen(
            [self._binary, "-c", str(self._config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self._accepts():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                log = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
                pytest.fail(f"Mosquitto {'ended' if ended else 'did not answer'} on port {self.port}: {log[-1_000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """As the system's service manager would: it saves its sessions if it was told to. Safe to call twice."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

    def kill(self) -> None:
        """As a power cut would. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE_S)

    def _accepts(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=0.2):
                return True
        except OSError:
            return False


def mosquitto_binary() -> str:
    """Where Mosquitto is. Where there is none the test is skipped, or fails if the environment demands services."""
    binary = tools.find("mosquitto")
    if binary is None:
        missing("mosquitto", tools.why_missing("mosquitto"))
    return binary


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running Mosquitto that keeps sessions while it runs, and forgets them when it ends."""
    binary = mosquitto_binary()
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    config, log, port = folder / "mosquitto.conf", folder / "mosquitto.log", free_port()
    user = pwd.getpwuid(os.getuid()).pw_name
    config.write_text(_CONFIG.format(port=port, host=LOOPBACK, user=user, log=log), encoding="utf-8")
    broker = Mosquitto(binary, config, port=port, log=log)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
