"""What the doctor makes of what it has seen: facts in, findings out, each with its cure.

Pure: no I/O, no clock.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

DAY_MS: Final = 86_400_000
SOON_MS: Final = 7 * DAY_MS
"""A certificate that ends within a week should have been renewed by itself, and was not."""
OFFSET_WARN_S: Final = 5.0
OFFSET_WRONG_S: Final = 30.0
"""Further ahead than this no edge's time is believed."""
TIGHT: Final = 1 << 30
FULL: Final = 100 << 20
_MARKERS: Final = 2  # of transactions at the end of a partition: records that nobody reads


class Verdict(StrEnum):
    """How bad it is; in this order."""

    WRONG = "wrong"
    WARNING = "warning"
    OK = "ok"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    about: str
    verdict: Verdict
    what: str
    cure: str = ""


def ok(about: str, what: str) -> Finding:
    return Finding(about=about, verdict=Verdict.OK, what=what)


def warning(about: str, what: str, cure: str) -> Finding:
    return Finding(about=about, verdict=Verdict.WARNING, what=what, cure=cure)


def wrong(about: str, what: str, cure: str) -> Finding:
    return Finding(about=about, verdict=Verdict.WRONG, what=what, cure=cure)


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    order = list(Verdict)
    return sorted(findings, key=lambda one: order.index(one.verdict))


# Certificates


class Certificate(NamedTuple):
    """What there is to know of one."""

    name: str
    begins_ms: int
    ends_ms: int
    is_ours: bool  # whether an authority of the site has issued it


def judge_certificate(found: Certificate, *, now_ms: int, cure: str) -> Finding:
    """Whose it is, and how long it is good."""
    about = f"certificate of {found.name}"
    if not found.is_ours:
        return wrong(about, "was issued by another authority", cure)
    if now_ms < found.begins_ms:
        return wrong(
            about, f"is good only in {span(found.begins_ms - now_ms)}", "set the clock of this machine (chrony, ntpd)"
        )
    left_ms = found.ends_ms - now_ms
    if left_ms <= 0:
        return wrong(about, f"expired {span(-left_ms)} ago", cure)
    if left_ms < SOON_MS:
        return warning(about, f"expires in {span(left_ms)}", cure)
    return ok(about, f"good for {span(left_ms)}")


def judge_list(left_ms: int, *, warn_ms: int, cure: str) -> Finding:
    """The revocation list: once its time is over, nobody gets in."""
    about = "revocation list of the broker"
    if left_ms <= 0:
        return wrong(about, f"ended {span(-left_ms)} ago, so nobody can connect", cure)
    if left_ms < warn_ms:
        return warning(about, f"ends in {span(left_ms)}, and then nobody can connect", cure)
    return ok(about, f"good for {span(left_ms)}")


# Clocks and disks


def judge_offset(other: str, offset_s: float) -> Finding:
    """Our clock against that of a server, known to a second. Positive: ours is ahead."""
    about = "clock of this machine"
    side = "ahead of" if offset_s > 0 else "behind"
    what = f"{span(abs(offset_s) * 1_000)} {side} that of {other}"
    cure = "find out which is right, and let both follow a time server (chrony, ntpd)"
    if abs(offset_s) > OFFSET_WRONG_S:
        return wrong(about, what, cure)
    if abs(offset_s) > OFFSET_WARN_S:
        return warning(about, what, cure)
    return ok(about, f"within {OFFSET_WARN_S:.0f} s of that of {other}")


def judge_disk(about: str, *, free: int, growth: int = 0, cure: str) -> Finding:
    """Room for what is to come.

    Args:
        growth: bytes that it may still take by its own budget.
    """
    if free < FULL:
        return wrong(about, f"its disk is full: {size(free)} are free", cure)
    if free < growth:
        return wrong(about, f"may take {size(growth)} more, and its disk has {size(free)}", cure)
    if free < TIGHT:
        return warning(about, f"its disk has {size(free)} left", cure)
    return ok(about, f"its disk has {size(free)} left")


# The log


class Look(NamedTuple):
    """A consumer group at one moment, all partitions together."""

    end: int  # offsets, summed
    done: int
    partitions: int
    members: bool = True

    @property
    def lag(self) -> int:
        return max(0, self.end - self.done)


def judge_lag(about: str, first: Look, second: Look, *, seconds: float, start: str, more: str) -> Finding:
    """Two looks at a group: whether it exists, gets on, and keeps up.

    Args:
        start: what starts one that reads.
        more: what makes reading faster.
    """
    came, went = second.end - first.end, second.done - first.done
    if not second.members:
        return wrong(about, f"nobody reads; {second.lag} records wait", f"start one: {start}")
    if second.lag <= _MARKERS * second.partitions:
        return ok(about, "nothing waits")
    if went <= 0:
        return wrong(
            about, f"{second.lag} records wait; in {seconds:.0f} s {came} more came and none was read",
            f"look into its log and at its /ready; start it again: {start}",
        )  # fmt: skip
    if second.lag > first.lag and 2 * went < came:
        return wrong(about, f"its lag grows: {second.lag} records, {came - went} more in {seconds:.0f} s", more)
    return ok(about, f"{second.lag} records wait, {went} were read in {seconds:.0f} s")


# The database


class Rights(NamedTuple):
    """What a database answers to a write of nothing and to a question, by status."""

    bucket: str
    write: int
    read: int
    problem: str = ""  # as it says itself


def judge_bucket(found: Rights, *, url: str, org: str, token_file: str) -> Finding:
    about = f"bucket {found.bucket} in InfluxDB at {url}"
    init = "vitalloom store init --tokens DIR, with a token of an operator in influx.token_file"
    statuses = {found.write, found.read}
    if 401 in statuses:
        return wrong(about, f"the token in {token_file} is not known there", f"make another: {init}")
    if 404 in statuses:
        if "organization" in found.problem:
            return wrong(about, f"there is no organisation {org}", "correct influx.org, or make it in InfluxDB")
        return wrong(about, "there is no such bucket, or the token may not see it", f"make it: {init}")
    lacking = [
        verb for verb, status in (("written", found.write), ("read", found.read)) if status == 403
    ]  # fmt: skip
    if lacking:
        return wrong(
            about, f"may not be {' or '.join(lacking)} with the token in {token_file}",
            f"use writer.token; made by {init}",
        )  # fmt: skip
    if max(statuses) >= 300:
        return wrong(about, f"answers {max(statuses)}: {found.problem[:200]}", "look into the log of InfluxDB")
    return ok(about, "can be written and read")


# In words


def span(ms: float) -> str:
    """A length of time as one says it."""
    for unit, name in ((DAY_MS, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second")):
        if ms >= 0.98 * unit:  # half a second less than a day is a day
            number = round(ms / unit)
            return f"{number} {name}{'' if number == 1 else 's'}"
    return "less than a second"


def size(number: int) -> str:
    return f"{number / (1 << 30):.1f} GB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MB"
