"""The signed documents of the registry: statements to devices about each other, about bindings and about keys.

A document is signed again only when its content has changed, and every new version has a higher number.
"""

from collections.abc import Iterable, Sequence
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
    build_document,
    digest_of,
    encode_content,
)
from wire.identity import LATE_MS, BindingRecord
from wire.sessions import Recipient

TENANT: Final = bytes(16)
"""The subject of documents about the whole tenant."""

_Key = tuple[int, bytes]  # type and subject


class SignedDocuments:
    """The documents in a registry file.

    Args:
        control: keys to sign with. The first signs; devices know all. None for a reader, which signs nothing.
        clock: for the times and version numbers of documents.
    """

    def __init__(self, file: RegistryFile, control: Sequence[Ed25519PrivateKey] | None, clock: Clock) -> None:
        self._file = file
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

    def sign_binding(self, binding: BindingRecord, edge: Recipient, *, always: bool = False) -> None:
        """A whole binding, sealed to its edge.

        Args:
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
        )
        self._sign(DocumentType.BINDING, binding.binding_id, binding.edge_id, content, seal_to=edge, always=always)

    def sign_control_keys(self) -> None:
        self._sign(DocumentType.CONTROL_KEYS, TENANT, EVERY_DEVICE, ControlKeysV1(keys=self.public_keys))

    def mark_all_changed(self) -> None:
        """Have every document signed again when it is next asked for, even if its content is unchanged."""
        self._file.execute("UPDATE document SET said = x''")

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
        # Above every earlier one even if this database was restored from a backup: the clock has gone on meanwhile.
        version = max(self._clock.now_ms(), 0 if row is None else row[0] + 1)
        document = Document(kind, subject, version, self._clock.now_ms(), recipient, content)
        frame = build_document(self._control[0], document, seal_to=seal_to)
        self._file.execute(
            "INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?, ?)",
            (int(kind), subject, recipient, version, encoded, frame),
        )

    # Reading

    def edges(self) -> list[bytes]:
        """The edges that are to have documents: all that are not revoked."""
        rows = self._file.execute("SELECT device_id FROM device WHERE role = 'edge' AND revoked_ms IS NULL")
        return [bytes.fromhex(one) for (one,) in rows]

    def documents_for(self, device_id: bytes) -> list[bytes]:
        """Every document that a device has to know, and that an edge has to pass on."""
        return [frame for _, _, frame in self._stored(self._keys_for(device_id))]

    def digest_for(self, device_id: bytes) -> bytes:
        """The digest that the device reports when it has all of them."""
        return digest_of({key: version for key, version, _ in self._stored(self._keys_for(device_id))})

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
