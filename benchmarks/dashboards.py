"""How long every query of every dashboard and alert rule takes on a ward of an hour.

    python -m benchmarks.dashboards [--patients 100] [--json] [--quick]

Points come from the project's own processor and line protocol, lie in a real InfluxDB on this machine, and are asked
for as Grafana would ask. Times are medians of three, one question at a time.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from dashboards.build import DASHBOARDS, dashboard_json
from dashboards.provisioning import rules
from tests.dashboards.asking import ask, interpolated
from tests.dashboards.wards import END, Bed, config_of, hour, well, without, worse, write
from tests.services.influxdb import InfluxDB
from tests.stream.receiving_site import MINUTE, NOW

_BUCKET = "measured"


def questions() -> dict[str, str]:
    """Every query by where it stands."""
    found = {}
    for name in DASHBOARDS:
        board = dashboard_json(name)
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                found[f"{name}: {panel['title']} ({panel['id']})"] = target["query"]
        found |= {f"{name}: variable {one['name']}": one["query"] for one in board["templating"]["list"]}
        found |= {f"{name}: annotation {one['name']}": one["target"]["query"] for one in board["annotations"]["list"]}
    for rule in rules(_BUCKET)["groups"][0]["rules"]:
        found[f"rule: {rule['title']}"] = rule["data"][0]["model"]["query"]
    return found


def beds(count: int) -> list[Bed]:
    """One in ten gets worse, one in ten has a gap."""
    courses = {3: worse(15 * MINUTE, respiratory_rate=12, spo2=-6, heart_rate=45),
               7: without(well, 20 * MINUTE, 30 * MINUTE)}  # fmt: skip
    return [Bed(f"Ward {n // 20}/{n}", f"patient-{n:02x}", courses.get(n % 10, well)) for n in range(count)]


async def measure(database: InfluxDB, folder: Path, patients: int) -> dict[str, float]:
    """Milliseconds of each question."""
    config = config_of(database, folder, _BUCKET)
    ward = beds(patients)
    await write(config, hour(ward))
    variables = {"tenant": [_BUCKET], "ward": [".*"], "patient": [ward[3].binding]}
    found = {}
    for where, query in questions().items():
        text = interpolated(query, variables, start_ms=NOW, stop_ms=END)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            await ask(config, text)
            times.append((time.perf_counter() - began) * 1_000)
        found[where] = round(statistics.median(times), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    wishes = parser.parse_args()
    patients = 6 if wishes.quick else wishes.patients
    with tempfile.TemporaryDirectory() as folder:
        database = InfluxDB(Path(folder))
        database.start()
        try:
            found = asyncio.run(measure(database, Path(folder), patients))
        finally:
            database.stop()
    slowest = sorted(found.items(), key=lambda one: -one[1])
    if not wishes.json:
        for where, milliseconds in slowest:
            print(f"{milliseconds:8.1f} ms  {where}")
    print(
        json.dumps(
            {"benchmark": "dashboards", "patients": patients, "queries": len(found),
             "median_ms": statistics.median(found.values()), "slowest_ms": dict(slowest[:5])}
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
