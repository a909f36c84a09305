"""The devices and patients that a device knows from documents; its provision follows every one of them."""

from wire.enrol.documents import AssignmentV1, BindingV1, DeviceV1, Document, OrdersV1
from wire.enrol.records import assignment_of, binding_of, record_of
from wire.identity import Provision, SenderRecord


class KnownParties:
    """Puts devices and bindings into a provision's directory, and finds the recipient that it writes to."""

    def __init__(self, provision: Provision) -> None:
        self.own: DeviceV1 | None = None  # the data centre's document about this device
        self._provision = provision
        self._devices: dict[bytes, SenderRecord] = {}

    def device(self, device_id: bytes) -> SenderRecord | None:
        """The record of another device; None: unknown."""
        return self._devices.get(device_id)

    def apply(self, document: Document) -> None:
        """Bring the provision up to date with a document that was accepted."""
        content = document.content
        if isinstance(content, DeviceV1):
            self._apply_device(document.subject, content)
        elif isinstance(content, BindingV1):
            self._provision.directory.put(binding_of(document.subject, content))
        elif isinstance(content, AssignmentV1) and document.recipient == self._provision.me.device_id:
            self._provision.directory.put(assignment_of(self._provision.me.device_id, content))
        elif isinstance(content, OrdersV1):
            self._provision.directory.put_orders(document.subject, content.of_stay)
        self._find_recipient()

    def _apply_device(self, device_id: bytes, content: DeviceV1) -> None:
        if device_id == self._provision.me.device_id:
            self.own = content
            return
        record = record_of(device_id, content)
        self._devices[device_id] = record
        if content.role == "wearable":
            self._provision.directory.put_sender(record)

    def _find_recipient(self) -> None:
        """An edge writes to the data centre, a wearable to the edge of its newest assignment."""
        found: SenderRecord | None = None
        if self._provision.me.role == "edge":
            found = next((one for one in self._devices.values() if one.role == "ingest" and not one.revoked), None)
        else:
            newest = max(self._provision.directory.bindings(), key=lambda one: one.valid_from_ms, default=None)
            found = None if newest is None else self._devices.get(newest.edge_id)
        if found is not None and found.recipient is not None:
            self._provision.recipient = found.recipient
            self._provision.recipient_keys = found.keys
