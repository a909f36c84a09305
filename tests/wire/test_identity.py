"""Identities keep to their files, their files keep to their owner, and bindings say who belongs to whom from when."""

import pytest

from simulators.made_up import demo_site
from tests.wire.sites import AT_MS, DAY_MS, Site, named
from wire.identity import LATE_MS, BindingRecord, in_their_beds

HOUR_MS = 3_600_000


# Bindings

#   valid from 0          valid to 10 h                 + 14 days
#   |--------------------|-----------------------------|
FROM_MS, TO_MS = AT_MS, AT_MS + 10 * HOUR_MS


def a_binding(valid_to_ms: int | None) -> BindingRecord:
    return BindingRecord(
        binding_id=named("binding"),
        patient="P0001",
        bed="1",
        wearable_id=named("ann"),
        edge_id=named("edge"),
        valid_from_ms=FROM_MS,
        valid_to_ms=valid_to_ms,
    )


@pytest.mark.parametrize(
    ("began_ms", "now_ms", "admitted"),
    [
        (FROM_MS - 1, FROM_MS - 1, False),
        (FROM_MS, FROM_MS, True),
        (TO_MS, TO_MS, True),
        (TO_MS + 1, TO_MS + 1, False),  # begun after the end
        (FROM_MS, TO_MS + LATE_MS, True),  # begun in time, heard late
        (FROM_MS, TO_MS + LATE_MS + 1, False),
        (0, FROM_MS, True),  # no clock: it began when it was heard
        (0, TO_MS + 1, False),
        (TO_MS + DAY_MS, FROM_MS, True),  # a clock that is ahead: the same
        (TO_MS + 2 * DAY_MS, TO_MS + DAY_MS, False),
    ],
)
def test_a_session_belongs_to_a_binding_that_was_open_when_it_began(began_ms: int, now_ms: int, admitted: bool) -> None:
    assert a_binding(TO_MS).admits(named("ann"), began_ms=began_ms, now_ms=now_ms) is admitted


@pytest.mark.parametrize(
    ("began_ms", "now_ms", "admitted"),
    [(TO_MS + DAY_MS, TO_MS + DAY_MS, True), (TO_MS + LATE_MS + 1, TO_MS + LATE_MS + 1, False)],
)
def test_an_edge_begins_sessions_after_the_end_for_what_is_still_heard(
    began_ms: int, now_ms: int, admitted: bool
) -> None:
    # It begins a new one every hour: late readings, and the end of its alarms, would be refused for good.
    assert a_binding(TO_MS).admits(named("edge"), began_ms=began_ms, now_ms=now_ms) is admitted


def test_a_bed_shows_the_patient_who_was_bound_to_it_last() -> None:
    def bound(name: str, bed: str, from_ms: int, patient: str, to_ms: int | None = None) -> BindingRecord:
        return BindingRecord(
            binding_id=named(name),
            patient=patient,
            bed=bed,
            wearable_id=named(name),
            edge_id=named("edge"),
            valid_from_ms=from_ms,
            valid_to_ms=to_ms,
        )

    older, gone = bound("older", "4", 1, "P1"), bound("gone", "4", 0, "P0", to_ms=1)
    newer, also_worn = bound("newer", " 4", 2, "P2"), bound("also worn", "4", 1, "P2")
    nowhere, neither = bound("nowhere", "", 1, "P3"), bound("neither", "", 2, "P4")

    assert in_their_beds([newer, older, gone, also_worn]) == [also_worn, newer]
    assert in_their_beds([nowhere, neither]) == [nowhere, neither]


@pytest.mark.parametrize(
    ("began_ms", "now_ms", "admitted"),
    [(FROM_MS - 1, FROM_MS - 1, False), (FROM_MS, FROM_MS, True), (FROM_MS, FROM_MS + 1_000 * DAY_MS, True)],
)
def test_a_binding_without_an_end_goes_on(began_ms: int, now_ms: int, admitted: bool) -> None:
    assert a_binding(None).admits(named("ann"), began_ms=began_ms, now_ms=now_ms) is admitted


@pytest.mark.parametrize(
    ("sender", "admitted"), [("ann", True), ("edge", True), ("bob", False), ("another edge", False)]
)
def test_a_binding_is_for_its_wearable_and_its_edge(sender: str, admitted: bool) -> None:
    assert a_binding(None).admits(named(sender), began_ms=FROM_MS, now_ms=FROM_MS) is admitted


# The demonstration


def test_wearables_are_shared_out_and_each_edge_knows_only_its_own() -> None:
    site = demo_site(wearables=5, edges=2, now_ms=AT_MS)

    known = [[edge.directory.sender(one.me.device_id) is not None for one in site.wearables] for edge in site.edges]

    assert known == [[True, False, True, False, True], [False, True, False, True, False]]
    assert [len(edge.directory.bindings()) for edge in site.edges] == [3, 2]
    assert [binding.bed for binding in site.bindings] == ["1", "2", "3", "4", "5"]
    assert all(site.ingest.directory.sender(edge.me.device_id) for edge in site.edges)
    assert not any(site.ingest.directory.sender(one.me.device_id) for one in site.wearables)


def test_ids_can_be_compared_between_runs_and_keys_cannot() -> None:
    one, two = (demo_site(wearables=1, edges=1, now_ms=AT_MS).wearables[0].me for _ in range(2))

    assert one.device_id == two.device_id
    assert one.signing_key.private_bytes_raw() != two.signing_key.private_bytes_raw()
    assert one.prekeys.keys() != two.prekeys.keys()


def test_a_session_is_sealed_to_the_newest_prekey() -> None:
    edge = Site().edge
    edge.prekeys[named("newer", 8)] = next(iter(Site().bob.prekeys.values()))

    assert edge.recipient().prekey_id == named("newer", 8)
