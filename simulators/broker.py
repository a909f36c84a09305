"""The broker that comes with a ward: rumqttd, embedded by iotcore, as a child process on loopback.

It speaks MQTT 5 and forgets every session when it is restarted. Nothing here depends on its memory.
"""

import json
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from simulators.errors import BrokerFailed

LOOPBACK: Final = "127.0.0.1"
_READY_WITHIN_S: Final = 10.0
_CHILD: Final = (
    "import sys; sys.path[:] = [p for p in sys.path if p not in ('', '.')]; from iotcore._serve import main; main()"
)

_CONFIG: Final = """\
id = 0

[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 500
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "ward"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 16384
max_inflight_count = 500
dynamic_filters = true
"""


class EmbeddedBroker:
    """An MQTT 5 broker on a loopback port, for as long as the `with` block lasts."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.host = LOOPBACK
        self._config = folder / "broker.toml"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and return when it accepts connections.

        Raises:
            BrokerFailed: it is not installed, or does not come up.
        """
        if find_spec("iotcore") is None:
            raise BrokerFailed("iotcore is not installed here; pip install 'vitalloom[simulators]', or name a --broker")
        self._config.write_text(_CONFIG.format(host=self.host, port=self.port), encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _CHILD, json.dumps({"config_path": str(self._config)})],
            stdin=subprocess.PIPE,  # the child ends when this pipe closes, so it cannot outlive us
            start_new_session=True,  # Ctrl-C is for us: what is on its way still needs a broker
        )
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BrokerFailed(f"the embedded broker ended with code {self._process.returncode}")
            if _answers(self.host, self.port):
                return
            time.sleep(0.02)
        self.stop()
        raise BrokerFailed(f"the embedded broker did not answer on port {self.port} within {_READY_WITHIN_S:.0f} s")

    def kill(self) -> None:
        """As a power cut would: SIGKILL, nothing is saved."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> None:
        """End the process and free the port. Safe to call twice."""
        if self._process is not None:
            self._process.terminate()
            self._reap()

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        if process.stdin is not None:
            process.stdin.close()


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.2):
            return True
    except OSError:
        return False
