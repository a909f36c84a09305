"""A small site whose keys follow from names: two wearables, an edge that opens, and somebody who has no key.

Only the random part of HPKE differs from run to run; nothing asks for it.
"""

import hashlib
from collections.abc import Callable, Iterable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wire.envelope import FrameClass
from wire.errors import Reason, Rejected
from wire.identity import BindingRecord, DeviceIdentity, InMemoryDirectory, Role, SenderRecord
from wire.receiver import Opened, RateLimits, Receiver, SessionOpened, SessionRow
from wire.sessions import SendSession

AT_MS = 1_790_000_000_000
DAY_MS = 86_400_000
UNLIMITED = RateLimits(frames_per_s=1e9, frames_burst=1_000_000_000, sessions_per_min=1e9)
"""For tests that are not about rates."""


def named(what: str, size: int = 16) -> bytes:
    """Bytes that follow from a name."""
    return hashlib.sha256(what.encode()).digest()[:size]


def entropy(seed: str) -> Callable[[int], bytes]:
    """Stands in for `os.urandom`: never the same twice, always the same from run to run."""
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return named(f"{seed}/{drawn}", size)

    return draw


def identity(role: Role, name: str, *, tenant: str = "tenant") -> DeviceIdentity:
    return DeviceIdentity(
        device_id=named(name),
        tenant_id=named(tenant),
        role=role,
        signing_key=Ed25519PrivateKey.from_private_bytes(named(f"{name} signs", 32)),
        credential_serial=named(f"{name} credential", 8),
        prekeys={named(f"{name} prekey", 8): X25519PrivateKey.from_private_bytes(named(f"{name} opens", 32))},
        not_before_ms=AT_MS - 30 * DAY_MS,
        not_after_ms=AT_MS + 30 * DAY_MS,
    )


class Site:
    """Wearable ann on bed 1 and wearable bob on bed 2, both heard by one edge."""

    def __init__(self) -> None:
        self.ann = identity("wearable", "ann")
        self.bob = identity("wearable", "bob")
        self.edge = identity("edge", "edge")
        self.on_ann = self._binding(self.ann, "1")
        self.on_bob = self._binding(self.bob, "2")
        self.directory = InMemoryDirectory([self.ann.record(), self.bob.record()], [self.on_ann, self.on_bob])
        self._sessions = 0

    def receiver(self, *, limits: RateLimits = UNLIMITED, restored: Iterable[SessionRow] = ()) -> Receiver:
        return Receiver(self.edge, self.directory, limits=limits, restored=restored)

    def session(
        self,
        sender: DeviceIdentity | None = None,
        *,
        to: DeviceIdentity | None = None,
        binding_id: bytes | None = None,
        frame_class: int = FrameClass.VITALS,
        number: int = 1,
        previous: bytes = bytes(16),
        at_ms: int = AT_MS,
    ) -> SendSession:
        """A sending session, of ann about her own patient unless told otherwise."""
        self._sessions += 1
        return SendSession.open(
            sender or self.ann,
            (to or self.edge).recipient(),
            binding_id=self.on_ann.binding_id if binding_id is None else binding_id,
            frame_class=frame_class,
            number=number,
            previous=previous,
            now_ms=at_ms,
            entropy=entropy(f"session {self._sessions}"),
        )

    def hearing(
        self, session: SendSession, *, limits: RateLimits = UNLIMITED, restored: Iterable[SessionRow] = ()
    ) -> Receiver:
        """A receiver that has accepted `session`, with nothing left to store."""
        receiver = self.receiver(limits=limits, restored=restored)
        begin(receiver, session)
        receiver.dirty()
        return receiver

    def replace(self, record: SenderRecord) -> None:
        """Ann, as the registry knows her from now on."""
        self.directory = InMemoryDirectory([record, self.bob.record()], [self.on_ann, self.on_bob])

    def _binding(self, wearable: DeviceIdentity, bed: str) -> BindingRecord:
        return BindingRecord(
            binding_id=named(f"binding {bed}"),
            patient=f"P000{bed}",
            bed=bed,
            wearable_id=wearable.device_id,
            edge_id=self.edge.device_id,
            valid_from_ms=AT_MS - DAY_MS,
        )


def begin(receiver: Receiver, session: SendSession, *, now_ms: int = AT_MS, mono_ms: int = 0) -> SessionOpened:
    """The receiver accepts the session."""
    opened = receiver.receive(session.frame, topic_device=session.info.sender, now_ms=now_ms, mono_ms=mono_ms)
    assert isinstance(opened, SessionOpened)
    return opened


def hear(receiver: Receiver, frame: bytes, *, now_ms: int = AT_MS, mono_ms: int = 0) -> Opened:
    """The receiver opens the frame."""
    opened = receiver.receive(frame, topic_device=None, now_ms=now_ms, mono_ms=mono_ms)
    assert isinstance(opened, Opened)
    return opened


def refusal(
    receiver: Receiver, frame: bytes, *, topic_device: bytes | None = None, now_ms: int = AT_MS, mono_ms: int = 0
) -> Rejected:
    """The receiver refuses the frame, and is afterwards exactly what it was before."""
    before = receiver.sessions()
    with pytest.raises(Rejected) as caught:
        receiver.receive(frame, topic_device=topic_device, now_ms=now_ms, mono_ms=mono_ms)
    assert receiver.sessions() == before
    return caught.value


def reason(receiver: Receiver, frame: bytes, *, topic_device: bytes | None = None, now_ms: int = AT_MS) -> Reason:
    """Why the receiver refuses the frame."""
    return refusal(receiver, frame, topic_device=topic_device, now_ms=now_ms).reason
