"""Flux queries of the Patient dashboard, on a real InfluxDB."""

from typing import Any

import pytest

from dashboards import flux
from dashboards.flux.parts import SCORED
from tests.dashboards.hours import Hour
from tests.dashboards.wards import (
    ANSWERED,
    END,
    GAP,
    NO_SPO2,
    PASSED,
    SILENT,
)
from tests.stream.receiving_site import MINUTE, NOW
from vitals.signs import SIGNS, VitalSign

pytestmark = pytest.mark.services

NAMES = [spec.sign.value for spec in SCORED]


def test_gap_in_the_data_is_a_gap_in_the_trend(bad: Hour) -> None:
    tables = bad.tables(flux.patient.sign_trend(VitalSign.SPO2), patient=GAP)

    assert {table[0]["_field"] for table in tables} == {"min", "mean", "max"}
    for table in tables:
        values = [row["_value"] for row in table]
        assert len(values) == 60
        assert values[25:40] == [None] * 15
        assert None not in values[:25] + values[40:59]


@pytest.mark.parametrize("spec", [spec for spec in SIGNS if not spec.entered], ids=lambda spec: spec.sign.value)
def test_each_sign_has_minimum_mean_and_maximum(bad: Hour, spec: Any) -> None:
    found = {
        table[0]["_field"]: [row["_value"] for row in table] for table in bad.tables(flux.patient.sign_trend(spec.sign))
    }

    assert set(found) == {"min", "mean", "max"}
    values = [one for one in zip(found["min"], found["mean"], found["max"], strict=True) if None not in one]
    assert values
    assert all(low <= mean <= high for low, mean, high in values)
    assert all(spec.usual[0] <= low and high <= spec.usual[1] for low, _, high in values)


def test_news2_trend_follows_the_patient(bad: Hour) -> None:
    found = {table[0]["_field"]: [row["_value"] for row in table] for table in bad.tables(flux.patient.news2_trend())}

    assert max(found["at_least"][:20]) <= 2
    assert min(found["at_least"][35:]) >= 7
    assert found["total"] == found["at_least"]  # nothing was missing
    without = {table[0]["_field"]: table for table in bad.tables(flux.patient.news2_trend(), patient=NO_SPO2)}
    assert without["total"][-1]["_value"] is None
    assert without["at_least"][-1]["_value"] is not None


def test_news2_points_add_up_to_the_total(bad: Hour) -> None:
    parts = bad.tables(flux.patient.news2_parts(), interval_s=5)
    (total,) = (one for one in bad.tables(flux.patient.news2_trend(), interval_s=5) if one[0]["_field"] == "total")

    assert {table[0]["_field"] for table in parts} == {f"{name}_points" for name in NAMES}
    sums = [sum(table[n]["_value"] for table in parts) for n in range(720)]
    assert sums == [row["_value"] for row in total]


def test_freshness_includes_the_state_at_the_start_of_the_range(bad: Hour) -> None:
    tables = bad.tables(flux.patient.freshness_trend(), patient=SILENT, start_ms=NOW + 30 * MINUTE)
    states = {table[0]["sign"]: [row["_value"] for row in table] for table in tables}

    assert states["heart_rate"] == ["FRESH", "LATE", "STALE", "LOST"]
    assert states["systolic_bp"] == ["FRESH"]


def test_scores_have_thresholds_and_reasons(bad: Hour) -> None:
    trend = {
        (table[0]["model"], table[0]["_field"]): table
        for table in bad.tables(flux.patient.score_trend(), interval_s=300)
    }

    assert set(trend) == {("sepsis", "score"), ("sepsis", "threshold"), ("heart", "threshold")}
    assert [row["_value"] for row in trend["sepsis", "score"]][::6] == [0.012, 0.31]
    reasons = bad.rows(flux.patient.score_reasons())
    assert next((row["outcome"], row["probability"], row["reason"]) for row in reasons if row["model"] == "sepsis") == (
        "above threshold",
        "31 %",
        "heart rate, respiratory rate",
    )
    assert {row["outcome"] for row in reasons if row["model"] == "heart"} == {"abstains"}
    assert len(reasons) == 10


def test_patient_row_equals_that_of_the_ward(bad: Hour) -> None:
    (row,) = bad.rows(flux.patient.patient_row(), patient=ANSWERED)

    assert row == bad.ward()[ANSWERED.bed]


def test_alarm_annotations_span_from_onset_to_end(bad: Hour) -> None:
    marks = {row["tags"]: row for row in bad.rows(flux.patient.alarm_annotations(), patient=PASSED)}

    low = marks["low_spo2"]
    assert low["title"] == "** yellow"
    assert "over since" in low["text"]
    assert (low["timeEnd"] - low["time"]).total_seconds() == pytest.approx(12 * 60, abs=60)
    answered = {row["tags"]: row for row in bad.rows(flux.patient.alarm_annotations(), patient=ANSWERED)}
    assert "acknowledged by nurse-7" in answered["news2"]["text"]
    assert _ms(answered["news2"]["timeEnd"]) == END  # still open


def test_alarm_history_has_every_change(bad: Hour) -> None:
    rows = bad.rows(flux.patient.alarm_history(), patient=ANSWERED)

    changes = [one for one in bad.points.alarms if one.stay_id == ANSWERED.binding]
    assert len(rows) == len(changes)
    assert {row["response"] for row in rows} == {one.response or " " for one in changes}
    assert _ms(rows[0]["at"]) == max(one.at_ms for one in changes)


def _ms(moment: Any) -> int:
    return int(moment.timestamp() * 1_000)


def test_what_a_nurse_observed_is_a_row_with_what_was_observed(bad: Hour) -> None:
    (row,) = bad.rows(flux.patient.observations(), patient=ANSWERED)

    assert (row["by"], row["consciousness"], row["oxygen_device"], row["note"]) == (
        "nurse-7",
        "A",
        "nasal cannula",
        "slept well",
    )
    assert (float(row["supplemental_oxygen"]), float(row["glucose"]), row["spo2"]) == (2.0, 5.6, " ")
    assert bad.rows(flux.patient.observations(), patient=SILENT) == []


def test_a_patient_with_two_devices_is_one_row_that_names_both(bad: Hour) -> None:
    (row,) = bad.rows(flux.patient.patient_row(), patient=GAP)

    assert row["devices"] == "patch, oximeter"
