"""Whether a request that failed may succeed later, and what it depends on: the one table of HTTP answers.

Pure: no I/O and no clock. A request fails for one of four causes, and each has one policy:

- `UNAVAILABLE`: the server cannot serve it now. The same request is sent again until it can.
- `CONFIGURATION`: nothing of this kind is accepted until a person changes something. The same request is sent again,
  and the reason is reported as something that does not end by itself.
- `CONTENT`: the input is refused, and will be again. The input is divided until the refused part is found.
- `UNCLEAR`: the server failed. It is `CONTENT` if the same input fails again while the server accepts other input,
  and `UNAVAILABLE` otherwise.
"""

import enum
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER_S: Final = 60.0
"""The longest that a server may ask to be left alone, so that a mistaken answer does not stop a process for hours."""


class Cause(enum.StrEnum):
    """What a failure depends on."""

    UNAVAILABLE = "unavailable"
    CONFIGURATION = "configuration"
    CONTENT = "content"
    UNCLEAR = "unclear"


_BY_STATUS: Final = {
    400: Cause.CONTENT,  # cannot be parsed
    401: Cause.CONFIGURATION,  # token
    402: Cause.CONFIGURATION,  # quota of an account
    403: Cause.CONFIGURATION,  # permission
    404: Cause.CONFIGURATION,  # bucket or organisation
    405: Cause.CONFIGURATION,  # this address is another server's
    406: Cause.CONFIGURATION,
    407: Cause.CONFIGURATION,
    408: Cause.UNAVAILABLE,
    410: Cause.CONFIGURATION,
    411: Cause.CONFIGURATION,
    413: Cause.CONTENT,  # too large
    415: Cause.CONFIGURATION,
    422: Cause.CONTENT,  # beyond the retention, or another type of field
    425: Cause.UNAVAILABLE,
    429: Cause.UNAVAILABLE,
    501: Cause.CONFIGURATION,
    507: Cause.UNAVAILABLE,  # disk full
    511: Cause.CONFIGURATION,
}
# What a server says of itself, whatever the status.
_OF_THE_SERVER: Final = (
    "no space left",
    "disk quota exceeded",
    "read-only file system",
    "input/output error",
    "too many open files",
    "cannot allocate memory",
    "cache-max-memory-size exceeded",
    "engine is closed",
    "shard is disabled",
)
BUSY_STATUSES: Final = frozenset({502, 503, 504})
"""Answers of a server that is overloaded or starting, or of a proxy before it: they are believed for longer."""


def cause_of(status: int, text: str = "") -> Cause:
    """The cause of an HTTP answer that is not a success.

    Args:
        text: what the answer says.

    >>> cause_of(422), cause_of(500), cause_of(500, "write wal: no space left on device")
    (<Cause.CONTENT: 'content'>, <Cause.UNCLEAR: 'unclear'>, <Cause.UNAVAILABLE: 'unavailable'>)
    """
    said = text.lower()
    if any(sign in said for sign in _OF_THE_SERVER):
        return Cause.UNAVAILABLE
    return _BY_STATUS.get(status, Cause.UNCLEAR)


def retry_after_s(header: str, *, now_ms: int) -> float | None:
    """Seconds to wait, from the header ``Retry-After``: a number or a date (RFC 9110, 10.2.3); at most a minute.

    Returns:
        None if there is no such header, or it cannot be read.

    >>> retry_after_s("7", now_ms=0), retry_after_s("86400", now_ms=0), retry_after_s("soon", now_ms=0)
    (7.0, 60.0, None)
    """
    header = header.strip()
    if header.isdigit():
        return min(float(header), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    seconds = (at - datetime.fromtimestamp(now_ms / 1_000, UTC)).total_seconds()
    return min(max(0.0, seconds), MAX_RETRY_AFTER_S)
