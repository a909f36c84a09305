"""The registry: the devices of a site, the keys that they sign with, and the patients that they are bound to.

Every change is one transaction with the documents that follow from it and a line in the audit log. How a device gets
its keys is in `stream.site.enrolment`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.clock import Clock
from stream.errors import NoSuchDevice, RegistryRefused
from stream.site.certificates import IssuedCertificates
from stream.site.documents import SignedDocuments
from stream.site.registry_file import RegistryFile
from wire.enrol.documents import (
    CredentialV1,
    DeviceV1,
)
from wire.enrol.records import record_of
from wire.identity import LATE_MS, NOTHING, About, BindingRecord, Role, SenderRecord, is_same_bed

BAD_TOKENS: Final = 5
"""So many wrong tokens lock the slot of a device until it is invited again."""


class RegisteredDevice(NamedTuple):
    """A row of `Registry.devices`; times in ms since 1970."""

    device_id: str
    role: str
    label: str
    enrolled_ms: int | None
    not_after_ms: int | None  # of its newest credential
    revoked_ms: int | None
    revoked_why: str | None
    is_locked: bool


class Registry:
    """The devices and bindings in one database file.

    Args:
        path: of the database; its audit log lies beside it.
        control: keys that sign documents. None for a reader, which changes nothing.
        tenant_id: of everything in it.
        clock: credentials and bindings are checked against it.
        wall: certificates are checked against it, as TLS libraries use the machine's own clock.
        bad_tokens: wrong tokens that lock the slot of a device.
    """

    def __init__(
        self,
        path: Path,
        *,
        control: Sequence[Ed25519PrivateKey] | None,
        tenant_id: bytes,
        clock: Clock,
        wall: Clock | None = None,
        bad_tokens: int = BAD_TOKENS,
        time_zone: str = "",
    ) -> None:
        self.tenant_id = tenant_id
        self.time_zone = time_zone  # of the site; in the documents of bindings
        self.file = RegistryFile(path, clock=clock, to_read=control is None)
        self.certificates = IssuedCertificates(self.file, wall or clock)
        self.documents = SignedDocuments(self.file, control, clock)
        self._clock = clock
        self._bad_tokens = bad_tokens

    def close(self) -> None:
        self.file.close()

    # Devices

    def add_device(self, role: Role, *, label: str = "", who: str, device_id: bytes | None = None) -> bytes:
        """A slot for a device that is to enrol; its id is random."""
        found = device_id or os.urandom(16)
        with self.file.change("device added", who=who, subject=found.hex(), role=role):
            self.file.execute(
                "INSERT INTO device (device_id, role, label, created_ms) VALUES (?, ?, ?, ?)",
                (found.hex(), role, _printable("label", label, 64), self._clock.now_ms()),
            )
        return found

    def revoke(self, device_id: bytes, *, why: str, who: str) -> None:
        """Revoke a device for good: its frames are rejected and it cannot connect or enrol.

        Raises:
            NoSuchDevice: not known.
        """
        self.role_of(device_id, even_revoked=True)
        name, now_ms = device_id.hex(), self._clock.now_ms()
        with self.file.change("revoked", who=who, subject=name, why=why):
            self.file.execute(
                "UPDATE device SET revoked_ms = coalesce(revoked_ms, ?), revoked_why = ? WHERE device_id = ?",
                (now_ms, _printable("why", why, 200), name),
            )
            self.file.execute("DELETE FROM token WHERE device_id = ?", (name,))
            self.certificates.revoke_of_device(name)
            self.publish_device(device_id)

    def devices(self) -> list[RegisteredDevice]:
        """By the time that they were added."""
        return [
            RegisteredDevice._make((*row[:7], row[7] >= self._bad_tokens))
            for row in self.file.execute(
                """SELECT device_id, role, label,
                (SELECT min(made_ms) FROM credential c WHERE c.device_id = d.device_id),
                (SELECT max(not_after_ms) FROM credential c WHERE c.device_id = d.device_id),
                revoked_ms, revoked_why, bad_tries FROM device d ORDER BY created_ms, device_id"""
            )
        ]

    def find(self, text: str) -> bytes:
        """A device by its id, the beginning of it, or its label.

        Raises:
            NoSuchDevice: none, or more than one.
        """
        begins = text.lower().rstrip("…")
        rows = self.file.execute("SELECT device_id FROM device WHERE label = ? AND label != '' LIMIT 2", (text,))
        found = {row[0] for row in rows}
        if _is_hex(begins):
            rows = self.file.execute(
                "SELECT device_id FROM device WHERE device_id >= ? AND device_id < ? LIMIT 2", (begins, begins + "g")
            )
            found |= {row[0] for row in rows}
        if begins in found:  # a whole id, even if it is the label of another device
            found = {begins}
        if len(found) != 1:
            problem = "more than one device matches: give more of its id" if found else "no such device"
            raise NoSuchDevice(text if text.isprintable() and 0 < len(text) <= 64 else repr(text[:40]), problem)
        return bytes.fromhex(found.pop())

    def role_of(self, device_id: bytes, *, even_revoked: bool = False) -> Role:
        """The role of a device.

        Raises:
            NoSuchDevice: not known.
            RegistryRefused: revoked.
        """
        row = self.file.execute(
            "SELECT role, revoked_ms FROM device WHERE device_id = ?", (device_id.hex(),)
        ).fetchone()
        if row is None:
            raise NoSuchDevice(device_id.hex(), "no such device")
        if row[1] is not None and not even_revoked:
            raise RegistryRefused(
                f"device {device_id.hex()} is revoked for good: add a new device (vitalloom registry add {row[0]})"
            )
        role: Role = row[0]
        return role

    def sender(self, device_id: bytes) -> SenderRecord | None:
        """A device as its document describes it; None: not known."""
        content = self._device_content(device_id)
        return None if content is None else record_of(device_id, content)

    # Bindings

    def bind(
        self,
        *,
        wearable_id: bytes,
        edge_id: bytes,
        patient: str,
        bed: str,
        who: str,
        spo2_scale: int = 1,
        about: About = NOTHING,
        binding_id: bytes | None = None,
        valid_from_ms: int | None = None,
    ) -> bytes:
        """Put a wearable on a patient.

        Args:
            patient: a pseudonym; the registry never knows a name.
            about: facts that decide which scores apply, and that the models need. Readers of this registry can see
                them; the edge gets them sealed.

        Raises:
            RegistryRefused: the wearable is on a patient already, another patient is in this bed, or a device has the
                wrong role.
        """
        if spo2_scale not in (1, 2):
            raise RegistryRefused("spo2_scale is 1, or 2 for patients with a lower oxygen saturation target")
        if problem := about.problem():
            raise RegistryRefused(problem)
        now_ms = self._clock.now_ms()
        found_id = binding_id or os.urandom(16)
        with self.file.change("bound", who=who, subject=found_id.hex(), wearable=wearable_id.hex(), edge=edge_id.hex()):
            self._check_can_bind(wearable_id, edge_id)
            self._check_bed(patient, bed)
            self.file.execute(
                f"INSERT INTO binding ({_BINDING}) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?)",  # noqa: S608 - names from code
                (
                    found_id.hex(),
                    _printable("patient", patient, 64),
                    _printable("bed", bed, 32),
                    wearable_id.hex(),
                    edge_id.hex(),
                    now_ms if valid_from_ms is None else valid_from_ms,
                    spo2_scale,
                    about.age_years,
                    about.is_male,
                    about.chest_pain,
                    about.is_pregnant,
                ),
            )
            self._publish_binding(found_id)
        return found_id

    def unbind(self, binding_id: bytes, *, who: str) -> None:
        """End a binding now.

        Raises:
            RegistryRefused: no such binding, or it ended before.
        """
        with self.file.change("unbound", who=who, subject=binding_id.hex()):
            done = self.file.execute(
                "UPDATE binding SET valid_to_ms = ? WHERE binding_id = ? AND valid_to_ms IS NULL",
                (self._clock.now_ms(), binding_id.hex()),
            )
            if done.rowcount != 1:
                raise RegistryRefused(f"binding {binding_id.hex()}: there is no such open binding")
            self._publish_binding(binding_id)

    def bindings(self) -> list[BindingRecord]:
        """Every binding whose frames may still arrive: open, or ended a short time ago."""
        after_ms = self._clock.now_ms() - LATE_MS
        rows = self.file.execute(
            f"SELECT {_BINDING} FROM binding WHERE valid_to_ms IS NULL OR valid_to_ms > ? "  # noqa: S608 - our columns
            "ORDER BY valid_from_ms, binding_id",
            (after_ms,),
        )
        return [_binding(row, self.time_zone) for row in rows]

    def open_bindings_of(self, patient: str) -> list[BindingRecord]:
        """The bindings of a patient that have not ended, the oldest first."""
        return [one for one in self.bindings() if one.patient == patient and one.valid_to_ms is None]

    def binding(self, binding_id: bytes) -> BindingRecord | None:
        row = self.file.execute(
            f"SELECT {_BINDING} FROM binding WHERE binding_id = ?",  # noqa: S608 - our columns
            (binding_id.hex(),),
        ).fetchone()
        return None if row is None else _binding(row, self.time_zone)

    def find_binding(self, text: str) -> bytes:
        """A binding by its id, the beginning of it, or by its wearable's. Raises RegistryRefused."""
        wanted = text.lower().rstrip("…")
        if not _is_hex(wanted):
            raise RegistryRefused(f"{text[:40]!r}: a binding is named by hex digits of its id, or of its wearable's")
        rows = self.file.execute(
            "SELECT binding_id FROM binding WHERE valid_to_ms IS NULL AND (binding_id LIKE ?1 OR wearable_id LIKE ?1)",
            (wanted + "%",),
        ).fetchall()
        if len(rows) != 1:
            raise RegistryRefused(f"{text}: {len(rows)} open bindings match; give more digits of the id")
        return bytes.fromhex(rows[0][0])

    def patients_of(self, device_id: bytes) -> int:
        """How many open bindings a device has, as wearable or as edge."""
        row = self.file.execute(
            "SELECT count(*) FROM binding WHERE valid_to_ms IS NULL AND (wearable_id = ?1 OR edge_id = ?1)",
            (device_id.hex(),),
        ).fetchone()
        return int(row[0])

    # Their documents

    def publish_all(self, *, who: str) -> None:
        """Sign every document again: after a change of the control keys."""
        with self.file.change("documents signed again", who=who, subject="all"):
            self.documents.mark_all_changed()
            self.documents.sign_control_keys()
            for (name,) in self.file.execute("SELECT device_id FROM device").fetchall():
                self.publish_device(bytes.fromhex(name))
            for one in self.bindings():
                self._publish_binding(one.binding_id)

    def publish_device(self, device_id: bytes) -> None:
        """Sign the present state of a device. Call within a transaction."""
        content = self._device_content(device_id)
        if content is not None:
            self.documents.sign_device(device_id, content)

    def seal_bindings_again(self, edge_id: bytes) -> None:
        """Sign the bindings of an edge that has a new prekey, sealed to that. Call within a transaction."""
        for (binding,) in self.file.execute(
            "SELECT binding_id FROM binding WHERE edge_id = ?", (edge_id.hex(),)
        ).fetchall():
            self._publish_binding(bytes.fromhex(binding), always=True)

    def _publish_binding(self, binding_id: bytes, *, always: bool = False) -> None:
        binding = self.binding(binding_id)
        edge = None if binding is None else self.sender(binding.edge_id)
        if binding is None or edge is None:
            return
        self.documents.sign_assignment(binding)
        if edge.recipient is not None:
            self.documents.sign_binding(binding, edge.recipient, always=always)

    def _device_content(self, device_id: bytes) -> DeviceV1 | None:
        name = device_id.hex()
        row = self.file.execute("SELECT role, revoked_ms FROM device WHERE device_id = ?", (name,)).fetchone()
        if row is None:
            return None
        prekey = self.file.execute("SELECT prekey_id, prekey FROM prekey WHERE device_id = ?", (name,)).fetchone()
        return DeviceV1(
            role=row[0],
            tenant_id=self.tenant_id,
            credentials=self._credentials(name),
            prekey_id=b"" if prekey is None else prekey[0],
            prekey=b"" if prekey is None else prekey[1],
            revoked_ms=row[1],
        )

    def _credentials(self, device_id: str) -> tuple[CredentialV1, ...]:
        """Those that the device may sign with, the newest last."""
        newest = self.file.execute(
            "SELECT serial, signing_key, not_before_ms, not_after_ms FROM credential WHERE device_id = ? "
            "ORDER BY made_ms DESC, not_after_ms DESC LIMIT 2",
            (device_id,),
        ).fetchall()
        # Answers are lost on the way. A device that asked several times may have the last or the first of its keys.
        present = self.file.execute(
            "SELECT serial, signing_key, not_before_ms, not_after_ms FROM credential WHERE device_id = ? "
            "AND not_after_ms > ? ORDER BY made_ms, not_after_ms LIMIT 1",
            (device_id, self._clock.now_ms()),
        ).fetchall()
        return tuple(
            CredentialV1(serial=bytes.fromhex(one[0]), signing_key=one[1], not_before_ms=one[2], not_after_ms=one[3])
            for one in reversed(list(dict.fromkeys([*newest, *present])))
        )

    def _check_can_bind(self, wearable_id: bytes, edge_id: bytes) -> None:
        for device_id, role in ((wearable_id, "wearable"), (edge_id, "edge")):
            if (found := self.role_of(device_id)) != role:
                raise RegistryRefused(f"device {device_id.hex()} has the role {found}, not {role}")
        busy = self.file.execute(
            "SELECT binding_id FROM binding WHERE wearable_id = ? AND valid_to_ms IS NULL", (wearable_id.hex(),)
        ).fetchone()
        if busy is not None:
            raise RegistryRefused(
                f"wearable {wearable_id.hex()} is on a patient already: run `vitalloom registry unbind {busy[0]}` first"
            )

    def _check_bed(self, patient: str, bed: str) -> None:
        """A bed has one patient. Who is in it may have moved or gone home: only a person knows, so nothing is ended."""
        for one in self.bindings():
            if one.valid_to_ms is None and is_same_bed(one.bed, bed) and one.patient != patient:
                name = one.binding_id.hex()
                raise RegistryRefused(
                    f"bed {bed} has another patient (binding {name}): run `vitalloom registry unbind {name}` first, "
                    "which ends the alarms of that patient; if that patient is in another bed now, bind there again"
                )


_BINDING: Final = (
    "binding_id, patient, bed, wearable_id, edge_id, valid_from_ms, valid_to_ms, spo2_scale, "
    "age_years, is_male, chest_pain, is_pregnant"
)


def _binding(row: Sequence[Any], time_zone: str) -> BindingRecord:
    un = bytes.fromhex
    return BindingRecord(
        binding_id=un(row[0]),
        patient=row[1],
        bed=row[2],
        wearable_id=un(row[3]),
        edge_id=un(row[4]),
        valid_from_ms=row[5],
        valid_to_ms=row[6],
        spo2_scale=row[7],
        about=About(
            age_years=row[8],
            is_male=None if row[9] is None else bool(row[9]),
            chest_pain=row[10],
            is_pregnant=None if row[11] is None else bool(row[11]),
        ),
        time_zone=time_zone,
    )


def _is_hex(text: str) -> bool:
    return text != "" and all(one in "0123456789abcdef" for one in text)


def _printable(key: str, text: str, most: int) -> str:
    if len(text) > most or not all(one.isprintable() for one in text):
        raise RegistryRefused(f"{key}: at most {most} printable characters")
    return text
