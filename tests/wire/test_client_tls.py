"""Clients whose clock is right check everything; those whose clock is certainly wrong check against what they know."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.hardening import write_private
from wire.client_tls import check_server, client_context
from wire.enrol.authority import Authority, key_pem, new_tls_key, pem

NOW = datetime.now(UTC)
IN_1970 = datetime(1970, 1, 2, tzinfo=UTC)
DAY = timedelta(days=1)


class Keys:
    """An authority that began 200 days ago, a server of it, and a device that was enrolled later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, _ = Authority.begin("test", at=NOW - 200 * DAY)
        self.own = folder / "own.pem"
        key = new_tls_key()
        made = self.authority.device(key.public_key(), common_name="ab", tenant=bytes(16), at=NOW - 5 * DAY, days=30)
        write_private(self.own, pem(made) + pem(self.authority.issuing) + key_pem(key))

    def server(self, *, at: datetime, days: float) -> ssl.SSLContext:
        key, path = new_tls_key(), self.folder / "server.pem"
        made = self.authority.server(key.public_key(), hosts=["broker"], at=at, days=days)
        write_private(path, pem(made) + pem(self.authority.issuing) + key_pem(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def connect(self, server: ssl.SSLContext, *, now: datetime, own: Path | None = None) -> None:
        """A handshake in memory, by a client whose clock says `now`. Raises ssl.SSLError."""
        client = client_context(pem(self.authority.root).decode(), own=own, now=now)
        one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [
            client.wrap_bio(one, other, server_hostname="broker"),
            server.wrap_bio(other, one, server_side=True),
        ]
        waiting = list(ends)
        while waiting:
            for end in list(waiting):
                try:
                    end.do_handshake()
                    waiting.remove(end)
                except ssl.SSLWantReadError:
                    pass
        check_server(ends[0])


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def test_a_right_clock_refuses_an_expired_server(keys: Keys) -> None:
    keys.connect(keys.server(at=NOW - DAY, days=90), now=NOW, own=keys.own)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        keys.connect(keys.server(at=NOW - 91 * DAY, days=90), now=NOW, own=keys.own)


@pytest.mark.parametrize("days", [90, 10])
def test_a_clock_of_before_the_own_certificate_accepts_a_server_that_was_valid_since(keys: Keys, days: int) -> None:
    keys.connect(keys.server(at=NOW - DAY, days=days), now=IN_1970, own=keys.own)


def test_and_refuses_one_that_had_expired_when_the_own_certificate_was_issued(keys: Keys) -> None:
    expired = keys.server(at=NOW - 96 * DAY, days=90)

    with pytest.raises(ssl.SSLCertVerificationError, match="by the newest time that this machine knows"):
        keys.connect(expired, now=IN_1970, own=keys.own)


def test_a_device_that_has_only_the_root_goes_by_that(keys: Keys) -> None:
    keys.connect(keys.server(at=NOW - DAY, days=90), now=IN_1970)
    with pytest.raises(ssl.SSLCertVerificationError):
        keys.connect(keys.server(at=NOW - 300 * DAY, days=90), now=IN_1970)


def test_a_wrong_clock_trusts_no_other_authority_and_no_other_name(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    stranger = Keys(tmp_path / "other").server(at=NOW, days=90)

    with pytest.raises(ssl.SSLCertVerificationError):
        keys.connect(stranger, now=IN_1970, own=keys.own)


def test_what_is_no_certificate_is_an_error_of_tls(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError):
        client_context("nothing")
