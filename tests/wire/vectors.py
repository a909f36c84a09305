"""Published test vectors of the sealed frame, suite 1 (docs/wire.md prints the same).

Ed25519 seed 00..1f, prekey private 20..3f, acknowledger's seed 40..5f; ids are 16 ASCII bytes each.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wire.identity import BindingRecord, DeviceIdentity, InMemoryDirectory

TENANT = b"tenant-000000001"
WEARABLE = b"wearable-0000001"
EDGE = b"edge-00000000001"
BINDING = b"binding-00000001"
CREDENTIAL = b"cred0001"
PREKEY = b"prekey01"
AT_MS = 1_790_000_000_000

SECRET = bytes.fromhex("20272e353c434a51585f666d747b828990979ea5acb3bac1c8cfd6dde4ebf2f9")
SESSION_FRAME = bytes.fromhex(
    "56450101010101087765617261626c652d30303030303031cf268aa802447903fd85f0b4028307c90000000000000000"
    "74656e616e742d3030303030303030317765617261626c652d30303030303031656467652d3030303030303030303031"
    "62696e64696e672d303030303030303163726564303030317072656b6579303101010100000000000000000000000001"
    "000001a0c4506c0000000000000000000000000000000000a2fe7d7c2a3e6143f34eb3371a8868428f011daf672301ec"
    "3055c7eeda3e8127cd151028a9f943f78db0c3fc409d7c4dfde82e916b0c48de9b59c31f4c5d844f367d6515aeba827f"
    "11f732514bd827c116e7b5b489e1d1c7c78c2f1b46030d417ffed8e344715a4cfb887215ecc71ebddabf2e0ed51a6c80"
    "3119c154c50c3ea60ef345362c8e9d07b2cb357bdc14c30a"
)
SESSION_ID = bytes.fromhex("cf268aa802447903fd85f0b4028307c9")
KEY = bytes.fromhex("0411253066a0c35f35a429abb551fd8be142e1881d5bb452a9c2f7ee9aa9cf00")
IV = bytes.fromhex("83a651069ae370cef49ce4a5")
SALT = bytes.fromhex("040b1219")
PAYLOADS = (bytes.fromhex("93011848"), b"")
DATA_FRAMES = (
    bytes.fromhex(
        "56450102010100307765617261626c652d30303030303031cf268aa802447903fd85f0b4028307c900000000040b1219"
        "e7789a9e0a067e4af55be3e630e6993054a54c12c2fbb1d109572e405a8729ef1bc2ad29c15e177326e776331b4ce977"
    ),
    bytes.fromhex(
        "56450102010100307765617261626c652d30303030303031cf268aa802447903fd85f0b4028307c900000001040b1219"
        "e3a16525088445aa7db0e924b8e36e7f1abc63c99f99a09348f1d0b324d1f6a3c9c6fe20ece80981f2bb3ccc66cd86f9"
    ),
)
ACK_AT_MS = 1_790_000_001_000
ACK_FRAME = bytes.fromhex(
    "5645010301010054656467652d3030303030303030303031cf268aa802447903fd85f0b4028307c90000000100000000"
    "010000010000000000000001000001a0c4506fe89482a6c7a86cdceddecd80782b18a572c7fd1757626ce694fbe967ac"
    "216e1624b056139330cc84e60e0c353466efa9ddc53350de68b0ca5febe0824692171a02"
)


def _identity(device_id: bytes, role: str, seed: int) -> DeviceIdentity:
    return DeviceIdentity(
        device_id=device_id,
        tenant_id=TENANT,
        role=role,  # type: ignore[arg-type]
        signing_key=Ed25519PrivateKey.from_private_bytes(bytes(range(seed, seed + 32))),
        credential_serial=CREDENTIAL,
        prekeys={PREKEY: X25519PrivateKey.from_private_bytes(bytes(range(0x20, 0x40)))},
        not_before_ms=AT_MS - 1_000,
        not_after_ms=AT_MS + 86_400_000,
    )


def wearable() -> DeviceIdentity:
    return _identity(WEARABLE, "wearable", 0x00)


def edge() -> DeviceIdentity:
    return _identity(EDGE, "edge", 0x40)


def binding(valid_to_ms: int | None = None) -> BindingRecord:
    return BindingRecord(
        binding_id=BINDING,
        patient="P0001",
        bed="1",
        wearable_id=WEARABLE,
        edge_id=EDGE,
        valid_from_ms=AT_MS - 1_000,
        valid_to_ms=valid_to_ms,
    )


def directory(*bindings: BindingRecord) -> InMemoryDirectory:
    return InMemoryDirectory([wearable().record()], bindings or [binding()])
