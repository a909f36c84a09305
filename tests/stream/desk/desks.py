"""A desk of a test's own: its folder, its configuration, its process, and a person who answers."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from simulators.broker import free_port
from stream.config import KafkaConfig
from stream.desk.client import DeskClient
from stream.desk.users import Users
from tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).parents[3]
PASSWORD: Final = "a long way from home"

# As the default ladder, and so quick that a test can watch it: the second channel after 0.6 s, ben after 2.
_CONFIG: Final = """\
data = "{folder}/data"
addresses = "{folder}/addresses.toml"
site_name = "North"
send_timeout_ms = 500
{more}

[kafka]
bootstrap = "{kafka.bootstrap}"
application = "{kafka.application}"
topic_prefix = "{kafka.topic_prefix}"

[roles]
nurse = ["anna"]
second = ["ben"]

[api]
listen = "127.0.0.1:{port}"

[http]
listen = "127.0.0.1:{metrics}"

[policy.receipt_ms]
push = 600
sms = 600

[policy.high]
repeat_ms = 1500
[[policy.high.steps]]
delay_ms = 0
who = "nurse"
channels = ["push", "sms"]
[[policy.high.steps]]
delay_ms = 2000
who = "second"
channels = ["push"]

[policy.medium]
repeat_ms = 1500
[[policy.medium.steps]]
delay_ms = 0
who = "nurse"
channels = ["push", "sms"]
"""


class DeskHouse:
    """A folder with everything that a desk is told.

    Args:
        addresses: by person and channel.
    """

    def __init__(
        self, folder: Path, kafka: KafkaConfig, addresses: dict[str, dict[str, str]], *, more: str = ""
    ) -> None:
        self.folder = folder
        self.port, self.metrics = free_port(), free_port()
        self.config = folder / "desk.toml"
        self.config.write_text(
            _CONFIG.format(folder=folder, kafka=kafka, port=self.port, metrics=self.metrics, more=more),
            encoding="utf-8",
        )
        self.tell(addresses)
        Users(folder / "data" / "users.json").put("anna", PASSWORD, now_ms=0)
        (folder / "data").chmod(0o700)
        self._log = folder / "desk.log"
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, addresses: dict[str, dict[str, str]]) -> None:
        lines = []
        for person, ways in addresses.items():
            lines += [f"[{person}]", *(f'{channel} = "{url}"' for channel, url in ways.items())]
        path = self.folder / "addresses.toml"
        path.write_text("\n".join(lines), encoding="utf-8")
        path.chmod(0o600)

    def start(self, *, point: str = "", environment: Mapping[str, str] | None = None) -> None:
        """As a process; with a point it dies there."""
        command = ["vitalloom"] if not point else ["tests.faults.failing_desk", point]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command, "desk", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
            )

    def started(
        self, *, point: str = "", within_s: float = PATIENCE_S, environment: Mapping[str, str] | None = None
    ) -> None:
        """And it says that it is ready."""
        self.start(point=point, environment=environment)
        deadline = time.monotonic() + within_s
        while self.says("ready")[0] != 200:
            assert self.is_running, self.said()
            assert time.monotonic() < deadline, (self.says("ready"), self.said())
            time.sleep(0.05)

    def says(self, path: str) -> tuple[int, str]:
        """What the process says of itself."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/{path}", timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ended(self, within_s: float = PATIENCE_S) -> int:
        """Wait for its end; its code."""
        assert self._process is not None
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the desk does not end: {self.said()}") from None

    def stop(self) -> float:
        """As a service manager would; how long that took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self.ended()
        assert code == 0, (code, self.said())
        return time.monotonic() - began

    def end(self) -> None:
        """Whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-4_000:] if self._log.exists() else ""

    def anna(self) -> "Person":
        return Person(f"http://127.0.0.1:{self.port}")


class Person:
    """A logged-in user."""

    def __init__(self, url: str) -> None:
        found: dict[str, Any] = DeskClient(url)._ask(
            "POST", "/v1/login", {"user": "anna", "password": PASSWORD}, dict[str, Any]
        )
        self.client = DeskClient(url, token=found["token"])

    def alarms(self) -> list[dict[str, Any]]:
        found: dict[str, Any] = self.client.alarms(dict[str, Any])
        return list(found["alarms"])

    def acknowledge(self, alarm: dict[str, Any]) -> dict[str, Any]:
        return self.client.acknowledge(alarm["id"], revision=alarm["revision"])

    def silence(self, alarm: dict[str, Any], minutes: int = 10) -> dict[str, Any]:
        return self.client.silence(alarm["id"], revision=alarm["revision"], minutes=minutes)
