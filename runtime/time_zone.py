"""The time zone of a site: times of day for people, with the zone named, from UTC milliseconds.

Zones are those of the IANA database, of the system or of the package `tzdata`. On the day on which the clocks go back
an hour comes twice; the name of the zone, which changes, tells which of the two is meant: `01:30 BST`, `01:30 GMT`.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from runtime.errors import UnknownTimeZone

ClockText: TypeAlias = Callable[[int], str]
"""From milliseconds since 1970 (UTC) to a time of day with its zone."""

_LOCAL_TIME: Final = Path("/etc/localtime")
_FOLDER: Final = "zoneinfo/"


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name such as `Europe/Berlin`; empty: UTC.

    Raises:
        UnknownTimeZone: there is no such zone on this machine.
    """
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnknownTimeZone(name) from error


@lru_cache(maxsize=64)
def clock_of(name: str) -> ClockText:
    """Writes a time of day in a time zone, with the zone named.

    >>> clock_of("Europe/Berlin")(1_767_621_720_000), clock_of("")(1_767_621_720_000)
    ('15:02 CET', '14:02 UTC')

    Raises:
        UnknownTimeZone: there is no such zone on this machine.
    """
    zone = zone_of(name)

    def clock(at_ms: int) -> str:
        moment = moment_in(zone, at_ms)
        return f"{moment:%H:%M} {zone_name(moment)}"

    return clock


def clock_or_utc(name: str) -> ClockText:
    """As `clock_of`, in UTC where this machine does not know the zone: a text never fails, and names its zone."""
    try:
        return clock_of(name)
    except UnknownTimeZone:
        return clock_of("")


def date_and_time(name: str, at_ms: int) -> str:
    """Date and time of day in a time zone, or in UTC where this machine does not know it.

    >>> date_and_time("Europe/Berlin", 1_767_621_720_000)
    '2026-01-05 15:02 CET'
    """
    try:
        zone = zone_of(name)
    except UnknownTimeZone:
        zone = UTC
    moment = moment_in(zone, at_ms)
    return f"{moment:%Y-%m-%d %H:%M} {zone_name(moment)}"


def moment_in(zone: tzinfo, at_ms: int) -> datetime:
    """A moment in a time zone; one that no calendar has, from a broken clock, as its first or last year."""
    try:
        return datetime.fromtimestamp(at_ms / 1_000, zone)
    except (OverflowError, ValueError, OSError):
        return datetime(1 if at_ms < 0 else 9_999, 1, 1, tzinfo=UTC)


def zone_name(moment: datetime) -> str:
    """The name of the zone of a moment: `CET`, `UTC`; `UTC+05:45` for a zone that has no abbreviation."""
    name = moment.tzname() or "UTC"
    return f"UTC{name}" if name[0] in "+-" else name


def site_time_zone(stated: str) -> str:
    """The time zone of a new site: the stated one, or else that of this machine.

    Raises:
        UnknownTimeZone: there is no such zone on this machine.
    """
    zone_of(stated)
    return stated or _machine_time_zone() or "UTC"


def _machine_time_zone() -> str:
    """The IANA name of the zone that this machine is set to; empty if it cannot be told, or is UTC."""
    for name in (os.environ.get("TZ", "").removeprefix(":"), _linked_name()):
        try:
            zone_of(name)
        except UnknownTimeZone:
            continue
        if name:
            return name
    return ""


def _linked_name() -> str:
    try:
        target = str(_LOCAL_TIME.resolve())
    except OSError:
        return ""
    name = target.rpartition(_FOLDER)[2] if _FOLDER in target else ""
    return "" if name in ("UTC", "Etc/UTC") else name
