"""A whole site on real services: from an empty folder to an alarm on a phone, answered, and nothing left behind."""

import asyncio
import time
from pathlib import Path

import pytest

from dashboards.build import DASHBOARDS, dashboard_json
from dashboards.provisioning import rules
from deploy.folder import FOLDERS
from stream.config import InfluxConfig, StoreConfig
from tests.dashboards.asking import ask, interpolated
from tests.deploy.first_site import USER, FirstSite
from tests.services.mosquitto import mosquitto_binary
from tests.services.native import installed
from tests.services.program import program

UP_WITHIN_S = 90.0
ALARM_WITHIN_S = 180.0
QUIET_S = 6.0


@pytest.mark.services
def test_from_an_empty_folder_to_an_acknowledged_alarm(tmp_path: Path) -> None:
    mosquitto_binary()
    installed("kafka"), installed("influxdb"), program("curl", of="curl")
    with FirstSite(tmp_path) as first:
        first.create_site()
        assert all((first.site / one).is_dir() for one in FOLDERS)

        first.start()
        assert first.marks["up"] < UP_WITHIN_S

        first.enrol()
        assert "bay-1" in first.outputs["enrol"][-1].text

        ringing = first.wait_for_notification()
        assert first.marks["phone"] < ALARM_WITHIN_S
        assert "Not a certified medical device" in ringing.text
        assert first.readings() > 20
        asyncio.run(every_query_is_answered(first))

        def of_this() -> int:
            return sum(one.alarm == ringing.alarm for one in first.high_alarms())

        alarm = first.answer()
        assert alarm["acknowledged_by"] == USER
        assert not alarm["calling"]
        heard, until = of_this(), time.monotonic() + QUIET_S
        first.until(lambda: time.monotonic() > until, "a while to pass")
        assert of_this() == heard, "the phone still rings for what was answered"

        assert first.end() == 0
        assert first.marks["ended"] < 40
        assert first.leftover_processes() == []
        assert "all processes have stopped" in first.log()
        said = "".join(path.read_text(errors="replace") for path in (first.site / "logs").glob("*.log"))
        for secret in (first.site / "secrets").iterdir():
            assert secret.read_text().strip() not in said, secret.name
        assert first.password not in said


async def every_query_is_answered(first: FirstSite) -> None:
    """Of every panel, variable, annotation and rule, with the token that Grafana has; most with rows."""
    config = InfluxConfig(
        url=f"http://127.0.0.1:{first.ports.influxdb}", token_file=first.site / "secrets" / "reader.token"
    )
    assert config.org == StoreConfig().influx.org
    now_ms = round(time.time() * 1_000)
    (binding, *_) = sorted({one["binding"] for table in await ask(config, BINDINGS) for one in table})
    chosen = {"tenant": ["vitals"], "ward": [".*"], "patient": [binding]}
    empty = []
    for where, query in queries():
        flux = interpolated(query, chosen, start_ms=now_ms - 900_000, stop_ms=now_ms, interval_s=10)
        if not await ask(config, flux):
            empty.append(where)
    # What a ward that has just begun has nothing to say of: no dead letter, no answer yet, no hour gone by.
    assert len(empty) <= len(queries()) // 3, empty


BINDINGS = (
    'from(bucket: "vitals") |> range(start: -15m) '
    '|> filter(fn: (r) => r._measurement == "alarm" and r._field == "text") '
    '|> group(columns: ["binding"]) |> first() |> keep(columns: ["binding"])'
)


def queries() -> list[tuple[str, str]]:
    found = []
    for name in DASHBOARDS:
        board = dashboard_json(name)
        found += [
            (f"{name}: {panel['title']}", one["query"]) for panel in board["panels"] for one in panel.get("targets", [])
        ]
        found += [(f"{name}: ${one['name']}", one["query"]) for one in board["templating"]["list"]]
        found += [(f"{name}: {one['name']}", one["target"]["query"]) for one in board["annotations"]["list"]]
    found += [(one["title"], one["data"][0]["model"]["query"]) for one in rules("vitals")["groups"][0]["rules"]]
    return found
