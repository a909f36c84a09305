"""Every query of every panel, variable, annotation and alert rule, on a real InfluxDB, after a bad and a good hour.

The hours are those of `wards`: North/2 deteriorates and is not acknowledged, North/3 deteriorates and is acknowledged,
North/4 has a gap of fifteen minutes, South/1 falls silent while ill, South/2 loses its SpO2, South/3 is discharged,
South/4 was ill for ten minutes, and all patients in the East are well.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dashboards import flux
from dashboards.build import DASHBOARDS, dashboard_json
from dashboards.flux.parts import PRIORITIES, SCORED
from dashboards.provisioning import rules
from stream.config import InfluxConfig
from tests.dashboards.asking import ask, interpolated
from tests.dashboards.wards import (
    A_BAD_HOUR,
    A_GOOD_HOUR,
    ANSWERED,
    END,
    GAP,
    GONE,
    LENGTH,
    NO_SPO2,
    PASSED,
    RED,
    SILENT,
    WELL,
    Bed,
    Points,
    config_of,
    hour,
    write,
)
from tests.services.influxdb import InfluxDB
from tests.stream.receiving_site import MINUTE, NOW, SECOND
from vitals.alarm_load import alarm_load
from vitals.freshness import BY_NEWS2
from vitals.messages import AlarmKind
from vitals.plan import MonitoringPlan
from vitals.signs import SIGNS, VitalSign

pytestmark = pytest.mark.services

Row = dict[str, Any]
NAMES = [spec.sign.value for spec in SCORED]


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


@pytest.fixture(scope="module")
def bad(influxdb: InfluxDB, tmp_path_factory: pytest.TempPathFactory) -> Hour:
    return _hour(influxdb, tmp_path_factory.mktemp("bad"), "bad_hour", hour(A_BAD_HOUR))


@pytest.fixture(scope="module")
def good(influxdb: InfluxDB, tmp_path_factory: pytest.TempPathFactory) -> Hour:
    return _hour(influxdb, tmp_path_factory.mktemp("good"), "good_hour", hour(A_GOOD_HOUR))


def _hour(influxdb: InfluxDB, folder: Path, bucket: str, points: Points) -> Hour:
    config = config_of(influxdb, folder, bucket)
    asyncio.run(write(config, points))
    return Hour(config, points)


# Variables


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
        assert found["value"] in {bed.binding for bed in A_BAD_HOUR}
        assert found["text"].split(", ")[0] in {bed.bed for bed in A_BAD_HOUR}


# Ward


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
    assert row["risk"] == "medium"
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
    where = _hour(influxdb, tmp_path, "untold", hour([RED], pipeline_until_ms=0))

    (row,) = where.rows(flux.ward.patient_table())
    assert (row["bed"], row["risk"]) == ("? a2a2a2a2", "high")
    assert {row["bed"] for row in where.rows(flux.ward.open_alarms())} == {"? a2a2a2a2"}
    assert fires(where, flux.alert_rules.red_unanswered) == {"unknown bed"}


def test_open_alarms_are_those_of_the_processor(bad: Hour) -> None:
    latest = {one.alarm_id: one for one in bad.points.alarms if not one.retrospective}
    standing = [
        one for one in latest.values() if (one.state == "active" or one.latched) and one.binding_id != GONE.binding
    ]

    rows = bad.rows(flux.ward.open_alarms())

    assert Counter((row["rule"], row["binding"]) for row in rows) == Counter(
        (one.rule_id, one.binding_id) for one in standing
    )
    assert [row["order"] for row in rows] == sorted((row["order"] for row in rows), reverse=True)
    assert rows[0]["priority"] == "*** red"
    assert {row["state"] for row in rows if row["bed"] == PASSED.bed} == {"open", "ended, not acknowledged"}
    (counts,) = bad.rows(flux.ward.open_counts())
    assert counts["red"] == counts["red_unacknowledged"] == sum(one.priority == 3 for one in standing)
    assert counts["yellow"] == sum(one.priority == 2 for one in standing)


def test_ward_without_alarms_has_zero_counts(good: Hour) -> None:
    (counts,) = good.rows(flux.ward.open_counts())

    assert (counts["red"], counts["red_unacknowledged"], counts["yellow"]) == (0, 0, 0)


def test_models_of_every_edge_are_listed(bad: Hour) -> None:
    assert [(row["model"], row["last_heartbeat"]) for row in bad.rows(flux.ward.edge_models())] == [
        ("sepsis 1.1.0, heart-home 1.0.0", "30 s"),
        ("rules only (sepsis: damaged)", "30 s"),
    ]


# Patient


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
    assert all(spec.plausible[0] <= low and high <= spec.plausible[1] for low, _, high in values)


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

    changes = [one for one in bad.points.alarms if one.binding_id == ANSWERED.binding]
    assert len(rows) == len(changes)
    assert _ms(rows[0]["at"]) == max(one.at_ms for one in changes)


# Pipeline


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


# Alarm quality


def test_alarm_load_equals_that_of_the_kernel(bad: Hour) -> None:
    minutes = {
        line.split(" ")[0] + line.rsplit(" ", 1)[1] for line in bad.points.lines["minutes"] if "heart_rate" in line
    }
    expected = alarm_load(bad.points.alarms, patient_ms=len(minutes) * MINUTE)

    rows = bad.rows(flux.alarm_quality.alarm_load())
    times = {(row["kind"], row["priority"]): row for row in bad.rows(flux.alarm_quality.answer_times())}

    known = [one for one in expected.rows if one.alarms and one.priority is not None and one.kind is not None]
    assert [(row["kind"], row["priority"], row["alarms"]) for row in rows] == [
        (one.kind, PRIORITIES[one.priority], one.alarms) for one in known
    ]
    for row, one in zip(rows, known, strict=True):
        assert row["per_patient_day"] == pytest.approx(one.per_patient_day)
        assert row["acknowledged"] / 100 == pytest.approx(one.acknowledged)
        assert row["cleared_alone"] / 100 == pytest.approx(one.cleared_alone)
        answered = times.get((one.kind, row["priority"]))
        assert (answered is None) == (one.median_ms is None)
        if answered is not None and one.median_ms is not None and one.p95_ms is not None:
            assert answered["median_s"] * 1_000 == pytest.approx(one.median_ms)
            assert answered["p95_s"] * 1_000 == pytest.approx(one.p95_ms)
    assert any(one.cleared_alone for one in known)  # otherwise the comparison is empty
    assert any(one.median_ms for one in known)


def test_alarm_counts_in_the_period_of_its_onset(bad: Hour) -> None:
    late = sum(row["alarms"] for row in bad.rows(flux.alarm_quality.alarm_load(), start_ms=NOW + 27 * MINUTE))
    expected = [
        one
        for one in bad.points.alarms
        if one.revision == 0 and not one.retrospective and one.at_ms >= NOW + 27 * MINUTE
    ]

    assert late == len(expected) > 0


def test_alarms_are_counted_by_rule(bad: Hour) -> None:
    found = {row["rule"]: row for row in bad.rows(flux.alarm_quality.alarms_by_rule())}
    began = Counter(one.rule_id for one in bad.points.alarms if one.revision == 0 and not one.retrospective)

    assert {rule: row["alarms"] for rule, row in found.items()} == dict(began)
    assert (found["low_spo2"]["cleared_alone"], found["low_spo2"]["patients"]) == (100.0, 1)


def test_alarms_over_time_include_all_alarms(bad: Hour) -> None:
    tables = bad.tables(flux.alarm_quality.alarms_over_time(), interval_s=600)
    began = [one for one in bad.points.alarms if one.revision == 0 and not one.retrospective]

    assert {table[0]["kind"]: sum(row["_value"] for row in table) for table in tables} == {
        kind.value: sum(one.kind is kind for one in began) for kind in AlarmKind
    }
    assert {len(table) for table in tables} == {6}


# Alert rules: a series for each patient or stage; a value other than 0 fires


def fires(where: Hour, rule: Callable[[str], str], *, stop_ms: int = END, label: str = "bed") -> set[str]:
    """Labels for which the rule fires, by the last value of each series, as in Grafana. No series at all fires, too."""
    tables = where.tables(rule(where.config.bucket), stop_ms=stop_ms)
    if not tables:
        return {"no data"}
    assert all("_time" in row and isinstance(row["_value"], float) for table in tables for row in table)
    return {table[-1][label] for table in tables if table[-1]["_value"] != 0}


def test_unacknowledged_red_alarm_fires(bad: Hour, good: Hour) -> None:
    assert fires(bad, flux.alert_rules.red_unanswered) == {RED.bed, SILENT.bed, PASSED.bed}
    assert fires(good, flux.alert_rules.red_unanswered) == set()


def test_patient_without_data_fires_when_the_kernel_says_lost(bad: Hour, good: Hour) -> None:
    assert fires(bad, flux.alert_rules.no_data) == {SILENT.bed}
    assert fires(good, flux.alert_rules.no_data) == set()
    lost_ms = {lowest: lost for lowest, _, lost in BY_NEWS2}[5]
    silent_from = NOW + 40 * MINUTE - 5 * SECOND
    assert fires(bad, flux.alert_rules.no_data, stop_ms=silent_from + lost_ms) == set()
    assert fires(bad, flux.alert_rules.no_data, stop_ms=silent_from + lost_ms + 1) == {SILENT.bed}


def test_discharged_patient_does_not_fire(bad: Hour) -> None:
    assert GONE.bed not in fires(bad, flux.alert_rules.no_data, stop_ms=END + 3 * 60 * MINUTE)
    assert WELL.bed in fires(bad, flux.alert_rules.no_data, stop_ms=END + 3 * 60 * MINUTE)


def test_bed_without_any_reading_fires(influxdb: InfluxDB, tmp_path: Path) -> None:
    # Assigned an hour before the start, without any reading.
    never = Bed("West/1", "patient-d1", lambda _, __: None)
    where = _hour(influxdb, tmp_path, "never", hour([never]))

    assert fires(where, flux.alert_rules.no_data) == {never.bed}
    assert fires(where, flux.alert_rules.red_unanswered) == set()
    # Beds without any alarm are not an error.
    assert where.rows(flux.ward.open_alarms()) == []
    (counts,) = where.rows(flux.ward.open_counts())
    assert set(counts.values()) == {0}
    assert where.ward()[never.bed]["news2"] == "no data yet"
    for query in {query for _, query in _queries()}:
        where.tables(query.replace('"bad_hour"', '"never"'))


def test_silent_pipeline_fires_by_stage(bad: Hour, influxdb: InfluxDB, tmp_path: Path) -> None:
    silent = partial(fires, rule=flux.alert_rules.pipeline_silent, label="stage")

    assert silent(bad) == set()
    assert silent(bad, stop_ms=END + 4 * MINUTE) == {"1 edges", "2 ingest", "3 readings", "4 workers"}
    half = _hour(influxdb, tmp_path, "half", hour(A_GOOD_HOUR[:1], pipeline_until_ms=LENGTH - 10 * MINUTE))
    assert silent(half) == {"1 edges", "2 ingest", "4 workers"}  # readings still arrive


def test_empty_database_fires(influxdb: InfluxDB, tmp_path: Path) -> None:
    empty = _hour(influxdb, tmp_path, "empty", Points({"raw": [], "minutes": []}, []))

    assert fires(empty, flux.alert_rules.no_data) == {"no data"}
    assert fires(empty, flux.alert_rules.red_unanswered) == {"no data"}
    assert len(fires(empty, flux.alert_rules.pipeline_silent, label="stage")) == 4


# All queries of the generated files


def _queries() -> list[tuple[str, str]]:
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


@pytest.mark.parametrize(("where", "query"), _queries(), ids=[where for where, _ in _queries()])
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

    for query, where in {query: where for where, query in _queries()}.items():
        # The order of columns and tables may vary, that of rows may not.
        answers = [
            sorted(str([sorted(row.items()) for row in table]) for table in answer)
            for answer in asyncio.run(again(query))
        ]
        assert all(answer == answers[0] for answer in answers), where


def test_every_query_works_on_an_empty_database(influxdb: InfluxDB, tmp_path: Path) -> None:
    empty = _hour(influxdb, tmp_path, "nothing", Points({"raw": [], "minutes": []}, []))

    for query in {query for _, query in _queries()}:
        empty.tables(query.replace('"bad_hour"', '"nothing"'))


def _ms(moment: Any) -> int:
    return int(moment.timestamp() * 1_000)
