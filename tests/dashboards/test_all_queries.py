"""All queries of the generated files, on a real InfluxDB: form, columns, stable order, empty database."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dashboards.build import DASHBOARDS, dashboard_json
from tests.dashboards.asking import ask
from tests.dashboards.hours import Hour, generated_queries, written_hour
from tests.dashboards.wards import (
    Points,
)
from tests.services.influxdb import InfluxDB

pytestmark = pytest.mark.services


@pytest.mark.parametrize(("where", "query"), generated_queries(), ids=[where for where, _ in generated_queries()])
def test_every_query_returns_data_in_a_form_that_grafana_accepts(bad: Hour, where: str, query: str) -> None:
    """Time series with labels of text, or tables without a column `_value`."""
    tables = bad.tables(query)

    assert tables, where
    for table in tables:
        assert table, where
        for row in table:
            assert "" not in row.values()
            assert None not in [value for name, value in row.items() if name != "_value"], where  # see dashboards.flux
            if "_value" in row:
                assert "_time" in row
                assert all(isinstance(value, str) for name, value in row.items() if not name.startswith("_")), where
            else:
                assert not [name for name in row if name.startswith("_")], where


@pytest.mark.parametrize("name", DASHBOARDS)
def test_table_panel_names_every_column_of_its_query(bad: Hour, name: str) -> None:
    for panel in dashboard_json(name)["panels"]:
        for one in panel.get("transformations", []):
            (table,) = bad.tables(panel["targets"][0]["query"])
            assert set(one["options"]["indexByName"]) == set(table[0]), panel["title"]


def test_repeated_query_returns_the_same_rows(bad: Hour) -> None:
    async def again(query: str) -> list[Any]:
        text = bad.text(query)
        return await asyncio.gather(*(ask(bad.config, text) for _ in range(3)))

    for query, where in {query: where for where, query in generated_queries()}.items():
        # The order of columns and tables may vary, that of rows may not.
        answers = [
            sorted(str([sorted(row.items()) for row in table]) for table in answer)
            for answer in asyncio.run(again(query))
        ]
        assert all(answer == answers[0] for answer in answers), where


def test_every_query_works_on_an_empty_database(influxdb: InfluxDB, tmp_path: Path) -> None:
    empty = written_hour(influxdb, tmp_path, "nothing", Points({"raw": [], "minutes": []}, []))

    for query in {query for _, query in generated_queries()}:
        empty.tables(query.replace('"bad_hour"', '"nothing"'))
