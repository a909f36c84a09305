"""The published bytes, byte for byte."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.wire import vectors as v
from wire.envelope import Ack, Stage, build_ack, open_ack, pad, session_id_of
from wire.receiver import Opened, Receiver, SessionOpened
from wire.sessions import FrameKeys, SendSession


def _entropy(*drawn: bytes) -> Callable[[int], bytes]:
    left = list(drawn)

    def draw(size: int) -> bytes:
        one = left.pop(0)
        assert len(one) == size
        return one

    return draw


def _receiver() -> Receiver:
    return Receiver(v.edge(), v.directory())


def test_a_receiver_opens_the_published_session_and_frames() -> None:
    receiver = _receiver()

    session = receiver.receive(v.SESSION_FRAME, topic_device=v.WEARABLE, now_ms=v.AT_MS, mono_ms=0)
    frames = [receiver.receive(frame, topic_device=v.WEARABLE, now_ms=v.AT_MS, mono_ms=0) for frame in v.DATA_FRAMES]

    assert isinstance(session, SessionOpened)
    assert session.session_id == v.SESSION_ID
    assert [one.payload for one in frames if isinstance(one, Opened)] == list(v.PAYLOADS)
    assert [one.counter for one in frames if isinstance(one, Opened)] == [0, 1]


def test_the_session_id_commits_to_context_and_key() -> None:
    assert session_id_of(v.SESSION_FRAME[48:168], v.SESSION_FRAME[168:248]) == v.SESSION_ID


@pytest.mark.parametrize("counter", [0, 1])
def test_the_key_schedule_gives_the_published_frames(counter: int) -> None:
    keys = FrameKeys(v.SECRET, v.SESSION_FRAME[48:168], v.SESSION_FRAME[168:248], 1, 1)
    frame, salt = v.DATA_FRAMES[counter], int.from_bytes(v.SALT, "big")

    assert keys.seal(frame[:48], counter, salt, pad(v.PAYLOADS[counter])) == frame[48:]
    # And once more from the published key and iv alone.
    nonce = (int.from_bytes(v.IV, "big") ^ (counter << 32 | salt)).to_bytes(12, "big")
    assert ChaCha20Poly1305(v.KEY).encrypt(nonce, pad(v.PAYLOADS[counter]), frame[:48]) == frame[48:]


def test_a_sender_makes_the_same_session_but_for_the_random_part_of_hpke() -> None:
    session = SendSession.open(
        v.wearable(),
        v.edge().recipient(),
        binding_id=v.BINDING,
        frame_class=1,
        number=1,
        previous=bytes(16),
        now_ms=v.AT_MS,
        entropy=_entropy(v.SECRET, v.SALT),
    )

    counter, frame = session.seal(v.PAYLOADS[0])

    assert session.frame[48:168] == v.SESSION_FRAME[48:168]
    assert session.frame[:24] == v.SESSION_FRAME[:24]
    assert (counter, frame[:24], frame[40:48]) == (0, v.DATA_FRAMES[0][:24], v.DATA_FRAMES[0][40:48])
    receiver = _receiver()
    receiver.receive(session.frame, topic_device=None, now_ms=v.AT_MS, mono_ms=0)
    opened = receiver.receive(frame, topic_device=None, now_ms=v.AT_MS, mono_ms=0)
    assert isinstance(opened, Opened)
    assert opened.payload == v.PAYLOADS[0]


def test_the_acknowledgement_is_the_published_one() -> None:
    ack = Ack(Stage.DURABLE, 0, ((0, 1),), None, v.ACK_AT_MS, v.EDGE, v.SESSION_ID, 1, 1)

    assert build_ack(v.edge().signing_key, ack) == v.ACK_FRAME
    assert open_ack(v.ACK_FRAME, v.edge().signing_key.public_key()) == ack
