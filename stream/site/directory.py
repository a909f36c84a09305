"""A cache of the registry for receivers of frames, refreshed every second so that revocations take effect quickly."""

from typing import Final

from stream.site.registry import Registry
from wire.identity import BindingRecord, SenderRecord, StayOrders

CHECK_EVERY_MS: Final = 1_000
FORGET_EVERY_MS: Final = 60_000

_MAX_ENTRIES: Final = 100_000


class RegistryDirectory:
    """Senders and bindings of a registry that another process changes.

    Entries are cached until the registry's version changes, which `refresh` checks.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._version = registry.file.version
        self._checked_ms: int | None = None
        self._senders: dict[bytes, SenderRecord | None] = {}
        self._bindings: dict[bytes, BindingRecord | None] = {}
        self._patients: dict[bytes, int] = {}
        self._stays: dict[bytes, tuple[BindingRecord, ...]] = {}
        self._orders: dict[bytes, StayOrders | None] = {}
        self._all: tuple[BindingRecord, ...] | None = None

    def refresh(self, mono_ms: int) -> bool:
        """Clear the cache if the registry has changed; True if it has. Cheap: it checks at most once a second."""
        if self._checked_ms is not None and mono_ms - self._checked_ms < CHECK_EVERY_MS:
            return False
        if self._checked_ms is None or mono_ms // FORGET_EVERY_MS != self._checked_ms // FORGET_EVERY_MS:
            self._all = None  # which bindings ended a short time ago depends on the time as well
        self._checked_ms = mono_ms
        version = self._registry.file.version
        if version == self._version:
            return False
        self._version = version
        self._senders.clear()
        self._bindings.clear()
        self._patients.clear()
        self._stays.clear()
        self._orders.clear()
        self._all = None
        return True

    def sender(self, device_id: bytes) -> SenderRecord | None:
        if device_id not in self._senders:
            if len(self._senders) >= _MAX_ENTRIES:  # invented ids cannot use unlimited memory
                self._senders.clear()
            self._senders[device_id] = self._registry.sender(device_id)
        return self._senders[device_id]

    def binding(self, binding_id: bytes) -> BindingRecord | None:
        if binding_id not in self._bindings:
            if len(self._bindings) >= _MAX_ENTRIES:
                self._bindings.clear()
            self._bindings[binding_id] = self._registry.binding(binding_id)
        return self._bindings[binding_id]

    def patients_of(self, device_id: bytes) -> int:
        if device_id not in self._patients:
            if len(self._patients) >= _MAX_ENTRIES:
                self._patients.clear()
            self._patients[device_id] = self._registry.patients_of(device_id)
        return self._patients[device_id]

    def of_stay(self, stay_id: bytes) -> tuple[BindingRecord, ...]:
        if stay_id not in self._stays:
            if len(self._stays) >= _MAX_ENTRIES:
                self._stays.clear()
            self._stays[stay_id] = tuple(self._registry.of_stay(stay_id))
        return self._stays[stay_id]

    def orders_of(self, stay_id: bytes) -> StayOrders | None:
        if stay_id not in self._orders:
            if len(self._orders) >= _MAX_ENTRIES:
                self._orders.clear()
            self._orders[stay_id] = self._registry.orders.of_stay(stay_id)
        return self._orders[stay_id]

    def bindings(self) -> tuple[BindingRecord, ...]:
        """All bindings in force or recently ended, as of the last `refresh`."""
        if self._all is None:
            self._all = tuple(self._registry.bindings())
        return self._all
