"""Hours of simulated patients in a real InfluxDB, and queries of them as Grafana sends them."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dashboards import flux
from dashboards.build import DASHBOARDS, dashboard_json
from dashboards.provisioning import rules
from stream.config import InfluxConfig
from tests.dashboards.asking import ask, interpolated
from tests.dashboards.wards import (
    END,
    RED,
    Bed,
    Points,
    config_of,
    write,
)
from tests.services.influxdb import InfluxDB
from tests.stream.receiving_site import NOW

Row = dict[str, Any]


class Hour:
    """Points in the database, and queries of them."""

    def __init__(self, config: InfluxConfig, points: Points) -> None:
        self.config = config
        self.points = points

    def tables(
        self,
        query: str,
        *,
        patient: Bed = RED,
        wards: Sequence[str] = (".*",),
        start_ms: int = NOW,
        stop_ms: int = END,
        interval_s: int = 60,
    ) -> list[list[Row]]:
        text = self.text(query, patient=patient, wards=wards, start_ms=start_ms, stop_ms=stop_ms, interval_s=interval_s)
        return asyncio.run(ask(self.config, text))

    def text(self, query: str, *, patient: Bed = RED, wards: Sequence[str] = (".*",), **when: int) -> str:
        variables = {"tenant": [self.config.bucket], "ward": wards, "patient": [patient.binding]}
        return interpolated(query, variables, **({"start_ms": NOW, "stop_ms": END} | when))

    def rows(self, query: str, **wishes: Any) -> list[Row]:
        """The rows of a query that returns one table."""
        tables = self.tables(query, **wishes)
        assert len(tables) <= 1
        return tables[0] if tables else []

    def ward(self, **wishes: Any) -> dict[str, Row]:
        return {row["bed"]: row for row in self.rows(flux.ward.patient_table(), **wishes)}


def written_hour(influxdb: InfluxDB, folder: Path, bucket: str, points: Points) -> Hour:
    config = config_of(influxdb, folder, bucket)
    asyncio.run(write(config, points))
    return Hour(config, points)


def fires(
    where: Hour,
    rule: Callable[[str], str],
    *,
    stop_ms: int = END,
    label: str = "bed",
    because: Callable[[float], bool] = lambda value: value != 0,
) -> set[str]:
    """Labels for which the rule fires, by the last value of each series, as in Grafana. No series at all fires, too.

    Args:
        because: narrows the values other than 0 to one reason.
    """
    tables = where.tables(rule(where.config.bucket), stop_ms=stop_ms)
    if not tables:
        return {"no data"}
    assert all("_time" in row and isinstance(row["_value"], float) for table in tables for row in table)
    return {table[-1][label] for table in tables if because(table[-1]["_value"])}


def generated_queries() -> list[tuple[str, str]]:
    found = []
    for name in DASHBOARDS:
        board = dashboard_json(name)
        found += [
            (f"{name}: {panel['title']}", one["query"]) for panel in board["panels"] for one in panel.get("targets", [])
        ]
        found += [(f"{name}: ${one['name']}", one["query"]) for one in board["templating"]["list"]]
        found += [(f"{name}: {one['name']}", one["target"]["query"]) for one in board["annotations"]["list"]]
    for rule in rules("bad_hour")["groups"][0]["rules"]:
        found.append((f"rule: {rule['title']}", rule["data"][0]["model"]["query"]))
    return found
