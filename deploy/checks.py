"""Checks of `vitalloom doctor`: measured facts in, results with severity and fix out.

Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from runtime.end_dates import EndDate, Urgency, sentence, urgency

DAY_MS: Final = 86_400_000
OFFSET_WARN_S: Final = 5.0
OFFSET_ERROR_S: Final = 30.0
"""Edges whose clock is further ahead than this are not trusted with the time of a reading."""
DISK_LOW_BYTES: Final = 1 << 30
DISK_FULL_BYTES: Final = 100 << 20
_MARKERS: Final = 2  # transaction markers at the end of a partition, which consumers do not count as records


class Severity(StrEnum):
    """Severity of a result, most severe first."""

    ERROR = "error"
    WARNING = "warning"
    OK = "ok"


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check."""

    subject: str  # what was checked
    severity: Severity
    result: str
    fix: str = ""


def ok(subject: str, result: str) -> CheckResult:
    return CheckResult(subject=subject, severity=Severity.OK, result=result)


def warning(subject: str, result: str, fix: str) -> CheckResult:
    return CheckResult(subject=subject, severity=Severity.WARNING, result=result, fix=fix)


def failure(subject: str, result: str, fix: str) -> CheckResult:
    return CheckResult(subject=subject, severity=Severity.ERROR, result=result, fix=fix)


def worst_first(results: Sequence[CheckResult]) -> list[CheckResult]:
    order = list(Severity)
    return sorted(results, key=lambda one: order.index(one.severity))


# Certificates


class CertificateFacts(NamedTuple):
    """The facts of a certificate that are checked."""

    name: str
    begins_ms: int
    ends_ms: int
    is_ours: bool  # issued by an authority of this site


def judge_certificate(found: CertificateFacts, *, now_ms: int, fix: str) -> CheckResult:
    """Its issuer and its validity."""
    subject = f"certificate of {found.name}"
    if not found.is_ours:
        return failure(subject, "was issued by another authority", fix)
    if now_ms < found.begins_ms:
        return failure(
            subject,
            f"is not valid yet; it becomes valid in {span(found.begins_ms - now_ms)}",
            "set the clock of this machine (chrony, ntpd)",
        )
    left_ms = found.ends_ms - now_ms
    if left_ms <= 0:
        return failure(subject, f"expired {span(-left_ms)} ago", fix)
    return ok(subject, f"valid for {span(left_ms)}")


def judge_end_date(one: EndDate, *, now_ms: int) -> CheckResult:
    """Whether somebody has to renew it: the same steps as in the alarms of the desk."""
    level = urgency(one, now_ms)
    if level is Urgency.NONE and not one.problem:
        return ok(one.what, f"valid for {span(one.ends_ms - now_ms)}")
    result, _, fix = sentence(one, now_ms).rpartition("; fix: ")
    result = result.removeprefix(one.what).strip()
    return (failure if level >= Urgency.HIGH else warning)(one.what, result, fix)


def with_end_dates(found: Iterable[CheckResult], ends: Iterable[EndDate], *, now_ms: int) -> list[CheckResult]:
    """Add what has to be renewed. Of one subject the more severe result counts."""
    results = {one.subject: one for one in found}
    for one in ends:
        judged = judge_end_date(one, now_ms=now_ms)
        known = results.get(judged.subject)
        if judged.severity is not Severity.OK and (known is None or known.severity is Severity.OK):
            results[judged.subject] = judged
    return list(results.values())


def judge_revocation_list(left_ms: int, *, warn_ms: int, fix: str) -> CheckResult:
    """The revocation list of the MQTT broker: after it has expired, the broker accepts no client."""
    subject = "revocation list of the MQTT broker"
    if left_ms <= 0:
        return failure(subject, f"expired {span(-left_ms)} ago, so no client can connect", fix)
    if left_ms < warn_ms:
        return warning(subject, f"expires in {span(left_ms)}; after that no client can connect", fix)
    return ok(subject, f"valid for {span(left_ms)}")


# Clocks and disks


def judge_offset(other: str, offset_s: float) -> CheckResult:
    """The clock of this machine against that of a server, known to a second. Positive: this machine is ahead."""
    subject = "clock of this machine"
    side = "ahead of" if offset_s > 0 else "behind"
    result = f"{span(abs(offset_s) * 1_000)} {side} the clock of {other}"
    fix = "find out which clock is right, and synchronise both with a time server (chrony, ntpd)"
    if abs(offset_s) > OFFSET_ERROR_S:
        return failure(subject, result, fix)
    if abs(offset_s) > OFFSET_WARN_S:
        return warning(subject, result, fix)
    return ok(subject, f"within {OFFSET_WARN_S:.0f} s of the clock of {other}")


def judge_disk(subject: str, *, free: int, growth: int = 0, fix: str) -> CheckResult:
    """Free disk space, now and for the growth that the configuration permits.

    Args:
        growth: bytes that may still be added within the configured budget.
    """
    if free < DISK_FULL_BYTES:
        return failure(subject, f"the disk is full: {size(free)} free", fix)
    if free < growth:
        return failure(subject, f"may grow by {size(growth)}, but the disk has only {size(free)} free", fix)
    if free < DISK_LOW_BYTES:
        return warning(subject, f"the disk has {size(free)} free", fix)
    return ok(subject, f"the disk has {size(free)} free")


# Alarm desk


def judge_urgent_ladder(waits_ms: int | None, *, source: str) -> CheckResult:
    """When the first person is notified of a NEWS2 of 5 or 6, which the RCP calls urgent.

    Args:
        waits_ms: delay of the first step; None: no person is notified.
        source: configuration of the alarm desk.
    """
    subject = "first call for a NEWS2 of 5 or 6"
    if waits_ms == 0:
        return ok(subject, "at once")
    result = "no person is notified" if waits_ms is None else f"waits {span(waits_ms)}"
    return warning(
        subject,
        f"{result}; the Royal College of Physicians asks to inform the team immediately",
        f"in {source}, remove [policy.medium] if it is the earlier default, or write [policy.rules.news2.medium] "
        "with a first step at delay_ms 0",
    )


def judge_time_zone(name: str, *, source: str) -> CheckResult:
    """Whether the time zone in which people read times was stated.

    Args:
        name: IANA name; empty: not stated.
        source: configuration of the alarm desk.
    """
    subject = "time zone in messages and texts"
    if name:
        return ok(subject, name)
    return warning(
        subject,
        "not stated: times are in UTC, which they name",
        f'set time_zone = "AREA/CITY" in {source}, in worker.toml and in site.json, and restart the processes',
    )


# Kafka


class LagSample(NamedTuple):
    """Offsets of a Kafka consumer group at one moment, summed over all partitions."""

    end: int
    committed: int
    partitions: int
    members: bool = True

    @property
    def lag(self) -> int:
        return max(0, self.end - self.committed)


def judge_lag(
    subject: str, first: LagSample, second: LagSample, *, seconds: float, start: str, more: str
) -> CheckResult:
    """Whether a consumer group has members, makes progress and keeps up, from two samples.

    Args:
        seconds: between the two samples.
        start: command that starts a consumer.
        more: how to make consumption faster.
    """
    added, consumed = second.end - first.end, second.committed - first.committed
    if not second.members:
        return failure(subject, f"no consumer is running; {second.lag} records wait", f"start one: {start}")
    if second.lag <= _MARKERS * second.partitions:
        return ok(subject, "no records wait")
    if consumed <= 0:
        return failure(
            subject,
            f"{second.lag} records wait; in {seconds:.0f} s {added} were added and none was consumed",
            f"check its log and its /ready endpoint; restart it: {start}",
        )
    if second.lag > first.lag and 2 * consumed < added:
        return failure(
            subject, f"the lag is growing: {second.lag} records, {added - consumed} more in {seconds:.0f} s", more
        )
    return ok(subject, f"{second.lag} records wait, {consumed} were consumed in {seconds:.0f} s")


# InfluxDB


class BucketAccess(NamedTuple):
    """HTTP status codes of an empty write to a bucket and of a query of it."""

    bucket: str
    write: int
    read: int
    problem: str = ""  # the message of InfluxDB


def judge_bucket(found: BucketAccess, *, url: str, org: str, token_file: str) -> CheckResult:
    subject = f"bucket {found.bucket} in InfluxDB at {url}"
    init = "vitalloom store init --tokens DIR, with an operator token in influx.token_file"
    statuses = {found.write, found.read}
    if 401 in statuses:
        return failure(subject, f"the token in {token_file} is not valid there", f"create a new one: {init}")
    if 404 in statuses:
        if "organization" in found.problem:
            return failure(
                subject, f"the organisation {org} does not exist", "correct influx.org, or create it in InfluxDB"
            )
        return failure(subject, "the bucket does not exist, or the token has no access to it", f"create it: {init}")
    lacking = [verb for verb, status in (("write", found.write), ("read", found.read)) if status == 403]
    if lacking:
        return failure(
            subject,
            f"the token in {token_file} has no permission to {' or '.join(lacking)}",
            f"use writer.token, created by {init}",
        )
    if max(statuses) >= 300:
        return failure(subject, f"answers {max(statuses)}: {found.problem[:200]}", "check the log of InfluxDB")
    return ok(subject, "can be read and written")


# Text


def span(ms: float) -> str:
    """A duration in words, rounded to one unit."""
    for unit, name in ((DAY_MS, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second")):
        if ms >= 0.98 * unit:  # a day less half a second is shown as a day
            number = round(ms / unit)
            return f"{number} {name}{'' if number == 1 else 's'}"
    return "less than a second"


def size(number: int) -> str:
    return f"{number / (1 << 30):.1f} GB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MB"
