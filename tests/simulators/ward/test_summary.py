"""The summary of a ward: it reports missing readings."""

import json
from typing import Any

import pytest
from rich.console import Console

from simulators.ward.summary import WardSummary

WHOLE: dict[str, Any] = {
    "story": "scenario mixed",
    "patients": 8,
    "judged_by": "rules only",
    "sent": 100,
    "accepted": 100,
    "stored": 100,
    "duplicates": 3,
    "duplicates_stored": 0,
    "rejected": 2,
    "rejected_by_reason": {"auth": 2},
    "refused": 0,
    "given_up": 0,
    "dead_letters": 0,
    "alarms": 1,
    "alarms_by_class": {"high news2": 1},
    "local_alarms": 0,
    "seconds_to_first_alarm": 5.5,
    "simulated_s": 600.0,
    "real_s": 10.0,
    "speed_asked": 60.0,
    "speed": 60.0,
    "held_s": 0.0,
}


def text(summary: WardSummary) -> str:
    console = Console(width=120)
    with console.capture() as shown:
        console.print(summary.as_table())
    return shown.get()


@pytest.mark.parametrize(
    ("changed", "conserved"),
    [
        ({}, True),
        ({"refused": 5, "accepted": 95, "stored": 95}, True),
        ({"given_up": 5, "accepted": 95, "stored": 95}, True),
        ({"dead_letters": 1, "stored": 99}, True),
        ({"on_the_way": 4, "accepted": 96, "stored": 96}, True),
        ({"stored": 99}, False),
        ({"accepted": 99, "stored": 99}, False),
        ({"stored": 101}, False),
        ({"duplicates_stored": 1}, False),
    ],
)
def test_a_ward_is_conserved_if_every_reading_is_accounted_for(changed: dict[str, Any], conserved: bool) -> None:
    summary = WardSummary(**WHOLE | changed)

    assert summary.is_conserved is conserved
    assert ("readings are missing" in text(summary)) is not conserved


def test_json_is_one_line_with_the_promised_keys() -> None:
    line = WardSummary(**WHOLE).as_json()

    assert "\n" not in line
    summary = json.loads(line)
    keys = ("sent", "accepted", "stored", "duplicates", "rejected", "alarms", "seconds_to_first_alarm")
    assert all(isinstance(summary[key], int | float) for key in keys)


def test_the_table_lists_reasons_classes_and_the_disclaimer() -> None:
    shown = text(WardSummary(**WHOLE))

    for part in ("auth 2", "high news2 1", "5.5 s", "10 min in 10.0 s", "rules only", "not a certified medical device"):
        assert part in shown


def test_a_ward_without_an_alarm_says_none() -> None:
    assert "none" in text(WardSummary(**WHOLE | {"seconds_to_first_alarm": None}))
