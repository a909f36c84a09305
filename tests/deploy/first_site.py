"""A first site, from an empty folder to an acknowledged alarm, by the commands that a user types.

These steps are a test; with the default ports they produce docs/first-site.md: see `first_site_document`.
"""

import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from deploy import settings
from deploy.description import Ports
from simulators import phone

ROOT: Final = Path(__file__).parents[2]
WITHIN_S: Final = 240.0
USER: Final = "anna"
_log = logging.getLogger(__name__)
_HEART_RATES: Final = (
    'from(bucket: "vitals") |> range(start: -15m) |> filter(fn: (r) => r._measurement == "vitals" and '
    'r._field == "heart_rate") |> count() |> group(columns: ["binding"]) |> sum()'
)


class CommandOutput(NamedTuple):
    """A command and its output."""

    command: str
    text: str


class FirstSite:
    """A folder, a shell in it, and a site that runs in another terminal.

    Args:
        folder: an empty folder.
        default_ports: as in the document; otherwise free ports, and a patient who has already deteriorated.
    """

    def __init__(self, folder: Path, *, default_ports: bool = False) -> None:
        self.folder = folder
        self.outputs: dict[str, list[CommandOutput]] = {}
        self.marks: dict[str, float] = {}
        self._part = ""
        self._init = "" if default_ports else _free_port_options()
        shims = folder / ".bin"
        shims.mkdir()
        shim = shims / "vitalloom"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vitalloom "$@"\n', encoding="utf-8")
        shim.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{shims}:{os.environ['PATH']}:/usr/sbin:/usr/local/sbin",
            "PYTHONPATH": str(ROOT),
            "XDG_CONFIG_HOME": str(folder / ".config"),
            "COLUMNS": "118",
        }
        if not default_ports:
            self.environment["VITALLOOM_DEMO__LATER_MINUTES"] = "8"
        self._running: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self.password = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(signal.SIGTERM)
            self._running.wait(60)

    @property
    def site(self) -> Path:
        return self.folder / "site"

    @property
    def desk(self) -> str:
        return f"http://127.0.0.1:{self.ports.desk}"

    @property
    def ports(self) -> Ports:
        return settings.read(self.site).ports

    def part(self, name: str) -> None:
        self._part = name
        self.outputs.setdefault(name, [])

    def type_command(self, command: str, *, typed: str = "", shown: str | None = None, may_fail: bool = False) -> str:
        """Run a command and record its output.

        Args:
            typed: standard input of the command.
            shown: the command as shown in the document, if it differs.
        """
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=self.folder,
            env=self.environment,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_S,
        )
        text = done.stdout + done.stderr
        assert may_fail or done.returncode == 0, f"{command}\n{text}"
        self.outputs[self._part].append(CommandOutput(shown or command, text))
        return text

    # The steps

    def create_site(self) -> None:
        self.part("begin")
        self.type_command("vitalloom site tools")
        text = self.type_command(
            f"vitalloom site init --user {USER}{self._init}", shown=f"vitalloom site init --user {USER}"
        )
        found = re.search(r"Password: (\S+)", text)
        assert found is not None
        self.password = found[1]

    def start(self) -> None:
        """Start the site in another terminal and wait until it is up."""
        self.part("run")
        self._began = time.monotonic()
        with (self.folder / ".run.log").open("wb") as log:
            self._running = subprocess.Popen(
                ["bash", "-c", "exec vitalloom site run --demo --picture .board.svg"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.until(lambda: "the site is up" in self.log(), "the site")
        self.mark("up")

    def enrol(self) -> None:
        self.part("enrol")
        self.type_command("vitalloom registry add edge --label bay-1 --quiet > bay-1.txt")
        self.type_command("vitalloom enrol --dir bay-1 bay-1.txt")
        self.type_command("rm bay-1.txt")
        self.type_command("vitalloom pki show")

    def readings(self) -> int:
        """Count readings in the database, with the read token."""
        self.part("readings")
        url = f"http://127.0.0.1:{self.ports.influxdb}/api/v2/query?org=vitalloom"
        text = self.type_command(
            f"curl --silent --fail '{url}' --header \"Authorization: Token $(cat site/secrets/reader.token)\" \\\n"
            f"  --header 'Content-Type: application/vnd.flux' --data '{_HEART_RATES}'"
        )
        rows = [row.split(",") for row in text.splitlines() if row.strip()]
        return sum(int(row[rows[0].index("_value")]) for row in rows[1:])

    def wait_for_notification(self) -> phone.PhoneMessage:
        shown = self.site / "data" / "phone.jsonl"
        self.until(lambda: bool(self.high_alarms()), "an alarm on the phone", within_s=WITHIN_S)
        self.mark("phone")
        self.part("phone")
        assert shown.exists()
        self.type_command("cat site/logs/phone.log")
        return self.high_alarms()[0]

    def high_alarms(self) -> list[phone.PhoneMessage]:
        return [one for one in phone.messages(self.site / "data" / "phone.jsonl") if "high" in one.title.lower()]

    def answer(self) -> dict[str, Any]:
        """Log in, list alarms, acknowledge one, list again; returns the alarm at the desk."""
        self.part("answer")
        option = "" if self.ports.desk == Ports().desk else f" --url {self.desk}"

        def alarms(what: str, **more: Any) -> str:
            return self.type_command(f"vitalloom alarms{option} {what}", shown=f"vitalloom alarms {what}", **more)

        alarms(f"login {USER}", typed=f"{self.password}\n")
        alarms("list")
        name = self.high_alarms()[0].alarm
        alarms(f"ack {name} --yes")
        self.until(lambda: self._alarm(name)["confirmed"], "the acknowledgement to come back from Kafka")
        self.mark("answered")
        alarms("list")
        return self._alarm(name)

    def examine(self) -> None:
        self.part("doctor")
        self.type_command("vitalloom doctor site")

    def alarms(self) -> list[dict[str, Any]]:
        done = subprocess.run(
            ["vitalloom", "alarms", "--url", self.desk, "list", "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found: list[dict[str, Any]] = json.loads(done.stdout)["alarms"]
        return found

    def _alarm(self, name: str) -> dict[str, Any]:
        return next(one for one in self.alarms() if one["id"].startswith(name))

    def end(self) -> int:
        """Ctrl-C in the other terminal; returns the exit status."""
        assert self._running is not None
        began = time.monotonic()
        self._running.send_signal(signal.SIGINT)
        code = self._running.wait(60)
        self.marks["ended"] = time.monotonic() - began
        _log.info("seconds from the start: %s", {name: round(mark, 1) for name, mark in self.marks.items()})
        self.outputs["run"].append(CommandOutput("vitalloom site run --demo", self.log()))
        return code

    def log(self) -> str:
        return (self.folder / ".run.log").read_text(encoding="utf-8", errors="replace")

    def until(self, condition: Callable[[], bool], what: str, *, within_s: float = WITHIN_S) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            said = f"{what}: {self.log()[-3_000:]}"
            assert self._running is None or self._running.poll() is None, f"it ended while waiting for {said}"
            assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {said}"
            time.sleep(0.1)

    def mark(self, name: str) -> None:
        """Record the seconds since the start."""
        self.marks[name] = time.monotonic() - self._began

    def leftover_processes(self) -> list[str]:
        """Processes of this site that still run."""
        here, found = str(self.site).encode(), []
        for one in Path("/proc").iterdir():
            try:
                command = (one / "cmdline").read_bytes()
            except OSError:
                continue
            if one.name.isdigit() and here in command:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found


class FreePorts(NamedTuple):
    """Consecutive free ports."""

    first: int
    registry: int
    broker: int


def free_ports() -> FreePorts:
    """Free ports below the range of outgoing connections."""
    count = len(Ports.__struct_fields__)
    while True:
        first = random.randrange(20_000, 32_000 - count)
        if all(_is_free(first + number) for number in range(count + 2)):
            return FreePorts(first, first + count, first + count + 1)


def _free_port_options() -> str:
    row = free_ports()
    return f" --ports-from {row.first} --registry-port {row.registry} --broker-port {row.broker}"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
