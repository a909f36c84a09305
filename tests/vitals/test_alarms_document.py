"""The tables that clinicians read say what the code does: docs/alarms.md and docs/time-and-quality.md, row by row."""

import re
from pathlib import Path

import pytest

from tests.vitals.stories import SECOND, START, a_monitor, a_reading, an_answer, feed
from vitals.alarms import WORSE_BY, clock_text
from vitals.escalation import NEWS2_RULE, EscalationPolicy, Ladder
from vitals.freshness import BY_NEWS2
from vitals.messages import AlarmKind, Priority
from vitals.monitor import PatientMonitor
from vitals.news2 import RESPONSES, Risk
from vitals.outages import LEAST_PATIENTS, MORE_THAN, WITHIN_MS
from vitals.quality import JUMPS
from vitals.risk import duration
from vitals.rules import DEFAULT_RULES, Rule
from vitals.sign_freshness import LOST_WHILE_ILL
from vitals.signs import SIGNS, SPEC, SignSpec, VitalSign

DOCS = Path(__file__).parents[2] / "docs"
ALARMS = (DOCS / "alarms.md").read_text(encoding="utf-8")
FLOWING = " ".join(ALARMS.split())  # wherever its lines end
TIME_AND_QUALITY = (DOCS / "time-and-quality.md").read_text(encoding="utf-8")

# Quantities whose numbers are not for people: what a threshold is called, and what ends the condition.
NAMED = {
    "sensor_off": ({60_000.0: "1 min", 600_000.0: "10 min"}, "worn again"),
    "zero": ({1.0: "zero"}, "measured again"),
    "suspect_value": ({1.0: "contradicted", 2.0: "extreme"}, "usual values"),
    "unusable": ({1.0: "minutes", 2.0: "long, or no value"}, "usable again"),
    "freshness": ({2.0: "stale", float(LOST_WHILE_ILL): "lost, was ill"}, "heard again"),
    "clock": ({1.0: "corrected"}, "clock right"),
    "disagreement": ({1.0: "contradicted"}, "they agree"),
    "device_silence": ({1.0: "silent", 2.0: "silent for long"}, "heard again"),
    "model_unavailable": ({1.0: "silent", 2.0: "silent for 1 h"}, "model judges"),
}
UNITS = {
    "model:sepsis": " times",
    "model:heart": " times",
    "battery": " %",
    "baseline:heart_rate": " deviations",
    VitalSign.TEMPERATURE: " °C",
    VitalSign.SPO2: " %",
}


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    _, found, after = text.partition(f"\n## {heading}\n")
    assert found, f"no heading {heading!r}"
    table = re.search(r"^\|.*\n\|[-|: ]+\n((?:\|.*\n)+)", after.split("\n## ")[0], flags=re.MULTILINE)
    assert table, f"no table under {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def limits(rule: Rule) -> str:
    sign = {">=": "≥", "<=": "≤"}[rule.comparison]
    if rule.quantity in NAMED:
        names, _ = NAMED[rule.quantity]
        return ", ".join(f"{names[one.threshold]}: {one.priority.name.lower()}" for one in rule.limits)
    unit = UNITS.get(rule.quantity, "")
    return ", ".join(f"{sign} {one.threshold:g}{unit}: {one.priority.name.lower()}" for one in rule.limits)


def lasting(rule: Rule) -> str:
    return duration(rule.for_ms) if rule.for_ms else "at once"


def clearing(rule: Rule) -> str:
    mildest, unit = rule.limits[0].threshold, UNITS.get(rule.quantity, "")
    falls = rule.comparison == ">="
    if rule.quantity in NAMED:
        _, back = NAMED[rule.quantity]
    elif rule.clear_margin:
        back = f"≤ {mildest - rule.clear_margin:g}{unit}" if falls else f"≥ {mildest + rule.clear_margin:g}{unit}"
    else:
        back = f"< {mildest:g}{unit}" if falls else f"> {mildest:g}{unit}"
    if not rule.clear_for_ms and rule.clear_count == 1:
        return f"{back}, at once"
    return f"{back}, {rule.clear_count} times over {duration(rule.clear_for_ms)}"


def latching(rule: Rule) -> str:
    latched = [one.priority for one in rule.limits if rule.latches(one.priority)]
    if not latched:
        return "no"
    return "yes" if len(latched) == len(rule.limits) else f"when {latched[0].name.lower()}"


# docs/alarms.md


def test_the_document_lists_the_default_alarms_and_no_others() -> None:
    assert [row[0] for row in rows(ALARMS, "The default alarms")] == [f"`{rule.rule_id}`" for rule in DEFAULT_RULES]


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=[rule.rule_id for rule in DEFAULT_RULES])
def test_the_document_says_of_an_alarm_what_its_rule_says(rule: Rule) -> None:
    (row,) = [row for row in rows(ALARMS, "The default alarms") if row[0] == f"`{rule.rule_id}`"]
    _, watches, *rest = row

    assert rest == [limits(rule), lasting(rule), clearing(rule), latching(rule)]
    assert watches.startswith(rule.label)
    assert ("technical" in watches) == (rule.kind is AlarmKind.TECHNICAL)
    assert ("off by default" in watches) == (not rule.enabled)


def test_the_document_says_how_soon_silence_matters() -> None:
    from_points = [row[:3] for row in rows(ALARMS, "No data")]

    highest = [None, *(lowest - 1 for lowest, _, _ in BY_NEWS2)]
    expected = [
        [band(lowest, high), duration(stale), duration(lost)]
        for (lowest, stale, lost), high in zip(BY_NEWS2, highest, strict=False)
    ]
    assert from_points == expected


def band(lowest: int, highest: int | None) -> str:
    if highest is None:
        return f"{lowest} and more"
    return f"{lowest}" if highest == lowest else f"{lowest}–{highest}"


@pytest.mark.parametrize(
    ("title", "rule_id", "priority"),
    [("high", "", Priority.HIGH), ("medium, NEWS2 5–6", NEWS2_RULE, Priority.MEDIUM), ("medium", "", Priority.MEDIUM)],
)
def test_the_document_draws_the_default_ladders(title: str, rule_id: str, priority: Priority) -> None:
    ladder = EscalationPolicy().ladder(priority, rule_id)

    found = [row[1:] for row in rows(ALARMS, "Who is to be told, and when") if row[0] == title]

    assert found == rungs(ladder)
    assert EscalationPolicy().low.steps == ()


def rungs(ladder: Ladder) -> list[list[str]]:
    assert ladder.repeat_ms is not None
    told = [
        [
            duration(step.delay_ms) if step.delay_ms else "at once",
            step.who,
            " and ".join(step.channels) if step.every_channel else ", then ".join(step.channels),
        ]
        for step in ladder.steps
    ]
    return [*told, [f"every {duration(ladder.repeat_ms)} after that", ladder.steps[-1].who, "as before"]]


def test_the_document_says_which_response_is_recommended() -> None:
    found = [row[1:] for row in rows(ALARMS, "Recommended response")]

    assert found == [[str(one.risk), one.text] for one in RESPONSES if one.risk is not Risk.LOW]


def test_the_document_says_what_an_outage_is() -> None:
    assert LEAST_PATIENTS == 3
    assert f"three or more patients of a site stopped within {WITHIN_MS // 1_000} s of each other" in FLOWING
    assert f"or of two who are more than {MORE_THAN:.0%}".replace("%", " %") in FLOWING


def test_the_document_says_when_a_worse_score_calls_again() -> None:
    assert f"rises by {WORSE_BY:g} points" in FLOWING


def test_the_drawn_time_line_is_what_happens() -> None:
    drawn = re.findall(r"^(\d\d):(\d\d):(\d\d)  (SpO2 \d+|Anna looks)  +(.+)$", ALARMS, flags=re.MULTILINE)
    assert len(drawn) >= 8
    monitor, spo2, at_ms = a_monitor(*(rule for rule in DEFAULT_RULES if rule.rule_id == "low_spo2")), 98, 0

    for hours, minutes, seconds, what, state in drawn:
        until_ms = ((int(hours) - 8) * 3_600 + int(minutes) * 60 + int(seconds)) * SECOND
        for moment in range(at_ms, until_ms, 5 * SECOND):  # as before until now
            feed(monitor, a_reading(moment, spo2=spo2))
        at_ms = until_ms
        if what.startswith("SpO2"):
            spo2 = int(what.removeprefix("SpO2 "))
            feed(monitor, a_reading(at_ms, spo2=spo2))
            at_ms += 5 * SECOND
        else:
            (alarm,) = monitor.open_alarms()
            monitor.on_acknowledge(an_answer(alarm, at_ms, by="Anna"))

        assert state_of(monitor) == state.split(";")[0], f"at {hours}:{minutes}:{seconds}"


def state_of(monitor: PatientMonitor) -> str:
    found = monitor.open_alarms()
    if not found:
        return "pending" if monitor._book.has("low_spo2") else "quiet"
    (alarm,) = found
    seen = f", seen by {alarm.acknowledged_by}" if alarm.acknowledged_by else ""
    word = "was" if alarm.latched else alarm.state.value
    return f"{word}, {alarm.priority.name.lower()}{seen}"


def test_times_of_day_in_texts_name_their_zone() -> None:
    assert clock_text(START) == "08:00 UTC"  # a site that has stated none
    assert "Times are in the time zone of the site, and name it: `14:02 CET`" in FLOWING


def test_the_document_says_what_the_system_is_not() -> None:
    assert "Not a certified medical device" in FLOWING
    assert "It calls people only where a site runs the alarm desk" in FLOWING


# docs/time-and-quality.md


@pytest.mark.parametrize("spec", [spec for spec in SIGNS if spec.sign in JUMPS], ids=lambda spec: spec.sign.value)
def test_the_document_says_what_of_a_sign_is_usable(spec: SignSpec) -> None:
    jump = JUMPS[spec.sign]
    (low, high), (lowest, highest) = spec.usual, spec.possible

    (row,) = [row for row in rows(TIME_AND_QUALITY, "Quality") if row[0] == spec.label]

    usual, possible = f"{low:g} to {high:g} {spec.unit}", f"{lowest:g} to {highest:g} {spec.unit}"
    assert row[1:] == [usual, possible, f"{jump.base:g}", f"{jump.per_s:g}"]


@pytest.mark.parametrize("spec", SIGNS, ids=lambda spec: spec.sign.value)
def test_the_document_says_how_long_a_value_counts(spec: SignSpec) -> None:
    (row,) = [row for row in rows(TIME_AND_QUALITY, "Freshness and validity") if row[0] == spec.label]

    assert row[1:] == [duration_of(spec.cadence_ms), duration_of(spec.valid_ms), "people" if spec.entered else "device"]


def duration_of(ms: int) -> str:
    """Whole hours as hours: `1 h` and not `60 min`."""
    return f"{ms // 3_600_000} h" if ms % 3_600_000 == 0 else duration(ms)


def test_the_document_knows_every_sign() -> None:
    assert {row[0] for row in rows(TIME_AND_QUALITY, "Freshness and validity")} == {
        spec.label for spec in SPEC.values()
    }
