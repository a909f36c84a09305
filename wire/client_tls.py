"""TLS contexts of clients, also on a machine whose clock is years behind.

A machine without a battery for its clock starts in 1970, or where it was switched off, and not every ward lets it reach
a time server. If its clock is before the day on which its own certificate or its root was issued, it is certainly
wrong, and would refuse every server. Then servers are checked against that day instead: what had expired by then is
refused.
"""

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the module ssl does not name


class ClientContext(ssl.SSLContext):
    """A context that checks its servers.

    Attributes:
        floor: the clock of this machine is before this, so it is wrong; None: it may be right.
    """

    floor: datetime | None = None


def client_context(root: str, *, own: Path | None = None, now: datetime | None = None) -> ClientContext:
    """A context for TLS 1.3 that trusts one root.

    Args:
        root: certificate, PEM.
        own: file with certificate, chain and key to show; None: shows none.
        now: by the clock of this machine; None: now.

    Raises:
        OSError: a certificate cannot be used.
    """
    try:
        return _made(root, own, now or datetime.fromtimestamp(time.time(), UTC))
    except ValueError as error:
        raise ssl.SSLError(f"not a certificate ({error})") from error


def _made(root: str, own: Path | None, now: datetime) -> ClientContext:
    default = ssl.create_default_context(cadata=root)
    made = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    made.verify_flags = default.verify_flags
    made.load_verify_locations(cadata=root)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    known = [x509.load_pem_x509_certificate(root.encode())]
    if own is not None:
        made.load_cert_chain(own)
        known.append(x509.load_pem_x509_certificate(own.read_bytes()))
    floor = max(one.not_valid_before_utc for one in known)
    if now < floor:
        made.floor = floor
        made.verify_flags |= _NO_CHECK_TIME
    return made


def check_server(sock: ssl.SSLSocket | ssl.SSLObject) -> None:
    """Check the server's certificate against the floor of the context, if the clock is wrong. Call after the handshake.

    Raises:
        ssl.SSLCertVerificationError: it had expired by then.
    """
    context = sock.context
    if not isinstance(context, ClientContext) or context.floor is None:
        return
    shown = sock.getpeercert(binary_form=True)
    if shown is None or x509.load_der_x509_certificate(shown).not_valid_after_utc <= context.floor:
        raise ssl.SSLCertVerificationError("certificate has expired, by the newest time that this machine knows")
