"""Contexts that follow their files: the next connection has the new certificate, on both sides, in asyncio as well."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from runtime.clock import SystemClock
from runtime.end_dates import DAY_MS
from runtime.hardening import write_private
from stream.config import KafkaConfig, KafkaTls
from stream.kafka import connection
from stream.tls import CertifiedContext, FollowingContext, end_of_file, kafka_end_dates
from wire.enrol.authority import Authority, key_pem, moment, new_tls_key, pem


class Files:
    """An authority, and the files of a server and of a Kafka client, which are replaced now and then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, _ = Authority.begin("test", at=moment(SystemClock().now_ms()))
        self.tls = KafkaTls(root=folder / "root.crt", certificate=folder / "client.crt", key=folder / "client.key")
        self.tls.root.write_bytes(pem(self.authority.root))
        self.server = folder / "server.pem"
        self.replace_server()
        self.replace_client("one")

    def replace_server(self) -> bytes:
        key = new_tls_key()
        made = self.authority.server(key.public_key(), hosts=["localhost"], at=moment(SystemClock().now_ms()), days=30)
        write_private(self.server, pem(made) + pem(self.authority.issuing) + key_pem(key))
        return made.public_bytes(Encoding.DER)

    def replace_client(self, name: str) -> None:
        key = new_tls_key()
        made = self.authority.device(
            key.public_key(), common_name=name, tenant=bytes(16), at=moment(SystemClock().now_ms()), days=30
        )
        write_private(self.tls.key, key_pem(key))
        write_private(self.tls.certificate, pem(made) + pem(self.authority.issuing))

    def following_server(self) -> FollowingContext:
        def make() -> CertifiedContext:
            made = CertifiedContext(ssl.PROTOCOL_TLS_SERVER)
            made.show(self.server)
            made.load_verify_locations(self.tls.root)
            made.verify_mode = ssl.CERT_REQUIRED
            return made

        return FollowingContext((self.server,), make)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_connections_that_asyncio_makes_have_the_certificates_of_that_moment(files: Files) -> None:
    clients: list[str] = []
    servers: list[bytes | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = dict(one[0] for one in writer.get_extra_info("peercert")["subject"])
        clients.append(subject["commonName"])
        writer.write(b"x")
        await writer.drain()
        writer.close()

    async def story() -> None:
        context = connection(KafkaConfig(tls=files.tls))["ssl_context"]
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=files.following_server())
        port = server.sockets[0].getsockname()[1]

        async def visit() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            assert await reader.read(1) == b"x"
            servers.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
            writer.close()

        async with server:
            await visit()
            renewed = files.replace_server()
            files.replace_client("two")
            await visit()
            await visit()
        assert servers[1] == servers[2] == renewed

    asyncio.run(story())

    assert clients == ["one", "two", "two"]
    assert servers[0] != servers[1]


def test_a_file_is_read_once_for_each_change(files: Files) -> None:
    following = files.following_server()
    first = following.current()

    assert following.current() is first
    files.replace_server()
    second = following.current()
    assert second is not first
    assert following.current() is second


@pytest.mark.parametrize("damage", [b"", b"no certificate", None])
def test_a_file_that_cannot_be_used_is_named_and_the_certificate_before_stays(
    damage: bytes | None, files: Files
) -> None:
    following = files.following_server()
    first, ends_ms = following.current(), following.ends_ms

    if damage is None:
        files.server.unlink()
    else:
        write_private(files.server, damage)

    assert following.current() is first
    assert f"{files.server}: changed and cannot be used" in following.problem
    assert following.ends_ms == ends_ms
    files.replace_server()
    assert following.current() is not first
    assert following.problem == ""


def test_the_first_certificate_has_to_be_usable(files: Files) -> None:
    files.server.unlink()

    with pytest.raises(OSError, match="No such file"):
        files.following_server()


def test_the_certificates_of_a_kafka_client_end(files: Files) -> None:
    ends = list(kafka_end_dates(KafkaConfig(tls=files.tls), "worker"))

    assert [one.what for one in ends] == ["Kafka certificate of worker", "Kafka authority of worker"]
    assert abs(ends[0].ends_ms - round(moment(SystemClock().now_ms()).timestamp() * 1_000) - 30 * DAY_MS) < 60_000
    assert list(kafka_end_dates(KafkaConfig(), "worker")) == []
    assert end_of_file(files.folder / "nowhere", "x", renewed_by="y", fix="z") == []
