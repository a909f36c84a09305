"""The table of bindings in a registry's file. What changes it belongs into a transaction of the caller."""

import os
from collections.abc import Sequence
from typing import Any, Final

from stream.errors import RegistryRefused
from stream.site.registry_file import RegistryFile
from stream.site.stays import Stay, facts_of
from wire.identity import BindingRecord

# Of a binding that has ended, devices elsewhere are told only if its edge has no other device of the stay: documents
# arrive one by one, and an edge must not take a device for the last one because the next is not in its documents yet.
_BINDINGS: Final = """
SELECT b.binding_id, b.wearable_id, b.edge_id, b.valid_from_ms, b.valid_to_ms, s.stay_id, s.to_ms, d.label,
(SELECT CASE WHEN b.valid_to_ms IS NOT NULL AND count(*) > count(CASE WHEN o.edge_id != b.edge_id THEN 1 END) THEN 0
ELSE count(CASE WHEN o.edge_id != b.edge_id THEN 1 END) END
FROM binding o WHERE o.stay_id = s.stay_id AND o.valid_to_ms IS NULL),
s.patient, s.bed, s.spo2_scale, s.age_years, s.is_male, s.chest_pain, s.is_pregnant
FROM binding b JOIN stay s ON s.stay_id = b.stay_id LEFT JOIN device d ON d.device_id = b.wearable_id
"""


class BindingTable:
    """Bindings, each with what its stay says of the patient.

    Args:
        file: of the registry.
        time_zone: of the site; in the documents of bindings.
    """

    def __init__(self, file: RegistryFile, time_zone: str) -> None:
        self._file = file
        self.time_zone = time_zone

    def select(self, where: str, *values: Any) -> list[BindingRecord]:
        """The bindings that an SQL condition names, the newest last.

        In it `b` is the binding, `s` its stay, `d` the wearable.
        """
        rows = self._file.execute(f"{_BINDINGS} {where} ORDER BY b.valid_from_ms, b.binding_id", values)
        return [_binding(row, self.time_zone) for row in rows]

    def stay_of(self, binding_id: bytes) -> bytes:
        """The stay of a binding; the binding's own id if it is not known."""
        found = self.select("WHERE b.binding_id = ?", binding_id.hex())
        return found[0].stay_id if found else binding_id

    def open_in(self, stay_id: bytes) -> list[bytes]:
        """The open bindings of a stay."""
        found = self.select("WHERE b.stay_id = ? AND b.valid_to_ms IS NULL", stay_id.hex())
        return [one.binding_id for one in found]

    def new_id(self, stay: Stay | None) -> bytes:
        """The first device of a stay has the stay's id: so nothing about a stay of one device has two ids."""
        if stay is not None and not self.select("WHERE b.binding_id = ?", stay.stay_id.hex()):
            return stay.stay_id
        return os.urandom(16)

    def insert(self, binding_id: bytes, stay: Stay, wearable_id: bytes, edge_id: bytes, from_ms: int) -> None:
        """Begin a binding."""
        self._file.execute(
            """INSERT INTO binding (binding_id, stay_id, wearable_id, edge_id, valid_from_ms, patient, bed, spo2_scale,
            age_years, is_male, chest_pain, is_pregnant) SELECT ?, stay_id, ?, ?, ?, patient, bed, spo2_scale,
            age_years, is_male, chest_pain, is_pregnant FROM stay WHERE stay_id = ?""",
            (binding_id.hex(), wearable_id.hex(), edge_id.hex(), from_ms, stay.stay_id.hex()),
        )

    def end(self, binding_id: bytes, at_ms: int) -> bytes:
        """End an open binding; the stay that it was of. Raises RegistryRefused."""
        row = self._file.execute(
            "UPDATE binding SET valid_to_ms = ? WHERE binding_id = ? AND valid_to_ms IS NULL RETURNING stay_id",
            (at_ms, binding_id.hex()),
        ).fetchone()
        if row is None:
            raise no_open(binding_id)
        return bytes.fromhex(row[0])


def _binding(row: Sequence[Any], time_zone: str) -> BindingRecord:
    un = bytes.fromhex
    name, wearable, edge, from_ms, to_ms, stay, stay_to_ms, label, elsewhere, patient, bed, scale, *facts = row
    return BindingRecord(
        binding_id=un(name),
        patient=patient,
        bed=bed,
        wearable_id=un(wearable),
        edge_id=un(edge),
        valid_from_ms=from_ms,
        valid_to_ms=to_ms,
        spo2_scale=scale,
        about=facts_of(facts),
        time_zone=time_zone,
        stay_id=un(stay),
        stay_goes_on=to_ms is not None and stay_to_ms is None,
        stay_to_ms=None if stay_to_ms == to_ms else stay_to_ms,
        device_name=label or "",
        devices_elsewhere=elsewhere,
    )


def no_open(binding_id: bytes) -> RegistryRefused:
    """The refusal of a command about a binding that is not open."""
    return RegistryRefused(f"binding {binding_id.hex()}: there is no such open binding")
