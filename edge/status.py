"""The status of an agent for staff at the bedside: one small file in memory, rewritten every second.

Beds, ages and counts; no value of a patient and no name. Times are of the machine's monotonic clock, which all
its processes share and which is never set: correcting the wall clock does not change any age.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

EVERY_MS: Final = 1_000
SCHEMA: Final = 1
SERVICE_FOLDER: Final = "/run/vitalloom"
_MOST_BYTES: Final = 1 << 20


class DeviceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One wearable on a patient."""

    name: str = ""  # what people call it; empty: it is the only one of the patient, or has no name
    heard_ms: int | None = None  # monotonic: its last reading; None: none since the agent started
    battery: float | None = None  # %; None: not told
    flags: tuple[str, ...] = ()  # sensor off, battery low, clock corrected, ...


class BedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One bed that this edge watches: of all devices the newest reading, the lowest battery and every flag."""

    bed: str
    heard_ms: int | None = None  # monotonic: the last reading; None: none since the agent started
    battery: float | None = None  # %; None: not told
    flags: tuple[str, ...] = ()
    devices: tuple[DeviceStatus, ...] = ()  # if there is more than one
    elsewhere: int = 0  # devices of the patient that another edge hears
    no_device: bool = False  # the patient is watched, and no device is on them
    orders: int = 0  # version of the orders that it is judged by, the time at which they were signed; 0: the defaults


def bed_status(bed: str, devices: Sequence[DeviceStatus], *, elsewhere: int = 0, orders: int = 0) -> BedStatus:
    """A bed from the devices that this edge hears of its patient."""
    heard = [one.heard_ms for one in devices if one.heard_ms is not None]
    batteries = [one.battery for one in devices if one.battery is not None]
    return BedStatus(
        bed=bed,
        heard_ms=max(heard, default=None),
        battery=min(batteries, default=None),
        flags=tuple(dict.fromkeys(flag for one in devices for flag in one.flags)),
        devices=tuple(devices) if len(devices) > 1 else (),
        elsewhere=elsewhere,
        no_device=not devices,
        orders=orders,
    )


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One agent at one moment."""

    schema: int = SCHEMA
    version: str
    device: str  # hex
    mono_ms: int  # when this was written, on the machine's monotonic clock
    at_ms: int  # the same, by the wall
    started_ms: int  # monotonic
    progress_ms: int  # monotonic: when the outbox was last touched, and nothing was overdue
    lanes: dict[str, bool]  # the connections to the broker
    heard_ms: int | None  # monotonic: the last signature of the data centre
    waiting: int  # frames that the data centre has not signed for
    oldest_age_ms: int | None  # of the oldest of them
    used: float  # share of the outbox's budget
    salvaged: str  # "ok", or what was found when the outbox was opened
    stuck: bool  # nothing can be written
    alarms: dict[str, int]  # open ones by priority
    sounding: bool  # a high alarm that the data centre may not know: it must sound at the bedside
    models: str
    refused_models: tuple[str, ...]
    credential_ends_ms: int | None  # wall
    beds: tuple[BedStatus, ...]
    stopped: bool = False  # the agent has been stopped
    refused_observations: int = 0  # that people entered here and the data centre refuses
    clock_ms: int | None = None  # how far this clock is ahead of the data centre's; None: not heard yet


def places(data_dir: Path, configured: Path | None) -> list[Path]:
    """Possible paths of the status of this outbox's agent. It writes to the first whose folder exists.

    A reader may run outside the service and lack its environment, so the service's folder is searched by name.
    """
    if configured is not None:
        return [configured]
    # Not resolved: a reader may lack permission to follow a link.
    name = f"vitalloom-edge-{hashlib.sha256(os.path.abspath(data_dir).encode()).hexdigest()[:16]}.status"
    memory = (os.environ.get("RUNTIME_DIRECTORY"), os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm")  # noqa: S108 - ours
    return [Path(one) / name for one in (*memory, SERVICE_FOLDER) if one] + [data_dir / "status"]


def file_for(data_dir: Path, configured: Path | None) -> Path:
    """Path of the status of this outbox's agent: as configured, or in a folder in memory."""
    found = places(data_dir, configured)
    return next((one for one in found if one.parent.is_dir()), found[-1])


def write(path: Path, status: Status) -> None:
    """Replace the file as a whole: a reader sees the old or the new one. Raises OSError."""
    half = path.with_name(f".{path.name}.new")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(status))
    half.replace(path)


def read(paths: Path | Sequence[Path]) -> Status | None:
    """The newest status, or None: there is none, or it is of another version.

    Raises:
        OSError: one is there and cannot be read, and no other can.
    """
    found: list[Status] = []
    problem: OSError | None = None
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            with path.open("rb") as file:
                found.append(msgspec.json.decode(file.read(_MOST_BYTES), type=Status))
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
            continue
        except OSError as error:
            problem = error
    if not found and problem is not None:
        raise problem
    return max(found, key=lambda one: one.at_ms, default=None)


def monotonic_ms() -> int:
    """Now, as `Status` counts."""
    return time.monotonic_ns() // 1_000_000


def age_ms(then_ms: int, now_ms: int) -> int | None:
    """Age in milliseconds; None if the moment was before the machine started, so that the age is unknown."""
    return now_ms - then_ms if then_ms <= now_ms else None
