"""Flux queries of the Alarm quality dashboard, on a real InfluxDB."""

from collections import Counter

import pytest

from dashboards import flux
from dashboards.flux.parts import PRIORITIES
from tests.dashboards.hours import Hour
from tests.stream.receiving_site import MINUTE, NOW
from vitals.alarm_load import alarm_load
from vitals.messages import AlarmKind

pytestmark = pytest.mark.services


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
