"""What a reading costs when stored readings are replayed, and how long a ward-month takes.

`python -m benchmarks.what_if [--json] [--quick]`: one patient of a wearable that measures every second, from a SQLite
store. Processor time of one process; a ward-month is 20 patients, 30 days: 51.8 million readings.
"""

import os
import random
import resource
import tempfile
from pathlib import Path
from typing import Final

from benchmarks._timing import QUICK, microseconds, report
from stream.embedded.store import Store
from stream.embedded.stream import Engine
from stream.store.sqlite_record import SqliteRecord
from vitals.messages import Message, Reading, Tick
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.replay import StayReplay, as_recorded

READINGS: Final = 600 if QUICK else 5_000
WARD_MONTH: Final = 20 * 30 * 86_400
START_MS: Final = 1_790_000_000_000
STAY: Final = "5e" * 16
PLAN: Final = MonitoringPlan()


def main() -> None:
    readings = _readings()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        with Store(path, synchronous="OFF") as store:
            engine = Engine(store, lambda _: PLAN)
            for first in range(0, len(readings), 200):
                batch: list[Message] = [*readings[first : first + 200]]
                engine.apply([*batch, Tick(now_ms=batch[-1].heard_ms)])  # type: ignore[union-attr]

        def read() -> int:
            with SqliteRecord(path) as record:
                return sum(1 for _ in record.applied(STAY))

        def replayed() -> int:
            replay = StayReplay(STAY, PLAN)
            with SqliteRecord(path) as record:
                for message in record.applied(STAY):
                    replay.feed(as_recorded(message) if isinstance(message, Reading) else message)
            return READINGS

        def judged() -> int:
            monitor = PatientMonitor(STAY, PLAN)
            for reading in readings:
                monitor.on_reading(reading)
            return READINGS

        costs = microseconds(
            {"read from the store": read, "read and replayed": replayed, "judged live": judged},
            rounds=1 if QUICK else 3,
        )
    processors = os.cpu_count() or 1
    minutes = {
        "one replay, alarms of then as stored": costs["read and replayed"] * WARD_MONTH / processors / 60e6,
        "both orders replayed": (2 * costs["read and replayed"] - costs["read from the store"])
        * WARD_MONTH
        / processors
        / 60e6,
    }
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    rows = [
        *((f"{name}, µs a reading", f"{cost:.1f}") for name, cost in costs.items()),
        *((f"ward-month on {processors} processors, {name}, min", f"{value:.0f}") for name, value in minutes.items()),
        ("memory of the process, MB", f"{memory_mb:.0f}"),
    ]
    facts = {name: round(value, 2) for name, value in (costs | minutes).items()}
    report("what-if", rows, ("measurement", "value"), facts | {"memory_mb": round(memory_mb)})


def _readings() -> list[Reading]:
    """A patient who is well, as a wearable measures every second; a pressure an hour."""
    rng = random.Random(1)
    pulse, breaths, oxygen = 74.0, 15.0, 97.0
    found = []
    for second in range(READINGS):
        pulse += rng.gauss(0, 0.4) + 0.02 * (74 - pulse)
        breaths += rng.gauss(0, 0.2) + 0.02 * (15 - breaths)
        oxygen += rng.gauss(0, 0.1) + 0.05 * (97 - oxygen)
        at_ms = START_MS + second * 1_000
        found.append(
            Reading(
                stay_id=STAY,
                reading_id=second.to_bytes(16, "big"),
                session_id=bytes(16),
                counter=second + 1,
                at_ms=at_ms,
                received_ms=at_ms,
                arrived_ms=at_ms,
                age_ms=0,
                heart_rate=round(pulse),
                respiratory_rate=round(breaths),
                spo2=round(min(oxygen, 100.0)),
                temperature=36.8 if second % 60 == 0 else None,
                systolic_bp=122.0 if second % 3_600 == 0 else None,
                battery=90.0,
            )
        )
    return found


if __name__ == "__main__":
    main()
