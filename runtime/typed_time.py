"""A time as a person types it: a time of day, which is the last such one, or a date and a time. Local time."""

from datetime import datetime, time, timedelta
from typing import Final

from runtime.errors import BadTypedTime

MOST_AGE: Final = timedelta(hours=12)
"""A time of day without a date must not be longer ago: it may be meant for another day, or be a typing error."""


def typed_time(text: str, now: datetime) -> int:
    """`14:05` or `2026-03-01 14:05`, as ms since 1970.

    Args:
        now: with its time zone, which is that of the typed time.

    Raises:
        BadTypedTime: it is no time, or a time of day was so long ago that the day is unclear.
    """
    for form in ("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%H:%M", "%H:%M:%S"):
        try:
            found = datetime.strptime(text.strip(), form)  # noqa: DTZ007 - the next line adds the local time zone
        except ValueError:
            continue
        # `astimezone` takes the offset of that day, which is not that of today where clocks changed in between.
        moment = found.astimezone() if "%d" in form else _last(found.time(), now)
        if "%d" not in form and now - moment > MOST_AGE:
            raise BadTypedTime(
                f'{text}: is more than 12 hours ago, or in the future; give the date, as "{moment:%Y-%m-%d %H:%M}"'
            )
        return round(moment.timestamp() * 1_000)
    raise BadTypedTime(f"{text[:40]!r}: give a time as 14:05, or with its date as 2026-03-01 14:05")


def _last(clock_time: time, now: datetime) -> datetime:
    today = datetime.combine(now.date(), clock_time).astimezone()
    return today if today <= now else datetime.combine(now.date() - timedelta(days=1), clock_time).astimezone()
