"""Faults against a whole site on real services: `python -m tests.faults F16 [F19 ...|all|workers] [--json] [--seed N]`.

Exit status 0 only if every reading that was accepted is stored once and every alarm is the right one.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from runtime import logs
from tests.faults.pipeline import Verdict, live, site
from tests.faults.random_workers import survive
from tests.faults.table import FAULTS
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from tests.services.missing import REQUIRED


async def one(number: str, folder: Path, *, seed: int, engine: str) -> Verdict:
    """One row, on services of its own."""
    fault = FAULTS[number]
    kafka = Kafka(folder / "kafka")
    kafka.start()
    with contextlib.ExitStack() as stack:
        stack.callback(kafka.stop)
        if fault.disk_mb:
            stack.enter_context(_small_disk(folder / "influxdb", fault.disk_mb))
        influxdb = InfluxDB(folder / "influxdb")
        influxdb.start()
        stack.callback(influxdb.stop)
        async with site(
            folder / "site", kafka, influxdb, seconds=fault.seconds, workers=fault.workers, engine=engine, seed=seed,
            max_queued=fault.max_queued, poison_every=fault.poison_every,
        ) as pipeline:  # fmt: skip
            await live(pipeline, fault.do)
            pipeline.alive()
            return await pipeline.verdict(
                f"{number} {fault.title}", log_lost=fault.log_lost, judged_again=fault.judged_again
            )


@contextlib.contextmanager
def _small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """A disk of its own at this folder. Only root may."""
    if os.geteuid() != 0:
        sys.exit("a fault that fills a disk mounts one first, and only root may: sudo, or leave F22c out")
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _workers(told: argparse.Namespace) -> int:
    os.environ[REQUIRED] = "1"
    with tempfile.TemporaryDirectory(prefix="vitalloom-faults-") as folder:
        kafka = Kafka(Path(folder) / "kafka")
        kafka.start()
        try:
            work = survive(kafka, Path(folder), minutes=told.minutes, seed=told.seed, engine=told.engine)
            found = asyncio.run(work)
        finally:
            kafka.stop()
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    return 0 if found.is_good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="+", help=f"all, some of {', '.join(FAULTS)}, or workers: random blows")
    parser.add_argument("--minutes", type=float, default=10.0, help="of random blows")
    parser.add_argument("--json", action="store_true", help="one line each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("faust", "plain"), default="faust")
    told = parser.parse_args()
    if told.faults == ["workers"]:
        return _workers(told)
    names = list(FAULTS) if told.faults == ["all"] else told.faults
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}; known are {', '.join(FAULTS)}")
    os.environ[REQUIRED] = "1"
    logs.set_up(level="ERROR")
    found = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="vitalloom-faults-") as folder:
            found.append(asyncio.run(one(name, Path(folder), seed=told.seed, engine=told.engine)))
        sys.stdout.write(msgspec.json.encode(found[-1]).decode() + "\n")
        sys.stdout.flush()
    if not told.json:
        table = Table(
            "fault", "sent", "accepted", "stored", "doubled", "dead letters", "alarms wrong", "MTTR", "after repair"
        )
        for each in found:
            table.add_row(
                each.fault, str(each.sent), str(each.accepted), str(each.stored), str(each.duplicated),
                str(each.dead_letters), "-" if each.alarms_wrong is None else str(each.alarms_wrong),
                f"{each.mttr_s} s", f"{each.whole_again_s} s",
            )  # fmt: skip
        Console().print(table)
    return 0 if all(each.is_good for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
