"""A real Mosquitto for a test: a free port on loopback, a folder of its own, gone when the test is over."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from simulators.broker import LOOPBACK, free_port

REQUIRED: Final = "VITALLOOM_REQUIRE_SERVICES"
_READY_WITHIN_S: Final = 10.0
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"

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
    """A broker that keeps sessions while it runs, and forgets them when it ends."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        self._binary = binary
        self._config = folder / "mosquitto.conf"
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        user = pwd.getpwuid(os.getuid()).pw_name
        self._config.write_text(
            _CONFIG.format(port=self.port, host=self.host, user=user, log=self._log), encoding="utf-8"
        )
        self._process = subprocess.Popen(
            [self._binary, "-c", str(self._config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._accepts():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                log = self._log.read_text(encoding="utf-8") if self._log.exists() else ""
                pytest.fail(f"Mosquitto {'ended' if ended else 'did not answer'} on port {self.port}: {log[-1_000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As a power cut would. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    def _accepts(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=0.2):
                return True
        except OSError:
            return False


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running Mosquitto. Where there is none the test is skipped, or fails if the environment demands services."""
    binary = shutil.which("mosquitto", path=_PATH)
    if binary is None:
        problem = "Mosquitto is not installed; tests/services/install.sh installs it"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(problem)
        pytest.skip(problem)
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = Mosquitto(binary, folder)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
