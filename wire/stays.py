"""Which stay a person means by the name of a bed or a patient, or the id of a stay. Pure."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from wire.errors import NoSuchStay
from wire.identity import BindingRecord, is_same_bed


class KnownStay(NamedTuple):
    """One stay, as the registry has it."""

    stay_id: str
    bed: str
    patient: str  # a pseudonym
    began_ms: int
    ended_ms: int | None  # None: the patient is still monitored


Stays: TypeAlias = Callable[[], list[KnownStay]]
"""Every stay that goes on, or ended a short time ago."""


def stays_of(bindings: Iterable[BindingRecord]) -> list[KnownStay]:
    """The stays that these bindings belong to, each at the bed of its newest binding."""
    by_stay: dict[str, list[BindingRecord]] = {}
    for one in bindings:
        by_stay.setdefault(one.stay, []).append(one)
    found = []
    for stay_id, these in by_stay.items():
        these.sort(key=lambda one: (one.valid_to_ms is None, one.valid_from_ms))
        newest = these[-1]
        began_ms = min(one.valid_from_ms for one in these)
        found.append(KnownStay(stay_id, newest.bed, newest.patient, began_ms, _end_of(these)))
    return found


def find_stay(name: str, stays: Iterable[KnownStay], *, clock: Callable[[int], str]) -> KnownStay:
    """The stay that goes on and has this id, patient or bed.

    Args:
        clock: writes the time of a discharge.

    Raises:
        NoSuchStay: there is none, it has ended, or there is more than one; says which, and what to do.
    """
    known = list(stays)
    named = [one for one in known if name in (one.stay_id, one.patient) or is_same_bed(name, one.bed)]
    open_ones = [one for one in named if one.ended_ms is None]
    if len(open_ones) == 1:
        return open_ones[0]
    if len(open_ones) > 1:
        raise NoSuchStay(f"{name!r} names more than one patient; give the id of the stay", is_known=True)
    if named:
        last = max(named, key=lambda one: one.ended_ms or 0)
        when = clock(last.ended_ms or 0)
        raise NoSuchStay(
            f"{name!r}: the patient was discharged at {when}; nothing can be entered after that. If the patient is "
            "still here, admit them again: vitalloom registry bind",
            is_known=True,
        )
    raise NoSuchStay(f"{name!r} is no bed, patient or stay that is monitored; check the name", is_known=False)


def _end_of(bindings: list[BindingRecord]) -> int | None:
    """When a stay ended; None: it goes on."""
    if any(one.stay_to_ms is not None for one in bindings):
        return max(one.stay_to_ms for one in bindings if one.stay_to_ms is not None)
    if any(one.valid_to_ms is None for one in bindings):
        return None
    newest = max(bindings, key=lambda one: one.valid_to_ms or 0)
    return None if newest.stay_goes_on else newest.valid_to_ms
