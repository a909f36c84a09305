"""Flux queries of the Pipeline dashboard, on a real InfluxDB."""

import pytest

from dashboards import flux
from tests.dashboards.hours import Hour
from tests.dashboards.wards import (
    A_GOOD_HOUR,
    END,
)
from tests.stream.receiving_site import MINUTE, NOW

pytestmark = pytest.mark.services


def test_reading_rate_equals_the_rate_of_sent_readings(good: Hour) -> None:
    (table,) = good.tables(flux.pipeline.reading_rate())

    assert [row["_value"] for row in table] == [pytest.approx(len(A_GOOD_HOUR) / 5)] * 60


@pytest.mark.parametrize("field", ["lag", "worst_age_ms", "patients", "unanswered"])
def test_each_partition_has_a_trend(bad: Hour, field: str) -> None:
    tables = bad.tables(flux.pipeline.partition_trend(field))

    assert [table[0]["partition"] for table in tables] == ["0", "1"]
    assert all(row["_value"] is not None for table in tables for row in table)


def test_dead_letters_are_counted_by_stage_and_reason(bad: Hour) -> None:
    (table,) = bad.tables(flux.pipeline.dead_letters(), interval_s=300)

    assert table[0]["_field"] == "ingest: schema"
    assert [row["_value"] for row in table if row["_value"] is not None] == [1]


def test_rejected_frames_are_counted_by_window(bad: Hour) -> None:
    tables = bad.tables(flux.pipeline.rejected_frames(), interval_s=600)
    counted = {(table[0]["edge"][:2], table[0]["_field"]): sum(row["_value"] or 0 for row in table) for table in tables}

    assert counted["65", "rejected"] == 5
    assert counted["65", "duplicates"] == 0


def test_edges_show_backlog_disk_and_clock(bad: Hour) -> None:
    first, second = sorted(bad.rows(flux.pipeline.edges()), key=lambda row: row["edge"])

    assert (first["backlog"], first["oldest"]) == (0, " ")
    assert (second["backlog"], second["oldest"]) == (7, "12 s")
    assert (first["last_heartbeat"], first["disk"], first["clock_skew_s"]) == ("30 s", 1.0, 0.003)


def test_stages_show_the_age_of_their_newest_data(bad: Hour) -> None:
    now = {row["stage"]: row["silent_s"] for row in bad.rows(flux.pipeline.stages())}
    later = {row["stage"]: row["silent_s"] for row in bad.rows(flux.pipeline.stages(), stop_ms=END + 10 * MINUTE)}

    assert now == {"1 edges": 30, "2 ingest": 30, "3 readings": 5, "4 workers": 30}
    assert later == {stage: seconds + 600 for stage, seconds in now.items()}
    before = bad.rows(flux.pipeline.stages(), stop_ms=NOW - MINUTE)
    assert {row["last_data"] for row in before} == {"more than a day ago"}


def test_alarms_detected_at_edges_are_counted(bad: Hour) -> None:
    assert bad.rows(flux.pipeline.edge_alarms()) == [{"rule": "news2", "alarms": 1}]
