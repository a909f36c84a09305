"""What the seals cost: a reading sealed and opened, a session, a document, an acknowledgement, against bare ciphers.

`python -m benchmarks.sealing [--json] [--quick]`
"""

import os
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from benchmarks._timing import QUICK, microseconds, report
from simulators.made_up import demo_site
from wire.codec import VitalsV1, encode
from wire.enrol.documents import (
    EVERYBODY,
    AssignmentV1,
    Document,
    DocumentType,
    build_document,
    control_key_id,
    open_document,
)
from wire.envelope import Ack, FrameClass, Stage, build_ack, open_ack
from wire.receiver import RateLimits, Receiver
from wire.sessions import HPKE_CONTEXT, HPKE_SUITE, SendSession

NOW: Final = 1_767_600_000_000
FRAMES: Final = 200 if QUICK else 5_000
SETUPS: Final = 20 if QUICK else 400
AN_HOUR: Final = 720
"""Readings in an hour, one in five seconds: as long as a session lasts."""
UNLIMITED: Final = RateLimits(frames_per_s=1e9, frames_burst=10**9, sessions_per_min=1e9)


class SealingBench:
    """One wearable and its edge."""

    def __init__(self) -> None:
        self.site = demo_site(wearables=1, edges=1, now_ms=NOW)
        self.payload = encode(
            VitalsV1(
                t_ms=NOW,
                t_quality=2,
                uptime_ms=1,
                heart_rate=71.0,
                respiratory_rate=15.0,
                spo2=97.0,
                systolic_bp=121.0,
                temperature=36.8,
                consciousness=0,
            )
        )
        self.number = NOW
        self.session = self.new_session()
        self.frames = [self.session.seal(self.payload)[1] for _ in range(FRAMES)]
        self.padded = self.frames[0][48:-16]
        self.aead = ChaCha20Poly1305(os.urandom(32))
        self.nonce = os.urandom(12)
        self.header = self.frames[0][:48]
        self.box = self.aead.encrypt(self.nonce, self.padded, self.header)
        self.key, self.prekey = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
        self.signed = self.key.sign(b"x" * 250)
        self.sealed = HPKE_SUITE.encrypt(b"s" * 32, self.prekey.public_key(), info=HPKE_CONTEXT + b"i" * 120)
        self.document = build_document(
            self.key,
            Document(
                DocumentType.ASSIGNMENT, b"b" * 16, NOW, NOW, EVERYBODY,
                AssignmentV1(binding_id=b"b" * 16, edge_id=b"e" * 16, valid_from_ms=NOW),
            ),
        )  # fmt: skip
        self.ack = build_ack(self.key, self.to_sign())

    def new_session(self) -> SendSession:
        wearable = self.site.wearables[0]
        assert wearable.recipient is not None
        self.number += 1
        return SendSession.open(
            wearable.me, wearable.recipient, binding_id=self.site.bindings[0].binding_id,
            frame_class=FrameClass.VITALS, number=self.number, previous=bytes(16), now_ms=NOW,
        )  # fmt: skip

    def receiver(self) -> Receiver:
        edge = self.site.edges[0]
        return Receiver(edge.me, edge.directory, limits=UNLIMITED)

    def to_sign(self) -> Ack:
        return Ack(Stage.DURABLE, 0, ((0, 63),), None, NOW, b"e" * 16, self.session.session_id, 1, 1)

    # Stages

    def bare_seal(self) -> int:
        for _ in range(FRAMES):
            self.aead.encrypt(self.nonce, self.padded, self.header)
        return FRAMES

    def bare_open(self) -> int:
        for _ in range(FRAMES):
            self.aead.decrypt(self.nonce, self.box, self.header)
        return FRAMES

    def seal(self) -> int:
        for _ in range(FRAMES):
            self.session.seal(self.payload)
        return FRAMES

    def open(self) -> int:
        receiver = self.receiver()
        receiver.receive(self.session.frame, topic_device=None, now_ms=NOW, mono_ms=0)
        for frame in self.frames:
            receiver.receive(frame, topic_device=None, now_ms=NOW, mono_ms=0)
        return FRAMES

    def bare_begin(self) -> int:
        for _ in range(SETUPS):
            HPKE_SUITE.encrypt(b"s" * 32, self.prekey.public_key(), info=HPKE_CONTEXT + b"i" * 120)
            self.key.sign(b"x" * 250)
        return SETUPS

    def bare_accept(self) -> int:
        public = self.key.public_key()
        for _ in range(SETUPS):
            public.verify(self.signed, b"x" * 250)
            HPKE_SUITE.decrypt(self.sealed, self.prekey, info=HPKE_CONTEXT + b"i" * 120)
        return SETUPS

    def begin(self) -> int:
        for _ in range(SETUPS):
            self.new_session()
        return SETUPS

    def begin_and_accept(self) -> int:
        receiver = self.receiver()
        for _ in range(SETUPS):
            receiver.receive(self.new_session().frame, topic_device=None, now_ms=NOW, mono_ms=0)
        return SETUPS

    def take_document(self) -> int:
        keys = {control_key_id(self.key.public_key()): self.key.public_key()}
        for _ in range(SETUPS):
            open_document(self.document, keys)
        return SETUPS

    def sign_ack(self) -> int:
        for _ in range(SETUPS):
            build_ack(self.key, self.to_sign())
        return SETUPS

    def open_ack(self) -> int:
        public = self.key.public_key()
        for _ in range(SETUPS):
            open_ack(self.ack, public)
        return SETUPS


def main() -> None:
    bench = SealingBench()
    cost = microseconds(
        {
            "bare seal": bench.bare_seal, "seal": bench.seal, "bare open": bench.bare_open, "open": bench.open,
            "bare begin": bench.bare_begin, "begin": bench.begin, "bare accept": bench.bare_accept,
            "both": bench.begin_and_accept, "document": bench.take_document, "sign ack": bench.sign_ack,
            "open ack": bench.open_ack,
        }
    )  # fmt: skip
    accept = max(cost["both"] - cost["begin"], 0.1)
    session = cost["begin"] + accept
    reading = cost["seal"] + cost["open"]
    rows = [
        ("seal a reading", cost["seal"], cost["bare seal"]),
        ("open a reading, all checks", cost["open"], cost["bare open"]),
        ("begin a session", cost["begin"], cost["bare begin"]),
        ("accept a session, all checks", accept, cost["bare accept"]),
    ]
    table = [(name, f"{ours:.1f}", f"{bare:.1f}", f"{ours / bare:.1f}") for name, ours, bare in rows]
    table += [(name, f"{cost[key]:.0f}", "", "") for name, key in (
        ("check a document", "document"), ("sign an acknowledgement", "sign ack"), ("check one", "open ack"))
    ]  # fmt: skip
    table.append((f"a session, spread over {AN_HOUR} readings", f"{session / AN_HOUR:.2f}", "", ""))
    overhead = len(bench.frames[0]) - len(bench.payload)
    report(
        "sealing",
        table,
        ("", "µs", "bare primitives, µs", "ratio"),
        {
            "seal_to_bare": round(cost["seal"] / cost["bare seal"], 2),
            "open_to_bare": round(cost["open"] / cost["bare open"], 2),
            "begin_to_bare": round(cost["begin"] / cost["bare begin"], 2),
            "accept_to_bare": round(accept / cost["bare accept"], 2),
            "session_in_readings": round(session / reading, 1),
            "session_share_of_an_hour": round(session / (session + AN_HOUR * reading), 4),
            "overhead_bytes": overhead,
            "us": {name: round(one, 1) for name, one in cost.items()},
        },
    )


if __name__ == "__main__":
    main()
