"""A14: somebody takes the edge from beside the bed, disk, identity and all, and tries every key that is in it.

What is not on the disk is the memory: the secrets of the sessions towards the data centre, and the key of the patient
states. A control stands beside every search: with the right key the same search succeeds.
"""

import base64
import random
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.agent import EdgeAgent
from edge.at_rest import KEY_BYTES, StateLock
from edge.config import EdgeConfig, OutboxConfig
from edge.outbox import Outbox
from tests.edge.benches import NOW, UNLIMITED, WELL, Hand
from tests.stream.site.registries import Desk
from wire.codec import VitalsV1, encode
from wire.enrol.wallet import Wallet
from wire.envelope import HEADER_BYTES, HPKE_BYTES, INFO_BYTES, FrameClass
from wire.identity import DeviceIdentity
from wire.mqtt import Inbound
from wire.sessions import HPKE_CONTEXT, HPKE_SUITE, FrameKeys, SendSession
from wire.topics import w_up

ODD = {"heart_rate": 71.123456789, "spo2": 97.987654321, "temperature": 36.555555555}


class Theft:
    """An edge that was enrolled, has judged and stored readings, and whose two folders are in other hands now."""

    def __init__(self, folder: Path) -> None:
        self.desk = Desk(folder)
        edge, wearable = self.desk.enrol("edge"), self.desk.enrol()
        self.desk.bind(wearable, edge, patient="P0042", bed="7")
        for wallet in (edge, wearable):
            self.desk.deliver(wallet)
        self.identity, self.data = edge.folder, folder / "data"
        self.lock = StateLock.open(None)
        self.secrets: list[FrameKeys] = []
        self._serve(edge, wearable)

        self.files = {
            path: path.read_bytes()
            for root in (self.identity, self.data)
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
        outbox = Outbox.open(self.data / "outbox.sqlite", budget_bytes=64 << 20, now_ms=NOW)
        self.sessions = [one for one in outbox.sessions() if one.frame_class == FrameClass.VITALS]
        self.rows = [row for one in self.sessions for row in outbox.page(one.session_id, 0, 100)]
        self.states = outbox.patients()
        outbox.close()

    def _serve(self, edge: Wallet, wearable: Wallet) -> None:
        config = EdgeConfig(
            identity=edge.folder, data_dir=self.data, limits=UNLIMITED,
            outbox=OutboxConfig(budget_mb=64, commit_ms=0),
        )  # fmt: skip
        agent = EdgeAgent(config, edge.provision, self.desk.clock, rng=random.Random(1), wallet=edge, lock=self.lock)
        binding = wearable.assignment(self.desk.clock.now_ms())
        assert wearable.provision.recipient is not None
        assert binding is not None
        session = SendSession.open(
            wearable.me, wearable.provision.recipient, binding_id=binding.binding_id,
            frame_class=FrameClass.VITALS, number=NOW, previous=bytes(16), now_ms=NOW,
        )  # fmt: skip
        frames = [session.frame]
        for n in range(20):
            at = {"t_ms": NOW + n * 5_000, "t_quality": 2, "uptime_ms": 3_600_000 + n * 5_000}
            frames.append(session.seal(encode(VitalsV1(**{**at, **WELL, **ODD})))[1])
        topic = w_up(wearable.me.device_id, FrameClass.VITALS)
        for mid, frame in enumerate(frames):
            agent._turn(Hand(), [Inbound(topic, frame, 1, mid)])  # type: ignore[arg-type]
            self.desk.clock.advance(5_000)
        agent._turn(Hand(), [])  # type: ignore[arg-type]
        assert agent.counts.accepted == 20
        self.secrets = [one.session._keys for one in agent._keeper._sealer._open.values()]
        agent.close()

    # The thief

    def candidates(self) -> Iterator[bytes]:
        """Everything of 32 bytes that stands anywhere, as it is, in hexadecimal, in base64, and within a key file."""
        for content in self.files.values():
            for at in range(len(content) - KEY_BYTES + 1):
                yield content[at : at + KEY_BYTES]
        yield from self.written()

    def written(self) -> Iterator[bytes]:
        """What is written down as a key, in whatever form."""
        for content in self.files.values():
            for run in re.findall(rb"[0-9a-fA-F]{64,}", content):
                text = run.decode()
                yield from (bytes.fromhex(text[at : at + 64]) for at in range(0, len(text) - 63, 2))
            for pem in re.findall(rb"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", content, re.DOTALL):
                if b"PRIVATE" in pem:
                    key: Any = serialization.load_pem_private_key(pem.replace(b"\\n", b"\n"), None)
                    yield key.private_numbers().private_value.to_bytes(32, "big")
            for run in re.findall(rb"[A-Za-z0-9+/]{43,}={0,2}", content):
                text = run.decode().rstrip("=")
                raw = base64.b64decode(text + "=" * (-len(text) % 4)) if len(text) % 4 != 1 else b""
                yield from (raw[at : at + 32] for at in range(len(raw) - 31))


@pytest.fixture(scope="module")
def theft(tmp_path_factory: pytest.TempPathFactory) -> Theft:
    return Theft(tmp_path_factory.mktemp("stolen"))


def opens(keys: FrameKeys, frame: bytes) -> bool:
    counter, salt = struct.unpack_from(">II", frame, 40)
    try:
        keys.open(frame[:HEADER_BYTES], counter, salt, frame[HEADER_BYTES:])
    except InvalidTag:
        return False
    return True


def parts(session_frame: bytes) -> tuple[bytes, bytes]:
    at = HEADER_BYTES + INFO_BYTES
    return session_frame[HEADER_BYTES:at], session_frame[at : at + HPKE_BYTES]


def unsealed(session_frame: bytes, privates: Iterable[bytes]) -> list[bytes]:
    """Session secrets that one of the private keys opens."""
    info, hpke = parts(session_frame)
    found = []
    for private in privates:
        try:
            found.append(
                HPKE_SUITE.decrypt(hpke, X25519PrivateKey.from_private_bytes(private), info=HPKE_CONTEXT + info)
            )
        except (InvalidTag, ValueError):
            continue
    return found


def prekeys_of(me: DeviceIdentity) -> list[bytes]:
    return [one.private_bytes_raw() for one in me.prekeys.values()]


def test_a14_the_edge_has_stored_what_a_thief_would_like_to_read(theft: Theft) -> None:
    assert len(theft.rows) == 20
    assert len(theft.states) == 1
    names = {path.name for path in theft.files}
    assert {"identity.json", "tls.pem", "tls-a.pem", "outbox.sqlite"} <= names


def test_a14_no_key_of_a_stolen_edge_opens_a_stored_reading(theft: Theft) -> None:
    frame = theft.rows[0].frame
    info, hpke = parts(theft.sessions[0].frame)
    written = set(theft.written())
    mine = prekeys_of(Wallet.load(theft.identity).me)
    assert written >= set(mine)  # the search finds the keys that are there

    assert unsealed(theft.sessions[0].frame, written) == []
    for secret in {*theft.candidates()}:
        assert not opens(FrameKeys(secret, info, hpke, 1, FrameClass.VITALS), frame)

    # The data centre's key opens it, and so did the agent's memory.
    cloud = Wallet.load(theft.desk.site.ingest_folder).me
    (secret,) = unsealed(theft.sessions[0].frame, prekeys_of(cloud))
    assert opens(FrameKeys(secret, info, hpke, 1, FrameClass.VITALS), frame)
    assert any(opens(keys, frame) for keys in theft.secrets)


def test_a14_no_key_of_a_stolen_edge_opens_a_patient_s_state(theft: Theft) -> None:
    ((binding, locked),) = theft.states.items()

    for secret in {*theft.candidates()}:
        assert StateLock(secret).unlock(binding, locked) is None

    assert theft.lock.unlock(binding, locked) is not None


def test_a14_no_value_lies_on_the_disk_in_plain(theft: Theft) -> None:
    ((binding, locked),) = theft.states.items()
    state = theft.lock.unlock(binding, locked)
    assert state is not None
    patterns = [struct.pack(order + kind, value) for value in ODD.values() for order in "<>" for kind in "df"]
    patterns += [str(value).encode() for value in ODD.values()]
    assert any(pattern in state for pattern in patterns)  # in the state they are

    everything = b"\0".join(theft.files.values())

    assert [pattern for pattern in patterns if pattern in everything] == []
    assert b"P0042" not in everything  # the bindings are sealed, too, though to a key that the thief has now
