"""Identities keep to their files, their files keep to their owner, and bindings say who belongs to whom from when."""

import pytest

from simulators.made_up import demo_site
from tests.wire.sites import AT_MS, DAY_MS, Site, named
from wire.identity import LATE_MS, BindingRecord

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
