"""Flux queries of the Ward dashboard and of the variables, on a real InfluxDB."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dashboards import flux
from dashboards.build import dashboard_json
from dashboards.flux.parts import SCORED
from tests.dashboards.hours import Hour, fires, written_hour
from tests.dashboards.situations import CYAN as CYAN_ALARM
from tests.dashboards.situations import RED as RED_ALARM
from tests.dashboards.situations import YELLOW as YELLOW_ALARM
from tests.dashboards.situations import Alarm, Situation, points_of
from tests.dashboards.wards import (
    A_BAD_HOUR,
    ANSWERED,
    END,
    GAP,
    GONE,
    NO_SPO2,
    PASSED,
    RED,
    SILENT,
    WELL,
    hour,
)
from tests.services.influxdb import InfluxDB
from tests.stream.receiving_site import MINUTE, NOW, SECOND
from vitals.plan import MonitoringPlan

pytestmark = pytest.mark.services


def test_tenants_are_readable_buckets_with_a_bucket_of_minutes(bad: Hour, good: Hour) -> None:
    found = [row["text"] for row in bad.rows(flux.variables.tenants())]

    assert {"bad_hour", "good_hour"} <= set(found)
    assert not [one for one in found if one.endswith("_1m")]


def test_wards_and_patients_are_those_written_by_ingest(bad: Hour) -> None:
    assert [row["text"] for row in bad.rows(flux.variables.wards())] == ["North", "South"]
    texts = [row["text"] for row in bad.rows(flux.variables.patients(), wards=["South"])]
    assert texts[0] == f"South/1, patient-b1 | {SILENT.binding}"
    assert len(texts) == 4


def test_variable_of_patients_separates_text_and_value(bad: Hour) -> None:
    regex = next(one["regex"] for one in dashboard_json("patient")["templating"]["list"] if one["name"] == "patient")
    pattern = re.compile(regex.strip("/").replace("?<", "?P<"))

    for row in bad.rows(flux.variables.patients()):
        found = pattern.search(row["text"])
        assert found is not None
        assert found["value"] in {one.binding for one in A_BAD_HOUR}
        bed = found["text"].split(", ")[0]
        assert bed.removeprefix("formerly ") in {one.bed for one in A_BAD_HOUR}
        assert bed.startswith("formerly ") is (found["value"] == GONE.binding)  # a bed has one patient


def test_patients_are_sorted_by_severity_with_red_alarms_first(bad: Hour) -> None:
    rows = bad.rows(flux.ward.patient_table())

    assert [row["bed"] for row in rows[:4]] == [RED.bed, SILENT.bed, PASSED.bed, ANSWERED.bed]
    assert {row["bed"] for row in rows[4:]} == {WELL.bed, GAP.bed, NO_SPO2.bed}
    assert [row["rank"] for row in rows] == sorted((row["rank"] for row in rows), reverse=True)


def test_discharged_patient_is_not_listed(bad: Hour) -> None:
    assert GONE.bed not in bad.ward()
    assert GONE.bed in bad.ward(stop_ms=NOW + 20 * MINUTE)  # as it was then


def test_ward_lists_its_own_patients(bad: Hour) -> None:
    assert {bed.split("/")[0] for bed in bad.ward(wards=["North"])} == {"North"}
    assert len(bad.ward(wards=["North", "South"])) == 7
    assert bad.ward(wards=["Nor"]) == {}  # a part of a name is not a name


def test_cell_is_value_points_and_age(bad: Hour) -> None:
    row = bad.ward()[RED.bed]

    assert re.fullmatch(r"2\d \(\+3\)  5 s", row["respiratory_rate"])
    assert re.fullmatch(r"9[12] \(\+[23]\)  5 s", row["spo2"])
    assert re.fullmatch(r"36\.\d  5 min", row["temperature"])
    assert (row["consciousness"], row["supplemental_oxygen"]) == ("A  60 min", "air  60 min")
    assert re.fullmatch(r"1\d\d  30 min", row["systolic_bp"])
    assert (row["risk"], row["news2"] in ("7", "8", "9")) == ("high", True)


def test_stale_sign_is_a_dash_with_its_age_and_is_not_scored(bad: Hour) -> None:
    row = bad.ward()[NO_SPO2.bed]

    assert row["spo2"] == "– 10 min"
    assert row["news2"].startswith("≥ ")
    assert re.fullmatch(r"\d\d  5 s", row["heart_rate"])


def test_silent_patient_is_shown_with_the_last_score(bad: Hour) -> None:
    row = bad.ward()[SILENT.bed]

    assert re.fullmatch(r"was [56], no data for 20 min", row["news2"])
    assert {row[name] for name in ("heart_rate", "respiratory_rate", "spo2")} == {"– 20 min"}
    assert row["risk"] == "≥ medium"
    assert "no data" in row["alarm"]


@pytest.mark.parametrize("spec", [spec for spec in SCORED if not spec.entered], ids=lambda spec: spec.sign.value)
def test_value_is_not_shown_beyond_its_validity_even_if_nothing_is_written(bad: Hour, spec: Any) -> None:
    #  END ............... validity      later
    #   |  value, age          |  a dash, age        nothing is written after END
    measured_ms = {"temperature": 5 * MINUTE, "systolic_bp": 30 * MINUTE}.get(spec.sign.value, 5 * SECOND)
    valid_ms = MonitoringPlan().valid(spec.sign)
    last_ms = END - measured_ms + valid_ms

    assert not bad.ward(stop_ms=last_ms)[WELL.bed][spec.sign.value].startswith("–")
    assert bad.ward(stop_ms=last_ms + 1)[WELL.bed][spec.sign.value].startswith("– ")


def test_no_patient_is_shown_as_well_after_everything_has_stopped(bad: Hour) -> None:
    rows = bad.ward(stop_ms=END + 20 * MINUTE)

    assert len(rows) == 7
    for row in rows.values():
        assert re.fullmatch(r"was \d+, no data for [24]0 min", row["news2"]), row["news2"]
        assert row["heart_rate"].startswith("–")
    assert next(iter(rows)) == RED.bed


def test_highest_alarm_shows_who_acknowledged_it(bad: Hour) -> None:
    rows = bad.ward()

    assert rows[ANSWERED.bed]["acknowledged_by"] == "nurse-7"
    assert rows[RED.bed]["acknowledged_by"] == "not acknowledged"
    assert rows[RED.bed]["alarm"].startswith("*** red NEWS2 7")
    assert rows[RED.bed]["alarm"].endswith("more)")


def test_model_cell_shows_score_reason_or_age(bad: Hour) -> None:
    rows = bad.ward()

    assert rows[RED.bed]["sepsis"] == "31 %, above threshold: heart rate, respiratory rate"
    assert rows[WELL.bed]["sepsis"] == "1.2 %"
    assert rows[WELL.bed]["heart"] == "abstains: age not told"
    assert rows[SILENT.bed]["sepsis"] == "– 25 min"


def test_patient_without_location_is_listed(influxdb: InfluxDB, tmp_path: Path) -> None:
    where = written_hour(influxdb, tmp_path, "untold", hour([RED], pipeline_until_ms=0))

    (row,) = where.rows(flux.ward.patient_table())
    assert (row["bed"], row["risk"]) == ("? a2a2a2a2", "high")
    assert {row["bed"] for row in where.rows(flux.ward.open_alarms())} == {"? a2a2a2a2"}
    assert fires(where, flux.alert_rules.patient_unattended) == {"unknown bed"}


def test_open_alarms_are_those_of_the_processor(bad: Hour) -> None:
    latest = {one.alarm_id: one for one in bad.points.alarms if not one.retrospective}
    standing = [
        one for one in latest.values() if (one.state == "active" or one.latched) and one.stay_id != GONE.binding
    ]

    rows = bad.rows(flux.ward.open_alarms())

    assert Counter((row["rule"], row["binding"]) for row in rows) == Counter(
        (one.rule_id, one.stay_id) for one in standing
    )
    assert [row["order"] for row in rows] == sorted((row["order"] for row in rows), reverse=True)
    assert rows[0]["priority"] == "*** red"
    assert {row["state"] for row in rows if row["bed"] == PASSED.bed} == {"open", "ended, not acknowledged"}
    (counts,) = bad.rows(flux.ward.open_counts())
    assert {row["response"] for row in rows} == {one.response or " " for one in standing}
    assert counts["red"] == counts["red_unacknowledged"] == sum(one.priority == 3 for one in standing)
    assert counts["yellow"] == sum(one.priority == 2 for one in standing)


def test_ward_without_alarms_has_zero_counts(good: Hour) -> None:
    (counts,) = good.rows(flux.ward.open_counts())

    assert (counts["red"], counts["red_unacknowledged"], counts["yellow"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("alarms", "counts"),
    [
        ((RED_ALARM,), (1, 1, 0, 0)),
        ((RED_ALARM,) * 3, (3, 3, 0, 0)),
        ((RED_ALARM._replace(by="nurse-7"),), (0, 1, 0, 0)),
        ((YELLOW_ALARM,) * 2, (0, 0, 2, 0)),
        ((CYAN_ALARM,), (0, 0, 0, 1)),
        ((RED_ALARM._replace(ended=True), YELLOW_ALARM), (1, 1, 1, 0)),
    ],
)
@pytest.mark.parametrize("with_beds", [True, False], ids=["beds", "no beds"])
def test_alarms_that_are_all_alike_are_counted(
    influxdb: InfluxDB, tmp_path: Path, alarms: tuple[Alarm, ...], counts: tuple[int, ...], with_beds: bool
) -> None:
    patient = Situation("North/1", alarms=alarms)
    bucket = f"alike_{len(alarms)}_{''.join(map(str, counts))}_{with_beds}"
    where = written_hour(influxdb, tmp_path, bucket, points_of([patient], with_beds=with_beds))

    (found,) = where.rows(flux.ward.open_counts())

    assert tuple(found[name] for name in ("red_unacknowledged", "red", "yellow", "cyan")) == counts


def test_without_any_patient_there_is_no_number_of_alarms(influxdb: InfluxDB, tmp_path: Path) -> None:
    empty = written_hour(influxdb, tmp_path, "no_patients", points_of([]))

    assert empty.rows(flux.ward.open_counts()) == []  # a 0 would say that all is well


def test_models_of_every_edge_are_listed(bad: Hour) -> None:
    assert [(row["model"], row["last_heartbeat"]) for row in bad.rows(flux.ward.edge_models())] == [
        ("sepsis 1.1.0, heart-home 1.0.0", "30 s"),
        ("rules only (sepsis: damaged)", "30 s"),
    ]
