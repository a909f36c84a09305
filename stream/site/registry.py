"""The registry: the devices of a site, the keys that they sign with, and the stays of patients that they are bound to.

Every change is one transaction with the documents that follow from it and a line in the audit log. How a device gets
its keys is in `stream.site.enrolment`.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.clock import Clock
from stream.errors import NoSuchDevice, RegistryRefused
from stream.site.binding_table import BindingTable, no_open
from stream.site.certificates import IssuedCertificates
from stream.site.documents import SignedDocuments
from stream.site.orders import SiteOrders
from stream.site.registry_file import RegistryFile
from stream.site.stays import Stay, Stays, check_joins, checked_patient, printable
from wire.enrol.documents import (
    CredentialV1,
    DeviceV1,
)
from wire.enrol.records import record_of
from wire.identity import LATE_MS, NOTHING, About, BindingRecord, Role, SenderRecord

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
        self.file = RegistryFile(path, clock=clock, to_read=control is None)
        self.stays = Stays(self.file)
        self.table = BindingTable(self.file, time_zone)
        self.certificates = IssuedCertificates(self.file, wall or clock)
        self.documents = SignedDocuments(self.file, control, clock, stay_of=self.table.stay_of)
        self.orders = SiteOrders(self, self.file, self.documents, clock)
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
                (found.hex(), role, printable("label", label, 64), self._clock.now_ms()),
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
                (now_ms, printable("why", why, 200), name),
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

    # Stays and bindings

    def admit(self, patient: str, *, bed: str, who: str, spo2_scale: int = 1, about: About = NOTHING) -> bytes:
        """Begin a stay without a device: from now on the patient is monitored, and silence is an alarm.

        Args:
            patient: a pseudonym; the registry never knows a name.
            about: facts that decide which scores apply, and that the models need. Readers of this registry can see
                them; the edge gets them sealed.

        Raises:
            RegistryRefused: the patient has an open stay, or another patient is in this bed.
        """
        stay_id = os.urandom(16)
        with self.file.change("admitted", who=who, subject=stay_id.hex()):
            self.stays.admit(
                stay_id,
                patient=checked_patient(patient),
                bed=bed,
                from_ms=self._clock.now_ms(),
                spo2_scale=spo2_scale,
                about=about,
            )
            self.orders.publish(stay_id)
        return stay_id

    def bind(
        self,
        *,
        wearable_id: bytes,
        edge_id: bytes,
        patient: str,
        who: str,
        bed: str | None = None,
        spo2_scale: int | None = None,
        about: About = NOTHING,
        binding_id: bytes | None = None,
        valid_from_ms: int | None = None,
    ) -> bytes:
        """Put a wearable on a patient: it joins the open stay of the patient, or opens one.

        Args:
            patient: a pseudonym; the registry never knows a name.
            bed: None: that of the open stay.
            spo2_scale: None: that of the open stay, or 1.
            about: as of `admit`; adds to what the stay knows.

        Raises:
            RegistryRefused: the wearable is on a patient already, another patient is in this bed, the patient is in
                another one or has two open stays, a fact differs from the stay's, or a device has the wrong role.
        """
        patient = checked_patient(patient)
        from_ms = self._clock.now_ms() if valid_from_ms is None else valid_from_ms
        named: dict[str, str | int | None] = {"wearable": wearable_id.hex(), "edge": edge_id.hex()}
        stay = self.stays.the_open_one_of(patient)
        found_id = binding_id or self.table.new_id(stay)
        with self.file.change("bound", who=who, subject=found_id.hex(), more=named):
            self._check_can_bind(wearable_id, edge_id)
            if (stay := self.stays.the_open_one_of(patient)) is None:
                if self.stays.get(found_id) is not None:
                    raise RegistryRefused(_AT_ONCE)
                stay = self._opened_by(found_id, patient, bed, from_ms, 1 if spo2_scale is None else spo2_scale, about)
            else:
                check_joins(stay, bed=bed, spo2_scale=spo2_scale, about=about)
                self.stays.state(stay, about, spo2_scale)
            if self.binding(found_id) is not None:
                raise RegistryRefused(_AT_ONCE)
            if stay.stay_id != found_id:
                named["stay"] = stay.stay_id.hex()
            self.table.insert(found_id, stay, wearable_id, edge_id, from_ms)
            self._publish_stay(stay.stay_id)
        return found_id

    def unbind(self, binding_id: bytes, *, who: str, stay_open: bool = False) -> bool:
        """End a binding now; with the last device the stay ends, and with it monitoring.

        Args:
            stay_open: go on monitoring the patient without a device, which is an alarm after a while.

        Returns:
            Whether the stay has ended.

        Raises:
            RegistryRefused: no such binding, or it ended before.
        """
        named: dict[str, str | int | None] = {}
        with self.file.change("unbound", who=who, subject=binding_id.hex(), more=named):
            now_ms = self._clock.now_ms()
            stay_id = self.table.end(binding_id, now_ms)
            ends = not stay_open and not self.table.open_in(stay_id)
            if ends:
                self.stays.end(stay_id, now_ms)
            if stay_id != binding_id:
                named["stay"] = stay_id.hex()
            if not ends:
                named["stay_goes_on"] = 1
            self._publish_stay(stay_id, ended=[binding_id])
        return ends

    def exchange(self, binding_id: bytes, *, wearable_id: bytes, who: str, edge_id: bytes | None = None) -> bytes:
        """Replace the device of a binding by another one, at one moment: the stay is never without.

        Args:
            edge_id: of the new device; None: the edge of the old one.

        Raises:
            RegistryRefused: no such open binding, or the new device is on a patient or no wearable.
        """
        old = self.binding(binding_id)
        new_id = os.urandom(16)
        named: dict[str, str | int | None] = {"instead_of": binding_id.hex(), "wearable": wearable_id.hex()}
        with self.file.change("exchanged", who=who, subject=new_id.hex(), more=named):
            stay = None if old is None else self.stays.get(old.stay_id)
            if old is None or stay is None:
                raise no_open(binding_id)
            edge = old.edge_id if edge_id is None else edge_id
            named["edge"] = edge.hex()
            self._check_can_bind(wearable_id, edge)
            now_ms = self._clock.now_ms()
            self.table.insert(new_id, stay, wearable_id, edge, now_ms)
            self.table.end(binding_id, now_ms)
            self._publish_stay(stay.stay_id, ended=[binding_id])
        return new_id

    def move(self, stay_id: bytes, *, bed: str, who: str) -> None:
        """Put a patient into another bed, with all devices.

        Raises:
            RegistryRefused: no such open stay, or another patient is in that bed.
        """
        with self.file.change("moved", who=who, subject=stay_id.hex()):
            self.stays.move(self.stays.open_one(stay_id), bed)
            self._publish_stay(stay_id)

    def state_facts(self, stay_id: bytes, *, who: str, about: About = NOTHING, spo2_scale: int | None = None) -> None:
        """State or correct facts about a patient who is admitted; what is None stays as it is.

        Raises:
            RegistryRefused: no such open stay, or what is stated cannot be true.
        """
        with self.file.change("facts stated", who=who, subject=stay_id.hex()):
            self.stays.state(self.stays.open_one(stay_id), about, spo2_scale)
            self._publish_stay(stay_id)

    def discharge(self, stay_id: bytes, *, who: str) -> int:
        """End a stay and every binding of it; returns how many bindings that were.

        Raises:
            RegistryRefused: no such open stay.
        """
        named: dict[str, str | int | None] = {}
        with self.file.change("discharged", who=who, subject=stay_id.hex(), more=named):
            self.stays.open_one(stay_id)
            ended, now_ms = self.table.open_in(stay_id), self._clock.now_ms()
            for one in ended:
                self.table.end(one, now_ms)
            self.stays.end(stay_id, now_ms)
            named["bindings"] = len(ended)
            self._publish_stay(stay_id, ended=ended)
        return len(ended)

    def bindings(self) -> list[BindingRecord]:
        """Every binding whose frames may still arrive: open, or ended a short time ago.

        A stay that is open or ended a short time ago, and of which that leaves none, is here by its newest binding, or
        as `Stay.without_device`: whoever judges has to know of it.
        """
        after_ms = self._clock.now_ms() - LATE_MS
        found = self.table.select("WHERE b.valid_to_ms IS NULL OR b.valid_to_ms > ?", after_ms)
        missing = {one.stay_id: one for one in self.stays.current(after_ms)}
        for one in found:
            missing.pop(one.stay_id, None)
        found += [self.of_stay(stay_id)[-1] for stay_id in missing]
        return sorted(found, key=lambda one: (one.valid_from_ms, one.binding_id))

    def open_bindings_of(self, stay_id: bytes) -> list[BindingRecord]:
        """The bindings of a stay that have not ended, the oldest first."""
        return self.table.select("WHERE b.stay_id = ? AND b.valid_to_ms IS NULL", stay_id.hex())

    def of_stay(self, stay_id: bytes) -> list[BindingRecord]:
        """The bindings of a stay, the newest last; without one, the stay in place of a binding; empty: no such stay."""
        found = self.table.select("WHERE b.stay_id = ?", stay_id.hex())
        if found:
            return found
        stay = self.stays.get(stay_id)
        return [] if stay is None else [stay.without_device(self.table.time_zone)]

    def binding(self, binding_id: bytes) -> BindingRecord | None:
        found = self.table.select("WHERE b.binding_id = ?", binding_id.hex())
        return found[0] if found else None

    def find_binding(self, text: str) -> bytes:
        """An open binding by its id, the beginning of it, or by its wearable's, or by the wearable's label.

        Raises:
            RegistryRefused: none, or more than one.
        """
        label = printable("binding", text, 64)
        found = {
            one.binding_id
            for one in self.table.select("WHERE b.valid_to_ms IS NULL AND d.label = ? AND d.label != ''", label)
        }
        wanted = text.lower().rstrip("…")
        if not found and not _is_hex(wanted):
            raise RegistryRefused(
                f"{text[:40]!r}: a binding is named by hex digits of its id or of its wearable's, or by its label"
            )
        if _is_hex(wanted):
            rows = self.file.execute(
                "SELECT binding_id FROM binding "
                "WHERE valid_to_ms IS NULL AND (binding_id LIKE ?1 OR wearable_id LIKE ?1)",
                (wanted + "%",),
            )
            found |= {bytes.fromhex(name) for (name,) in rows}
        if len(found) != 1:
            raise RegistryRefused(f"{text}: {len(found)} open bindings match; give more digits of the id")
        return found.pop()

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
            known = self.bindings()
            for one in known:
                self._publish_binding(one.binding_id)
            for stay_id in dict.fromkeys(one.stay_id for one in known):
                self.orders.publish(stay_id)

    def publish_device(self, device_id: bytes) -> None:
        """Sign the present state of a device. Call within a transaction."""
        content = self._device_content(device_id)
        if content is not None:
            self.documents.sign_device(device_id, content)

    def seal_bindings_again(self, edge_id: bytes) -> None:
        """Sign what is sealed to an edge that has a new prekey again, sealed to that. Call within a transaction."""
        for (binding,) in self.file.execute(
            "SELECT binding_id FROM binding WHERE edge_id = ?", (edge_id.hex(),)
        ).fetchall():
            self._publish_binding(bytes.fromhex(binding), always=True)
        for stay_id in self.documents.stays_with_orders_at(edge_id):
            self.orders.publish(stay_id, sealed_again_to=edge_id)

    def _publish_stay(self, stay_id: bytes, *, ended: Sequence[bytes] = ()) -> None:
        """Sign what the edges of a stay have to know: the open bindings, those that ended now, at each edge the newest.

        The newest one says to an edge what has become of the stay; earlier ones that have ended stay as they were.
        """
        bindings = self.table.select("WHERE b.stay_id = ?", stay_id.hex())
        newest = {one.edge_id: one.binding_id for one in bindings}
        for one in bindings:
            if one.valid_to_ms is None or one.binding_id in ended or newest[one.edge_id] == one.binding_id:
                self._publish_binding(one.binding_id)
        self.orders.publish(stay_id)

    def _publish_binding(self, binding_id: bytes, *, always: bool = False) -> None:
        binding = self.binding(binding_id)
        edge = None if binding is None else self.sender(binding.edge_id)
        if binding is None or edge is None:
            return
        self.documents.sign_assignment(binding)
        if edge.recipient is not None:
            count = self.file.execute("SELECT count(*) FROM binding WHERE stay_id = ?", (binding.stay,)).fetchone()
            is_alone = count[0] == 1
            self.documents.sign_binding(binding, edge.recipient, is_alone=is_alone, always=always)

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

    def _opened_by(
        self, stay_id: bytes, patient: str, bed: str | None, from_ms: int, spo2_scale: int, about: About
    ) -> Stay:
        if bed is None:
            raise RegistryRefused("this patient has no open stay: --bed is needed to begin one")
        self.stays.admit(stay_id, patient=patient, bed=bed, from_ms=from_ms, spo2_scale=spo2_scale, about=about)
        found = self.stays.get(stay_id)
        assert found is not None  # noqa: S101 - made a moment ago
        return found


_AT_ONCE: Final = "this patient was bound or discharged by somebody else at the same moment: run the command again"


def _is_hex(text: str) -> bool:
    return text != "" and all(one in "0123456789abcdef" for one in text)
