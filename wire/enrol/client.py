"""A device's visits to the registry: enrolment, renewal, new prekeys. HTTP over TLS, nothing sent before it is checked.

The first request fetches the root certificate and trusts nothing: its public key has to be the one whose hash is on the
invitation. Only then is a connection made that TLS checks against that root, and only over that one does a token go.
"""

import hashlib
import http.client
import os
import ssl
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from runtime.hardening import make_private_dir
from wire.client_tls import check_server, client_context
from wire.enrol.authority import pem, pin_of
from wire.enrol.identity_file import IDENTITY_FILE, NewKeys
from wire.enrol.requests import (
    EnrolReply,
    EnrolRequest,
    Invitation,
    PrekeyReply,
    PrekeyRequest,
    RenewRequest,
    b64,
    enrol_transcript,
    prekey_transcript,
    proof,
    renew_transcript,
)
from wire.enrol.wallet import Wallet
from wire.errors import BadInvitation, EnrolmentFailed, NotEnrolled

WITHIN_S: Final = 10.0
MAX_REPLY_BYTES: Final = 1 << 20

_T = TypeVar("_T")


def main(line: str, folder: Path, *, again: bool) -> int:
    """The command `vitalloom enrol`.

    Raises:
        BadInvitation, EnrolmentFailed, NotEnrolled: the message names the problem and the fix.
    """
    if line == "-":
        if sys.stdin.isatty():
            sys.stderr.write("paste the invitation, then Enter: ")
            sys.stderr.flush()
        line = sys.stdin.readline()
    elif not line.startswith("vitalloom:"):
        try:
            line = Path(line).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BadInvitation(f"{line[:80]!r} is neither an invitation nor a file that holds one") from error
    wallet = enrol(Invitation.parse(line), folder, again=again)
    at = wallet.certificate.not_valid_after_utc
    sys.stdout.write(
        f"{wallet.me.role} {wallet.me.device_id.hex()} is enrolled in {folder}, valid until {at:%Y-%m-%d}; "
        "the certificate is renewed automatically while the device runs\n"
    )
    return 0


def enrol(invitation: Invitation, folder: Path, *, again: bool = False) -> Wallet:
    """Enrol the device that the invitation is for, and keep its identity in `folder`.

    Args:
        again: replace the identity that is there; otherwise that is an error.

    Raises:
        EnrolmentFailed: not reached, not the announced registry, or refused.
        NotEnrolled: there is an identity in the folder already.
    """
    if (folder / IDENTITY_FILE).exists() and not again:
        raise NotEnrolled(f"{folder}: a device is enrolled here already; to replace it add --again")
    make_private_dir(folder)  # its problems must show before the token is spent
    root = _announced_root(invitation)
    keys = NewKeys.make(os.urandom(8))
    with Connection(invitation.url, root) as connection:
        reply = connection.post("/v1/enrol", enrol_request(invitation, keys, connection.server), EnrolReply)
    if reply.device_id != invitation.device_id.hex():
        raise EnrolmentFailed("the registry answered for another device")
    # What the answer calls its root is not asked: the pinned one is kept.
    reply = msgspec.structs.replace(reply, root=pem(root).decode())
    return Wallet.begin(folder, reply, keys, registry=invitation.url, pin=invitation.pin)


def ask_renewal(wallet: Wallet) -> tuple[EnrolReply, NewKeys]:
    """New keys and certificates, over TLS with the present ones; `Wallet.renewed` puts them to use.

    Reads the wallet and changes nothing, so it may run in a thread.

    Raises:
        EnrolmentFailed: not reached, or refused.
    """
    keys = next_keys(wallet)
    with Connection(wallet.registry, _root_of(wallet), client=wallet.tls.client) as connection:
        return connection.post("/v1/renew", renew_request(wallet, keys, connection.server), EnrolReply), keys


def next_keys(wallet: Wallet) -> NewKeys:
    """Keys for a renewal: new ones, and the prekey on disk if it has not been announced yet.

    Others seal to it from the moment that the registry answers, even if the answer is lost.
    """
    keys = NewKeys.make(os.urandom(8))
    if wallet.unannounced is None:
        return keys
    prekey_id, prekey = wallet.unannounced
    return keys._replace(prekey_id=prekey_id, prekey=prekey)


def announce_prekey(wallet: Wallet, *, now_ms: int) -> PrekeyReply:
    """Tell the registry of the newest prekey; `Wallet.accept_all` takes the documents of its answer.

    Reads the wallet and changes nothing, so it may run in a thread.

    Raises:
        EnrolmentFailed: not reached, or refused.
    """
    request = prekey_request(wallet, now_ms=now_ms)
    with Connection(wallet.registry, _root_of(wallet), client=wallet.tls.client) as connection:
        return connection.post("/v1/prekey", request, PrekeyReply)


def enrol_request(invitation: Invitation, keys: NewKeys, server: bytes) -> EnrolRequest:
    """The request of `enrol`.

    Args:
        server: the certificate that the registry has shown, DER.
    """
    csr, signing_key, prekey = keys.request(invitation.device_id), *keys.public
    transcript = enrol_transcript(invitation.device_id, invitation.token, csr, signing_key, prekey, server)
    return EnrolRequest(
        device_id=invitation.device_id.hex(),
        token=invitation.token.hex(),
        csr=b64(csr),
        signing_key=signing_key.hex(),
        prekey_id=keys.prekey_id.hex(),
        prekey=prekey.hex(),
        proof=proof(keys.signing, transcript),
    )


def renew_request(wallet: Wallet, keys: NewKeys, server: bytes) -> RenewRequest:
    """The request of `ask_renewal`: signed by the new key and by the present one."""
    me = wallet.me
    csr, signing_key, prekey = keys.request(me.device_id), *keys.public
    transcript = renew_transcript(me.device_id, me.credential_serial, csr, signing_key, prekey, server)
    return RenewRequest(
        device_id=me.device_id.hex(),
        serial=me.credential_serial.hex(),
        csr=b64(csr),
        signing_key=signing_key.hex(),
        prekey_id=keys.prekey_id.hex(),
        prekey=prekey.hex(),
        proof=proof(keys.signing, transcript),
        present=proof(me.signing_key, transcript),
    )


def prekey_request(wallet: Wallet, *, now_ms: int) -> PrekeyRequest:
    """The request of `announce_prekey`."""
    me = wallet.me
    prekey_id, prekey = next(reversed(me.prekeys.items()))
    public = prekey.public_key().public_bytes_raw()
    transcript = prekey_transcript(me.device_id, me.credential_serial, prekey_id, public, now_ms)
    return PrekeyRequest(
        device_id=me.device_id.hex(),
        serial=me.credential_serial.hex(),
        prekey_id=prekey_id.hex(),
        prekey=public.hex(),
        at_ms=now_ms,
        present=proof(me.signing_key, transcript),
    )


class Connection:
    """One TLS 1.3 connection to the registry, checked against one root.

    Raises:
        EnrolmentFailed: our own certificate cannot be used; on entering: not reached, or TLS does not vouch for it.
    """

    def __init__(self, url: str, root: x509.Certificate, *, client: Path | None = None) -> None:
        parts = urlsplit(url)
        try:
            context = client_context(pem(root).decode(), own=client)
        except OSError as error:
            raise EnrolmentFailed(f"{client}: cannot be used ({error}); start this process again") from error
        self._url = url
        self._http = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=WITHIN_S, context=context
        )
        self.server = b""  # its certificate, DER

    def __enter__(self) -> Self:
        try:
            self._http.connect()
            if isinstance(self._http.sock, ssl.SSLSocket):
                check_server(self._http.sock)
        except ssl.SSLCertVerificationError as error:
            raise EnrolmentFailed(
                f"{self._url}: its certificate is not issued by the announced authority "
                f"({getattr(error, 'verify_message', error)}); nothing was sent"
            ) from error
        except OSError as error:
            self._http.close()
            raise EnrolmentFailed(f"{self._url}: not reached ({error}); is the registry up?") from error
        sock = self._http.sock
        assert isinstance(sock, ssl.SSLSocket)  # noqa: S101 - made by HTTPSConnection
        self.server = sock.getpeercert(binary_form=True) or b""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def post(self, path: str, request: msgspec.Struct, kind: type[_T]) -> _T:
        """Send a request and read its answer.

        Raises:
            EnrolmentFailed: the registry refused, or its answer cannot be read.
        """
        try:
            self._http.request(
                "POST", path, body=msgspec.json.encode(request), headers={"Content-Type": "application/json"}
            )
            with self._http.getresponse() as response:
                body = response.read(MAX_REPLY_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise EnrolmentFailed(f"{self._url}: broke off ({type(error).__name__}); try again") from error
        if response.status != 200:
            raise EnrolmentFailed(f"{self._url}: {_problem(body, response.status)}")
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EnrolmentFailed(f"{self._url}: its answer cannot be read ({error})") from error


def _announced_root(invitation: Invitation) -> x509.Certificate:
    """The registry's root, whose key must be the one on the invitation; the connection itself is not trusted."""
    parts = urlsplit(invitation.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    fetch = http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=WITHIN_S, context=context)
    try:
        fetch.request("GET", "/v1/root")
        with fetch.getresponse() as response:
            body = response.read(MAX_REPLY_BYTES)
        root = x509.load_pem_x509_certificate(body)
        announced = pin_of(root)
        # The pin is of the key alone. What else the certificate says, its key has to have signed: it will be kept.
        root.verify_directly_issued_by(root)
    except (OSError, http.client.HTTPException) as error:
        raise EnrolmentFailed(f"{invitation.url}: not reached ({error}); is the registry up?") from error
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise EnrolmentFailed(f"{invitation.url}: is not a registry; nothing was sent") from error
    finally:
        fetch.close()
    if announced != invitation.pin:
        raise EnrolmentFailed(
            f"{invitation.url}: is not the registry of this invitation (its authority is "
            f"{hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest()[:16]}…); nothing was sent. "
            "The connection may be intercepted: ask for a new invitation by another channel"
        )
    return root


def _root_of(wallet: Wallet) -> x509.Certificate:
    return x509.load_pem_x509_certificate(wallet.root_pem.encode())


class _Problem(msgspec.Struct):
    problem: str


def _problem(body: bytes, status: int) -> str:
    try:
        said = msgspec.json.decode(body, type=_Problem).problem[:300]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"answered {status}"
    return "".join(one if one.isprintable() else " " for one in said)
