"""Alarms never stand behind a backlog, one lane goes on without the other, and TLS costs no message and no second."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import monotonic

import pytest
from cryptography import x509

import wire.mqtt
from simulators.broker import LOOPBACK, BrokerTls, EmbeddedBroker, free_port
from tests.patience import PATIENCE_S
from tests.services.mosquitto import Mosquitto
from tests.services.secured import a_secured_site
from tests.wire.sites import named
from tests.wire.test_mqtt import Pulse, a_line, client, payloads, publish, serving, silent, until, up
from wire.enrol.authority import Authority, key_pem, new_tls_key, pem
from wire.envelope import FrameClass
from wire.identity import TlsFiles
from wire.lanes import Lanes, tls_context
from wire.mqtt import Inbound, MqttClient
from wire.topics import e_down, e_down_alarm, e_up

pytestmark = pytest.mark.services

EDGE = named("edge")
DOWN, DOWN_ALARM = e_down(EDGE), e_down_alarm(EDGE)
UP = {one: e_up(EDGE, one) for one in (FrameClass.VITALS, FrameClass.ALARM, FrameClass.HEARTBEAT)}
VITALS, ALARM, HEARTBEAT = UP


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path) as found:
        yield found


def lanes(
    port: int, *, alarm_port: int | None = None, receive_maximum: int = 50
) -> tuple[Lanes, MqttClient, MqttClient]:
    """Both lanes of an edge; and each of them."""
    vitals = client(port, "edge", DOWN, receive_maximum=receive_maximum)
    alarms = client(alarm_port or port, "edge-a", DOWN_ALARM, receive_maximum=receive_maximum)
    return Lanes(vitals, alarms), vitals, alarms


async def taken(edge: Lanes, count: int, *, acknowledge: bool = True) -> list[Inbound]:
    found: list[Inbound] = []
    while len(found) < count:
        more = await edge.receive(count - len(found), within_s=PATIENCE_S)
        assert more, f"{len(found)} of {count} messages came"
        found += more
        for message in more if acknowledge else ():
            edge.acknowledge(message)
    return found


# Two lanes


def test_alarms_are_taken_before_the_backlog_that_came_earlier(broker: EmbeddedBroker) -> None:
    async def story() -> None:
        edge, vitals, alarms = lanes(broker.port)
        async with edge, client(broker.port, "cloud") as cloud:
            await up(vitals, alarms, cloud)
            publish(cloud, DOWN, *range(100))
            await until(lambda: vitals.waiting == 100)
            publish(cloud, DOWN_ALARM, 1_000, 1_001)
            await until(lambda: alarms.waiting == 2)

            assert payloads(await edge.receive(5)) == [1_000, 1_001, 0, 1, 2]
            assert payloads(await edge.receive(2)) == [3, 4]

    asyncio.run(story())


def test_a_limit_is_kept_across_both_lanes(broker: EmbeddedBroker) -> None:
    async def story() -> None:
        edge, vitals, alarms = lanes(broker.port)
        async with edge, client(broker.port, "cloud") as cloud:
            await up(vitals, alarms, cloud)
            publish(cloud, DOWN, 1, 2)
            publish(cloud, DOWN_ALARM, 10, 11, 12)
            await until(lambda: vitals.waiting + alarms.waiting == 5)

            assert payloads(await edge.receive(2)) == [10, 11]
            assert payloads(await edge.receive(64)) == [12, 1, 2]
            assert await edge.receive(64, within_s=0) == []

    asyncio.run(story())


@pytest.mark.parametrize("topic", [DOWN, DOWN_ALARM])
def test_whoever_waits_is_woken_by_either_lane(broker: EmbeddedBroker, topic: str) -> None:
    async def story() -> None:
        edge, vitals, alarms = lanes(broker.port)
        async with edge, client(broker.port, "cloud") as cloud:
            await up(vitals, alarms, cloud)
            for number in range(20):  # as often: a wake-up that is lost would be lost now and then
                waiting = asyncio.create_task(edge.receive(within_s=PATIENCE_S))
                await asyncio.sleep(0)
                publish(cloud, topic, number)
                assert payloads(await waiting) == [number]

    asyncio.run(story())


def test_each_message_leaves_on_the_lane_of_its_topic(broker: EmbeddedBroker) -> None:
    async def story() -> None:
        edge, vitals, alarms = lanes(broker.port)
        async with edge, client(broker.port, "cloud", *UP.values()) as cloud:
            await up(vitals, alarms, cloud)
            for frame_class, topic in UP.items():
                assert edge.publish(topic, b"%d" % frame_class)
            await until(lambda: cloud.waiting == 3)

            assert (vitals.published, alarms.published) == (2, 1)
            assert sorted(payloads(await cloud.receive())) == [1, 2, 3]
            await until(lambda: vitals.room == alarms.room == 1_000)

    asyncio.run(story())


def test_a_lane_that_is_full_leaves_the_other_room(broker: EmbeddedBroker) -> None:
    async def story() -> None:
        vitals = client(broker.port, "edge", DOWN, outbound_limit=2)
        alarms = client(broker.port, "edge-a", DOWN_ALARM)
        async with Lanes(vitals, alarms) as edge:
            await up(vitals, alarms)

            assert [edge.publish(UP[VITALS], b"") for _ in range(3)] == [True, True, False]
            assert (edge.room(VITALS), edge.room(HEARTBEAT), edge.room(ALARM)) == (0, 0, 1_000)
            assert edge.publish(UP[ALARM], b"")

    asyncio.run(story())


def test_an_acknowledgement_goes_where_its_message_came_from(mosquitto: Mosquitto) -> None:
    # Both lanes number their messages from 1. Two may be under way in each.
    async def story() -> None:
        edge, vitals, alarms = lanes(mosquitto.port, receive_maximum=2)
        async with edge, client(mosquitto.port, "cloud") as cloud:
            await up(vitals, alarms, cloud)
            publish(cloud, DOWN, 1, 2, 3)
            publish(cloud, DOWN_ALARM, 10, 11, 12)
            await until(lambda: (vitals.waiting, alarms.waiting) == (2, 2))
            first = await edge.receive()
            assert payloads(first) == [10, 11, 1, 2]
            assert [(one.connection, one.mid) for one in first[:2]] == [(one.connection, one.mid) for one in first[2:]]

            edge.acknowledge(first[0])

            assert payloads(await edge.receive(within_s=PATIENCE_S)) == [12]
            assert vitals.waiting == 0
            edge.acknowledge(first[2])
            assert payloads(await edge.receive(within_s=PATIENCE_S)) == [3]

    asyncio.run(story())


@pytest.mark.parametrize("down", [ALARM, VITALS], ids=["alarms", "vitals"])
def test_one_lane_goes_on_without_the_other(broker: EmbeddedBroker, down: FrameClass) -> None:
    nobody = free_port()
    works = VITALS if down is ALARM else ALARM

    async def story() -> None:
        edge, vitals, alarms = (
            lanes(broker.port, alarm_port=nobody) if down is ALARM else lanes(nobody, alarm_port=broker.port)
        )
        async with edge, client(broker.port, "cloud", UP[works]) as cloud:
            await up(vitals if works is VITALS else alarms, cloud)
            await until(lambda: edge.trouble != "")

            assert (edge.is_up(works), edge.is_up(down), edge.connected) == (True, False, False)
            assert (edge.room(works), edge.room(down)) == (1_000, 0)
            assert edge.publish(UP[works], b"1")
            assert not edge.publish(UP[down], b"2")
            assert payloads(await cloud.receive(within_s=PATIENCE_S)) == [1]
            publish(cloud, DOWN if works is VITALS else DOWN_ALARM, 3)
            assert payloads(await taken(edge, 1)) == [3]
            assert "refused" in edge.trouble

    asyncio.run(story())


def test_a_lane_that_was_cut_comes_back_by_itself(broker: EmbeddedBroker) -> None:
    async def story() -> None:
        async with a_line(broker.port) as line:
            edge, vitals, alarms = lanes(broker.port, alarm_port=line.port)
            async with edge, client(broker.port, "cloud") as cloud:
                await up(vitals, alarms, cloud)
                assert edge.connected

                line.cut()
                await until(lambda: not edge.is_up(ALARM))
                assert edge.is_up(VITALS)
                await until(lambda: edge.connected)

                publish(cloud, DOWN_ALARM, 1)
                assert payloads(await taken(edge, 1)) == [1]
                assert (vitals.connects, alarms.connects) == (1, 2)

    asyncio.run(story())


def test_topics_that_are_added_come_on_the_lane_of_vitals(broker: EmbeddedBroker) -> None:
    async def story() -> None:
        edge, vitals, alarms = lanes(broker.port)
        async with edge, client(broker.port, "cloud") as cloud:
            await up(vitals, alarms, cloud)
            edge.subscribe(["vl/new", DOWN])
            publish(vitals, "nobody/listens", 0)  # answered after the subscription
            await until(lambda: vitals.room == 1_000)
            publish(cloud, "vl/new", 1)

            assert payloads(await taken(edge, 1)) == [1]
            assert (vitals.received, alarms.received) == (1, 0)

    asyncio.run(story())


def test_one_connection_can_carry_both(broker: EmbeddedBroker) -> None:
    async def story() -> None:
        one = client(broker.port, "edge", DOWN, DOWN_ALARM)
        async with Lanes(one) as edge, client(broker.port, "cloud", *UP.values()) as cloud:
            await up(one, cloud)
            publish(cloud, DOWN, 1)
            publish(cloud, DOWN_ALARM, 2)

            assert payloads(await taken(edge, 2)) == [1, 2]
            assert all(edge.publish(topic, b"3") for topic in UP.values())
            assert edge.is_up(ALARM)
            assert edge.is_up(VITALS)
            assert one.published == 3

    asyncio.run(story())


def test_leaving_leaves_both(broker: EmbeddedBroker) -> None:
    async def story() -> None:
        edge, vitals, alarms = lanes(broker.port)
        before = asyncio.all_tasks()
        async with edge:
            await up(vitals, alarms)
        assert (vitals.connected, alarms.connected) == (False, False)
        assert not edge.publish(UP[ALARM], b"")
        assert asyncio.all_tasks() == before

    asyncio.run(story())


# TLS


class Keys:
    """An authority of today, a broker's certificate, and an edge's own."""

    def __init__(self, folder: Path, name: str = "ward", *, authority: Authority | None = None) -> None:
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.authority = authority or Authority.begin(name, at=datetime.now(UTC))[0]
        (self.folder / "root.crt").write_bytes(pem(self.authority.root))
        self.clients = self.folder / "clients.crt"
        self.clients.write_bytes(self.authority.bundle)

    def broker(self, *hosts: str, ago: timedelta = timedelta()) -> BrokerTls:
        """A day's certificate."""
        key = new_tls_key()
        made = self.authority.server(key.public_key(), hosts=hosts or (LOOPBACK,), at=datetime.now(UTC) - ago, days=1)
        files = BrokerTls(self.folder / "broker.crt", self.folder / "broker.key")
        files.certificate.write_bytes(pem(made) + pem(self.authority.issuing))
        files.key.write_bytes(key_pem(key))
        return files

    def client(self, name: str, *, ago: timedelta = timedelta()) -> x509.Certificate:
        key = new_tls_key()
        made = self.authority.device(
            key.public_key(), common_name=name, tenant=named("tenant"), at=datetime.now(UTC) - ago, days=1
        )
        (self.folder / f"{name}.pem").write_bytes(pem(made) + pem(self.authority.issuing) + key_pem(key))
        return made

    @property
    def files(self) -> TlsFiles:
        return TlsFiles(self.folder / "root.crt", self.folder / "edge.pem", self.folder / "edge-a.pem")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path)
    made.client("edge")
    made.client("edge-a")
    return made


@pytest.fixture
def secured(tmp_path: Path, keys: Keys) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path, tls=keys.broker()) as found:
        yield found


def secure(
    port: int, tls: Callable[[], ssl.SSLContext], name: str, *topics: str, inbound_limit: int = 1_000
) -> MqttClient:
    return MqttClient(
        host=LOOPBACK, port=port, client_id=name, subscriptions=topics, receive_maximum=500,
        inbound_limit=inbound_limit, jitter=Random(1), tls=tls,
    )  # fmt: skip


def test_both_lanes_speak_tls(secured: EmbeddedBroker, keys: Keys) -> None:
    async def story() -> None:
        vitals = secure(secured.port, tls_context(keys.files), "edge", DOWN)
        alarms = secure(secured.port, tls_context(keys.files, alarm=True), "edge-a", DOWN_ALARM)
        cloud = secure(secured.port, tls_context(keys.files), "cloud", *UP.values())
        async with Lanes(vitals, alarms) as edge, cloud:
            await up(vitals, alarms, cloud)
            assert edge.publish(UP[ALARM], b"1")
            publish(cloud, DOWN, 2)
            publish(cloud, DOWN_ALARM, 3)

            assert sorted(payloads(await taken(edge, 2))) == [2, 3]
            assert payloads(await cloud.receive(within_s=PATIENCE_S)) == [1]
            assert edge.trouble == ""

    asyncio.run(story())


@pytest.mark.parametrize(
    ("size", "inbound_limit"),
    [
        (100, 1_000),  # 50 KB: many messages in each record of TLS, and more than one record
        (4_000, 1_000),
        (10, 1_000),
        (10, 7),  # whoever stops reading in the middle of a record must not wait for the next to come
        (100, 64),
        (4_000, 2),
    ],
)
def test_a_burst_is_read_to_its_end(secured: EmbeddedBroker, keys: Keys, size: int, inbound_limit: int) -> None:
    tls = tls_context(keys.files)
    sent = [b"%0*d" % (size, number) for number in range(500)]

    async def story() -> None:
        vitals = secure(secured.port, tls, "edge", DOWN, inbound_limit=inbound_limit)
        async with Lanes(vitals) as edge, secure(secured.port, tls, "cloud") as cloud:
            await up(vitals, cloud)
            for payload in sent:
                assert cloud.publish(DOWN, payload)
            await until(lambda: cloud.room == 1_000)

            got = await taken(edge, 500)

            assert [one.payload for one in got] == sent
            assert vitals.connects == 1

    asyncio.run(story())


def test_the_last_message_of_a_record_is_not_left_in_it(keys: Keys) -> None:
    # The broker sends twenty messages in one record of TLS, and then nothing more. Ten may wait here.
    def packet(mid: int) -> bytes:
        body = b"\x00\x02up" + mid.to_bytes(2, "big") + b"\x00" + b"%d" % mid
        return bytes([0x32, len(body)]) + body

    async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)  # CONNECT
        writer.write(bytes([0x20, 3, 0, 0, 0]))
        subscribe = await reader.read(1_000)
        writer.write(bytes([0x90, 4]) + subscribe[2:4] + bytes([0, 1]))
        await writer.drain()
        writer.write(b"".join(packet(mid) for mid in range(1, 21)))
        await reader.read()

    async def story() -> None:
        async with tls_serving(talks, server_context(keys.broker())) as port:
            edge = secure(port, tls_context(keys.files), "edge", "up", inbound_limit=10)
            async with edge:
                await until(lambda: edge.waiting == 10)
                got = payloads(await edge.receive(10)) + payloads(await edge.receive(10, within_s=2))

                assert got == list(range(1, 21))

    asyncio.run(story())


def server_context(tls: BrokerTls, clients: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


@asynccontextmanager
async def tls_serving(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext
) -> AsyncIterator[int]:
    """Somebody on a port who speaks TLS, and is no broker."""
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await answer(reader, writer)
        finally:
            tasks.discard(task)
            writer.transport.abort()

    # What goes wrong in a handshake is the visitor's to tell.
    asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
    server = await asyncio.start_server(accepted, LOOPBACK, 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.mqtt, "_CONNECT_WITHIN_S", 0.3)


@pytest.mark.usefixtures("impatient")
def test_a_broker_that_is_slow_to_shake_hands_holds_up_nothing_else(broker: EmbeddedBroker, keys: Keys) -> None:
    async def story() -> None:
        pulse = Pulse()
        beating = asyncio.create_task(pulse.beat(), name="pulse")
        async with serving(silent) as port:
            alarms = secure(port, tls_context(keys.files), "edge-a", DOWN_ALARM)
            vitals = client(broker.port, "edge", DOWN)
            async with Lanes(vitals, alarms) as edge, client(broker.port, "cloud") as cloud:
                await up(vitals, cloud)
                publish(cloud, DOWN, *range(100))
                assert payloads(await taken(edge, 100)) == list(range(100))
                await until(lambda: edge.trouble != "")
                assert "timed out" in edge.trouble
        beating.cancel()
        assert pulse.longest_gap_s < 0.5

    asyncio.run(story())


@pytest.mark.usefixtures("impatient")
def test_leaving_does_not_wait_for_a_handshake_for_ever(keys: Keys) -> None:
    async def story() -> None:
        async with serving(silent) as port, secure(port, tls_context(keys.files), "edge"):
            await asyncio.sleep(0.05)

    began = monotonic()
    asyncio.run(story())

    assert monotonic() - began < 3


# What is wrong, and the cure


async def trouble_of(one: MqttClient) -> str:
    async with one:
        await until(lambda: one.trouble != "")
        assert not one.connected
        return one.trouble


STAND_BETWEEN = "the broker's certificate is not of our authority: somebody may stand between"


@pytest.mark.parametrize(
    ("what", "cure"),
    [
        ("another authority", STAND_BETWEEN),
        ("another authority of the same name", STAND_BETWEEN),
        ("a device's certificate", STAND_BETWEEN),
        ("another host", "the broker's certificate names another host: issue it for this one (vitalloom broker write)"),
        (
            "another address",
            "the broker's certificate names another host: issue it for this one (vitalloom broker write)",
        ),
        ("over", "the broker's certificate has expired: run `vitalloom broker write` at the site"),
    ],
)
def test_a_broker_that_is_not_ours_is_named_with_the_cure(tmp_path: Path, keys: Keys, what: str, cure: str) -> None:
    if what == "another authority":
        files = Keys(tmp_path, "elsewhere").broker()
    elif what == "another authority of the same name":
        files = Keys(tmp_path / "copy").broker()
    elif what == "a device's certificate":
        files = BrokerTls(keys.files.client, keys.files.client)
    elif what == "another host":
        files = keys.broker("broker.example")
    elif what == "another address":
        files = keys.broker("192.0.2.1")
    else:
        files = keys.broker(ago=timedelta(days=2))

    async def story() -> None:
        heard: list[bytes] = []

        async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(1_000))

        async with tls_serving(listens, server_context(files)) as port:
            assert await trouble_of(secure(port, tls_context(keys.files), "edge")) == cure
        assert heard == []

    asyncio.run(story())


@pytest.mark.parametrize(
    ("what", "cure"),
    [
        ("revoked", "our certificate is revoked: this device was taken out of service; ask at the registry"),
        ("over", "our certificate has expired: run `vitalloom pki renew` at the registry and enrol again"),
        ("of another authority", "the broker does not know our authority: is it the broker of our site?"),
        ("missing", "the broker wants a certificate: enrol this device (vitalloom enrol)"),
    ],
)
def test_a_broker_that_does_not_want_us_is_told_with_the_cure(tmp_path: Path, what: str, cure: str) -> None:
    with a_secured_site(tmp_path) as site:
        name = site.new_device("wearable")
        if what == "revoked":
            site.revoke(name)
        elif what == "over":
            keys = Keys(tmp_path, "the edge's", authority=site.authority)
            keys.client("edge", ago=timedelta(days=2))
        elif what == "of another authority":
            site.certify(name, authority=Keys(tmp_path, "elsewhere").authority)
        site.begin()

        def tls() -> ssl.SSLContext:
            return tls_context(keys.files)() if what == "over" else site.context(None if what == "missing" else name)

        async def story() -> None:
            # Not at the first attempt for certain: with TLS 1.3 a broker's reason can be overtaken by its hanging up.
            async with secure(site.broker.port, tls, name) as one:
                await until(lambda: one.trouble == cure)
                assert not one.connected

        asyncio.run(story())


def test_a_broker_that_lets_nobody_in_by_this_name_is_told_with_the_cure(keys: Keys) -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(b"\x20\x03\x00\x87\x00")  # CONNACK: not authorised
        await silent(reader, writer)

    async def story() -> None:
        async with tls_serving(refuses, server_context(keys.broker())) as port:
            trouble = await trouble_of(secure(port, tls_context(keys.files), "edge"))
            assert trouble == "the broker does not let us in: is this device in its access list?"

    asyncio.run(story())


def test_a_broker_without_tls_is_told(broker: EmbeddedBroker, keys: Keys) -> None:
    trouble = asyncio.run(trouble_of(secure(broker.port, tls_context(keys.files), "edge")))

    assert trouble == "the broker hung up in the handshake: does it speak TLS on this port?"


def test_somebody_else_on_the_port_is_told(keys: Keys) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await silent(reader, writer)

    async def story() -> None:
        async with serving(web) as port:
            trouble = await trouble_of(secure(port, tls_context(keys.files), "edge"))
            assert trouble == "the broker does not speak TLS on this port"

    asyncio.run(story())


@pytest.mark.parametrize("name", ["edge.pem", "root.crt"])
@pytest.mark.parametrize("damage", [None, b"", b"garbage"], ids=["lost", "empty", "garbage"])
def test_a_file_that_cannot_be_read_is_trouble_until_it_can(
    secured: EmbeddedBroker, keys: Keys, name: str, damage: bytes | None
) -> None:
    path = keys.folder / name
    whole = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)

    async def story() -> None:
        async with secure(secured.port, tls_context(keys.files), "edge") as edge:
            await until(lambda: edge.trouble != "")
            path.write_bytes(whole)
            await up(edge)
            assert edge.trouble == ""

    asyncio.run(story())


def test_a_new_connection_is_made_with_the_certificate_of_the_day(keys: Keys) -> None:
    shown: list[int] = []

    async def looks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        shown.append(x509.load_der_x509_certificate(der).serial_number)

    async def story() -> None:
        first = x509.load_pem_x509_certificate(keys.files.client.read_bytes()).serial_number
        async with (
            tls_serving(looks, server_context(keys.broker(), keys.clients)) as port,
            secure(port, tls_context(keys.files), "edge"),
        ):
            await until(lambda: shown != [])
            renewed = keys.client("edge").serial_number
            await until(lambda: renewed in shown)
        assert shown[0] == first

    asyncio.run(story())


@pytest.mark.parametrize(("alarm", "name"), [(False, "edge"), (True, "edge-a")])
def test_each_lane_shows_its_own_name(keys: Keys, alarm: bool, name: str) -> None:
    names: list[str] = []

    async def looks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        names.append(x509.load_der_x509_certificate(der).subject.rfc4514_string())

    async def story() -> None:
        tls = tls_context(keys.files, alarm=alarm)
        async with tls_serving(looks, server_context(keys.broker(), keys.clients)) as port, secure(port, tls, name):
            await until(lambda: names != [])

    asyncio.run(story())

    assert names[0] == f"CN={name}"


def test_nothing_older_than_tls_1_3_is_spoken(keys: Keys) -> None:
    context = tls_context(keys.files)()

    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
