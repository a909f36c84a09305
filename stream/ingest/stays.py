"""What the registry says of a whole stay, whichever device speaks: scores that apply, place, edges, devices. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stream.records import PatientLocation
from vitals.patient_group import PatientGroup, group_of
from wire.identity import NO_DEVICE, BindingRecord, Directory


class StayTerms(NamedTuple):
    """What decides which scores a patient has."""

    spo2_scale: int = 1  # NEWS2 SpO2 scale: 1 or 2
    group: PatientGroup = PatientGroup.UNSTATED


def terms_of(directory: Directory, binding: BindingRecord) -> StayTerms:
    """The terms of the stay that a binding contributes to.

    Those of the first binding count, whose id the stay has: a thermometer that is bound without them later changes
    nothing. A group that was not stated with the first device is that of the first one with which it was.
    """
    bindings = directory.of_stay(binding.stay_id) or (binding,)
    groups = (group for one in bindings if (group := group_of(one.about)) is not PatientGroup.UNSTATED)
    return StayTerms(bindings[0].spo2_scale, next(groups, PatientGroup.UNSTATED))


def edges_of(bindings: Iterable[BindingRecord]) -> tuple[bytes, ...]:
    """The edges that hear a stay, the newest first: those of its open bindings; if none is open, the last one."""
    newest_first = [one for one in bindings if one.edge_id != NO_DEVICE][::-1]
    heard = [one.edge_id for one in newest_first if one.valid_to_ms is None]
    return tuple(dict.fromkeys(heard or [one.edge_id for one in newest_first[:1]]))


def end_of(bindings: Sequence[BindingRecord]) -> int | None:
    """When a stay ended, by the registry, ms; None: it has not. The end of one device of several is none."""
    if any(one.valid_to_ms is None for one in bindings):
        return None
    ends = [one.stay_to_ms or one.valid_to_ms for one in bindings if not one.stay_goes_on]
    return max((end for end in ends if end is not None), default=None)


def location_of(bindings: Sequence[BindingRecord], now_ms: int) -> PatientLocation:
    """Where the patient of a stay is.

    Args:
        bindings: of one stay, the newest last.
    """
    present = [one for one in bindings if one.valid_to_ms is None]
    newest = (present or bindings)[-1]
    groups = (group for one in bindings if (group := group_of(one.about)) is not PatientGroup.UNSTATED)
    edges = edges_of(bindings)
    return PatientLocation(
        stay_id=newest.stay,
        patient=newest.patient,
        bed=newest.bed,
        edge_id=edges[0].hex() if edges else "",
        at_ms=now_ms,
        valid_from_ms=min(one.valid_from_ms for one in bindings),
        valid_to_ms=end_of(bindings),
        group=next(groups, PatientGroup.UNSTATED),
        edges=tuple(one.hex() for one in edges),
        devices=tuple(one.device_name or one.wearable_id.hex()[:8] for one in present if one.wearable_id != NO_DEVICE),
    )


def stays_of(directory: Directory) -> list[tuple[BindingRecord, ...]]:
    """The bindings of each stay that is open or ended a short time ago."""
    stay_ids = dict.fromkeys(one.stay_id for one in directory.bindings())
    return [bindings for stay_id in stay_ids if (bindings := directory.of_stay(stay_id))]
