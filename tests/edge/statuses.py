"""A status to begin from: an agent that is well, ten minutes after the machine's start."""

from typing import Any

import msgspec

from edge.status import BedStatus, Status

NOW_MS = 600_000
WALL_MS = 1_767_600_000_000
DAY_MS = 86_400_000

WELL = Status(
    version="1", device="ab" * 16, mono_ms=NOW_MS, at_ms=WALL_MS, started_ms=60_000, progress_ms=NOW_MS - 400,
    lanes={"readings": True, "alarms": True}, heard_ms=NOW_MS - 3_000, waiting=0, oldest_age_ms=None, used=0.01,
    salvaged="ok", stuck=False, alarms={"high": 0, "medium": 0, "low": 0}, sounding=False,
    models="rules + sepsis 1.1.0, heart-home 1.0.0", refused_models=(), credential_ends_ms=WALL_MS + 25 * DAY_MS,
    beds=(BedStatus(bed="1", heard_ms=NOW_MS - 2_000, battery=80.0), BedStatus(bed="2", heard_ms=NOW_MS - 1_000)),
)  # fmt: skip


def a_status(**changed: Any) -> Status:
    return msgspec.structs.replace(WELL, **changed)
