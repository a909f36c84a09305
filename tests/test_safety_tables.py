"""docs/safety.md is true: its tables are what the monitor does."""

import pytest

from tests.safety_tables import ONSETS, PAGE, TABLES, VALUES, _alarms, with_tables
from vitals.messages import AlarmKind, Priority


@pytest.mark.slow
def test_the_page_has_the_tables_of_today() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert with_tables(page) == page, "run python -m tests.safety_tables"
    assert set(TABLES) >= {"values"}


@pytest.mark.slow
def test_no_class_of_no_sign_is_silent() -> None:
    silent = [
        (row.sign, row.value_class, onset)
        for row in VALUES
        for onset in ONSETS
        if row.value_class != "usual" and not _alarms(row, onset)[1]
    ]

    assert silent == []


@pytest.mark.slow
def test_red_extreme_and_zero_are_high_and_no_value_is_technical() -> None:
    for row in VALUES:
        _, found = _alarms(row, "abrupt")
        highest = max((alarm.priority for _, alarm in found), default=Priority.LOW)
        if row.value_class.startswith("no value"):
            assert {alarm.kind for _, alarm in found} == {AlarmKind.TECHNICAL}, row
        if row.value_class in ("usual, red", "zero") and row.sign.value != "temperature":
            assert highest is Priority.HIGH, row
