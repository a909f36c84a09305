"""Alarm load: alarms per patient-day, share acknowledged, time to acknowledgement, share that end by themselves.

Pure functions on the record of alarms. A measure that cannot be computed is None, never 0.
"""

from collections.abc import Iterable, Iterator
from statistics import median
from typing import Final

import msgspec

from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority

DAY_MS: Final = 86_400_000


class LoadMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """The measures of one kind of alarms at one priority, or of all; None where the record does not tell."""

    kind: AlarmKind | None  # None: all kinds
    priority: Priority | None  # the highest an alarm reached; None: all priorities
    alarms: int
    per_patient_day: float | None
    acknowledged: float | None  # share that was acknowledged, after it last got worse
    cleared_alone: float | None  # share that was over before it was acknowledged
    median_ms: float | None  # from the announcement to the acknowledgement
    p95_ms: int | None  # nearest rank, so a time that really occurred
    rule_id: str | None = None  # None: all rules
    unanswered_at_end: float | None = None  # share that nobody had acknowledged when the binding ended


class AlarmLoad(msgspec.Struct, frozen=True, kw_only=True):
    """A period's alarms."""

    total: LoadMeasures
    rows: tuple[LoadMeasures, ...]  # every kind and priority, the worst first; also those without alarms
    rules: tuple[LoadMeasures, ...]  # every rule that raised an alarm, the one with the most alarms first


def alarm_load(changes: Iterable[AlarmChanged], *, patient_ms: int) -> AlarmLoad:
    """Measure a period.

    An alarm belongs to the period in which it became active (its revision 0), whatever happens to it later. Those of
    which only later changes are given, that never became active, or that were found in backfilled data do not count.

    Args:
        changes: alarms as they were announced, in any order; the same one may come twice.
        patient_ms: time that patients were monitored, added up over all of them.
    """
    lives = list(_lives(changes))
    rows = tuple(
        _measure([one for one in lives if one.kind is kind and one.priority is priority], patient_ms, kind, priority)
        for kind in AlarmKind
        for priority in sorted(Priority, reverse=True)
    )
    by_rule: dict[str, list[_Life]] = {}
    for one in lives:
        by_rule.setdefault(one.rule_id, []).append(one)
    rules = tuple(
        msgspec.structs.replace(_measure(these, patient_ms, None, None), rule_id=rule_id)
        for rule_id, these in sorted(by_rule.items(), key=lambda one: (-len(one[1]), one[0]))
    )
    return AlarmLoad(total=_measure(lives, patient_ms, None, None), rows=rows, rules=rules)


class _Life(msgspec.Struct, frozen=True):
    """The course of one alarm."""

    rule_id: str
    kind: AlarmKind
    priority: Priority
    acknowledged: bool
    cleared_alone: bool
    unanswered_at_end: bool
    answered_after_ms: tuple[int, ...]  # several if the alarm got worse and had to be acknowledged again


def _lives(changes: Iterable[AlarmChanged]) -> Iterator[_Life]:
    revisions: dict[bytes, dict[int, AlarmChanged]] = {}
    for change in changes:
        if not change.retrospective:
            revisions.setdefault(change.alarm_id, {})[change.revision] = change
    for by_revision in revisions.values():
        life = [by_revision[revision] for revision in sorted(by_revision)]
        active = [one for one in life if one.state is AlarmState.ACTIVE]
        if 0 in by_revision and active:
            yield _life(life[life.index(active[0]) :])


def _life(changes: list[AlarmChanged]) -> _Life:
    calling_ms: int | None = None
    answered_after_ms: list[int] = []
    for change in changes:
        if change.acknowledged_by is None:
            if calling_ms is None:
                calling_ms = change.at_ms
        elif calling_ms is not None:
            if change.acknowledged_ms is not None:
                # Two clocks: an acknowledgement that seems to come before the announcement came at once.
                answered_after_ms.append(max(0, change.acknowledged_ms - calling_ms))
            calling_ms = None
    over = next((change for change in changes if change.state is AlarmState.CLEARED), None)
    return _Life(
        rule_id=changes[0].rule_id,
        kind=changes[0].kind,
        priority=max(change.priority for change in changes),
        acknowledged=changes[-1].acknowledged_by is not None,
        cleared_alone=over is not None and over.acknowledged_by is None and not over.stay_ended,
        unanswered_at_end=any(change.stay_ended and change.acknowledged_by is None for change in changes),
        answered_after_ms=tuple(answered_after_ms),
    )


def _measure(lives: list[_Life], patient_ms: int, kind: AlarmKind | None, priority: Priority | None) -> LoadMeasures:
    n = len(lives)
    times = sorted(after_ms for one in lives for after_ms in one.answered_after_ms)
    return LoadMeasures(
        kind=kind,
        priority=priority,
        alarms=n,
        per_patient_day=n * DAY_MS / patient_ms if patient_ms > 0 else None,
        acknowledged=sum(one.acknowledged for one in lives) / n if n else None,
        cleared_alone=sum(one.cleared_alone for one in lives) / n if n else None,
        unanswered_at_end=sum(one.unanswered_at_end for one in lives) / n if n else None,
        median_ms=float(median(times)) if times else None,
        p95_ms=times[(95 * len(times) + 99) // 100 - 1] if times else None,
    )
