"""Documents as a receiver looks them up: records of devices, bindings and assignments."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from wire.enrol.documents import AssignmentV1, BindingV1, DeviceV1
from wire.errors import EnrolmentFailed
from wire.identity import BindingRecord, Credential, Role, SenderRecord
from wire.sessions import Recipient


def record_of(device_id: bytes, content: DeviceV1) -> SenderRecord:
    """A device's document as a receiver looks at it."""
    return SenderRecord(
        device_id=device_id,
        role=role_of(content.role),
        credentials=tuple(
            Credential(
                one.serial, Ed25519PublicKey.from_public_bytes(one.signing_key), one.not_before_ms, one.not_after_ms
            )
            for one in content.credentials
        ),
        revoked=content.revoked_ms is not None,
        recipient=Recipient(device_id, content.prekey_id, X25519PublicKey.from_public_bytes(content.prekey))
        if content.prekey
        else None,
    )


def binding_of(binding_id: bytes, content: BindingV1) -> BindingRecord:
    return BindingRecord(
        binding_id=binding_id,
        patient=content.patient,
        bed=content.bed,
        wearable_id=content.wearable_id,
        edge_id=content.edge_id,
        valid_from_ms=content.valid_from_ms,
        valid_to_ms=content.valid_to_ms,
        spo2_scale=content.spo2_scale,
        about=content.about,
        time_zone=content.time_zone,
        stay_id=content.stay_id,
        stay_goes_on=content.stay_goes_on,
        stay_to_ms=content.stay_to_ms,
        device_name=content.device_name,
        devices_elsewhere=content.devices_elsewhere,
    )


def assignment_of(wearable_id: bytes, content: AssignmentV1) -> BindingRecord:
    return BindingRecord(
        binding_id=content.binding_id,
        patient="",
        bed="",
        wearable_id=wearable_id,
        edge_id=content.edge_id,
        valid_from_ms=content.valid_from_ms,
        valid_to_ms=content.valid_to_ms,
    )


def role_of(text: str) -> Role:
    """A role by its name. Raises EnrolmentFailed."""
    roles: dict[str, Any] = {"wearable": "wearable", "edge": "edge", "ingest": "ingest"}
    if text not in roles:
        raise EnrolmentFailed(f"the registry speaks of a role that is not known here: {text[:20]!r}")
    role: Role = roles[text]
    return role
