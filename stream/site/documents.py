"""The signed documents of the registry: statements to devices about each other, about bindings and about keys.

A document is signed again only when its content has changed, and every new version has a higher number.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.clock import Clock
from stream.site.registry_file import RegistryFile
from wire.enrol.documents import (
    EVERY_DEVICE,
    AssignmentV1,
    BindingV1,
    Content,
    ControlKeysV1,
    DeviceV1,
    Document,
    DocumentType,
    OrdersV1,
    build_document,
    digest_of,
    encode_content,
)
from wire.identity import LATE_MS, BindingRecord, StayOrders
from wire.sessions import Recipient

TENANT: Final = bytes(16)
"""The subject of documents about the whole tenant."""

_Key = tuple[int, bytes]  # type and subject


class SignedDocuments:
    """The documents in a registry file.

    Args:
        control: keys to sign with. The first signs; devices know all. None for a reader, which signs nothing.
        clock: for the times and version numbers of documents.
        stay_of: the stay of a binding.
    """

    def __init__(
        self,
        file: RegistryFile,
        control: Sequence[Ed25519PrivateKey] | None,
        clock: Clock,
        *,
        stay_of: Callable[[bytes], bytes],
    ) -> None:
        self._file = file
        self._stay_of = stay_of
        self._control = tuple(control or ())
        self._clock = clock

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """The control keys that devices have to know."""
        return tuple(one.public_key().public_bytes_raw() for one in self._control)

    def sign_with(self, control: Sequence[Ed25519PrivateKey]) -> None:
        """Use other control keys from now on."""
        self._control = tuple(control)

    # Signing; within a transaction of the caller

    def sign_device(self, device_id: bytes, content: DeviceV1) -> None:
        self._sign(DocumentType.DEVICE, device_id, EVERY_DEVICE, content)

    def sign_assignment(self, binding: BindingRecord) -> None:
        """The part of a binding that its wearable may read: no patient."""
        content = AssignmentV1(
            binding_id=binding.binding_id,
            edge_id=binding.edge_id,
            valid_from_ms=binding.valid_from_ms,
            valid_to_ms=binding.valid_to_ms,
        )
        self._sign(DocumentType.ASSIGNMENT, binding.binding_id, binding.wearable_id, content)

    def sign_binding(
        self, binding: BindingRecord, edge: Recipient, *, is_alone: bool = True, always: bool = False
    ) -> None:
        """A whole binding, sealed to its edge.

        Args:
            is_alone: it is the only one of its stay; then there is nothing to tell its device from, and its document is
                one that earlier edges can read.
            always: sign it even if its content is unchanged, because the edge has a new prekey.
        """
        content = BindingV1(
            patient=binding.patient,
            bed=binding.bed,
            wearable_id=binding.wearable_id,
            edge_id=binding.edge_id,
            valid_from_ms=binding.valid_from_ms,
            valid_to_ms=binding.valid_to_ms,
            spo2_scale=binding.spo2_scale,
            age_years=binding.about.age_years,
            is_male=binding.about.is_male,
            chest_pain=binding.about.chest_pain,
            is_pregnant=binding.about.is_pregnant,
            time_zone=binding.time_zone,
            stay_id=b"" if binding.stay_id == binding.binding_id else binding.stay_id,
            stay_goes_on=binding.stay_goes_on,
            stay_to_ms=binding.stay_to_ms,
            device_name="" if is_alone else binding.device_name,
            devices_elsewhere=binding.devices_elsewhere,
        )
        self._sign(DocumentType.BINDING, binding.binding_id, binding.edge_id, content, seal_to=edge, always=always)

    def sign_control_keys(self) -> None:
        self._sign(DocumentType.CONTROL_KEYS, TENANT, EVERY_DEVICE, ControlKeysV1(keys=self.public_keys))

    def sign_orders(self, stay_id: bytes, orders: StayOrders, edge: Recipient, *, always: bool = False) -> None:
        """The orders of a stay, sealed to one of the edges that hear it; each has a document of its own.

        Args:
            always: as of `sign_binding`.
        """
        content = OrdersV1(version=orders.version, orders=orders.orders)
        encoded, place = encode_content(content), (stay_id, edge.device_id)
        row = self._file.execute(
            "SELECT version, said FROM orders_document WHERE stay_id = ? AND edge_id = ?", place
        ).fetchone()
        if row is not None and row[1] == encoded and not always:
            return
        version, frame = self._built(DocumentType.ORDERS, stay_id, edge.device_id, content, row, seal_to=edge)
        self._file.execute(
            "INSERT OR REPLACE INTO orders_document VALUES (?, ?, ?, ?, ?)", (*place, version, encoded, frame)
        )

    def mark_all_changed(self) -> None:
        """Have every document signed again when it is next asked for, even if its content is unchanged."""
        self._file.execute("UPDATE document SET said = x''")
        self._file.execute("UPDATE orders_document SET said = x''")

    def _sign(
        self,
        kind: DocumentType,
        subject: bytes,
        recipient: bytes,
        content: Content,
        *,
        seal_to: Recipient | None = None,
        always: bool = False,
    ) -> None:
        encoded = encode_content(content)
        row = self._file.execute(
            "SELECT version, said FROM document WHERE kind = ? AND subject = ?", (int(kind), subject)
        ).fetchone()
        if row is not None and row[1] == encoded and not always:
            return
        version, frame = self._built(kind, subject, recipient, content, row, seal_to=seal_to)
        self._file.execute(
            "INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?, ?)",
            (int(kind), subject, recipient, version, encoded, frame),
        )

    def _built(
        self,
        kind: DocumentType,
        subject: bytes,
        recipient: bytes,
        content: Content,
        before: Sequence[int] | None,
        *,
        seal_to: Recipient | None,
    ) -> tuple[int, bytes]:
        """Version and frame of a document that follows `before`."""
        # Above every earlier one even if this database was restored from a backup: the clock has gone on meanwhile.
        version = max(self._clock.now_ms(), 0 if before is None else before[0] + 1)
        document = Document(kind, subject, version, self._clock.now_ms(), recipient, content)
        return version, build_document(self._control[0], document, seal_to=seal_to)

    # Reading

    def edges(self) -> list[bytes]:
        """The edges that are to have documents: all that are not revoked."""
        rows = self._file.execute("SELECT device_id FROM device WHERE role = 'edge' AND revoked_ms IS NULL")
        return [bytes.fromhex(one) for (one,) in rows]

    def documents_for(
        self, device_id: bytes, *, without: Collection[bytes] = (), with_orders: bool = True
    ) -> list[bytes]:
        """Every document that a device has to know, and that an edge has to pass on.

        Args:
            without: bindings of which the edge is not told yet; see `handed_over`.
            with_orders: with those of stays. A device of an earlier version gives up on a set that has one.
        """
        keys = [one for one in self._keys_for(device_id) if one[0] != DocumentType.BINDING or one[1] not in without]
        orders = self._orders_for(device_id) if with_orders else []
        return [frame for _, _, frame in (*self._stored(keys), *orders)]

    def handed_over(self, edge_id: bytes) -> dict[bytes, set[bytes]]:
        """Ended bindings of an edge whose stay goes on with devices at other edges only, and these edges.

        With their documents the edge forgets the patient, so one of the others has to watch the patient before.
        """
        rows = self._file.execute(
            "SELECT b.binding_id, o.edge_id FROM binding b JOIN stay s ON s.stay_id = b.stay_id "
            "JOIN binding o ON o.stay_id = b.stay_id AND o.valid_to_ms IS NULL "
            "WHERE b.edge_id = ?1 AND b.valid_to_ms IS NOT NULL AND s.to_ms IS NULL AND NOT EXISTS (SELECT 1 FROM "
            "binding m WHERE m.stay_id = b.stay_id AND m.edge_id = ?1 AND m.valid_to_ms IS NULL)",
            (edge_id.hex(),),
        )
        found: dict[bytes, set[bytes]] = {}
        for binding, other in rows:
            found.setdefault(bytes.fromhex(binding), set()).add(bytes.fromhex(other))
        return found

    def digest_for(self, device_id: bytes, *, with_orders: bool = True) -> bytes:
        """The digest that the device reports when it has all of them.

        Args:
            with_orders: False: as one reports it that has no orders of any stay.
        """
        orders = self._orders_for(device_id) if with_orders else []
        stored = (*self._stored(self._keys_for(device_id)), *orders)
        return digest_of({key: version for key, version, _ in stored})

    def stays_with_orders_at(self, edge_id: bytes) -> list[bytes]:
        """The stays whose orders were ever signed for an edge."""
        rows = self._file.execute("SELECT stay_id FROM orders_document WHERE edge_id = ?", (edge_id,))
        return [bytes(one) for (one,) in rows.fetchall()]

    def stays_with_orders(self, edge_id: bytes) -> int:
        """How many stays with orders an edge hears."""
        return len(self._orders_for(edge_id))

    def _orders_for(self, edge_id: bytes) -> list[tuple[_Key, int, bytes]]:
        rows = self._file.execute(
            "SELECT stay_id, version, frame FROM orders_document WHERE edge_id = ?", (edge_id,)
        ).fetchall()
        if not rows:
            return []
        stays = {self._stay_of(binding) for binding, _, edge in self._bindings_of(edge_id) if edge == edge_id}
        return [((int(DocumentType.ORDERS), row[0]), int(row[1]), bytes(row[2])) for row in rows if row[0] in stays]

    def _stored(self, keys: Iterable[_Key]) -> list[tuple[_Key, int, bytes]]:
        """Version and frame of those documents that were signed."""
        found = []
        for kind, subject in keys:
            row = self._file.execute(
                "SELECT version, frame FROM document WHERE kind = ? AND subject = ?", (int(kind), subject)
            ).fetchone()
            if row is not None:
                found.append(((int(kind), subject), int(row[0]), bytes(row[1])))
        return found

    def _keys_for(self, device_id: bytes) -> list[_Key]:
        row = self._file.execute("SELECT role FROM device WHERE device_id = ?", (device_id.hex(),)).fetchone()
        if row is None:
            return []
        is_edge = row[0] == "edge"
        keys: dict[_Key, None] = {(DocumentType.DEVICE, device_id): None}
        if is_edge:
            keys |= {(DocumentType.DEVICE, one): None for one in self._ingests()}
        for binding, wearable, edge in self._bindings_of(device_id):
            keys[DocumentType.ASSIGNMENT, binding] = None
            if is_edge:
                keys[DocumentType.BINDING, binding] = None
            keys[DocumentType.DEVICE, wearable if is_edge else edge] = None
        keys[DocumentType.CONTROL_KEYS, TENANT] = None
        return list(keys)

    def _bindings_of(self, device_id: bytes) -> list[tuple[bytes, bytes, bytes]]:
        """Binding, wearable and edge of the bindings that a device knows."""
        own = self._file.execute(
            "SELECT version FROM document WHERE kind = ? AND subject = ?", (int(DocumentType.DEVICE), device_id)
        ).fetchone()
        # A binding that is long over is forgotten on both sides, so by a time that both know: see `Wallet.digest`.
        after_ms = (0 if own is None else own[0]) - LATE_MS
        rows = self._file.execute(
            "SELECT binding_id, wearable_id, edge_id FROM binding "
            "WHERE (wearable_id = ?1 OR edge_id = ?1) AND (valid_to_ms IS NULL OR valid_to_ms > ?2)",
            (device_id.hex(), after_ms),
        ).fetchall()
        return [(bytes.fromhex(row[0]), bytes.fromhex(row[1]), bytes.fromhex(row[2])) for row in rows]

    def _ingests(self) -> list[bytes]:
        # Revoked ones, too: edges have to learn that they are revoked.
        rows = self._file.execute("SELECT device_id FROM device WHERE role = 'ingest'")
        return [bytes.fromhex(one) for (one,) in rows]
