"""Every query of every panel, variable, annotation and alert rule, on the real InfluxDB, after a bad and a good hour.

The hours are those of `wards`: North/2 gets worse and nobody answers, North/3 gets worse and is answered, North/4 has
a gap of fifteen minutes, South/1 falls silent while ill, South/2 loses its SpO2, South/3 is discharged, South/4 was ill
for ten minutes, and everybody in the East is well.
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
NAMES = [spec.sign.value for spec in flux.SCORED]


class Hour:
    """Points in the database, and questions about them."""

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
        """Of a query that gives one table."""
        tables = self.tables(query, **wishes)
        assert len(tables) <= 1
        return tables[0] if tables else []

    def ward(self, **wishes: Any) -> dict[str, Row]:
        return {row["bed"]: row for row in self.rows(flux.ward(), **wishes)}


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


def test_a_tenant_is_a_bucket_that_the_token_may_read_with_its_minutes(bad: Hour, good: Hour) -> None:
    found = [row["text"] for row in bad.rows(flux.tenants())]

    assert {"bad_hour", "good_hour"} <= set(found)
    assert not [one for one in found if one.endswith("_1m")]


def test_wards_and_patients_are_those_that_ingest_told_of(bad: Hour) -> None:
    assert [row["text"] for row in bad.rows(flux.wards())] == ["North", "South"]
    texts = [row["text"] for row in bad.rows(flux.patients(), wards=["South"])]
    assert texts[0] == f"South/1, patient-b1 | {SILENT.binding}"
    assert len(texts) == 4


def test_what_people_read_and_what_queries_need_are_told_apart_by_the_variable_itself(bad: Hour) -> None:
    regex = next(one["regex"] for one in dashboard_json("patient")["templating"]["list"] if one["name"] == "patient")
    pattern = re.compile(regex.strip("/").replace("?<", "?P<"))

    for row in bad.rows(flux.patients()):
        found = pattern.search(row["text"])
        assert found is not None
        assert found["value"] in {bed.binding for bed in A_BAD_HOUR}
        assert found["text"].split(", ")[0] in {bed.bed for bed in A_BAD_HOUR}


# Ward


def test_the_worst_stand_first_red_before_all_others(bad: Hour) -> None:
    rows = bad.rows(flux.ward())

    assert [row["bed"] for row in rows[:4]] == [RED.bed, SILENT.bed, PASSED.bed, ANSWERED.bed]
    assert {row["bed"] for row in rows[4:]} == {WELL.bed, GAP.bed, NO_SPO2.bed}
    assert [row["rank"] for row in rows] == sorted((row["rank"] for row in rows), reverse=True)


def test_who_is_discharged_is_not_on_the_ward(bad: Hour) -> None:
    assert GONE.bed not in bad.ward()
    assert GONE.bed in bad.ward(stop_ms=NOW + 20 * MINUTE)  # as it was then


def test_a_ward_shows_its_own(bad: Hour) -> None:
    assert {bed.split("/")[0] for bed in bad.ward(wards=["North"])} == {"North"}
    assert len(bad.ward(wards=["North", "South"])) == 7
    assert bad.ward(wards=["Nor"]) == {}  # a part of a name is not a name


def test_a_cell_is_value_points_and_age(bad: Hour) -> None:
    row = bad.ward()[RED.bed]

    assert re.fullmatch(r"2\d \(\+3\)  5 s", row["respiratory_rate"])
    assert re.fullmatch(r"9[12] \(\+[23]\)  5 s", row["spo2"])
    assert re.fullmatch(r"36\.\d  5 min", row["temperature"])
    assert (row["consciousness"], row["supplemental_oxygen"]) == ("A  60 min", "air  60 min")
    assert re.fullmatch(r"1\d\d  30 min", row["systolic_bp"])
    assert (row["risk"], row["news2"] in ("7", "8", "9")) == ("high", True)


def test_what_is_stale_is_a_dash_with_its_age_and_in_no_score(bad: Hour) -> None:
    row = bad.ward()[NO_SPO2.bed]

    assert row["spo2"] == "– 10 min"
    assert row["news2"].startswith("≥ ")
    assert re.fullmatch(r"\d\d  5 s", row["heart_rate"])


def test_who_fell_silent_is_shown_as_they_were_and_not_as_they_are(bad: Hour) -> None:
    row = bad.ward()[SILENT.bed]

    assert re.fullmatch(r"was [56], no data for 20 min", row["news2"])
    assert {row[name] for name in ("heart_rate", "respiratory_rate", "spo2")} == {"– 20 min"}
    assert row["risk"] == "medium"
    assert "no data" in row["alarm"]


@pytest.mark.parametrize("spec", [spec for spec in flux.SCORED if not spec.entered], ids=lambda spec: spec.sign.value)
def test_no_value_stands_beyond_its_validity_even_if_everything_has_stopped(bad: Hour, spec: Any) -> None:
    #  END ............... validity      later
    #   |  value, age          |  a dash, age        nobody writes after END
    measured_ms = {"temperature": 5 * MINUTE, "systolic_bp": 30 * MINUTE}.get(spec.sign.value, 5 * SECOND)
    valid_ms = MonitoringPlan().valid(spec.sign)
    last_ms = END - measured_ms + valid_ms

    assert not bad.ward(stop_ms=last_ms)[WELL.bed][spec.sign.value].startswith("–")
    assert bad.ward(stop_ms=last_ms + 1)[WELL.bed][spec.sign.value].startswith("– ")


def test_everything_has_stopped_and_nobody_looks_well(bad: Hour) -> None:
    rows = bad.ward(stop_ms=END + 20 * MINUTE)

    assert len(rows) == 7
    for row in rows.values():
        assert re.fullmatch(r"was \d+, no data for [24]0 min", row["news2"]), row["news2"]
        assert row["heart_rate"].startswith("–")
    assert next(iter(rows)) == RED.bed


def test_the_worst_alarm_says_who_answered_it(bad: Hour) -> None:
    rows = bad.ward()

    assert rows[ANSWERED.bed]["acknowledged_by"] == "nurse-7"
    assert rows[RED.bed]["acknowledged_by"] == "nobody"
    assert rows[RED.bed]["alarm"].startswith("*** red NEWS2 7")
    assert rows[RED.bed]["alarm"].endswith("more)")


def test_models_say_speak_abstain_or_are_too_old(bad: Hour) -> None:
    rows = bad.ward()

    assert rows[RED.bed]["sepsis"] == "31 % speaks: heart rate, respiratory rate"
    assert rows[WELL.bed]["sepsis"] == "1.2 %"
    assert rows[WELL.bed]["heart"] == "abstains: age not told"
    assert rows[SILENT.bed]["sepsis"] == "– 25 min"


def test_a_patient_of_whom_nobody_told_where_they_are_is_on_the_ward_all_the_same(
    influxdb: InfluxDB, tmp_path: Path
) -> None:
    where = _hour(influxdb, tmp_path, "untold", hour([RED], pipeline_until_ms=0))

    (row,) = where.rows(flux.ward())
    assert (row["bed"], row["risk"]) == ("? a2a2a2a2", "high")
    assert {row["bed"] for row in where.rows(flux.open_alarms())} == {"? a2a2a2a2"}
    assert fires(where, flux.rule_red_unanswered) == {"unknown bed"}


def test_alarms_that_stand_are_those_of_the_processor(bad: Hour) -> None:
    latest = {one.alarm_id: one for one in bad.points.alarms if not one.retrospective}
    standing = [
        one for one in latest.values() if (one.state == "active" or one.latched) and one.binding_id != GONE.binding
    ]

    rows = bad.rows(flux.open_alarms())

    assert Counter((row["rule"], row["binding"]) for row in rows) == Counter(
        (one.rule_id, one.binding_id) for one in standing
    )
    assert [row["order"] for row in rows] == sorted((row["order"] for row in rows), reverse=True)
    assert rows[0]["priority"] == "*** red"
    assert {row["state"] for row in rows if row["bed"] == PASSED.bed} == {"open", "ended, nobody has looked"}
    (counts,) = bad.rows(flux.open_counts())
    assert counts["red"] == counts["red_unanswered"] == sum(one.priority == 3 for one in standing)
    assert counts["yellow"] == sum(one.priority == 2 for one in standing)


def test_a_ward_without_alarms_counts_nothing(good: Hour) -> None:
    (counts,) = good.rows(flux.open_counts())

    assert (counts["red"], counts["red_unanswered"], counts["yellow"]) == (0, 0, 0)


def test_every_edge_says_what_judges_there(bad: Hour) -> None:
    assert [(row["model"], row["told"]) for row in bad.rows(flux.model_state())] == [
        ("sepsis 1.1.0, heart-home 1.0.0", "30 s"),
        ("rules only (sepsis: damaged)", "30 s"),
    ]


# Patient


def test_a_gap_in_a_trend_is_a_gap(bad: Hour) -> None:
    tables = bad.tables(flux.sign_trend(VitalSign.SPO2), patient=GAP)

    assert {table[0]["_field"] for table in tables} == {"min", "mean", "max"}
    for table in tables:
        values = [row["_value"] for row in table]
        assert len(values) == 60
        assert values[25:40] == [None] * 15
        assert None not in values[:25] + values[40:59]


@pytest.mark.parametrize("spec", [spec for spec in SIGNS if not spec.entered], ids=lambda spec: spec.sign.value)
def test_each_sign_has_its_lowest_mean_and_highest(bad: Hour, spec: Any) -> None:
    found = {table[0]["_field"]: [row["_value"] for row in table] for table in bad.tables(flux.sign_trend(spec.sign))}

    assert set(found) == {"min", "mean", "max"}
    values = [one for one in zip(found["min"], found["mean"], found["max"], strict=True) if None not in one]
    assert values
    assert all(low <= mean <= high for low, mean, high in values)
    assert all(spec.plausible[0] <= low and high <= spec.plausible[1] for low, _, high in values)


def test_news2_over_time_rises_with_the_patient(bad: Hour) -> None:
    found = {table[0]["_field"]: [row["_value"] for row in table] for table in bad.tables(flux.news2_trend())}

    assert max(found["at_least"][:20]) <= 2
    assert min(found["at_least"][35:]) >= 7
    assert found["total"] == found["at_least"]  # nothing was missing
    without = {table[0]["_field"]: table for table in bad.tables(flux.news2_trend(), patient=NO_SPO2)}
    assert without["total"][-1]["_value"] is None
    assert without["at_least"][-1]["_value"] is not None


def test_parts_of_news2_add_up(bad: Hour) -> None:
    parts = bad.tables(flux.part_trend(), interval_s=5)
    (total,) = (one for one in bad.tables(flux.news2_trend(), interval_s=5) if one[0]["_field"] == "total")

    assert {table[0]["_field"] for table in parts} == {f"{name}_points" for name in NAMES}
    sums = [sum(table[n]["_value"] for table in parts) for n in range(720)]
    assert sums == [row["_value"] for row in total]


def test_freshness_is_drawn_from_the_beginning_of_the_range(bad: Hour) -> None:
    tables = bad.tables(flux.freshness_trend(), patient=SILENT, start_ms=NOW + 30 * MINUTE)
    states = {table[0]["sign"]: [row["_value"] for row in table] for table in tables}

    assert states["heart_rate"] == ["FRESH", "LATE", "STALE", "LOST"]
    assert states["systolic_bp"] == ["FRESH"]


def test_scores_have_their_threshold_and_their_reasons(bad: Hour) -> None:
    trend = {(table[0]["model"], table[0]["_field"]): table for table in bad.tables(flux.score_trend(), interval_s=300)}

    assert set(trend) == {("sepsis", "score"), ("sepsis", "threshold"), ("heart", "threshold")}
    assert [row["_value"] for row in trend["sepsis", "score"]][::6] == [0.012, 0.31]
    words = bad.rows(flux.reasons())
    assert next((row["says"], row["percent"], row["reason"]) for row in words if row["model"] == "sepsis") == (
        "speaks", "31 %", "heart rate, respiratory rate",
    )  # fmt: skip
    assert {row["says"] for row in words if row["model"] == "heart"} == {"abstains"}
    assert len(words) == 10


def test_the_patients_row_is_the_wards(bad: Hour) -> None:
    (row,) = bad.rows(flux.patient_now(), patient=ANSWERED)

    assert row == bad.ward()[ANSWERED.bed]


def test_alarms_are_marked_from_when_they_began_to_when_they_were_over(bad: Hour) -> None:
    marks = {row["tags"]: row for row in bad.rows(flux.alarm_marks(), patient=PASSED)}

    low = marks["low_spo2"]
    assert low["title"] == "** yellow"
    assert "over since" in low["text"]
    assert (low["timeEnd"] - low["time"]).total_seconds() == pytest.approx(12 * 60, abs=60)
    answered = {row["tags"]: row for row in bad.rows(flux.alarm_marks(), patient=ANSWERED)}
    assert "acknowledged by nurse-7" in answered["news2"]["text"]
    assert _ms(answered["news2"]["timeEnd"]) == END  # it still stands


def test_the_history_has_every_change(bad: Hour) -> None:
    rows = bad.rows(flux.alarm_history(), patient=ANSWERED)

    changes = [one for one in bad.points.alarms if one.binding_id == ANSWERED.binding]
    assert len(rows) == len(changes)
    assert _ms(rows[0]["at"]) == max(one.at_ms for one in changes)


# Pipeline


def test_readings_a_second_are_those_that_were_sent(good: Hour) -> None:
    (table,) = good.tables(flux.reading_rate())

    assert [row["_value"] for row in table] == [pytest.approx(len(A_GOOD_HOUR) / 5)] * 60


@pytest.mark.parametrize("field", ["lag", "worst_age_ms", "patients", "unanswered"])
def test_each_partition_has_a_line(bad: Hour, field: str) -> None:
    tables = bad.tables(flux.partition_trend(field))

    assert [table[0]["partition"] for table in tables] == ["0", "1"]
    assert all(row["_value"] is not None for table in tables for row in table)


def test_dead_letters_stand_by_stage_and_reason(bad: Hour) -> None:
    (table,) = bad.tables(flux.dead_letters(), interval_s=300)

    assert table[0]["_field"] == "ingest: schema"
    assert [row["_value"] for row in table if row["_value"] is not None] == [1]


def test_what_edges_refuse_is_counted_by_window(bad: Hour) -> None:
    tables = bad.tables(flux.refused(), interval_s=600)
    counted = {(table[0]["edge"][:2], table[0]["_field"]): sum(row["_value"] or 0 for row in table) for table in tables}

    assert counted["65", "rejected"] == 5
    assert counted["65", "duplicates"] == 0


def test_edges_say_how_they_are(bad: Hour) -> None:
    first, second = sorted(bad.rows(flux.edges()), key=lambda row: row["edge"])

    assert (first["waiting"], first["oldest"]) == (0, " ")
    assert (second["waiting"], second["oldest"]) == (7, "12 s")
    assert (first["heard"], first["disk"], first["clock_skew_s"]) == ("30 s", 1.0, 0.003)


def test_hops_say_when_they_were_heard(bad: Hour) -> None:
    now = {row["hop"]: row["silent_s"] for row in bad.rows(flux.hops())}
    later = {row["hop"]: row["silent_s"] for row in bad.rows(flux.hops(), stop_ms=END + 10 * MINUTE)}

    assert now == {"1 edges": 30, "2 ingest": 30, "3 readings": 5, "4 workers": 30}
    assert later == {hop: seconds + 600 for hop, seconds in now.items()}
    assert {row["heard"] for row in bad.rows(flux.hops(), stop_ms=NOW - MINUTE)} == {"never within a day"}


def test_what_edges_found_by_themselves_is_counted(bad: Hour) -> None:
    assert bad.rows(flux.edge_alarms()) == [{"rule": "news2", "alarms": 1}]


# Alarm quality


def test_the_load_is_that_of_the_kernel(bad: Hour) -> None:
    minutes = {
        line.split(" ")[0] + line.rsplit(" ", 1)[1] for line in bad.points.lines["minutes"] if "heart_rate" in line
    }
    expected = alarm_load(bad.points.alarms, patient_ms=len(minutes) * MINUTE)

    rows = bad.rows(flux.alarm_load())
    times = {(row["kind"], row["priority"]): row for row in bad.rows(flux.answer_times())}

    known = [one for one in expected.rows if one.alarms and one.priority is not None and one.kind is not None]
    assert [(row["kind"], row["priority"], row["alarms"]) for row in rows] == [
        (one.kind, flux.PRIORITIES[one.priority], one.alarms) for one in known
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
    assert any(one.cleared_alone for one in known)  # otherwise this compares nothing with nothing
    assert any(one.median_ms for one in known)


def test_an_alarm_counts_where_it_began(bad: Hour) -> None:
    late = sum(row["alarms"] for row in bad.rows(flux.alarm_load(), start_ms=NOW + 27 * MINUTE))
    expected = [
        one for one in bad.points.alarms
        if one.revision == 0 and not one.retrospective and one.at_ms >= NOW + 27 * MINUTE
    ]  # fmt: skip

    assert late == len(expected) > 0


def test_rules_that_ask_for_people_are_counted(bad: Hour) -> None:
    found = {row["rule"]: row for row in bad.rows(flux.alarms_by_rule())}
    began = Counter(one.rule_id for one in bad.points.alarms if one.revision == 0 and not one.retrospective)

    assert {rule: row["alarms"] for rule, row in found.items()} == dict(began)
    assert (found["low_spo2"]["cleared_alone"], found["low_spo2"]["patients"]) == (100.0, 1)


def test_alarms_over_time_are_all_of_them(bad: Hour) -> None:
    tables = bad.tables(flux.alarms_over_time(), interval_s=600)
    began = [one for one in bad.points.alarms if one.revision == 0 and not one.retrospective]

    assert {table[0]["kind"]: sum(row["_value"] for row in table) for table in tables} == {
        kind.value: sum(one.kind is kind for one in began) for kind in AlarmKind
    }
    assert {len(table) for table in tables} == {6}


# Alert rules: a series for each patient or hop; what is not 0, alarms


def fires(where: Hour, rule: Callable[[str], str], *, stop_ms: int = END, label: str = "bed") -> set[str]:
    """Who the rule alarms for, as Grafana's reduction to the last value has it. No series at all is an alarm, too."""
    tables = where.tables(rule(where.config.bucket), stop_ms=stop_ms)
    if not tables:
        return {"no data"}
    assert all("_time" in row and isinstance(row["_value"], float) for table in tables for row in table)
    return {table[-1][label] for table in tables if table[-1]["_value"] != 0}


def test_a_red_alarm_that_nobody_answers_fires(bad: Hour, good: Hour) -> None:
    assert fires(bad, flux.rule_red_unanswered) == {RED.bed, SILENT.bed, PASSED.bed}
    assert fires(good, flux.rule_red_unanswered) == set()


def test_a_patient_without_data_fires_as_late_as_the_kernel_says_lost(bad: Hour, good: Hour) -> None:
    assert fires(bad, flux.rule_no_data) == {SILENT.bed}
    assert fires(good, flux.rule_no_data) == set()
    lost_ms = {lowest: lost for lowest, _, lost in BY_NEWS2}[5]
    silent_from = NOW + 40 * MINUTE - 5 * SECOND
    assert fires(bad, flux.rule_no_data, stop_ms=silent_from + lost_ms) == set()
    assert fires(bad, flux.rule_no_data, stop_ms=silent_from + lost_ms + 1) == {SILENT.bed}


def test_who_is_discharged_is_not_missed(bad: Hour) -> None:
    assert GONE.bed not in fires(bad, flux.rule_no_data, stop_ms=END + 3 * 60 * MINUTE)
    assert WELL.bed in fires(bad, flux.rule_no_data, stop_ms=END + 3 * 60 * MINUTE)


def test_a_bed_of_which_nothing_ever_came_fires(influxdb: InfluxDB, tmp_path: Path) -> None:
    #  bound an hour before the story began, not one reading
    never = Bed("West/1", "patient-d1", lambda _, __: None)
    where = _hour(influxdb, tmp_path, "never", hour([never]))

    assert fires(where, flux.rule_no_data) == {never.bed}
    assert fires(where, flux.rule_red_unanswered) == set()
    # Beds, and not one alarm: that is no error.
    assert where.rows(flux.open_alarms()) == []
    (counts,) = where.rows(flux.open_counts())
    assert set(counts.values()) == {0}
    assert where.ward()[never.bed]["news2"] == "no data yet"
    for query in {query for _, query in _asked()}:
        where.tables(query.replace('"bad_hour"', '"never"'))


def test_a_silent_pipeline_fires_by_its_hop(bad: Hour, influxdb: InfluxDB, tmp_path: Path) -> None:
    silent = partial(fires, rule=flux.rule_pipeline_silent, label="hop")

    assert silent(bad) == set()
    assert silent(bad, stop_ms=END + 4 * MINUTE) == {"1 edges", "2 ingest", "3 readings", "4 workers"}
    half = _hour(influxdb, tmp_path, "half", hour(A_GOOD_HOUR[:1], pipeline_until_ms=LENGTH - 10 * MINUTE))
    assert silent(half) == {"1 edges", "2 ingest", "4 workers"}  # readings still come


def test_a_database_without_anything_is_an_alarm(influxdb: InfluxDB, tmp_path: Path) -> None:
    empty = _hour(influxdb, tmp_path, "empty", Points({"raw": [], "minutes": []}, []))

    assert fires(empty, flux.rule_no_data) == {"no data"}
    assert fires(empty, flux.rule_red_unanswered) == {"no data"}
    assert len(fires(empty, flux.rule_pipeline_silent, label="hop")) == 4


# All that stands in the files


def _asked() -> list[tuple[str, str]]:
    found = []
    for name in DASHBOARDS:
        board = dashboard_json(name)
        found += [(f"{name}: {panel['title']}", one["query"]) for panel in board["panels"]
                  for one in panel.get("targets", [])]  # fmt: skip
        found += [(f"{name}: ${one['name']}", one["query"]) for one in board["templating"]["list"]]
        found += [(f"{name}: {one['name']}", one["target"]["query"]) for one in board["annotations"]["list"]]
    for rule in rules("bad_hour")["groups"][0]["rules"]:
        found.append((f"rule: {rule['title']}", rule["data"][0]["model"]["query"]))
    return found


@pytest.mark.parametrize(("where", "query"), _asked(), ids=[where for where, _ in _asked()])
def test_what_stands_in_a_file_is_answered(bad: Hour, where: str, query: str) -> None:
    """And in a form that Grafana takes: time series with labels of text, or tables without a column `_value`."""
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
def test_a_table_names_every_column_that_its_query_gives(bad: Hour, name: str) -> None:
    for panel in dashboard_json(name)["panels"]:
        for one in panel.get("transformations", []):
            (table,) = bad.tables(panel["targets"][0]["query"])
            assert set(one["options"]["indexByName"]) == set(table[0]), panel["title"]


def test_who_asks_again_is_told_the_same(bad: Hour) -> None:
    async def again(query: str) -> list[Any]:
        text = bad.text(query)
        return await asyncio.gather(*(ask(bad.config, text) for _ in range(3)))

    for query, where in {query: where for where, query in _asked()}.items():
        # Columns may come in any order, and tables; rows may not.
        answers = [
            sorted(str([sorted(row.items()) for row in table]) for table in answer)
            for answer in asyncio.run(again(query))
        ]
        assert all(answer == answers[0] for answer in answers), where


def test_a_database_that_knows_nothing_answers_every_query(influxdb: InfluxDB, tmp_path: Path) -> None:
    empty = _hour(influxdb, tmp_path, "nothing", Points({"raw": [], "minutes": []}, []))

    for query in {query for _, query in _asked()}:
        empty.tables(query.replace('"bad_hour"', '"nothing"'))


def _ms(moment: Any) -> int:
    return int(moment.timestamp() * 1_000)
