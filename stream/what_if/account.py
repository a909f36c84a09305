"""The account of a comparison: alarms per patient-day under both orders; what was gained, lost, delayed, missed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stream.what_if.run import StayResult
from vitals.alarm_load import DAY_MS
from vitals.risk import duration
from vitals.what_if import AlarmLife, Deterioration, HighChange

NOT_A_DEVICE: Final = "Decision support and secondary notification. Not a certified medical device."
MOST_LISTED: Final = 30


class ClassRow(msgspec.Struct, frozen=True, kw_only=True):
    """Alarms of one rule and priority that call, under the orders of then and the new ones."""

    rule_id: str
    priority: str
    kind: str
    then: int
    new: int
    gained: int
    lost: int
    then_per_day: float | None
    new_per_day: float | None


class ListedHigh(msgspec.Struct, frozen=True, kw_only=True):
    """A call of high priority that would have been lost or delayed."""

    stay_id: str
    patient: str
    change: HighChange
    is_labelled: bool  # a deterioration of the patient is labelled within the day after it


class ListedDeterioration(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled deterioration."""

    stay_id: str
    patient: str
    deterioration: Deterioration
    verdict: str


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What the new orders would have changed, over all stays."""

    source: str
    stays: int
    asked: int  # stays; fewer were replayed if it was interrupted
    readings: int
    patient_days: float
    then_per_day: float | None  # alarms that call
    new_per_day: float | None
    classes: tuple[ClassRow, ...]
    high: tuple[ListedHigh, ...]
    deteriorations: tuple[ListedDeterioration, ...]
    stored: int | None  # changes of alarms that were stored; None: none were, or they were not replayed
    same: int | None  # of them, that were replayed bit for bit
    differing: dict[str, int]
    limits: tuple[str, ...]
    seconds: float

    @property
    def verdicts(self) -> Counter[str]:
        """How many deteriorations are missed, found, earlier, later, the same or neither."""
        return Counter(one.verdict for one in self.deteriorations)


def account_of(
    results: Sequence[StayResult], *, source: str, asked: int, limits: tuple[str, ...], seconds: float
) -> Account:
    """Add up the results of stays."""
    days = sum(one.patient_ms for one in results) / DAY_MS
    compared = [one.comparison for one in results]
    then, new, gained, lost = (
        Counter(_class(life) for one in compared for life in getattr(one, name) if life.calls)
        for name in ("then", "new", "gained", "lost")
    )
    known = [one.fidelity for one in results if one.fidelity is not None]
    differing: Counter[str] = Counter()
    for fidelity in known:
        differing.update(fidelity.other)
    return Account(
        source=source,
        stays=len(results),
        asked=asked,
        readings=sum(one.readings for one in results),
        patient_days=days,
        then_per_day=_per_day(then.total(), days),
        new_per_day=_per_day(new.total(), days),
        classes=tuple(
            ClassRow(
                rule_id=key[0],
                priority=key[1],
                kind=key[2],
                then=then[key],
                new=new[key],
                gained=gained[key],
                lost=lost[key],
                then_per_day=_per_day(then[key], days),
                new_per_day=_per_day(new[key], days),
            )
            for key in sorted(then.keys() | new.keys(), key=lambda key: (-(then[key] + new[key]), key))
        ),
        high=tuple(_high(results)),
        deteriorations=tuple(
            ListedDeterioration(stay_id=one.stay_id, patient=one.patient, deterioration=label, verdict=label.verdict)
            for one in results
            for label in one.comparison.deteriorations
        ),
        stored=sum(one.stored for one in known) if known else None,
        same=sum(one.same for one in known) if known else None,
        differing=dict(differing.most_common()),
        limits=limits,
        seconds=seconds,
    )


def show(account: Account, console: Console) -> None:
    """Print the account as tables."""
    console.print(
        f"{account.source}: {account.stays} of {account.asked} stays, {account.patient_days:.1f} patient-days, "
        f"{account.readings:,} readings in {account.seconds:.0f} s"
    )
    if account.stays < account.asked:
        console.print("Interrupted: what follows is of the stays that were finished.", style="bold")
    console.print(
        f"Alarms that call, per patient-day: {_number(account.then_per_day)} then, {_number(account.new_per_day)} "
        "under the new orders"
    )
    table = _table("rule", "priority", "then", "new", "gained", "lost", "then/day", "new/day")
    for row in account.classes:
        counts = (str(row.then), str(row.new), str(row.gained), str(row.lost))
        table.add_row(row.rule_id, row.priority, *counts, _number(row.then_per_day), _number(row.new_per_day))
    console.print(table)
    _show_deteriorations(account, console)
    _show_high(account.high, console)
    _show_fidelity(account, console)
    console.print(
        "An alarm calls if by the ladders of the desk a person is notified of it. Gained, lost: no alarm of the same "
        "condition calls while it lasts.",
        style="dim",
    )
    console.print(NOT_A_DEVICE, style="dim")


def _show_deteriorations(account: Account, console: Console) -> None:
    if not account.deteriorations:
        console.print("No deterioration is labelled: give a CSV of patient,time with --labels.")
        return
    found = account.verdicts
    total = len(account.deteriorations)
    then = sum(one.deterioration.then_ms is not None for one in account.deteriorations)
    new = sum(one.deterioration.new_ms is not None for one in account.deteriorations)
    console.print(
        f"Labelled deteriorations: {total}; called in the 24 h before: {then} then ({then / total:.0%}), {new} new "
        f"({new / total:.0%}). Missed now: {found['missed']}, found now: {found['found']}, "
        f"earlier: {found['earlier']}, later: {found['later']}."
    )
    for one in [one for one in account.deteriorations if one.verdict == "missed"][:MOST_LISTED]:
        before_ms = one.deterioration.at_ms - (one.deterioration.then_ms or one.deterioration.at_ms)
        console.print(f"  missed: {_who(one.stay_id, one.patient)}, was called {duration(before_ms)} before")


def _show_high(high: Sequence[ListedHigh], console: Console) -> None:
    if not high:
        console.print("No call of high priority would have been lost or delayed.")
        return
    lost = [one for one in high if one.change.later_ms is None]
    alone = sum(one.change.silent_ms is None for one in lost)
    labelled = sum(one.is_labelled for one in high)
    console.print(
        f"Calls of high priority lost: {len(lost)}, {alone} of them with no other call while the condition lasted; "
        f"delayed: {len(high) - len(lost)}; of patients with a labelled deterioration within a day: {labelled}.",
        style="bold",
    )
    table = _table("patient", "rule", "sign", "high call", "until any call")
    worst = sorted(high, key=lambda one: (one.change.silent_ms is not None, -(one.change.silent_ms or 0)))
    for one in worst[:MOST_LISTED]:
        later = "lost" if one.change.later_ms is None else f"{duration(one.change.later_ms)} later"
        silent = "none" if one.change.silent_ms is None else duration(one.change.silent_ms)
        table.add_row(_who(one.stay_id, one.patient), one.change.rule_id, one.change.key, later, silent)
    console.print(table)
    if len(high) > MOST_LISTED:
        console.print(f"and {len(high) - MOST_LISTED} more: --json lists all of them", style="dim")


def _show_fidelity(account: Account, console: Console) -> None:
    if account.stored is None or account.same is None:
        return
    console.print(
        f"The orders of then, replayed: {account.same} of {account.stored} stored changes of alarms, bit for bit."
    )
    if account.differing:
        named = "; ".join(f"{what} ({count})" for what, count in list(account.differing.items())[:MOST_LISTED])
        console.print(f"Not so: {named}. What a record does not have:", style="bold")
        for limit in account.limits:
            console.print(f"  {limit}")


def _high(results: Iterable[StayResult]) -> Iterable[ListedHigh]:
    for one in results:
        labels = [label.at_ms for label in one.comparison.deteriorations]
        for change in one.comparison.high:
            is_labelled = any(change.at_ms <= at_ms < change.at_ms + DAY_MS for at_ms in labels)
            yield ListedHigh(stay_id=one.stay_id, patient=one.patient, change=change, is_labelled=is_labelled)


def _class(life: AlarmLife) -> tuple[str, str, str]:
    return life.rule_id, life.priority.name.lower(), life.kind.value


def _per_day(count: int, days: float) -> float | None:
    return count / days if days else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _who(stay_id: str, patient: str) -> str:
    return patient or stay_id[:8]


def _table(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number > 1 else "left", no_wrap=True)
    return table
