"""Flux queries of the alert rules, on a real InfluxDB: the last value of a series, if not 0, fires."""

from functools import partial
from pathlib import Path

import pytest

from dashboards import flux
from tests.dashboards.hours import Hour, fires, generated_queries, written_hour
from tests.dashboards.wards import (
    A_GOOD_HOUR,
    END,
    GONE,
    LENGTH,
    PASSED,
    RED,
    SILENT,
    WELL,
    Bed,
    Points,
    hour,
)
from tests.services.influxdb import InfluxDB
from tests.stream.receiving_site import MINUTE, NOW, SECOND
from vitals.freshness import BY_NEWS2

pytestmark = pytest.mark.services


def red(where: Hour, **when: int) -> set[str]:
    """Beds that fire because of a red alarm."""
    return fires(where, flux.alert_rules.patient_unattended, because=lambda value: value > 0, **when)


def silent(where: Hour, **when: int) -> set[str]:
    """Beds that fire because there is no data, and no red alarm that counts."""
    return fires(where, flux.alert_rules.patient_unattended, because=lambda value: value < 0, **when)


def test_red_alarm_without_an_answer_fires(bad: Hour, good: Hour) -> None:
    assert red(bad) == {RED.bed, SILENT.bed, PASSED.bed}
    assert red(good) == set()


def test_patient_without_data_fires_when_the_kernel_says_lost(bad: Hour, good: Hour) -> None:
    assert silent(good) == set()
    lost_ms = {lowest: lost for lowest, _, lost in BY_NEWS2}[5]
    silent_from = NOW + 40 * MINUTE - 5 * SECOND
    assert silent(bad, stop_ms=silent_from + lost_ms) == set()
    assert silent(bad, stop_ms=silent_from + lost_ms + 1) == {SILENT.bed}


def test_stay_with_a_red_alarm_and_no_data_is_one_alert(bad: Hour) -> None:
    tables = bad.tables(flux.alert_rules.patient_unattended(bad.config.bucket))

    assert [table[-1]["bed"] for table in tables].count(SILENT.bed) == 1
    assert SILENT.bed in red(bad)
    assert SILENT.bed not in silent(bad)


def test_value_is_the_number_of_minutes(bad: Hour) -> None:
    lost_ms = {lowest: lost for lowest, _, lost in BY_NEWS2}[5]
    stop_ms = NOW + 40 * MINUTE - 5 * SECOND + lost_ms + 1
    tables = bad.tables(flux.alert_rules.patient_unattended(bad.config.bucket), stop_ms=stop_ms)

    (row,) = [table[-1] for table in tables if table[-1]["bed"] == SILENT.bed]
    assert row["_value"] == pytest.approx(-lost_ms / MINUTE, abs=0.001)
    assert row["patient"] == SILENT.patient


def test_discharged_patient_does_not_fire(bad: Hour) -> None:
    assert GONE.bed not in fires(bad, flux.alert_rules.patient_unattended, stop_ms=END + 3 * 60 * MINUTE)
    assert WELL.bed in silent(bad, stop_ms=END + 3 * 60 * MINUTE)


def test_bed_without_any_reading_fires(influxdb: InfluxDB, tmp_path: Path) -> None:
    # Assigned an hour before the start, without any reading.
    never = Bed("West/1", "patient-d1", lambda _, __: None)
    where = written_hour(influxdb, tmp_path, "never", hour([never]))

    assert silent(where) == {never.bed}
    assert red(where) == set()
    # Beds without any alarm are not an error.
    assert where.rows(flux.ward.open_alarms()) == []
    (counts,) = where.rows(flux.ward.open_counts())
    assert set(counts.values()) == {0}
    assert where.ward()[never.bed]["news2"] == "no data yet"
    for query in {query for _, query in generated_queries()}:
        where.tables(query.replace('"bad_hour"', '"never"'))


def test_silent_pipeline_fires_by_stage(bad: Hour, influxdb: InfluxDB, tmp_path: Path) -> None:
    stages = partial(fires, rule=flux.alert_rules.pipeline_silent, label="stage")

    assert stages(bad) == set()
    assert stages(bad, stop_ms=END + 4 * MINUTE) == {"1 edges", "2 ingest", "3 readings", "4 workers"}
    half = written_hour(influxdb, tmp_path, "half", hour(A_GOOD_HOUR[:1], pipeline_until_ms=LENGTH - 10 * MINUTE))
    assert stages(half) == {"1 edges", "2 ingest", "4 workers"}  # readings still arrive


def test_empty_database_fires(influxdb: InfluxDB, tmp_path: Path) -> None:
    empty = written_hour(influxdb, tmp_path, "empty", Points({"raw": [], "minutes": []}, []))

    assert fires(empty, flux.alert_rules.patient_unattended) == {"no data"}
    assert len(fires(empty, flux.alert_rules.pipeline_silent, label="stage")) == 4
