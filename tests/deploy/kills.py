"""Kills each process of a running site in turn: `python -m tests.deploy.kills [--json] [process ...]`.

SIGKILL, like the out-of-memory killer of the kernel. The site has recovered when the newest reading of every patient in
the database is as recent as before. Only the database is queried, not the processes.
"""

import argparse
import asyncio
import io
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from deploy.description import DEMO_PATIENTS
from deploy.folder import SiteFolder
from deploy.run import NativeSite
from deploy.supervisor import ProcessState
from simulators import phone
from stream.config import InfluxConfig
from stream.errors import DatabaseFailed
from stream.store.influx import Database
from tests.deploy.first_site import free_ports

IN_TURN: Final = (
    "worker-1",
    "store",
    "ingest",
    "desk",
    "registry",
    "mosquitto",
    "kafka",
    "influxdb",
    "edge-1",
    "wearables",
    "phone",
)
RECENT_MS: Final = 8_000
"""A reading every two seconds, batched for one second at an edge, processed and stored: under load at most this old."""
CALM_S: Final = 6.0
WITHIN_S: Final = 180.0

SEEN: Final = {
    "worker-1": "the last values, greying after their time; no new alarm from the data centre, the edge still alarms",
    "store": "trends and the wall screen stand still; alarms still ring",
    "ingest": "trends stand still; the edge keeps everything and alarms by itself after a minute",
    "desk": "`vitalloom alarms` does not answer; who was called stays called, and calling goes on when it is back",
    "registry": "nothing; no device can enrol or renew meanwhile",
    "mosquitto": "trends stand still; wearables and edges keep everything",
    "kafka": "trends stand still, no new alarm from the data centre; ingest confirms nothing, so edges keep everything",
    "influxdb": "dashboards do not answer; alarms still ring",
    "edge-1": "the beds of this edge fall behind; their wearables keep everything",
    "wearables": "all beds of the demo fall behind, as if their wearables were switched off",
    "phone": "one channel is dead: the desk tries it again",
}


class KillResult(msgspec.Struct, kw_only=True):
    """Consequences of one kill. Seconds are since the kill."""

    process: str
    seen: str
    back_s: float | None  # the process is ready again
    whole_s: float | None  # and the newest reading of every patient is recent again
    oldest_s: float  # greatest age of the newest reading of any patient
    blind_s: float  # how long the database did not answer
    lost: int  # readings that are missing
    twice: int  # readings that are stored twice


class DemoSite:
    """A demo site and queries of its database."""

    def __init__(self, folder: Path) -> None:
        made = SiteFolder(folder)
        ports = free_ports()
        made.create(
            name="kills",
            host="127.0.0.1",
            registry_port=ports.registry,
            broker_port=ports.broker,
            first_port=ports.first,
            who="test",
        )
        self.folder = folder
        self.out = io.StringIO()
        self.site = NativeSite(folder, demo=True, workers=1, out=Console(file=self.out, width=200))
        self.influx = InfluxConfig(
            url=f"http://127.0.0.1:{self.site.settings.ports.influxdb}",
            token_file=folder / "secrets" / "reader.token",
            timeout_ms=3_000,
        )

    async def ages(self, database: Database) -> list[float] | None:
        """Age of the newest reading of each patient, in milliseconds; None: the database does not answer."""
        try:
            rows = await database.query(
                f'from(bucket: "{self.influx.bucket}") |> range(start: -30m) '
                '|> filter(fn: (r) => r._measurement == "vitals" and r._field == "counter") '
                '|> group(columns: ["binding"]) |> last() '
            )
        except DatabaseFailed:
            return None
        now = time.time()
        return [(now - row["_time"].timestamp()) * 1_000 for row in rows]

    async def gaps(self, database: Database) -> tuple[int, int]:
        """Numbers of missing and of duplicate readings: the counters of a session have neither gaps nor duplicates."""
        rows = await database.query(
            f'from(bucket: "{self.influx.bucket}") |> range(start: 0) '
            '|> filter(fn: (r) => r._measurement == "vitals" and (r._field == "counter" or r._field == "session")) '
            '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        )
        counters: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            if row["session"] is not None and row["counter"] is not None:
                counters.setdefault((row["binding"], row["session"]), []).append(int(row["counter"]))
        lost = sum(max(these) - min(these) + 1 - len(set(these)) for these in counters.values())
        return lost, sum(len(these) - len(set(these)) for these in counters.values())

    def is_whole(self, ages: list[float] | None) -> bool:
        return ages is not None and len(ages) == DEMO_PATIENTS and max(ages) < RECENT_MS


async def kill(demo: DemoSite, database: Database, name: str) -> KillResult:
    """Kill a process and observe the site until it has recovered."""
    one = demo.site.supervisor.processes[name]
    lost_before, twice_before = await demo.gaps(database)
    assert one.pid is not None
    pid, began = one.pid, time.monotonic()
    os.kill(pid, signal.SIGKILL)
    back: float | None = None
    whole: float | None = None
    oldest = blind = 0.0
    looked = began
    while (now := time.monotonic()) - began < WITHIN_S:
        ages = await demo.ages(database)
        blind += now - looked if ages is None else 0.0
        looked = now
        oldest = max(oldest, *(ages or [0.0]))
        if back is None and one.pid != pid and one.state is ProcessState.READY:
            back = now - began
        if not demo.is_whole(ages):
            whole = None
        elif whole is None:
            whole = now - began
        if back is not None and whole is not None and now - began > max(back, whole) + CALM_S:
            break
        await asyncio.sleep(0.3)
    lost, twice = await demo.gaps(database)
    return KillResult(
        process=name,
        seen=SEEN[name],
        back_s=None if back is None else round(back, 1),
        whole_s=None if whole is None or back is None else round(max(whole, back), 1),
        oldest_s=round(oldest / 1_000, 1),
        blind_s=round(blind, 1),
        lost=lost - lost_before,
        twice=twice - twice_before,
    )


async def run(folder: Path, names: list[str]) -> list[KillResult]:
    """Start a site, kill each process in turn, stop the site."""
    demo, stop, results = DemoSite(folder), asyncio.Event(), []
    running = asyncio.create_task(demo.site.supervisor.run(stop), name="site")
    try:
        await _until(running, lambda: demo.site.supervisor.are_up, "the site")
        async with Database(demo.influx) as database:
            shown = folder / "data" / "phone.jsonl"
            await _until(running, lambda: bool(phone.messages(shown)), "an alarm")
            for name in names:
                await _whole(running, demo, database)
                results.append(await kill(demo, database, name))
                sys.stderr.write(f"{results[-1]}\n")
    finally:
        stop.set()
        await running
    return results


async def _whole(running: "asyncio.Task[None]", demo: DemoSite, database: Database) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not demo.is_whole(await demo.ages(database)):
            if running.done():
                running.result()
            await asyncio.sleep(0.3)


async def _until(running: "asyncio.Task[None]", condition: Any, what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        if running.done():
            running.result()
        assert time.monotonic() < deadline, f"{what}: not within {WITHIN_S:.0f} s"
        await asyncio.sleep(0.1)


def table(results: list[KillResult]) -> str:
    """The table of docs/operations.md."""
    head = (
        "| killed | what a clinician sees meanwhile | ready again | whole again | oldest on a screen | lost, twice |\n"
        "|---|---|---|---|---|---|"
    )

    def seconds(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f} s"

    rows = [
        f"| {one.process} | {one.seen} | {seconds(one.back_s)} | {seconds(one.whole_s)} | {seconds(one.oldest_s)} "
        f"| {one.lost}, {one.twice} |"
        for one in results
    ]
    return "\n".join([head, *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("processes", nargs="*", default=list(IN_TURN))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(run(Path(folder) / "site", arguments.processes))
    sys.stdout.write(f"{json.dumps(msgspec.to_builtins(results)) if arguments.json else table(results)}\n")
    return 0 if all(one.whole_s is not None and not one.lost and not one.twice for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
