"""Bytes that nobody has thought of, for every door that bytes come in by: A24.

A target takes bytes and lets through what its door may say: it answers, or it refuses by name. Anything else is a
crash. Seeds are made by the real code; inputs are mutations of them by a seeded generator, or come from atheris
(`fuzz_atheris.py`). `python -m tests.attacks.fuzzing --inputs 1000000` runs them all and prints one JSON object.
"""

import argparse
import hashlib
import json
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream.errors import BadRequest
from stream.http import read_request
from stream.ingest.frames import FrameOpener
from stream.site.directory import RegistryDirectory
from tests.edge.benches import NOW, UNLIMITED, WELL
from tests.stream.site.registries import Desk, new_keys
from wire.codec import (
    EdgeAlarmV1,
    EdgeVitalsV1,
    HeartbeatV1,
    ObservationV1,
    OriginV1,
    VitalsV1,
    VitalsV2,
    decode_edge_alarm,
    decode_edge_vitals,
    decode_heartbeat,
    decode_observation,
    decode_vitals,
    encode,
    holds_observation,
)
from wire.enrol.authority import requested_key
from wire.enrol.client import renew_request
from wire.enrol.documents import open_document
from wire.enrol.requests import EnrolReply, EnrolRequest, Invitation, PrekeyRequest, RenewRequest, offered
from wire.envelope import (
    HEADER_BYTES,
    SIGNATURE_BYTES,
    Ack,
    FrameClass,
    Header,
    Stage,
    build_ack,
    open_ack,
)
from wire.errors import BadInvitation, BadProof, BadSigningRequest, BadTopic, DecodeError, Rejected
from wire.receiver import Receiver
from wire.sessions import SendSession
from wire.topics import e_up, parse

CORPUS: Final = Path(__file__).parent / "corpus"
MOST_BYTES: Final = 9_000

_INTERESTING: Final = (0, 1, 0x7F, 0x80, 0xC0, 0xC1, 0xC4, 0xD9, 0xDC, 0xDD, 0xDF, 0xFF)


class Target(NamedTuple):
    """One door.

    Args:
        take: what is behind it; whether it understood what came. Raises nothing that it may not.
        seeds: inputs that are right.
        share: of all mutated inputs.
    """

    take: Callable[[bytes], bool]
    seeds: Sequence[bytes]
    share: float


class Doors:
    """Every door of one site, with the state that stands behind it.

    Args:
        folder: for wallets and the registry.
    """

    def __init__(self, folder: Path) -> None:
        self.desk = desk = Desk(folder)
        self.edge, self.wearable = desk.enrol("edge"), desk.enrol()
        binding_id = desk.bind(self.wearable, self.edge)
        for wallet in (self.edge, self.wearable):
            desk.deliver(wallet)
        cloud = desk.site.ingest_folder
        self._cloud = type(self.edge).load(cloud)
        directory = RegistryDirectory(desk.registry)
        assert self.edge.provision.recipient is not None
        assert self.wearable.provision.recipient is not None
        self.receiver = Receiver(self.edge.me, self.edge.provision.directory, limits=UNLIMITED)
        self.ingest = FrameOpener(self._cloud.me, directory, limits=UNLIMITED)
        self._up = SendSession.open(
            self.wearable.me,
            self.wearable.provision.recipient,
            binding_id=binding_id,
            frame_class=FrameClass.VITALS,
            number=NOW,
            previous=bytes(16),
            now_ms=NOW,
        )
        self._binding = binding_id
        self._number = NOW
        self._on = {one: self._session(one) for one in (FrameClass.VITALS, FrameClass.ALARM, FrameClass.HEARTBEAT)}
        self._topics = {one: e_up(self.edge.me.device_id, one) for one in self._on}
        self.receiver.receive(self._up.frame, topic_device=None, now_ms=NOW, mono_ms=0)
        for frame_class, session in self._on.items():
            self.ingest.accept(self._topics[frame_class], session.frame, now_ms=NOW, mono_ms=0)
        self._controls = desk.registry_keys()
        assert desk.site.signers is not None
        self._control: Ed25519PrivateKey = desk.site.signers.control[0]
        self._messages = _messages(self.wearable.me.device_id, self._up.session_id)
        self.authentic = 0  # frames that were sealed or signed anew around what was mutated
        self.targets: Mapping[str, Target] = self._make_targets()

    def _session(self, frame_class: FrameClass) -> SendSession:
        """Of the edge, towards the data centre."""
        recipient, self._number = self.edge.provision.recipient, self._number + 1
        assert recipient is not None
        return SendSession.open(
            self.edge.me,
            recipient,
            binding_id=bytes(16) if frame_class == FrameClass.HEARTBEAT else self._binding,
            frame_class=frame_class,
            number=self._number,
            previous=bytes(16),
            now_ms=NOW,
        )

    # State that nothing of all this may change

    def state(self) -> bytes:
        """What stands behind the doors, but for what authentic frames have put there."""
        told = hashlib.sha256()
        for row in sorted(self.receiver.sessions()):
            told.update(repr(row).encode())
        for wallet in (self.edge, self.wearable):
            told.update(wallet.digest)
            for path in sorted(wallet.folder.rglob("*")):
                told.update(path.read_bytes() if path.is_file() else b"")
        return told.digest()

    # Doors

    def enter(self, data: bytes) -> bool:
        """An input whose first byte names the door, as those of the corpus."""
        names = tuple(self.targets)
        return self.targets[names[data[0] % len(names)]].take(data[1:]) if data else False

    def _make_targets(self) -> dict[str, Target]:
        # The corpus names a door by its place here: new ones come last.
        up, edge, registry = self._up, self.edge, self.desk.registry
        acks = [
            build_ack(edge.me.signing_key, Ack(stage, 0, ranges, number, NOW, edge.me.device_id, up.session_id, 1, 1))
            for stage, ranges, number in (
                (Stage.DURABLE, ((0, 3), (5, 9)), None),
                (Stage.REJECTED, ((0, 0),), None),
                (Stage.NEED_SESSION, (), NOW),
            )
        ]
        documents = [
            *registry.documents.documents_for(edge.me.device_id),
            *registry.documents.documents_for(self.wearable.me.device_id),
        ]
        frames = [up.frame, *(up.seal(one)[1] for one in self._messages["vitals"]), *acks, documents[0]]
        sealed = [
            bytes([frame_class]) + frame
            for frame_class, name in ((1, "edge vitals"), (2, "alarm"), (3, "heartbeat"))
            for frame in [self._on[FrameClass(frame_class)].frame]
            + [self._on[FrameClass(frame_class)].seal(one)[1] for one in self._messages[name]]
        ]
        contents = [frame[HEADER_BYTES + 36 : -SIGNATURE_BYTES] for frame in documents]
        requests = self._requests()
        return {
            "edge": Target(self._edge, frames, 0.25),
            "ingest": Target(self._ingest, sealed, 0.15),
            "ack": Target(self._ack, acks, 0.08),
            "document": Target(self._document, documents, 0.10),
            "wallet": Target(self._wallet, documents, 0.02),
            "signed content": Target(
                self._signed_content, [bytes([one]) + text for one in range(1, 5) for text in contents], 0.03
            ),
            "sealed payload": Target(
                self._sealed_payload,
                [bytes([n]) + one for n, name in enumerate(("edge vitals", "alarm", "heartbeat")) for one in
                 self._messages[name]],
                0.03,
            ),
            "vitals": Target(_refusing(decode_vitals, DecodeError), self._messages["vitals"], 0.06),
            "edge vitals": Target(_refusing(decode_edge_vitals, DecodeError), self._messages["edge vitals"], 0.06),
            "alarm": Target(_refusing(_decode_alarm_lane, DecodeError), self._messages["alarm"], 0.04),
            "heartbeat": Target(_refusing(decode_heartbeat, DecodeError), self._messages["heartbeat"], 0.04),
            "enrol": Target(_asking(EnrolRequest), requests["enrol"], 0.04),
            "renew": Target(_asking(RenewRequest), requests["renew"], 0.02),
            "prekey": Target(_refusing(lambda body: read_request(body, PrekeyRequest), BadRequest),
                             requests["prekey"], 0.02),
            "reply": Target(_refusing(lambda body: msgspec.json.decode(body, type=EnrolReply),
                                      (msgspec.DecodeError, UnicodeDecodeError)), requests["reply"], 0.01),
            "signing request": Target(_refusing(requested_key, BadSigningRequest), requests["csr"], 0.01),
            "invitation": Target(_refusing(lambda text: Invitation.parse(text.decode("utf-8", "surrogateescape")),
                                           BadInvitation), requests["invitation"], 0.02),
            "topic": Target(_refusing(lambda text: parse(text.decode("utf-8", "surrogateescape")), BadTopic),
                            [one.encode() for one in self._topics.values()], 0.02),
        }  # fmt: skip

    def _edge(self, frame: bytes) -> bool:
        try:
            self.receiver.receive(frame, topic_device=None, now_ms=NOW, mono_ms=0)
        except Rejected:
            return False
        return True

    def _ingest(self, data: bytes) -> bool:
        frame_class = FrameClass(1 + (data[0] if data else 0) % 3)
        try:
            self.ingest.accept(self._topics[frame_class], data[1:], now_ms=NOW, mono_ms=0)
        except Rejected:
            return False
        return True

    def _ack(self, frame: bytes) -> bool:
        try:
            open_ack(frame, self.edge.me.signing_key.public_key())
        except Rejected:
            return False
        return True

    def _document(self, frame: bytes) -> bool:
        try:
            open_document(frame, self._controls, prekeys=self.edge.me.prekeys)
        except Rejected:
            return False
        return True

    def _wallet(self, frame: bytes) -> bool:
        try:
            self.wearable.accept(frame)
        except Rejected:
            return False
        return True

    def _signed_content(self, data: bytes) -> bool:
        """Content that a control key has signed: the last who could send it is the data centre itself."""
        kind = 1 + (data[0] if data else 0) % 4
        content = data[1:8_000]
        head = Header(
            4, 1, FrameClass.CONTROL, 36 + len(content) + SIGNATURE_BYTES, next(iter(self._controls)), bytes(16), 0, 0
        ).pack()
        signed = head + struct.pack(">BBHQQ16s", kind, 0, 0, NOW, NOW, bytes(16)) + content
        self.authentic += 1
        return self._document(signed + self._control.sign(b"VSE1 doc\0" + signed))

    def _sealed_payload(self, data: bytes) -> bool:
        """A payload that one of our edges has sealed: it is opened, and refused with a dead letter or understood."""
        frame_class = tuple(self._on)[(data[0] if data else 0) % 3]
        self.authentic += 1
        if self._on[frame_class].is_spent:
            self._on[frame_class] = self._session(frame_class)
            self.ingest.accept(self._topics[frame_class], self._on[frame_class].frame, now_ms=NOW, mono_ms=0)
        try:
            taken = self.ingest.accept(
                self._topics[frame_class], self._on[frame_class].seal(data[1:8_000])[1], now_ms=NOW, mono_ms=0
            )
        except Rejected:
            return False
        return taken.error is None

    def _requests(self) -> dict[str, list[bytes]]:
        desk = self.desk
        invitation, keys = desk.invite(), new_keys()
        asked = desk.request(invitation, keys)
        reply = desk.ask(asked)
        renewal = renew_request(self.wearable, new_keys(), desk.server)
        prekey = PrekeyRequest(
            device_id="ab" * 16, serial="cd" * 8, prekey_id="ef" * 8, prekey="01" * 32, at_ms=NOW, present="02" * 64
        )
        return {
            "enrol": [msgspec.json.encode(asked)],
            "renew": [msgspec.json.encode(renewal)],
            "prekey": [msgspec.json.encode(prekey)],
            "reply": [msgspec.json.encode(reply)],
            "csr": [keys.request(invitation.device_id)],
            "invitation": [invitation.text().encode()],
        }


class Crash(NamedTuple):
    """An input that a door did not refuse by name."""

    target: str
    data: bytes
    trace: str


class Outcome(NamedTuple):
    """What became of many inputs."""

    inputs: int
    crashes: list[Crash]
    state_kept: bool
    seconds: float
    grown_bytes: int  # of memory, between a tenth of the way and the end
    by_target: dict[str, int]
    understood: dict[str, int]  # of them; not refused


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One input: a seed, changed a little or a lot, and certainly changed."""
    while (data := _changed(seeds, rng)) in seeds or data[1:] in {one[1:] for one in seeds}:
        continue
    return data


def _changed(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        kind = rng.randrange(8)
        at = rng.randrange(len(data)) if data else 0
        if not data or kind == 0:
            data[at:at] = rng.randbytes(rng.choice((1, 2, 8, 64)))
        elif kind <= 2:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            data[at] = rng.choice(_INTERESTING)
        elif kind == 4:
            del data[at : at + rng.choice((1, 4, 32, len(data)))]
        elif kind == 5:
            other = rng.choice(seeds)
            data[at:] = other[rng.randrange(len(other) + 1) :]
        elif kind == 6:
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0 \0"))
        else:
            end = at + rng.choice((1, 8, 40))
            data[at:at] = data[at:end] * rng.choice((1, 1, 50))
    return bytes(data[:MOST_BYTES])


def run(doors: Doors, inputs: int, seed: int) -> Outcome:
    """So many inputs, shared out to the doors."""
    rng = random.Random(seed)
    before, began = doors.state(), time.monotonic()
    counts: Counter[str] = Counter()
    understood: Counter[str] = Counter()
    crashes: list[Crash] = []
    started_with = 0
    shares = {name: max(1, round(inputs * target.share)) for name, target in doors.targets.items()}
    shares["edge"] += inputs - sum(shares.values())
    for part in range(10):
        for name, target in doors.targets.items():
            for _ in range(shares[name] * (part + 1) // 10 - shares[name] * part // 10):
                data = mutated(target.seeds, rng)
                counts[name] += 1
                try:
                    understood[name] += target.take(data)
                except Exception:  # noqa: BLE001 - whatever else comes out is what is looked for
                    crashes.append(Crash(name, data, traceback.format_exc()))
        if part == 0:
            started_with = _resident()
    return Outcome(
        inputs=sum(counts.values()),
        crashes=crashes,
        state_kept=doors.state() == before,
        seconds=time.monotonic() - began,
        grown_bytes=_resident() - started_with,
        by_target=dict(counts),
        understood=dict(understood),
    )


def _resident() -> int:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


def _refusing(
    take: Callable[[bytes], Any], refusals: type[Exception] | tuple[type[Exception], ...]
) -> Callable[[bytes], bool]:
    def door(data: bytes) -> bool:
        try:
            take(data)
        except refusals:
            return False
        return True

    return door


def _asking(kind: type[EnrolRequest] | type[RenewRequest]) -> Callable[[bytes], bool]:
    return _refusing(lambda body: offered(read_request(body, kind)), (BadRequest, BadProof, BadSigningRequest))


def _messages(wearable_id: bytes, session_id: bytes) -> dict[str, list[bytes]]:
    at = {"t_ms": NOW, "t_quality": 2, "uptime_ms": 3_600_000}
    readings = [VitalsV1(**{**at, **WELL}), VitalsV1(**{**at, "heart_rate": 71.5, "battery": 80.0})]
    readings.append(VitalsV2(**{**at, **WELL}, activity=3))
    edge = [
        EdgeVitalsV1(
            origin=OriginV1(wearable_id=wearable_id, session_id=session_id, counter=n),
            vitals=one,
            at_ms=NOW,
            received_ms=NOW,
            sensor_flags=0,
            unusable=0,
        )
        for n, one in enumerate(readings)
    ]
    alarm = EdgeAlarmV1(
        alarm_id=b"a" * 16,
        rule_id="news2",
        key="",
        kind="physiological",
        priority=3,
        state="active",
        at_ms=NOW,
        onset_ms=NOW,
        revision=1,
        text="NEWS2 7: respiratory rate 26 /min",
    )
    observed = ObservationV1(
        observation_id=b"o" * 16,
        by="anna",
        at_ms=NOW,
        entered_ms=NOW,
        consciousness=1,
        supplemental_oxygen=2.0,
        oxygen_device="nasal cannula",
        off_until_ms=NOW + 60_000,
        note="restless",
    )
    beat = HeartbeatV1(
        boot_id=b"b" * 8,
        at_ms=NOW,
        uptime_ms=1_000,
        clock_quality=2,
        outbox_rows=3,
        outbox_oldest_ms=9,
        outbox_used=0.1,
        last_counters=[(session_id, 1, 7)],
        void=[(session_id, 1, 2)],
        closed=[(session_id, 9)],
        model="rules only",
        sensors=[(wearable_id, "worn")],
        version="0.1.0",
        rejected={"auth": 2},
        documents=b"d" * 8,
    )
    return {
        "vitals": [encode(one) for one in readings],
        "edge vitals": [encode(one) for one in edge],
        "alarm": [encode(alarm), encode(observed)],
        "heartbeat": [encode(beat)],
    }


def _decode_alarm_lane(payload: bytes) -> EdgeAlarmV1 | ObservationV1:
    return decode_observation(payload) if holds_observation(payload) else decode_edge_alarm(payload)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.fuzzing", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=24)
    told = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Doors(Path(folder)), told.inputs, told.seed)
    for crash in outcome.crashes[:10]:
        print(crash.target, crash.data.hex(), crash.trace, file=sys.stderr)  # noqa: T201 - this is its output
    print(json.dumps(outcome._replace(crashes=len(outcome.crashes))._asdict()))  # type: ignore[arg-type]  # noqa: T201
    return 1 if outcome.crashes or not outcome.state_kept else 0


if __name__ == "__main__":
    sys.exit(main())
