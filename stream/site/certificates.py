"""Certificates that the site has issued: to which device or service, until when, and which are revoked.

Their times are those of the machine's own clock, because TLS libraries check certificates against that one.
"""

from datetime import datetime
from typing import Final, NamedTuple

from cryptography import x509

from runtime.clock import Clock
from stream.errors import EnrolmentRefused
from stream.site.registry_file import RegistryFile
from wire.enrol.authority import moment

DAY_MS: Final = 86_400_000

_LIST_NUMBER: Final = "crl_number"


class IssuedCertificate(NamedTuple):
    """A row of `IssuedCertificates.all`; times in ms since 1970."""

    serial: str
    name: str
    device_id: str | None
    not_before_ms: int
    not_after_ms: int
    revoke_ms: int | None


class IssuedCertificates:
    """The certificates in a registry file.

    Args:
        wall: the clock that certificates are checked against.
    """

    def __init__(self, file: RegistryFile, wall: Clock) -> None:
        self._file = file
        self._wall = wall

    def record(self, certificate: x509.Certificate, *, name: str, device_id: str | None = None) -> None:
        """Remember a certificate that was issued, so that it can be shown and revoked."""
        self._file.execute(
            "INSERT INTO certificate (serial, name, device_id, not_before_ms, not_after_ms) VALUES (?, ?, ?, ?, ?)",
            (
                f"{certificate.serial_number:x}",
                name,
                device_id,
                _ms(certificate.not_valid_before_utc),
                _ms(certificate.not_valid_after_utc),
            ),
        )

    def record_issued(self, certificate: x509.Certificate, *, name: str, who: str) -> None:
        """As `record`, with a line in the audit log: for certificates of the site itself."""
        with self._file.change("certificate issued", who=who, subject=name):
            self.record(certificate, name=name)

    def revoke(self, name: str, *, who: str) -> int:
        """Revoke the certificates of a service; returns how many."""
        with self._file.change("certificates revoked", who=who, subject=name):
            done = self._file.execute(
                "UPDATE certificate SET revoke_ms = ? WHERE name = ? AND revoke_ms IS NULL",
                (self._wall.now_ms(), name),
            )
        return done.rowcount

    def revoke_of_device(self, device_id: str) -> None:
        """Revoke all certificates of a device now. Call within a transaction."""
        self._file.execute(
            "UPDATE certificate SET revoke_ms = min(coalesce(revoke_ms, ?1), ?1) WHERE device_id = ?2",
            (self._wall.now_ms(), device_id),
        )

    def end_of_device(self, device_id: str, *, after_ms: int) -> None:
        """Revoke the present certificates of a device some time from now. Call within a transaction."""
        self._file.execute(
            "UPDATE certificate SET revoke_ms = ? WHERE device_id = ? AND revoke_ms IS NULL",
            (self._wall.now_ms() + after_ms, device_id),
        )

    def all(self) -> list[IssuedCertificate]:
        """By name and beginning."""
        rows = self._file.execute(
            "SELECT serial, name, device_id, not_before_ms, not_after_ms, revoke_ms FROM certificate "
            "ORDER BY name, not_before_ms"
        )
        return [IssuedCertificate(*row) for row in rows]

    def revoked(self) -> list[tuple[int, datetime]]:
        """For the revocation list: serial number and time of revocation, without certificates that have expired."""
        now_ms = self._wall.now_ms()
        rows = self._file.execute(
            "SELECT serial, revoke_ms FROM certificate WHERE revoke_ms <= ? AND not_after_ms > ? ORDER BY serial",
            (now_ms, now_ms - DAY_MS),
        )
        return [(int(serial, 16), moment(since_ms)) for serial, since_ms in rows]

    def next_list_number(self, at_least: int) -> int:
        """The number of the next revocation list, above every earlier one."""
        number = max(int(self._file.meta(_LIST_NUMBER) or 0) + 1, at_least)
        self._file.set_meta(_LIST_NUMBER, str(number))
        return number

    def check_client(self, device_id: bytes, certificate: bytes | None) -> None:
        """Check that a client certificate, DER, is this device's and not revoked; TLS has checked its chain.

        Raises:
            EnrolmentRefused: it is not, or there is none.
        """
        serial = "" if certificate is None else f"{x509.load_der_x509_certificate(certificate).serial_number:x}"
        row = self._file.execute(
            "SELECT revoke_ms FROM certificate WHERE serial = ? AND device_id = ?", (serial, device_id.hex())
        ).fetchone()
        if row is None or (row[0] is not None and row[0] <= self._wall.now_ms()):
            raise EnrolmentRefused(403, "the client certificate is not this device's, or it is revoked")


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1_000)
