"""The registry as a receiver looks at it: remembered for a moment, never for longer than a revocation may take."""

from typing import Final

from stream.site.registry import Registry
from wire.identity import BindingRecord, SenderRecord

LOOK_EVERY_MS: Final = 1_000

_MOST: Final = 100_000


class RegistryDirectory:
    """Senders and bindings of a registry, which another process changes.

    What was looked up is remembered until the registry's version changes. `refresh` looks at that.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._version = registry.file.version
        self._looked_ms: int | None = None
        self._senders: dict[bytes, SenderRecord | None] = {}
        self._bindings: dict[bytes, BindingRecord | None] = {}
        self._patients: dict[bytes, int] = {}

    def refresh(self, mono_ms: int) -> bool:
        """Forget everything if the registry has changed; whether it has. Cheap, and looks once a second at most."""
        if self._looked_ms is not None and mono_ms - self._looked_ms < LOOK_EVERY_MS:
            return False
        self._looked_ms = mono_ms
        version = self._registry.file.version
        if version == self._version:
            return False
        self._version = version
        self._senders.clear()
        self._bindings.clear()
        self._patients.clear()
        return True

    def sender(self, device_id: bytes) -> SenderRecord | None:
        if device_id not in self._senders:
            if len(self._senders) >= _MOST:  # whoever makes up ids fills a table, and no more than that
                self._senders.clear()
            self._senders[device_id] = self._registry.sender(device_id)
        return self._senders[device_id]

    def binding(self, binding_id: bytes) -> BindingRecord | None:
        if binding_id not in self._bindings:
            if len(self._bindings) >= _MOST:
                self._bindings.clear()
            self._bindings[binding_id] = self._registry.binding(binding_id)
        return self._bindings[binding_id]

    def patients_of(self, device_id: bytes) -> int:
        if device_id not in self._patients:
            if len(self._patients) >= _MOST:
                self._patients.clear()
            self._patients[device_id] = self._registry.patients_of(device_id)
        return self._patients[device_id]

    def bindings(self) -> tuple[BindingRecord, ...]:
        """All of them, for whoever shows a ward."""
        return tuple(self._registry.bindings())
