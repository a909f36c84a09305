"""The pictures of the documents: `python -m tests.dashboards`, after a bad hour on a real InfluxDB."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from dashboards.build import dashboard_json
from dashboards.picture import draw
from stream.config import InfluxConfig
from tests.dashboards.asking import ask, interpolated
from tests.dashboards.wards import A_BAD_HOUR, END, RED, SILENT, config_of, hour, write
from tests.services.influxdb import InfluxDB
from tests.stream.receiving_site import NOW

INTO = Path(__file__).parent.parent.parent / "docs" / "images"
SECONDS = {"m": 60, "h": 3_600}


async def answers(config: InfluxConfig, name: str, patient: str) -> dict[str, list[list[dict[str, Any]]]]:
    """Rows of every panel, times as seconds since the hour began or as a time of day."""
    found = {}
    for panel in dashboard_json(name)["panels"]:
        interval = panel.get("interval", "1m")
        for target in panel.get("targets", []):
            variables = {"tenant": [config.bucket], "ward": [".*"], "patient": [patient]}
            text = interpolated(
                target["query"], variables, start_ms=NOW, stop_ms=END,
                interval_s=int(interval[:-1]) * SECONDS[interval[-1]],
            )  # fmt: skip
            found[str(panel["id"])] = [
                [{key: _told(key, value) for key, value in row.items()} for row in table]
                for table in await ask(config, text)
            ]
    return found


def _told(key: str, value: Any) -> Any:
    if not hasattr(value, "timestamp"):
        return value
    return value.timestamp() - NOW / 1_000 if key == "_time" else value.strftime("%H:%M:%S")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = InfluxDB(Path(folder))
        database.start()
        try:
            config = config_of(database, Path(folder), "drawn")
            asyncio.run(write(config, hour(A_BAD_HOUR)))
            for name, patient in (("ward", RED), ("patient", SILENT)):
                draw(name, asyncio.run(answers(config, name, patient.binding)), INTO / f"dashboard-{name}.png")
        finally:
            database.stop()


if __name__ == "__main__":
    main()
