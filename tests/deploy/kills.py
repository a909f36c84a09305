"""Every process of a site killed in turn while it runs: `python -m tests.deploy.kills [--json] [process ...]`.

SIGKILL, as by a kernel that is out of memory. Whole again is a site when the newest reading of every patient in the
database is as young as before. Nothing is asked of the processes themselves: the database says what is there.
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
from deploy.folder import Folder
from deploy.run import Native
from deploy.supervisor import State
from simulators import phone
from stream.config import InfluxConfig
from stream.store.influx import Away, Database
from tests.deploy.first_site import free_row

IN_TURN: Final = (
    "worker-1", "store", "ingest", "desk", "registry", "mosquitto", "kafka", "influxdb", "edge-1", "wearables", "phone",
)  # fmt: skip
YOUNG_MS: Final = 8_000
"""A reading each two seconds, gathered for a second at an edge, judged and stored: under load no older than this."""
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


class Blow(msgspec.Struct, kw_only=True):
    """What came of one kill. Seconds from the blow."""

    process: str
    seen: str
    back_s: float | None  # the process is ready again
    whole_s: float | None  # and no patient waits any more
    oldest_s: float  # the oldest that the newest reading of any patient was meanwhile
    blind_s: float  # so long the database itself gave no answer
    lost: int  # readings that never came
    twice: int  # readings that are there twice


class Hospital:
    """A demo site, and questions to its database."""

    def __init__(self, folder: Path) -> None:
        made = Folder(folder)
        row = free_row()
        made.begin(
            name="kills", host="127.0.0.1", registry_port=row.registry, broker_port=row.broker, first_port=row.first,
            who="test",
        )  # fmt: skip
        self.folder = folder
        self.out = io.StringIO()
        self.site = Native(folder, demo=True, workers=1, out=Console(file=self.out, width=200))
        self.influx = InfluxConfig(
            url=f"http://127.0.0.1:{self.site.told.ports.influxdb}", token_file=folder / "secrets" / "reader.token",
            timeout_ms=3_000,
        )  # fmt: skip

    async def ages(self, database: Database) -> list[float] | None:
        """Of the newest reading of each patient, in milliseconds; None: the database gives no answer."""
        try:
            rows = await database.query(
                f'from(bucket: "{self.influx.bucket}") |> range(start: -30m) '
                '|> filter(fn: (r) => r._measurement == "vitals" and r._field == "counter") '
                '|> group(columns: ["binding"]) |> last() '
            )
        except Away:
            return None
        now = time.time()
        return [(now - row["_time"].timestamp()) * 1_000 for row in rows]

    async def holes(self, database: Database) -> tuple[int, int]:
        """Readings that never came and readings that came twice: counters of a session have no gap and no double."""
        rows = await database.query(
            f'from(bucket: "{self.influx.bucket}") |> range(start: 0) '
            '|> filter(fn: (r) => r._measurement == "vitals" and (r._field == "counter" or r._field == "session")) '
            '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        )
        told: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            if row["session"] is not None and row["counter"] is not None:
                told.setdefault((row["binding"], row["session"]), []).append(int(row["counter"]))
        lost = sum(max(these) - min(these) + 1 - len(set(these)) for these in told.values())
        return lost, sum(len(these) - len(set(these)) for these in told.values())

    def is_whole(self, ages: list[float] | None) -> bool:
        return ages is not None and len(ages) == DEMO_PATIENTS and max(ages) < YOUNG_MS


async def strike(hospital: Hospital, database: Database, name: str) -> Blow:
    """Kill it, and watch until the site is whole again."""
    one = hospital.site.supervisor.watched[name]
    lost_before, twice_before = await hospital.holes(database)
    assert one.pid is not None
    pid, began = one.pid, time.monotonic()
    os.kill(pid, signal.SIGKILL)
    back: float | None = None
    whole: float | None = None
    oldest = blind = 0.0
    looked = began
    while (now := time.monotonic()) - began < WITHIN_S:
        ages = await hospital.ages(database)
        blind += now - looked if ages is None else 0.0
        looked = now
        oldest = max(oldest, *(ages or [0.0]))
        if back is None and one.pid != pid and one.state is State.READY:
            back = now - began
        if not hospital.is_whole(ages):
            whole = None
        elif whole is None:
            whole = now - began
        if back is not None and whole is not None and now - began > max(back, whole) + CALM_S:
            break
        await asyncio.sleep(0.3)
    lost, twice = await hospital.holes(database)
    return Blow(
        process=name, seen=SEEN[name], back_s=None if back is None else round(back, 1),
        whole_s=None if whole is None or back is None else round(max(whole, back), 1),
        oldest_s=round(oldest / 1_000, 1),
        blind_s=round(blind, 1), lost=lost - lost_before, twice=twice - twice_before,
    )  # fmt: skip


async def run(folder: Path, names: list[str]) -> list[Blow]:
    """A site, every blow in turn, and its end."""
    hospital, stop, blows = Hospital(folder), asyncio.Event(), []
    running = asyncio.create_task(hospital.site.supervisor.run(stop), name="site")
    try:
        await _until(running, lambda: hospital.site.supervisor.are_up, "the site")
        async with Database(hospital.influx) as database:
            shown = folder / "data" / "phone.jsonl"
            await _until(running, lambda: bool(phone.shown(shown)), "an alarm")
            for name in names:
                await _whole(running, hospital, database)
                blows.append(await strike(hospital, database, name))
                sys.stderr.write(f"{blows[-1]}\n")
    finally:
        stop.set()
        await running
    return blows


async def _whole(running: "asyncio.Task[None]", hospital: Hospital, database: Database) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not hospital.is_whole(await hospital.ages(database)):
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


def table(blows: list[Blow]) -> str:
    """As it stands in docs/operations.md."""
    head = (
        "| killed | what a clinician sees meanwhile | ready again | whole again | oldest on a screen | lost, twice |\n"
        "|---|---|---|---|---|---|"
    )

    def seconds(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f} s"

    rows = [
        f"| {one.process} | {one.seen} | {seconds(one.back_s)} | {seconds(one.whole_s)} | {seconds(one.oldest_s)} "
        f"| {one.lost}, {one.twice} |"
        for one in blows
    ]
    return "\n".join([head, *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("processes", nargs="*", default=list(IN_TURN))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        blows = asyncio.run(run(Path(folder) / "site", told.processes))
    sys.stdout.write(f"{json.dumps(msgspec.to_builtins(blows)) if told.json else table(blows)}\n")
    return 0 if all(one.whole_s is not None and not one.lost and not one.twice for one in blows) else 1


if __name__ == "__main__":
    sys.exit(main())
