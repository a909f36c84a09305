"""`vitalloom edge status`: how this edge is, for the person in front of it.

Pure but for `main`: a status becomes findings, findings become lines. Every finding says in words and with a mark what
its colour says, and what to do.
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
from edge.status import Bed, Status, age_ms

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."

_QUIET_MS: Final = 120_000  # a bed from which nothing came for so long is named
_DAY_MS: Final = 86_400_000
_SOON_DAYS: Final = 7
_FILLING: Final = 0.70
_CLOCK_MS: Final = 5_000
_OLD_MS: Final = 300_000
_BATTERY: Final = 20.0  # %


class Mark(IntEnum):
    """How bad; the exit status is the worst."""

    WELL = 0
    LOOK = 1
    BAD = 2


_SHOWN: Final = {Mark.WELL: ("ok", "green"), Mark.LOOK: ("** look", "yellow"), Mark.BAD: ("*** act", "red")}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line."""

    what: str
    mark: Mark
    says: str
    cure: str = ""


class Ages(NamedTuple):
    """Now, on the clocks that there are."""

    mono_ms: int
    at_ms: int  # the wall as the agent takes it, which never goes below what is on its disk
    wall_ms: int  # the wall as the machine has it


def findings(status: Status | None, now: Ages) -> list[Finding]:
    """What there is to say, in order."""
    agent = _agent(status, now)
    if status is None:
        return [agent]
    return [agent, *_clock(now), *_ways(status, now), *_store(status), *_judging(status), *_credential(status, now)]


def _agent(status: Status | None, now: Ages) -> Finding:
    look = "sudo systemctl status vitalloom-edge; sudo journalctl -u vitalloom-edge -n 50"
    if status is None:
        return Finding(what="agent", mark=Mark.BAD, says="has left no status here", cure=f"does it run? {look}")
    if status.stopped:
        return Finding(what="agent", mark=Mark.BAD, says="was stopped", cure="sudo systemctl start vitalloom-edge")
    ago_ms = age_ms(status.progress_ms, now.mono_ms)
    if condition(status, now.mono_ms, since_ms=now.mono_ms) is Condition.DEAD or ago_ms is None:
        return Finding(what="agent", mark=Mark.BAD, says=f"has achieved nothing for {span(ago_ms)}", cure=look)
    ran = span(age_ms(status.started_ms, now.mono_ms))
    return Finding(what="agent", mark=Mark.WELL, says=f"works; last progress {span(ago_ms)} ago; started {ran} ago")


def _clock(now: Ages) -> Iterator[Finding]:
    behind_ms = now.at_ms - now.wall_ms
    if behind_ms > _CLOCK_MS:
        yield Finding(
            what="clock", mark=Mark.LOOK, says=f"{span(behind_ms)} behind what the agent has on its disk",
            cure="timedatectl: is there a network, and a time server in it?",
        )  # fmt: skip


def _ways(status: Status, now: Ages) -> Iterator[Finding]:
    away = [name for name, is_up in status.lanes.items() if not is_up]
    if away:
        yield Finding(
            what="broker", mark=Mark.LOOK, says=f"not connected for {' and '.join(away)}; readings are kept here",
            cure="is the network plugged in? does the broker run? the log names it",
        )  # fmt: skip
    else:
        yield Finding(what="broker", mark=Mark.WELL, says="connected, both lanes")
    heard_ms = status.started_ms if status.heard_ms is None else status.heard_ms
    ago_ms = now.mono_ms - heard_ms
    silent = "has signed nothing since the start" if status.heard_ms is None else f"last heard {span(ago_ms)} ago"
    if ago_ms > SILENT_MS:
        yield Finding(
            what="data centre", mark=Mark.LOOK, says=f"{silent}; high alarms sound here",
            cure="tell whoever runs the data centre; nothing is lost meanwhile",
        )  # fmt: skip
    else:
        yield Finding(what="data centre", mark=Mark.WELL, says=silent)


def _store(status: Status) -> Iterator[Finding]:
    used = f"{status.used:.0%} of its budget"
    if status.stuck:
        yield Finding(
            what="outbox", mark=Mark.BAD, says=f"cannot be written, {used}; wearables keep their readings",
            cure="df -h; free the disk or raise outbox.budget_mb",
        )  # fmt: skip
    else:
        old = status.oldest_age_ms
        waits = "nothing waits" if not status.waiting else f"{status.waiting} wait, the oldest for {span(old)}"
        is_old = status.waiting and (old or 0) > _OLD_MS
        mark = Mark.LOOK if status.used >= _FILLING or is_old else Mark.WELL
        yield Finding(
            what="outbox", mark=mark, says=f"{waits}; {used}",
            cure="they leave when the data centre is reached again" if mark else "",
        )  # fmt: skip
    if status.salvaged != "ok":
        yield Finding(
            what="disk", mark=Mark.LOOK, says=f"outbox at the start: {status.salvaged}",
            cure="was the power cut? if it happens again, replace the card",
        )  # fmt: skip


def _judging(status: Status) -> Iterator[Finding]:
    standing = ", ".join(f"{count} {priority}" for priority, count in status.alarms.items() if count) or "none"
    if status.sounding:
        yield Finding(
            what="alarms", mark=Mark.BAD, says=f"{standing}; SOUNDING HERE: the data centre may not know",
            cure="go to the patient",
        )  # fmt: skip
    else:
        mark = Mark.LOOK if status.alarms.get("high") else Mark.WELL
        yield Finding(what="alarms", mark=mark, says=f"open: {standing}", cure="see the ward's screen" if mark else "")
    if status.refused_models:
        yield Finding(
            what="models", mark=Mark.LOOK, says=status.models,
            cure="the rules judge without them; install vitalloom anew: docs/edge-install.md",
        )  # fmt: skip
    else:
        yield Finding(what="models", mark=Mark.WELL, says=status.models)


def _credential(status: Status, now: Ages) -> Iterator[Finding]:
    if status.credential_ends_ms is None:
        return
    days = (status.credential_ends_ms - now.at_ms) // _DAY_MS
    if days < 0:
        yield Finding(
            what="certificate", mark=Mark.BAD, says=f"expired {-days} days ago",
            cure=f"at the data centre: vitalloom pki renew {status.device}; here: vitalloom enrol --again",
        )  # fmt: skip
        return
    mark = Mark.LOOK if days < _SOON_DAYS else Mark.WELL
    cure = "it renews itself when it reaches the registry, and has not: is the registry reachable?" if mark else ""
    yield Finding(what="certificate", mark=mark, says=f"{days} days left", cure=cure)


def bed_finding(bed: Bed, now: Ages) -> Finding:
    """When a bed was last heard; not what was heard."""
    what = f"bed {bed.bed}"
    notes = list(bed.flags)
    if bed.battery is not None:
        notes.append(f"battery {bed.battery:.0f} %")
    tail = f" ({', '.join(notes)})" if notes else ""
    if bed.heard_ms is None:
        return Finding(what=what, mark=Mark.LOOK, says="nothing since the agent started", cure="is the wearable on?")
    ago_ms = now.mono_ms - bed.heard_ms
    says = f"last reading {span(ago_ms)} ago{tail}"
    if ago_ms > _QUIET_MS:
        return Finding(what=what, mark=Mark.LOOK, says=says, cure="is the wearable on, charged and in range?")
    is_low = bed.battery is not None and bed.battery <= _BATTERY
    if bed.flags or is_low:
        return Finding(what=what, mark=Mark.LOOK, says=says, cure=_cure_of(bed, is_low=is_low))
    return Finding(what=what, mark=Mark.WELL, says=says)


def _cure_of(bed: Bed, *, is_low: bool) -> str:
    if is_low or "battery low" in bed.flags:
        return "charge or change the wearable"
    if any(flag.startswith("clock") for flag in bed.flags):
        return "the wearable's clock is wrong; times are put right here"
    return "look at the wearable's seat"


def span(ms: int | None) -> str:
    """A length of time in the unit that fits."""
    if ms is None:
        return "an unknown time"
    for limit, unit, name in ((120_000, 1_000, "s"), (7_200_000, 60_000, "min"), (172_800_000, 3_600_000, "h")):
        if ms < limit:
            return f"{ms // unit} {name}"
    return f"{ms // _DAY_MS} days"


def is_alive(config_path: Path | None) -> int:
    """For a machine that asks one thing: 0 if the agent gets on, 1 if not. Nothing is printed.

    Raises:
        BadEdgeConfig, OSError: there is nothing to be read.
    """
    config, places = read_config(config_path)
    now_ms = statuses.monotonic_ms()
    what = condition(
        statuses.read(places), now_ms, since_ms=now_ms - _DAY_MS, silent_ms=int(config.silent_after_s * 1_000)
    )
    return int(what is Condition.DEAD)


def main(config_path: Path | None, *, as_json: bool = False) -> int:
    """The command `vitalloom edge status`; the exit status is the worst mark: 0 well, 1 look, 2 act.

    Raises:
        BadEdgeConfig: no configuration to be found, or one that cannot be read.
    """
    _, places = read_config(config_path)
    wall_ms = time.time_ns() // 1_000_000
    now = Ages(statuses.monotonic_ms(), wall_ms, wall_ms)
    try:
        status = statuses.read(places)
        hidden = ""
    except OSError as error:
        status, hidden = None, f"{error.filename}: {error.strerror}; ask as its user: sudo vitalloom edge status"
    if status is not None:
        now = now._replace(at_ms=status.at_ms + max(now.mono_ms - status.mono_ms, 0))
    found = findings(status, now)
    if hidden:
        found = [Finding(what="agent", mark=Mark.BAD, says="its status cannot be read", cure=hidden)]
    beds = [] if status is None else [bed_finding(bed, now) for bed in status.beds]
    worst = max((one.mark for one in (*found, *beds)), default=Mark.WELL)
    if as_json:
        told = {"worst": worst.name.lower(), "findings": [_plain(one) for one in (*found, *beds)], "status": status}
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        _print(Console(highlight=False), found, beds)
    return int(worst)


def _plain(one: Finding) -> dict[str, str]:
    return {"what": one.what, "mark": one.mark.name.lower(), "says": one.says, "cure": one.cure}


def _print(console: Console, found: list[Finding], beds: list[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for one in (*found, *beds):
        text, colour = _SHOWN[one.mark]
        cure = f"\n[dim]→ {escape(one.cure)}[/dim]" if one.cure else ""
        table.add_row(f"[{colour}]{text}[/{colour}]", escape(one.what), escape(one.says) + cure)
    console.print(table)
    if not beds and len(found) > 1:
        console.print("No bed is assigned to this edge; at the data centre: vitalloom registry bind")
    console.print(f"[dim]{NOT_A_DEVICE}[/dim]")
