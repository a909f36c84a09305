"""Times as people type them around midnight."""

from datetime import datetime, timedelta

import pytest

from runtime.errors import BadTypedTime
from runtime.typed_time import typed_time

MINUTE = 60_000


def test_a_time_of_day_is_the_last_such_one() -> None:
    now = datetime(2026, 3, 2, 0, 10).astimezone()

    assert typed_time("00:05", now) == round(now.timestamp() * 1_000) - 5 * MINUTE
    assert typed_time("23:50", now) == round(now.timestamp() * 1_000) - 20 * MINUTE
    assert typed_time("2026-03-01 23:50", now) == round((now - timedelta(minutes=20)).timestamp() * 1_000)


def test_a_time_of_day_that_may_be_tomorrow_is_asked_about() -> None:
    now = datetime(2026, 3, 2, 14, 0).astimezone()

    with pytest.raises(BadTypedTime, match="give the date"):
        typed_time("14:05", now)


@pytest.mark.parametrize("text", ["noon", "25:00", "14", "2026-13-01 14:05", "", "\x1b[2J"])
def test_what_is_no_time_is_refused_and_says_how_to_write_it(text: str) -> None:
    with pytest.raises(BadTypedTime, match="14:05"):
        typed_time(text, datetime(2026, 3, 2, 14, 0).astimezone())
