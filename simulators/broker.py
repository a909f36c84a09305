"""Brokers of a ward, each a child process on loopback: the embedded rumqttd, or an installed Mosquitto.

rumqttd, packaged as iotcore, speaks MQTT 5 over TLS. It forgets every session when it is restarted, checks no client
certificates and has no access list; nothing here depends on those.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

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

_TLS: Final = """
[v5.1.tls]
certpath = "{certificate}"
keypath = "{key}"
"""


class BrokerTls(NamedTuple):
    """Certificate and key of the embedded broker, which checks no client certificates."""

    certificate: Path
    key: Path


class Broker:
    """A broker as a child process on a loopback port, for as long as the `with` block lasts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = LOOPBACK
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

    @property
    def pid(self) -> int:
        """Process id. Raises BrokerFailed if the broker is not running."""
        if self._process is None:
            raise BrokerFailed("the broker is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and return when it accepts connections.

        Raises:
            BrokerFailed: it is not installed, or does not come up.
        """
        self._process = self._started()
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BrokerFailed(f"the broker ended with exit code {self._process.returncode}{self._hint()}")
            if _answers(self.host, self.port):
                return
            time.sleep(0.02)
        self.stop()
        raise BrokerFailed(f"the broker does not accept connections on port {self.port} within {_READY_WITHIN_S:.0f} s")

    def kill(self) -> None:
        """SIGKILL the process, as a power cut would: nothing is saved."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> None:
        """End the process and free the port. Does nothing if it is not running."""
        if self._process is not None:
            self._process.terminate()
            self._reap()

    def _started(self) -> "subprocess.Popen[bytes]":
        raise NotImplementedError

    def _hint(self) -> str:
        return ""

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


class EmbeddedBroker(Broker):
    """rumqttd as a child process.

    Args:
        tls: None: plain MQTT.
    """

    def __init__(self, folder: Path, *, port: int | None = None, tls: BrokerTls | None = None) -> None:
        super().__init__(free_port() if port is None else port)
        self._config = folder / "broker.toml"
        self._tls = tls

    def _started(self) -> "subprocess.Popen[bytes]":
        if find_spec("iotcore") is None:
            raise BrokerFailed(
                "the embedded broker needs the package iotcore: pip install 'vitalloom[simulators]', or name a --broker"
            )
        text = _CONFIG.format(host=self.host, port=self.port)
        if self._tls is not None:
            text += _TLS.format(certificate=self._tls.certificate, key=self._tls.key)
        self._config.write_text(text, encoding="utf-8")
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _CHILD, json.dumps({"config_path": str(self._config)})],
            stdin=subprocess.PIPE,  # the child ends when this pipe closes, so it cannot outlive its parent
            start_new_session=True,  # Ctrl-C must not end the broker: readings in transit still need it
        )


class RealBroker(Broker):
    """Mosquitto with the configuration files that a site has written."""

    def __init__(self, config: Path, *, port: int, log: Path) -> None:
        super().__init__(port)
        self._config = config
        self._log = log

    def _started(self) -> "subprocess.Popen[bytes]":
        binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise BrokerFailed(
                "Mosquitto is not installed (Debian, Raspberry Pi OS: sudo apt-get install mosquitto); "
                "leave --broker out to use the embedded broker"
            )
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [binary, "-c", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _hint(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f": {lines[-1][:200]}" if lines else ""


def free_port() -> int:
    """A loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.2):
            return True
    except OSError:
        return False
