"""TLS contexts that follow their files, and the end dates of such files.

Each connection is made with the certificates that are on disk then. A certificate is renewed while the process runs. A
file that cannot be used leaves the one before in use, and is named.
"""

import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from runtime.end_dates import EndDate
from runtime.logs import get
from stream.config import KafkaConfig

_log = get(__name__)


class CertifiedContext(ssl.SSLContext):
    """A context that knows the certificates that it shows, its own first."""

    chain: Sequence[x509.Certificate] = ()

    def show(self, certificate: Path, key: Path | None = None) -> None:
        """Show this chain to the other side; the key may be in the same file.

        Raises:
            OSError: a file cannot be read, or the key is not that of the certificate.
            ValueError: not a certificate.
        """
        self.load_cert_chain(certificate, key)
        self.chain = x509.load_pem_x509_certificates(certificate.read_bytes())

    @property
    def own(self) -> bytes:
        """Its own certificate, DER."""
        return self.chain[0].public_bytes(Encoding.DER)


class FollowingContext(ssl.SSLContext):
    """Stands for the newest of the contexts that `make` made from the files. For asyncio and for sockets.

    Args:
        files: when one of these changes, the next connection has a new context.
        make: makes a context. What it raises the first time is the caller's.

    Attributes:
        problem: why the files cannot be used although they have changed; empty if they are in use.
    """

    problem: str

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)  # no connection is made with this one

    def __init__(self, files: Sequence[Path], make: Callable[[], CertifiedContext]) -> None:
        self.problem = ""
        self._files = tuple(files)
        self._make = make
        self._stamps = self._look()
        self._refused: object = None
        self._made = make()

    def current(self) -> CertifiedContext:
        """The context of a connection that is made now."""
        stamps = self._look()
        if stamps == self._stamps:
            return self._made
        try:
            self._made = self._make()
        except (OSError, ValueError) as error:  # TLS errors are among them
            # Two files are never replaced at once: the next connection tries again.
            self.problem = f"{' and '.join(map(str, self._files))}: changed and cannot be used ({error})"
            if stamps != self._refused:
                self._refused = stamps
                _log.error("the previous certificate stays in use", problem=self.problem)
            return self._made
        self._stamps, self.problem = stamps, ""
        _log.info("certificate reloaded", file=str(self._files[0]), until=f"{self.ends:%Y-%m-%d}")
        return self._made

    @property
    def ends(self) -> datetime:
        """When the certificate that is shown ends."""
        return min(one.not_valid_after_utc for one in self._made.chain)

    @property
    def ends_ms(self) -> int:
        return int(self.ends.timestamp() * 1_000)

    def wrap_bio(self, *arguments: Any, **more: Any) -> ssl.SSLObject:
        return self.current().wrap_bio(*arguments, **more)

    def wrap_socket(self, *arguments: Any, **more: Any) -> ssl.SSLSocket:
        return self.current().wrap_socket(*arguments, **more)

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_stamp, self._files))


def kafka_end_dates(kafka: KafkaConfig, process: str) -> Iterator[EndDate]:
    """The certificates that a process needs for Kafka."""
    if kafka.tls is None:
        return
    for what, path in (("certificate", kafka.tls.certificate), ("authority", kafka.tls.root)):
        yield from end_of_file(
            path, f"Kafka {what} of {process}", renewed_by="a person", fix=f"replace {path}; no restart is needed"
        )


def end_of_file(path: Path, what: str, *, renewed_by: str, fix: str) -> list[EndDate]:
    """The end of a chain of certificates that others renew; empty if the file cannot be read."""
    ends = [end_ms(one) for one in certificates_in(path)]
    return [EndDate(what=what, ends_ms=min(ends), renewed_by=renewed_by, fix=fix)] if ends else []


def certificates_in(path: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file; empty if there are none, or it cannot be read."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []


def end_ms(one: x509.Certificate) -> int:
    return round(one.not_valid_after_utc.timestamp() * 1_000)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
