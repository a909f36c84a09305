"""Which patient a name means: the one who is in the bed now, and nobody where that is not certain."""

from typing import Any

import pytest

from wire.errors import NoSuchStay
from wire.identity import BindingRecord
from wire.stays import KnownStay, find_stay, stays_of

NOW = 1_700_000_000_000


def bound(number: int, **changes: Any) -> BindingRecord:
    facts: dict[str, Any] = {
        "binding_id": bytes([number]) * 16, "patient": "P-1", "bed": "Ward 7/4",
        "wearable_id": bytes([100 + number]) * 16, "edge_id": b"e" * 16, "valid_from_ms": NOW + number,
    }  # fmt: skip
    return BindingRecord(**facts | changes)


def test_a_stay_of_several_devices_goes_on_while_one_of_them_does() -> None:
    first = bound(1, valid_to_ms=NOW + 9, stay_goes_on=True)
    second = bound(2, stay_id=first.stay_id, bed="Ward 7/5")

    (stay,) = stays_of([second, first])

    assert stay == KnownStay(first.stay, "Ward 7/5", "P-1", NOW + 1, None)


def test_a_patient_without_a_device_for_an_hour_is_still_there() -> None:
    (stay,) = stays_of([bound(1, valid_to_ms=NOW + 9, stay_goes_on=True)])

    assert stay.ended_ms is None


@pytest.mark.parametrize(
    "last", [{"valid_to_ms": NOW + 9}, {"valid_to_ms": NOW + 5, "stay_goes_on": True, "stay_to_ms": NOW + 9}]
)
def test_a_stay_ends_with_its_last_binding_or_when_the_registry_says(last: dict[str, Any]) -> None:
    (stay,) = stays_of([bound(1, **last)])

    assert stay.ended_ms == NOW + 9


def test_a_bed_means_the_patient_who_is_in_it_now() -> None:
    gone = bound(1, patient="P-0", valid_to_ms=NOW + 2)
    here = bound(2, patient="P-1")

    found = find_stay(" ward 7/4", stays_of([gone, here]), clock=str)

    assert found.patient == "P-1"


def test_a_name_that_is_a_bed_and_a_patient_is_asked_about() -> None:
    stays = stays_of([bound(1, bed="12", patient="P-1"), bound(2, bed="3", patient="12")])

    with pytest.raises(NoSuchStay, match="more than one patient"):
        find_stay("12", stays, clock=str)
