"""An invitation is read whole or not at all; a proof is good for one device, one token, one set of keys, one server."""

import base64
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.wire.sites import named
from wire.enrol.requests import (
    TOKEN_BYTES,
    EnrolRequest,
    Invitation,
    b64,
    check_proof,
    enrol_transcript,
    is_device_id,
    new_token,
    offered,
    prekey_transcript,
    proof,
    renew_transcript,
    token_hash,
    un64,
)
from wire.errors import BadInvitation, BadProof

INVITATION = Invitation("https://registry.example:8443", named("pin", 32), named("device"), named("token", TOKEN_BYTES))
TEXT = INVITATION.text()
SIGNS = Ed25519PrivateKey.from_private_bytes(named("signs", 32))
PREKEY = X25519PrivateKey.from_private_bytes(named("opens", 32)).public_key().public_bytes_raw()


# Invitations


@pytest.mark.parametrize(
    "url", ["https://registry.example:8443", "https://127.0.0.1:1", "https://[::1]:65535", "https://WARD.local:443"]
)
def test_an_invitation_comes_back_from_paper(url: str) -> None:
    invitation = INVITATION._replace(url=url)

    assert Invitation.parse(invitation.text()) == invitation


@settings(max_examples=200, deadline=None)
@given(
    host=st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,8}){0,3}", fullmatch=True),
    port=st.integers(1, 65_535),
    pin=st.binary(min_size=32, max_size=32),
    device_id=st.binary(min_size=16, max_size=16),
    token=st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES),
)
def test_any_invitation_comes_back(host: str, port: int, pin: bytes, device_id: bytes, token: bytes) -> None:
    invitation = Invitation(f"https://{host}:{port}", pin, device_id, token)

    assert Invitation.parse(invitation.text()) == invitation


def test_an_invitation_is_one_word_that_a_shell_and_a_qr_code_can_carry() -> None:
    assert TEXT.isascii()
    assert len(TEXT.split()) == 1
    assert len(TEXT) < 200


@pytest.mark.parametrize("around", ["{}\n", "  {}  ", "\t{}\r\n", "\n\n{}\n"])
def test_space_around_it_does_not_matter(around: str) -> None:
    assert Invitation.parse(around.format(TEXT)) == INVITATION


def test_a_line_that_was_wrapped_is_put_together_again() -> None:
    assert Invitation.parse(f"{TEXT[:80]}\r\n{TEXT[80:]}") == INVITATION


PLACE, _, FACTS = TEXT.partition("?")
CA, ID, TOKEN = FACTS.split("&")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vitalloom",
        "https://registry.example:8443/enrol?" + FACTS,
        "http://registry.example:8443/enrol?" + FACTS,
        "vitalloom://registry.example/enrol?" + FACTS,
        "vitalloom://registry.example:/enrol?" + FACTS,
        "vitalloom://registry.example:0/enrol?" + FACTS,
        "vitalloom://registry.example:99999/enrol?" + FACTS,
        "vitalloom://registry.example:port/enrol?" + FACTS,
        "vitalloom://:8443/enrol?" + FACTS,
        "vitalloom://[::1:8443/enrol?" + FACTS,
        "vitalloom://[/enrol?" + FACTS,
        "vitalloom://registry.example:8443?" + FACTS,
        "vitalloom://registry.example:8443/enro?" + FACTS,
        "vitalloom://registry.example:8443/enrol/?" + FACTS,
        f"{PLACE}?{ID}&{TOKEN}",
        f"{PLACE}?{CA}&{TOKEN}",
        f"{PLACE}?{CA}&{ID}",
        f"{PLACE}?{CA}&{ID}&{TOKEN}&{TOKEN}",
        f"{PLACE}?{CA}&{ID}&{TOKEN}&more=1",
        f"{PLACE}?{CA}&{ID}&{TOKEN}&",
        f"{PLACE}?{CA};{ID};{TOKEN}",
        f"{TEXT}#part",
        f"{TEXT}{TEXT}",
        f"{PLACE}?{CA}&id={'g' * 32}&{TOKEN}",
        f"{PLACE}?{CA}&id={'٣' * 32}&{TOKEN}",
        f"{PLACE}?{CA}&{ID}00&{TOKEN}",
        f"{PLACE}?{CA}&{ID}&token=%00%ff",
        f"{PLACE}?{CA}&{ID}&token={'ä' * 27}",
        f"{PLACE}?{CA}&{ID}&token={'!' * 27}",
        f"{PLACE}?ca=&{ID}&{TOKEN}",
        "\0",
        "\ud800",
    ],
)
def test_what_is_not_an_invitation_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(BadInvitation, match="not an invitation: it "):
        Invitation.parse(text)


def test_an_invitation_that_was_cut_anywhere_is_refused() -> None:
    for size in range(len(TEXT)):
        with pytest.raises(BadInvitation):
            Invitation.parse(TEXT[:size])


def test_an_invitation_that_lacks_a_character_after_its_place_is_refused() -> None:
    for at in range(len(PLACE) - len("/enrol"), len(TEXT)):
        with pytest.raises(BadInvitation):
            Invitation.parse(TEXT[:at] + TEXT[at + 1 :])


def test_a_refusal_does_not_repeat_the_token() -> None:
    with pytest.raises(BadInvitation) as caught:
        Invitation.parse(TEXT + "&more=1")

    assert TOKEN.removeprefix("token=") not in str(caught.value)


def test_tokens_are_160_bits_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(1_000)}

    assert len(tokens) == 1_000
    assert {len(one) for one in tokens} == {20}


def test_what_is_stored_of_a_token_is_not_the_token() -> None:
    token = named("token", TOKEN_BYTES)

    assert len(token_hash(token)) == 32
    assert token not in token_hash(token)
    assert token_hash(token) != token_hash(named("another", TOKEN_BYTES))


# Transcripts

Transcript = Callable[..., bytes]
ENROL: dict[str, Any] = {
    "device_id": named("device"), "token": named("token", 20), "csr": b"csr", "signing_key": named("signs", 32),
    "prekey": PREKEY, "server": b"server",
}  # fmt: skip
RENEW: dict[str, Any] = {
    "device_id": named("device"), "serial": named("serial", 8), "csr": b"csr", "signing_key": named("signs", 32),
    "prekey": PREKEY, "server": b"server",
}  # fmt: skip
ANNOUNCE: dict[str, Any] = {
    "device_id": named("device"), "serial": named("serial", 8), "prekey_id": named("id", 8), "prekey": PREKEY,
    "at_ms": 1_767_600_000_000,
}  # fmt: skip
TRANSCRIPTS = [(enrol_transcript, ENROL), (renew_transcript, RENEW), (prekey_transcript, ANNOUNCE)]


@pytest.mark.parametrize(
    ("transcript", "said", "key"),
    [(transcript, said, key) for transcript, said in TRANSCRIPTS for key in said],
    ids=lambda one: one if isinstance(one, str) else getattr(one, "__name__", ""),
)
def test_a_transcript_differs_with_every_argument(transcript: Transcript, said: dict[str, Any], key: str) -> None:
    value = said[key]
    others = [value + 1, value - 1, 0] if isinstance(value, int) else [value + b"\0", value[1:], b"", value[::-1]]

    told = {transcript(**said), *(transcript(**{**said, key: other}) for other in others)}

    assert len(told) == 1 + len(others)


@pytest.mark.parametrize(("transcript", "said"), TRANSCRIPTS, ids=lambda one: getattr(one, "__name__", ""))
def test_no_byte_can_wander_from_one_argument_to_the_next(transcript: Transcript, said: dict[str, Any]) -> None:
    keys = [key for key, value in said.items() if isinstance(value, bytes)]
    told = {transcript(**said)}

    for left, right in pairwise(keys):
        told.add(transcript(**{**said, left: said[left] + said[right][:1], right: said[right][1:]}))
        told.add(transcript(**{**said, left: said[left] + said[right], right: b""}))

    assert len(told) == 1 + 2 * (len(keys) - 1)


def test_what_is_signed_for_one_purpose_is_good_for_no_other() -> None:
    told = [transcript(**said) for transcript, said in TRANSCRIPTS]

    assert not any(a.startswith(b[:16]) for a in told for b in told if a is not b)


def test_a_transcript_does_not_show_the_token() -> None:
    assert ENROL["token"] not in enrol_transcript(**ENROL)


# Proofs


def test_a_proof_is_good_for_its_key_and_its_transcript() -> None:
    told = enrol_transcript(**ENROL)

    check_proof(SIGNS.public_key(), proof(SIGNS, told), told)


@pytest.mark.parametrize(
    ("signature", "transcript"),
    [
        (proof(SIGNS, b"said"), b"said otherwise"),
        (proof(Ed25519PrivateKey.from_private_bytes(named("another", 32)), b"said"), b"said"),
        ("", b"said"),
        ("00" * 64, b"said"),
        (proof(SIGNS, b"said")[:-2], b"said"),
        (proof(SIGNS, b"said") + "00", b"said"),
        ("not hexadecimal", b"said"),
        ("ä" * 128, b"said"),
        ("\ud800", b"said"),
    ],
)
def test_any_other_proof_is_refused(signature: str, transcript: bytes) -> None:
    with pytest.raises(BadProof, match="the proof is not of this key, device, token and server"):
        check_proof(SIGNS.public_key(), signature, transcript)


# Keys of a request


def a_request() -> EnrolRequest:
    return EnrolRequest(
        device_id=named("device").hex(),
        token=named("token", 20).hex(),
        csr=b64(b"csr"),
        signing_key=SIGNS.public_key().public_bytes_raw().hex(),
        prekey_id=named("id", 8).hex(),
        prekey=PREKEY.hex(),
        proof="",
    )


def test_the_keys_of_a_request_are_decoded() -> None:
    found = offered(a_request())

    assert (found.csr, found.prekey_id, found.prekey) == (b"csr", named("id", 8), PREKEY)
    assert found.signing_key == SIGNS.public_key()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("csr", "%"),
        ("csr", "YQ"),
        ("csr", "ä"),
        ("signing_key", ""),
        ("signing_key", "00" * 31),
        ("signing_key", "zz" * 32),
        ("prekey", "00" * 33),
        ("prekey", "00" * 32),  # of small order: with it no secret can be made
        ("prekey", "01" + "00" * 31),
        ("prekey_id", ""),
        ("prekey_id", "00" * 7),
        ("prekey_id", "00" * 9),
        ("prekey_id", "\ud800"),
    ],
)
def test_what_is_no_key_is_refused(key: str, value: str) -> None:
    with pytest.raises(BadProof):
        offered(replace(a_request(), **{key: value}))


# Names


@pytest.mark.parametrize("text", ["0123456789abcdef" * 2, "0" * 32, "f" * 32])
def test_a_device_id_is_32_hex_digits(text: str) -> None:
    assert is_device_id(text)


@pytest.mark.parametrize(
    "text", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "+" * 32, "0" * 31 + "#", "0" * 31 + "/", "0" * 31 + "\n",
             "0" * 31 + " ", "٣" * 32, "０" * 32, "0" * 31 + "%"],
)  # fmt: skip
def test_nothing_else_is_a_device_id(text: str) -> None:
    assert not is_device_id(text)


@pytest.mark.parametrize("text", ["YQ", "Y Q=", "YQ==\n", "_-==", "ä", "Y", "=" * 4])
def test_base64_is_read_strictly(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        un64(text)


@given(st.binary(max_size=100))
def test_base64_comes_back(data: bytes) -> None:
    assert un64(b64(data)) == data == base64.b64decode(b64(data))
