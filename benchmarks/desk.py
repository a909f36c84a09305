"""Delay of notifications: a single high-priority alarm, and many at once, with responsive and with hanging services.

`python -m benchmarks.desk [--json] [--quick]`

Wall time from the alarm's arrival at the desk until a webhook has accepted the call. Uses the desk's database, Apprise
and HTTP on loopback; no Kafka.
"""

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks._timing import QUICK, report
from runtime.clock import SystemClock
from stream.config import DeskConfig
from stream.desk.book import DeskBook
from stream.desk.desk import AlarmDesk
from stream.desk.notify import Addresses
from stream.desk.ports import SourceRecord
from stream.records import AlarmRecord
from tests.services.receivers import Webhook, webhooks
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority

ALONE: Final = 5 if QUICK else 100
STORM: Final = 20 if QUICK else 300


class DeskBench:
    """A desk with generated alarms."""

    def __init__(self, folder: Path, hook: Webhook, hanging: Webhook) -> None:
        addresses = folder / "addresses.toml"
        addresses.write_text(
            f'[anna]\npush = "{hook.url}"\n[ben]\npush = "{hanging.url}"\n[dora]\npush = "{hook.url}"\n',
            encoding="utf-8",
        )
        addresses.chmod(0o600)
        self.hook = hook
        self.book = DeskBook(folder / "desk.sqlite")
        config = DeskConfig(addresses=addresses, roles={"nurse": ("anna",)}, send_timeout_ms=2_000)
        self.addresses = Addresses(addresses)
        self.desk = AlarmDesk(config, self.book, self.addresses, SystemClock())
        self.offset = 0

    def hear(self, count: int) -> None:
        now_ms, reads = time.time_ns() // 1_000_000, []
        for _ in range(count):
            self.offset += 1
            alarm = AlarmChanged(
                stay_id=f"{self.offset:032x}",
                alarm_id=os.urandom(16),
                rule_id="news2",
                kind=AlarmKind.PHYSIOLOGICAL,
                priority=Priority.HIGH,
                state=AlarmState.ACTIVE,
                at_ms=now_ms,
                onset_ms=now_ms,
                revision=0,
                text="",
                basis="NEWS2",
            )
            reads.append(SourceRecord("alarms", 0, self.offset, AlarmRecord(alarm=alarm)))
        self.desk.hear(reads)

    async def until_accepted(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.hook.taken) < count:
                await asyncio.sleep(0.0005)

    async def measure(self) -> dict[str, float]:
        """Milliseconds."""
        serving = asyncio.create_task(self.desk.serve())
        alone = []
        for _ in range(ALONE):
            began = time.perf_counter()
            self.hear(1)
            await self.until_accepted(len(self.hook.taken) + 1)
            alone.append((time.perf_counter() - began) * 1_000)
        found = {"alone_median": statistics.median(alone), "alone_worst": max(alone)}
        for name, roles in (("storm", ("anna",)), ("storm_beside_one_that_hangs", ("dora", "ben"))):
            for one in self.desk.standing():
                self.desk.acknowledge(one.kept.alarm.alarm_id, by="anna", revision=one.kept.alarm.revision)
            self.desk.set_people({"nurse": roles}, self.addresses)
            began = time.perf_counter()
            taken = len(self.hook.taken)
            self.hear(STORM)
            await self.until_accepted(taken + STORM)
            found[name] = (time.perf_counter() - began) * 1_000
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        self.book.close()
        return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, webhooks("takes", "hangs") as (hook, hanging):
        ms = asyncio.run(DeskBench(Path(folder), hook, hanging).measure())
    rows = [
        ("one high-priority alarm until the service accepts it, median", f"{ms['alone_median']:.0f}"),
        ("the same, slowest", f"{ms['alone_worst']:.0f}"),
        (f"{STORM} high-priority alarms at once until the last is accepted", f"{ms['storm']:.0f}"),
        ("the same, half of the calls to a service that hangs", f"{ms['storm_beside_one_that_hangs']:.0f}"),
    ]
    report(
        "desk", rows, ("measurement", "ms"), {"alarms": STORM, "ms": {name: round(one, 1) for name, one in ms.items()}}
    )


if __name__ == "__main__":
    main()
