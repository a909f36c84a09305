"""Labelled deteriorations: a CSV file with the columns `patient` and `time`, one row each."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stream.errors import WhatIfRefused

COLUMNS: Final = ("patient", "time")
MOST_BYTES: Final = 50_000_000


def read_labels(path: Path) -> dict[str, tuple[int, ...]]:
    """Times in milliseconds since 1970 by patient (pseudonym, or id of a stay).

    Raises:
        WhatIfRefused: the file cannot be used; the message names the row and the fix.
    """
    found: dict[str, list[int]] = {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise WhatIfRefused(f"{path}: is larger than {MOST_BYTES // 1_000_000} MB; give a list of deteriorations")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            names = [(name or "").strip().lower() for name in rows.fieldnames or ()]
            if any(column not in names for column in COLUMNS):
                raise WhatIfRefused(f"{path}: needs the columns patient,time in its first line")
            for number, row in enumerate(rows, start=2):
                cells = {(name or "").strip().lower(): (value or "").strip() for name, value in row.items() if name}
                found.setdefault(cells["patient"], []).append(_time(cells["time"], f"{path}, row {number}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WhatIfRefused(f"{path}: cannot be read as CSV ({error})") from error
    return {patient: tuple(sorted(times)) for patient, times in found.items()}


def moment(text: str, *, place: str) -> int:
    """A time as people write it, in milliseconds since 1970. Without a zone: UTC.

    >>> moment("2026-11-29 08:00", place="--from")
    1795939200000

    Raises:
        WhatIfRefused: it is no time.
    """
    return _time(text, place)


def _time(text: str, place: str) -> int:
    try:
        if text.isdecimal() and len(text) >= 12:
            return int(text)
        read = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise WhatIfRefused(f"{place}: {text[:40]!r} is no time; write 2026-11-29T08:00+01:00") from error
    return round((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1_000)
