"""Times of day for people: in the zone of the site, with the zone named, unambiguous on every day of the year."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from runtime.errors import UnknownTimeZone
from runtime.time_zone import clock_of, clock_or_utc, site_time_zone, zone_of

HOUR = 3_600_000
ZONES = sorted(
    name for name in available_timezones() if not name.startswith(("posix", "right")) and name != "localtime"
)


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("zone", "at", "text"),
    [
        ("", "2026-01-05T14:02Z", "14:02 UTC"),
        ("UTC", "2026-01-05T14:02Z", "14:02 UTC"),
        ("Europe/Berlin", "2026-01-05T13:02Z", "14:02 CET"),
        ("Europe/Berlin", "2026-07-05T12:02Z", "14:02 CEST"),
        # The clocks go back at 01:00 UTC, and 01:30 comes twice in London.
        ("Europe/London", "2026-10-25T00:30Z", "01:30 BST"),
        ("Europe/London", "2026-10-25T01:30Z", "01:30 GMT"),
        # They go forward, and there is no 01:30.
        ("Europe/London", "2026-03-29T00:59Z", "00:59 GMT"),
        ("Europe/London", "2026-03-29T01:00Z", "02:00 BST"),
        ("America/New_York", "2026-11-01T05:30Z", "01:30 EDT"),
        ("America/New_York", "2026-11-01T06:30Z", "01:30 EST"),
        ("Asia/Kathmandu", "2026-01-05T14:02Z", "19:47 UTC+0545"),  # a zone without an abbreviation
    ],
)
def test_a_time_is_in_the_zone_and_names_it(zone: str, at: str, text: str) -> None:
    assert clock_of(zone)(ms(at)) == text


@pytest.mark.slow
def test_no_two_moments_of_a_day_read_alike_in_any_zone() -> None:
    """Around every change of the clocks of every zone, minute by minute of the hours that may come twice."""
    changes = 0
    for name in ZONES:
        clock, zone = clock_of(name), ZoneInfo(name)
        day = datetime(2025, 1, 1, tzinfo=UTC)
        offsets = [(day + timedelta(hours=12 * half)).astimezone(zone).utcoffset() for half in range(2 * 730)]
        for half, (before, after) in enumerate(pairwise(offsets)):
            if before == after:
                continue
            changes += 1
            from_ms = round((day + timedelta(hours=12 * half)).timestamp() * 1_000)
            texts = [clock(from_ms + quarter * HOUR // 4) for quarter in range(4 * 12)]
            assert len(set(texts)) == len(texts), name

    assert changes > 400


@pytest.mark.parametrize("at_ms", [-(10**18), 0, 10**18, 2**63 - 1])
def test_a_time_that_no_calendar_has_is_still_a_text(at_ms: int) -> None:
    assert clock_of("Europe/Berlin")(at_ms)


@pytest.mark.parametrize("name", ["Europe/Berlinn", "CEST!", "../etc/passwd", "Europe"])
def test_a_zone_that_is_not_known_is_named(name: str) -> None:
    with pytest.raises(UnknownTimeZone, match="give an IANA name such as Europe/Berlin"):
        zone_of(name)
    with pytest.raises(UnknownTimeZone):
        site_time_zone(name)
    assert clock_or_utc(name)(0) == "00:00 UTC"  # a text never fails


def test_a_site_has_the_zone_that_was_stated_or_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")

    assert site_time_zone("Europe/Berlin") == "Europe/Berlin"
    assert site_time_zone("") == "Asia/Tokyo"
