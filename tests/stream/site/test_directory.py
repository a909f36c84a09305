"""The registry as a receiver looks at it: quick, and never behind for longer than a second."""

import contextlib
from collections.abc import Iterator

import pytest

from stream.site import directory as module
from stream.site.directory import CHECK_EVERY_MS, RegistryDirectory
from stream.site.registry import Registry
from tests.stream.site.registries import MINUTE, NOW, Desk
from wire.identity import BindingRecord, SenderRecord


class CountedRegistry(Registry):
    """As another process opens it; counts how often it is asked."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.registry.file.path, control=None, tenant_id=desk.registry.tenant_id, clock=desk.clock)
        self.asked = 0

    def sender(self, device_id: bytes) -> SenderRecord | None:
        self.asked += 1
        return super().sender(device_id)

    def binding(self, binding_id: bytes) -> BindingRecord | None:
        self.asked += 1
        return super().binding(binding_id)


@pytest.fixture
def registry(desk: Desk) -> Iterator[CountedRegistry]:
    with contextlib.closing(CountedRegistry(desk)) as made:
        yield made


def test_what_was_looked_up_is_not_looked_up_again(desk: Desk, registry: CountedRegistry) -> None:
    wearable, edge = desk.enrol(), desk.enrol("edge")
    binding = desk.bind(wearable, edge)
    directory = RegistryDirectory(registry)

    for mono_ms in range(0, 10_000, 100):
        directory.refresh(mono_ms)
        assert directory.sender(wearable.me.device_id) is not None
        assert directory.binding(binding) is not None
        assert directory.sender(bytes(16)) is None
        assert directory.binding(bytes(16)) is None

    assert registry.asked == 4


@pytest.mark.parametrize(("after_ms", "is_seen"), [(CHECK_EVERY_MS - 1, False), (CHECK_EVERY_MS, True)])
def test_a_revocation_elsewhere_is_seen_within_a_second(
    desk: Desk, registry: CountedRegistry, after_ms: int, is_seen: bool
) -> None:
    wearable = desk.enrol()
    directory = RegistryDirectory(registry)
    directory.refresh(0)
    assert directory.sender(wearable.me.device_id).revoked is False  # type: ignore[union-attr]

    desk.registry.revoke(wearable.me.device_id, why="stolen", who="tester")
    changed = directory.refresh(after_ms)

    assert changed is is_seen
    assert directory.sender(wearable.me.device_id).revoked is is_seen  # type: ignore[union-attr]


def test_who_was_not_known_is_known_after_it_came(desk: Desk, registry: CountedRegistry) -> None:
    directory = RegistryDirectory(registry)
    directory.refresh(0)
    invitation = desk.invite()
    assert directory.sender(invitation.device_id).credentials == ()  # type: ignore[union-attr]

    desk.enrol(invitation=invitation)
    directory.refresh(CHECK_EVERY_MS)

    record = directory.sender(invitation.device_id)
    assert record is not None
    assert len(record.credentials) == 1


def test_a_binding_that_ends_elsewhere_is_over_here(desk: Desk, registry: CountedRegistry) -> None:
    binding = desk.bind(desk.enrol(), desk.enrol("edge"))
    directory = RegistryDirectory(registry)
    assert directory.binding(binding).valid_to_ms is None  # type: ignore[union-attr]
    assert [one.binding_id for one in directory.bindings()] == [binding]

    desk.clock.advance(MINUTE)
    desk.registry.unbind(binding, who="tester")
    directory.refresh(0)

    assert directory.binding(binding).valid_to_ms == NOW + MINUTE  # type: ignore[union-attr]


def test_without_a_change_nothing_is_forgotten(desk: Desk, registry: CountedRegistry) -> None:
    directory = RegistryDirectory(registry)

    assert [directory.refresh(mono_ms) for mono_ms in range(0, 5_000, 500)] == [False] * 10


def test_every_change_is_noticed_once(desk: Desk, registry: CountedRegistry) -> None:
    directory = RegistryDirectory(registry)
    directory.refresh(0)

    desk.invite()
    desk.enrol()

    assert [directory.refresh(n * CHECK_EVERY_MS) for n in range(1, 4)] == [True, False, False]


def test_made_up_ids_fill_a_table_and_no_more(
    desk: Desk, registry: CountedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_ENTRIES", 10)
    directory = RegistryDirectory(registry)

    for n in range(100):
        directory.sender(n.to_bytes(16, "big"))
        directory.binding(n.to_bytes(16, "big"))

    assert len(directory._senders) <= 10
    assert len(directory._bindings) <= 10


def test_how_many_patients_a_device_has_follows_its_bindings(desk: Desk, registry: CountedRegistry) -> None:
    edge = desk.enrol("edge")
    bindings = [desk.bind(desk.enrol(), edge) for _ in range(3)]
    directory = RegistryDirectory(registry)
    assert directory.patients_of(edge.me.device_id) == 3

    desk.registry.unbind(bindings[0], who="tester")

    directory.refresh(CHECK_EVERY_MS)
    assert directory.patients_of(edge.me.device_id) == 2
    assert directory.patients_of(bytes(16)) == 0
