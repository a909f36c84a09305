"""`vitalloom edge status`: state of this edge, for staff at the bedside.

Pure except `main`: a status becomes findings, findings become lines. Every finding has its severity in words as well as
in colour, and the fix.
"""

import sys
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge import status as statuses
from edge.bedside.signals import SILENT_MS, Condition, condition
from edge.bedside.watch import read_config
from edge.status import BedStatus, DeviceStatus, Status, age_ms
from runtime.time_zone import date_and_time

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."

_QUIET_MS: Final = 120_000  # a bed without a reading for so long is a warning
_DAY_MS: Final = 86_400_000
_SOON_DAYS: Final = 7
_FILLING: Final = 0.70
_CLOCK_MS: Final = 5_000
_OLD_MS: Final = 300_000
_BATTERY: Final = 20.0  # %


class StatusSeverity(IntEnum):
    """The exit status of the command is the worst one."""

    OK = 0
    WARNING = 1
    ERROR = 2


_SHOWN: Final = {
    StatusSeverity.OK: ("ok", "green"),
    StatusSeverity.WARNING: ("** warning", "yellow"),
    StatusSeverity.ERROR: ("*** error", "red"),
}


class StatusFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One line."""

    what: str
    severity: StatusSeverity
    says: str
    fix: str = ""


class Ages(NamedTuple):
    """Now, on each clock."""

    mono_ms: int
    at_ms: int  # the wall as the agent takes it, which never goes below what is on its disk
    wall_ms: int  # the wall as the machine has it


def findings(status: Status | None, now: Ages) -> list[StatusFinding]:
    """Findings about the agent, in the order in which they are printed."""
    agent = _agent(status, now)
    if status is None:
        return [agent]
    return [
        agent,
        *_clock(status, now),
        *_ways(status, now),
        *_store(status),
        *_judging(status),
        *_entries(status),
        *_credential(status, now),
    ]


def _agent(status: Status | None, now: Ages) -> StatusFinding:
    look = "sudo systemctl status vitalloom-edge; sudo journalctl -u vitalloom-edge -n 50"
    if status is None:
        return StatusFinding(
            what="agent",
            severity=StatusSeverity.ERROR,
            says="has written no status on this machine",
            fix=f"is it running? {look}",
        )
    if status.stopped:
        return StatusFinding(
            what="agent", severity=StatusSeverity.ERROR, says="was stopped", fix="sudo systemctl start vitalloom-edge"
        )
    ago_ms = age_ms(status.progress_ms, now.mono_ms)
    if condition(status, now.mono_ms, since_ms=now.mono_ms) is Condition.DEAD or ago_ms is None:
        return StatusFinding(
            what="agent", severity=StatusSeverity.ERROR, says=f"has made no progress for {span(ago_ms)}", fix=look
        )
    ran = span(age_ms(status.started_ms, now.mono_ms))
    return StatusFinding(
        what="agent", severity=StatusSeverity.OK, says=f"running; last progress {span(ago_ms)} ago; started {ran} ago"
    )


def _clock(status: Status, now: Ages) -> Iterator[StatusFinding]:
    off_ms = status.clock_ms
    if off_ms is not None and abs(off_ms) > _CLOCK_MS:
        side = "ahead of" if off_ms > 0 else "behind"
        yield StatusFinding(
            what="clock",
            severity=StatusSeverity.WARNING,
            says=f"{span(abs(off_ms))} {side} the data centre's",
            fix="find out which one is right: timedatectl here and there; times are corrected in the data centre",
        )
    behind_ms = now.at_ms - now.wall_ms
    if behind_ms > _CLOCK_MS:
        yield StatusFinding(
            what="clock",
            severity=StatusSeverity.WARNING,
            says=f"{span(behind_ms)} behind what the agent has on its disk",
            fix="timedatectl: is there a network, and a time server in it?",
        )


def _ways(status: Status, now: Ages) -> Iterator[StatusFinding]:
    away = [name for name, is_up in status.lanes.items() if not is_up]
    if away:
        yield StatusFinding(
            what="broker",
            severity=StatusSeverity.WARNING,
            says=f"not connected for {' and '.join(away)}; readings are kept here",
            fix="is the network cable plugged in? is the broker running? the log names the reason",
        )
    else:
        yield StatusFinding(what="broker", severity=StatusSeverity.OK, says="connected, both lanes")
    heard_ms = status.started_ms if status.heard_ms is None else status.heard_ms
    ago_ms = now.mono_ms - heard_ms
    silent = "no acknowledgement since the start" if status.heard_ms is None else f"last heard {span(ago_ms)} ago"
    if ago_ms > SILENT_MS:
        yield StatusFinding(
            what="data centre",
            severity=StatusSeverity.WARNING,
            says=f"{silent}; high alarms sound here",
            fix="tell the operators of the data centre; nothing is lost meanwhile",
        )
    else:
        yield StatusFinding(what="data centre", severity=StatusSeverity.OK, says=silent)


def _store(status: Status) -> Iterator[StatusFinding]:
    used = f"{status.used:.0%} of its budget"
    if status.stuck:
        yield StatusFinding(
            what="outbox",
            severity=StatusSeverity.ERROR,
            says=f"cannot be written, {used}; wearables keep their readings",
            fix="df -h; free the disk or raise outbox.budget_mb",
        )
    else:
        old = status.oldest_age_ms
        waits = "nothing waiting" if not status.waiting else f"{status.waiting} waiting, the oldest for {span(old)}"
        is_old = status.waiting and (old or 0) > _OLD_MS
        severity = StatusSeverity.WARNING if status.used >= _FILLING or is_old else StatusSeverity.OK
        yield StatusFinding(
            what="outbox",
            severity=severity,
            says=f"{waits}; {used}",
            fix="they are sent when the data centre is reachable again" if severity else "",
        )
    if status.salvaged != "ok":
        yield StatusFinding(
            what="disk",
            severity=StatusSeverity.WARNING,
            says=f"outbox at the start: {status.salvaged}",
            fix="was the power cut? if it happens again, replace the card",
        )


def _judging(status: Status) -> Iterator[StatusFinding]:
    standing = ", ".join(f"{count} {priority}" for priority, count in status.alarms.items() if count) or "none"
    if status.sounding:
        yield StatusFinding(
            what="alarms",
            severity=StatusSeverity.ERROR,
            says=f"{standing}; SOUNDING HERE: the data centre may not know",
            fix="go to the patient",
        )
    else:
        severity = StatusSeverity.WARNING if status.alarms.get("high") else StatusSeverity.OK
        yield StatusFinding(
            what="alarms", severity=severity, says=f"open: {standing}", fix="see the ward's screen" if severity else ""
        )
    if status.refused_models:
        yield StatusFinding(
            what="models",
            severity=StatusSeverity.WARNING,
            says=status.models,
            fix="the rules judge without them; install vitalloom again: docs/edge-install.md",
        )
    else:
        yield StatusFinding(what="models", severity=StatusSeverity.OK, says=status.models)


def _entries(status: Status) -> Iterator[StatusFinding]:
    if status.refused_observations:
        yield StatusFinding(
            what="observations",
            severity=StatusSeverity.WARNING,
            says=f"{status.refused_observations} that were entered here are refused by the data centre",
            fix="enter them at the desk: vitalloom observe BED; an earlier data centre takes none from an edge",
        )


def _credential(status: Status, now: Ages) -> Iterator[StatusFinding]:
    if status.credential_ends_ms is None:
        return
    days = (status.credential_ends_ms - now.at_ms) // _DAY_MS
    if days < 0:
        yield StatusFinding(
            what="certificate",
            severity=StatusSeverity.ERROR,
            says=f"expired {-days} days ago",
            fix=f"at the data centre: vitalloom pki renew {status.device}; here: vitalloom enrol --again",
        )
        return
    severity = StatusSeverity.WARNING if days < _SOON_DAYS else StatusSeverity.OK
    fix = "it should have renewed itself at the registry: is the registry reachable?" if severity else ""
    yield StatusFinding(what="certificate", severity=severity, says=f"{days} days left", fix=fix)


def bed_findings(bed: BedStatus, now: Ages) -> list[StatusFinding]:
    """Age of the last reading of a bed, without its values, and of each device where there are several."""
    what = f"bed {bed.bed}"
    if bed.no_device:
        return [
            StatusFinding(
                what=what,
                severity=StatusSeverity.WARNING,
                says="no device is on the patient, who is monitored",
                fix="at the data centre: vitalloom registry bind, or vitalloom registry discharge",
            )
        ]
    devices = [_device(f"{what}, {one.name}", one, now, is_one_of_several=True) for one in bed.devices]
    whole = DeviceStatus(heard_ms=bed.heard_ms, battery=bed.battery, flags=bed.flags)
    if devices:  # whose lines say what is wrong with them
        whole = DeviceStatus(heard_ms=bed.heard_ms)
    found = _device(what, whole, now)
    notes = [f"{len(bed.devices)} devices here"] if devices else []
    if bed.elsewhere:
        notes.append(f"{bed.elsewhere} more at another edge, so scores here are lower bounds")
    notes.append(f"orders of {date_and_time('', bed.orders)}" if bed.orders else "default limits")
    return [msgspec.structs.replace(found, says="; ".join((found.says, *notes))), *devices]


def _device(what: str, one: DeviceStatus, now: Ages, *, is_one_of_several: bool = False) -> StatusFinding:
    notes = list(one.flags)
    if one.battery is not None:
        notes.append(f"battery {one.battery:.0f} %")
    tail = f" ({', '.join(notes)})" if notes else ""
    if one.heard_ms is None:
        return StatusFinding(
            what=what,
            severity=StatusSeverity.WARNING,
            says="nothing since the agent started",
            fix="is the wearable on?",
        )
    ago_ms = now.mono_ms - one.heard_ms
    says = f"last reading {span(ago_ms)} ago{tail}"
    # Of several devices one may measure by the hour: the alarm of a silent device knows its interval, this does not.
    if ago_ms > _QUIET_MS and not is_one_of_several:
        return StatusFinding(
            what=what, severity=StatusSeverity.WARNING, says=says, fix="is the wearable on, charged and in range?"
        )
    is_low = one.battery is not None and one.battery <= _BATTERY
    if one.flags or is_low:
        return StatusFinding(what=what, severity=StatusSeverity.WARNING, says=says, fix=_fix_for(one, is_low=is_low))
    return StatusFinding(what=what, severity=StatusSeverity.OK, says=says)


def _fix_for(one: DeviceStatus, *, is_low: bool) -> str:
    if is_low or "battery low" in one.flags:
        return "charge or change the wearable"
    if any(flag.startswith("clock") for flag in one.flags):
        return "the wearable's clock is wrong; times are corrected here"
    return "check that the wearable sits correctly"


def span(ms: int | None) -> str:
    """A length of time in the unit that fits."""
    if ms is None:
        return "an unknown time"
    for limit, unit, name in ((120_000, 1_000, "s"), (7_200_000, 60_000, "min"), (172_800_000, 3_600_000, "h")):
        if ms < limit:
            return f"{ms // unit} {name}"
    return f"{ms // _DAY_MS} days"


def is_alive(config_path: Path | None) -> int:
    """Health check without output: 0 if the agent makes progress, 1 if not.

    Raises:
        BadEdgeConfig, OSError: configuration or status cannot be read.
    """
    config, places = read_config(config_path)
    now_ms = statuses.monotonic_ms()
    what = condition(
        statuses.read(places), now_ms, since_ms=now_ms - _DAY_MS, silent_ms=int(config.silent_after_s * 1_000)
    )
    return int(what is Condition.DEAD)


def main(config_path: Path | None, *, as_json: bool = False) -> int:
    """The command `vitalloom edge status`; the exit status is the worst severity: 0 OK, 1 warning, 2 error.

    Raises:
        BadEdgeConfig: the configuration is missing or cannot be read.
    """
    _, places = read_config(config_path)
    wall_ms = time.time_ns() // 1_000_000
    now = Ages(statuses.monotonic_ms(), wall_ms, wall_ms)
    try:
        status = statuses.read(places)
        hidden = ""
    except OSError as error:
        status, hidden = None, f"{error.filename}: {error.strerror}; run as root: sudo vitalloom edge status"
    if status is not None:
        now = now._replace(at_ms=status.at_ms + max(now.mono_ms - status.mono_ms, 0))
    found = findings(status, now)
    if hidden:
        found = [
            StatusFinding(what="agent", severity=StatusSeverity.ERROR, says="its status cannot be read", fix=hidden)
        ]
    beds = [] if status is None else [one for bed in status.beds for one in bed_findings(bed, now)]
    worst = max((one.severity for one in (*found, *beds)), default=StatusSeverity.OK)
    if as_json:
        told = {"worst": worst.name.lower(), "findings": [_plain(one) for one in (*found, *beds)], "status": status}
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        _print(Console(highlight=False), found, beds)
    return int(worst)


def _plain(one: StatusFinding) -> dict[str, str]:
    return {"what": one.what, "severity": one.severity.name.lower(), "says": one.says, "fix": one.fix}


def _print(console: Console, found: list[StatusFinding], beds: list[StatusFinding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for one in (*found, *beds):
        text, colour = _SHOWN[one.severity]
        fix = f"\n[dim]→ {escape(one.fix)}[/dim]" if one.fix else ""
        table.add_row(f"[{colour}]{text}[/{colour}]", escape(one.what), escape(one.says) + fix)
    console.print(table)
    if not beds and len(found) > 1:
        console.print("No bed is assigned to this edge; at the data centre: vitalloom registry bind")
    console.print(f"[dim]{NOT_A_DEVICE}[/dim]")
