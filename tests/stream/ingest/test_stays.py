"""What the registry says of a stay: terms that no later device changes, one location, all edges, one end."""

import pytest
from msgspec.structs import replace

from stream.ingest.stays import edges_of, end_of, location_of, stays_of, terms_of
from vitals.patient_group import PatientGroup
from wire.identity import About, BindingRecord, InMemoryDirectory

STAY = b"s" * 16


def a_binding(number: int = 0, **changes: object) -> BindingRecord:
    first = BindingRecord(
        binding_id=STAY if not number else bytes([number]) * 16,
        stay_id=STAY,
        patient="P1",
        bed="North/1",
        wearable_id=bytes([0xD0 + number]) * 16,
        edge_id=b"e" * 16,
        valid_from_ms=1_000 + number,
    )
    return replace(first, **changes)


PATCH = a_binding(spo2_scale=2, device_name="patch")
OXIMETER = a_binding(1, edge_id=b"f" * 16)


def test_a_device_that_is_bound_later_does_not_change_the_scale_that_was_ordered() -> None:
    directory = InMemoryDirectory([], [PATCH, OXIMETER])

    assert terms_of(directory, OXIMETER).spo2_scale == terms_of(directory, PATCH).spo2_scale == 2


def test_a_group_that_was_stated_with_any_device_is_that_of_the_patient() -> None:
    child = replace(OXIMETER, about=About(age_years=3))
    directory = InMemoryDirectory([], [PATCH, child])

    assert terms_of(directory, PATCH).group is PatientGroup.CHILD
    assert location_of([PATCH, child], 9_000).group is PatientGroup.CHILD


def test_two_devices_of_one_patient_are_one_location_with_both_edges() -> None:
    directory = InMemoryDirectory([], [PATCH, OXIMETER, a_binding(2, stay_id=b"t" * 16, patient="P2")])

    found = [location_of(bindings, 9_000) for bindings in stays_of(directory)]

    assert [(one.stay_id, one.patient) for one in found] == [(STAY.hex(), "P1"), ((b"t" * 16).hex(), "P2")]
    assert found[0].edges == ((b"f" * 16).hex(), (b"e" * 16).hex())
    assert found[0].devices == ("patch", "d1" * 4)
    assert (found[0].valid_from_ms, found[0].valid_to_ms) == (1_000, None)


def test_the_bed_is_where_the_newest_device_that_is_still_on_the_patient_was_bound() -> None:
    moved = replace(OXIMETER, bed="South/2")

    assert location_of([PATCH, moved], 9_000).bed == "South/2"
    taken_off = replace(moved, valid_to_ms=5_000, stay_goes_on=True)
    assert location_of([PATCH, taken_off], 9_000).bed == "North/1"


@pytest.mark.parametrize(
    ("first", "second", "end"),
    [
        ({}, {}, None),
        ({"valid_to_ms": 5_000, "stay_goes_on": True}, {}, None),
        ({"valid_to_ms": 5_000, "stay_goes_on": True}, {"valid_to_ms": 6_000, "stay_goes_on": True}, None),
        ({"valid_to_ms": 5_000, "stay_to_ms": 8_000}, {"valid_to_ms": 8_000}, 8_000),
        ({"valid_to_ms": 5_000, "stay_goes_on": True}, {"valid_to_ms": 8_000}, 8_000),
        ({"valid_to_ms": 5_000}, {"valid_to_ms": 5_000}, 5_000),
    ],
)
def test_the_end_of_a_device_is_not_the_end_of_the_stay(
    first: dict[str, object], second: dict[str, object], end: int | None
) -> None:
    assert end_of([replace(PATCH, **first), replace(OXIMETER, **second)]) == end


def test_edges_that_do_not_hear_the_patient_any_more_are_left_out_unless_nobody_does() -> None:
    taken_off = replace(OXIMETER, valid_to_ms=5_000, stay_goes_on=True)

    assert edges_of([PATCH, OXIMETER]) == (b"f" * 16, b"e" * 16)
    assert edges_of([PATCH, taken_off]) == (b"e" * 16,)
    assert edges_of([replace(PATCH, valid_to_ms=4_000), taken_off]) == (b"f" * 16,)
    assert edges_of([]) == ()
