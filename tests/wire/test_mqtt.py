"""The MQTT session against real brokers: the embedded one, which forgets, and Mosquitto, which keeps sessions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from time import monotonic

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from simulators.broker import LOOPBACK, EmbeddedBroker, free_port
from tests.patience import PATIENCE_S
from tests.services.mosquitto import Mosquitto
from wire.mqtt import Inbound, MqttClient

pytestmark = pytest.mark.services

Broker = EmbeddedBroker | Mosquitto


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path) as broker:
        yield broker


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> Broker:
    found: Broker = request.getfixturevalue(request.param)
    return found


def client(
    port: int,
    name: str,
    *topics: str,
    receive_maximum: int = 50,
    inbound_limit: int = 1_000,
    outbound_limit: int = 1_000,
    on_state: Callable[[bool], None] | None = None,
) -> MqttClient:
    return MqttClient(
        host=LOOPBACK,
        port=port,
        client_id=name,
        subscriptions=topics,
        receive_maximum=receive_maximum,
        inbound_limit=inbound_limit,
        outbound_limit=outbound_limit,
        jitter=Random(1),
        on_state=on_state,
    )


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = monotonic() + PATIENCE_S
    while not true():
        assert monotonic() < deadline, "it never came to be so"
        await asyncio.sleep(0.005)


async def up(*clients: MqttClient) -> None:
    for one in clients:
        assert await one.wait_connected(PATIENCE_S)


async def take(one: MqttClient, count: int, *, acknowledge: bool = True) -> list[Inbound]:
    """Exactly so many messages."""
    taken: list[Inbound] = []
    while len(taken) < count:
        more = await one.receive(count - len(taken), within_s=PATIENCE_S)
        assert more, f"{len(taken)} of {count} messages came"
        taken += more
        for message in more if acknowledge else ():
            one.acknowledge(message)
    return taken


def payloads(messages: list[Inbound]) -> list[int]:
    return [int(message.payload) for message in messages]


def publish(one: MqttClient, topic: str, *numbers: int) -> list[bool]:
    return [one.publish(topic, b"%d" % number) for number in numbers]


async def heard(one: MqttClient) -> None:
    """The broker has read everything that was sent so far: it has answered what was sent last."""
    assert one.publish("nobody/listens", b"")
    await until(lambda: one.room == 1_000)


class Line:
    """A cable between clients and a broker, which can be cut."""

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self._to_port = to_port
        self._writers: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._to_port)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while said := await reader.read(65_536):
                writer.write(said)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def a_line(to_port: int) -> AsyncIterator[Line]:
    line = Line(to_port)
    async with serving(line.carry) as port:
        line.port = port
        yield line
        line.cut()


@asynccontextmanager
async def serving(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> AsyncIterator[int]:
    """Somebody on a port, who is no broker."""
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await answer(reader, writer)  # type: ignore[misc]
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(accepted, LOOPBACK, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Pulse:
    """Beats in the loop, and notices when the loop stands still."""

    def __init__(self) -> None:
        self.longest_gap_s = 0.0

    async def beat(self) -> None:
        last = monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - last)
            last = now


# Messages


@pytest.mark.essential
def test_messages_arrive_once_and_in_order(broker: Broker) -> None:
    async def story() -> None:
        async with client(broker.port, "edge", "vl/up/+") as edge, client(broker.port, "wearable") as wearable:
            await up(edge, wearable)

            assert all(publish(wearable, "vl/up/1", *range(300)))
            arrived = await take(edge, 300)

            assert payloads(arrived) == list(range(300))
            assert {message.topic for message in arrived} == {"vl/up/1"}
            assert (edge.received, wearable.published, wearable.refused) == (300, 300, 0)

    asyncio.run(story())


def test_frames_are_bytes_of_any_kind_and_up_to_their_greatest_size(broker: Broker) -> None:
    sent = [b"", bytes(range(256)), bytes(8_256)]

    async def story() -> None:
        async with client(broker.port, "edge", "up") as edge, client(broker.port, "wearable") as wearable:
            await up(edge, wearable)

            for frame in sent:
                assert wearable.publish("up", frame)

            assert [message.payload for message in await take(edge, 3)] == sent

    asyncio.run(story())


def test_more_topics_than_fit_into_one_packet_are_all_subscribed(broker: Broker) -> None:
    topics = [f"vl/v1/w/{n:032x}/up/+" for n in range(250)]

    async def story() -> None:
        async with client(broker.port, "edge", *topics) as edge, client(broker.port, "ward") as ward:
            await up(edge, ward)

            for n in (0, 99, 100, 199, 200, 249):
                publish(ward, f"vl/v1/w/{n:032x}/up/1", n)

            assert payloads(await take(edge, 6)) == [0, 99, 100, 199, 200, 249]

    asyncio.run(story())


def test_what_is_not_acknowledged_comes_again_after_a_reconnect(mosquitto: Mosquitto) -> None:
    #   0 1 2 3 arrive, 0 and 1 are acknowledged    the line is cut    2 3 come again
    async def story() -> None:
        async with (
            a_line(mosquitto.port) as line,
            client(line.port, "edge", "up") as edge,
            client(mosquitto.port, "wearable") as wearable,
        ):
            await up(edge, wearable)
            publish(wearable, "up", 0, 1, 2, 3)
            before = await take(edge, 4, acknowledge=False)
            for message in before[:2]:
                edge.acknowledge(message)
            await heard(edge)

            line.cut()
            again = await take(edge, 2, acknowledge=False)

            assert payloads(again) == [2, 3]
            for message in before:
                edge.acknowledge(message)  # of the old connection: means nothing now
            await up(edge)
            await heard(edge)
            line.cut()
            assert payloads(await take(edge, 2)) == [2, 3]

    asyncio.run(story())


def test_what_was_acknowledged_does_not_come_again(mosquitto: Mosquitto) -> None:
    async def story() -> None:
        async with client(mosquitto.port, "wearable") as wearable:
            async with client(mosquitto.port, "edge", "up") as edge:
                await up(edge, wearable)
                publish(wearable, "up", 0, 1, 2)
                await take(edge, 3)
                await heard(edge)
            async with client(mosquitto.port, "edge", "up") as edge:
                await up(edge)
                publish(wearable, "up", 3)

                assert payloads(await take(edge, 1)) == [3]

    asyncio.run(story())


def test_one_that_waits_for_its_commit_holds_up_the_acknowledgement_of_the_next(mosquitto: Mosquitto) -> None:
    #   0 1 2 arrive; 1 and 2 are acknowledged, 0 is not: PUBACKs go in order, so all three come again
    async def story() -> None:
        async with client(mosquitto.port, "wearable") as wearable:
            async with client(mosquitto.port, "edge", "up") as edge:
                await up(edge, wearable)
                publish(wearable, "up", 0, 1, 2)
                for message in (await take(edge, 3, acknowledge=False))[1:]:
                    edge.acknowledge(message)
                await heard(edge)
            async with client(mosquitto.port, "edge", "up") as edge:
                assert payloads(await take(edge, 3)) == [0, 1, 2]

    asyncio.run(story())


def test_what_was_sent_while_a_client_was_away_waits_for_it(mosquitto: Mosquitto) -> None:
    async def story() -> None:
        async with client(mosquitto.port, "wearable") as wearable:
            async with client(mosquitto.port, "edge", "up") as edge:
                await up(edge, wearable)
            publish(wearable, "up", *range(100))
            await until(lambda: wearable.room == 1_000)  # the broker has them all

            async with client(mosquitto.port, "edge", "up") as edge:
                assert payloads(await take(edge, 100)) == list(range(100))

    asyncio.run(story())


def test_a_message_at_qos_0_is_delivered_and_costs_nothing(broker: Broker) -> None:
    # Anybody may publish at QoS 0. It has no id to acknowledge, and a PUBACK for it would be a protocol error.
    async def story() -> None:
        async with client(broker.port, "edge", "up") as edge:
            await up(edge)
            other = Client(CallbackAPIVersion.VERSION2, client_id="other", protocol=MQTTProtocolVersion.MQTTv5)
            other.connect(LOOPBACK, broker.port)
            other.loop_start()
            try:
                for number, qos in ((0, 0), (1, 0), (2, 1), (3, 0), (4, 1)):
                    other.publish("up", b"%d" % number, qos=qos).wait_for_publish(PATIENCE_S)
            finally:
                other.disconnect()
                other.loop_stop()

            assert payloads(await take(edge, 5)) == [0, 1, 2, 3, 4]
            assert edge.publish("up", b"5")  # after all those PUBACKs the connection still stands
            assert payloads(await take(edge, 1)) == [5]
            assert edge.connects == 1

    asyncio.run(story())


# Bounds


def test_at_the_outbound_limit_publish_says_no_until_the_broker_has_answered(broker: Broker) -> None:
    async def story() -> None:
        async with client(broker.port, "wearable", outbound_limit=5) as wearable:
            await up(wearable)
            assert wearable.room == 5

            said = publish(wearable, "up", *range(8))

            assert said == [True] * 5 + [False] * 3
            assert (wearable.room, wearable.published, wearable.refused) == (0, 5, 3)
            await until(lambda: wearable.room == 5)
            assert wearable.publish("up", b"8")

    asyncio.run(story())


@pytest.mark.parametrize("receive_maximum", [1, 7])
def test_the_broker_has_no_more_under_way_than_we_want(mosquitto: Mosquitto, receive_maximum: int) -> None:
    async def story() -> None:
        async with (
            client(mosquitto.port, "edge", "up", receive_maximum=receive_maximum) as edge,
            client(mosquitto.port, "wearable") as wearable,
        ):
            await up(edge, wearable)
            publish(wearable, "up", *range(40))
            await until(lambda: wearable.room == 1_000)

            first = await take(edge, receive_maximum, acknowledge=False)

            assert await edge.receive(within_s=0.2) == []
            for message in first:
                edge.acknowledge(message)
            assert payloads(first + await take(edge, 40 - receive_maximum)) == list(range(40))

    asyncio.run(story())


def test_a_broker_that_sends_more_than_we_want_is_not_read(embedded: EmbeddedBroker) -> None:
    # The embedded broker does not look at Receive Maximum.
    async def story() -> None:
        async with (
            client(embedded.port, "edge", "up", receive_maximum=5, inbound_limit=10) as edge,
            client(embedded.port, "wearable") as wearable,
        ):
            await up(edge, wearable)
            assert all(publish(wearable, "up", *range(200)))
            await until(lambda: edge.waiting == 10 and wearable.room == 1_000)

            # A while later nothing more is here; taking makes room, and everything comes in the end.
            await asyncio.sleep(0.2)
            assert edge.waiting == 10
            arrived: list[Inbound] = []
            while len(arrived) < 200:
                assert edge.waiting <= 10
                arrived += await take(edge, 1)
            assert payloads(arrived) == list(range(200))

    asyncio.run(story())


# Outages


def test_without_a_broker_publish_says_no_and_nothing_waits(tmp_path: Path) -> None:
    async def story() -> None:
        async with client(free_port(), "wearable", "down") as wearable:
            assert not await wearable.wait_connected(0.1)

            assert not wearable.publish("up", b"1")

            assert (wearable.connected, wearable.room, wearable.refused) == (False, 0, 1)
            assert await wearable.receive(within_s=0.01) == []

    asyncio.run(story())


def test_a_broker_that_starts_later_is_found(tmp_path: Path) -> None:
    async def story() -> None:
        late = EmbeddedBroker(tmp_path)
        async with client(late.port, "wearable", "up") as wearable:
            assert not await wearable.wait_connected(0.1)
            try:
                await asyncio.to_thread(late.start)
                await up(wearable)
                publish(wearable, "up", 1)
                assert payloads(await take(wearable, 1)) == [1]
            finally:
                await asyncio.to_thread(late.stop)

    asyncio.run(story())


def test_after_a_restart_of_the_broker_the_client_is_back_by_itself_with_its_subscriptions(broker: Broker) -> None:
    #   up      killed                started again
    #   |-------|--------------------|-------------
    #   True    False: publish False  True, subscribed
    async def story() -> None:
        states: list[bool] = []
        pulse = Pulse()
        beating = asyncio.create_task(pulse.beat(), name="pulse")
        async with (
            client(broker.port, "edge", "up", on_state=states.append) as edge,
            client(broker.port, "wearable") as wearable,
        ):
            await up(edge, wearable)

            await asyncio.to_thread(broker.kill)
            await until(lambda: not edge.connected and not wearable.connected)
            assert not wearable.publish("up", b"1")
            await asyncio.to_thread(broker.start)
            await up(edge, wearable)

            assert wearable.publish("up", b"2")
            assert payloads(await take(edge, 1)) == [2]
            assert states == [True, False, True]
            assert (edge.connects, wearable.connects) == (2, 2)
        beating.cancel()
        assert pulse.longest_gap_s < 1.0  # the loop never waited for the broker

    asyncio.run(story())


def test_what_was_taken_before_an_outage_and_is_acknowledged_after_it_does_no_harm(broker: Broker) -> None:
    async def story() -> None:
        async with client(broker.port, "edge", "up") as edge, client(broker.port, "wearable") as wearable:
            await up(edge, wearable)
            publish(wearable, "up", 1)
            (old,) = await take(edge, 1, acknowledge=False)
            await asyncio.to_thread(broker.kill)
            await until(lambda: not edge.connected and not wearable.connected)
            await asyncio.to_thread(broker.start)
            await up(edge, wearable)

            publish(wearable, "up", 2)
            (new,) = await take(edge, 1, acknowledge=False)
            edge.acknowledge(old)
            edge.acknowledge(new)
            edge.acknowledge(new)

            publish(wearable, "up", 3)
            assert payloads(await take(edge, 1)) == [3]
            assert edge.connects == 2

    asyncio.run(story())


def test_after_an_outage_the_whole_outbound_bound_is_there_again(embedded: EmbeddedBroker) -> None:
    async def story() -> None:
        async with a_line(embedded.port) as line, client(line.port, "wearable", outbound_limit=5) as wearable:
            await up(wearable)
            publish(wearable, "up", *range(5))
            line.cut()  # no PUBACK for these; who holds them sends them again
            await until(lambda: not wearable.connected)
            await up(wearable)

            assert publish(wearable, "up", *range(6)) == [True] * 5 + [False]

    asyncio.run(story())


# Others on the port


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, listens, and never says a word."""
    while await reader.read(1_000):
        pass


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes at once."""


def saying(said: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
    """Whatever comes, answers with this."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1_000):
            writer.write(said)
            await writer.drain()
            await silent(reader, writer)

    return answer


ACCEPTED = b"\x20\x03\x00\x00\x00"  # CONNACK
SUBSCRIBED = b"\x90\x04\x00\x01\x00\x01"  # SUBACK of the first packet, QoS 1


@pytest.mark.parametrize(
    "answer",
    [
        silent,
        hangs_up,
        saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        saying(b"\x20\x03\x00\x87\x00"),  # not authorised
        saying(b"\x20\xff\xff\xff\xff\x7f"),  # a length that has no end
        saying(ACCEPTED + b"\xe0\x00"),  # accepted, and goodbye
        saying(ACCEPTED + b"\x90\x02\x00\x01"),  # half a SUBACK
    ],
    ids=["silent", "hangs up", "a web server", "refuses", "endless length", "says goodbye", "half a packet"],
)
def test_whoever_answers_on_the_port_the_client_stays_calm(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> None:
    async def story() -> None:
        problems: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        pulse = Pulse()
        beating = asyncio.create_task(pulse.beat(), name="pulse")
        async with serving(answer) as port, client(port, "edge", "up") as edge:
            assert not await edge.wait_connected(0.5)
            assert not edge.publish("up", b"1")
        beating.cancel()
        assert problems == []
        assert pulse.longest_gap_s < 1.0

    asyncio.run(story())


def test_a_session_is_asked_for_without_end() -> None:
    # One that has an end and sleeps through a SIGHUP makes Mosquitto 2.0 read freed memory.
    async def story() -> None:
        asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            asked.set_result(await reader.readuntil(b"edge"))
            await reader.read()

        async with serving(listen) as port, client(port, "edge", "up"):
            connect = await asyncio.wait_for(asked, PATIENCE_S)
            assert connect[0] == 0x10
            assert b"\x11\xff\xff\xff\xff" in connect  # property 17, Session Expiry Interval

    asyncio.run(story())


def test_a_topic_that_is_not_text_is_nobodys_and_does_not_stop_the_rest() -> None:
    # PUBLISH, QoS 1: topic of one byte 0xff, then one of topic "up".
    bad = b"\x32\x07\x00\x01\xff\x00\x01\x001"
    good = b"\x32\x08\x00\x02up\x00\x02\x002"

    async def story() -> None:
        problems: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        async with serving(saying(ACCEPTED + SUBSCRIBED + bad + good)) as port, client(port, "edge", "up") as edge:
            arrived = await take(edge, 2)

            assert [(message.topic, message.payload) for message in arrived] == [("", b"1"), ("up", b"2")]
            assert edge.connects == 1
        assert problems == []

    asyncio.run(story())


def test_leaving_is_quick_and_leaves_no_task_behind(broker: Broker) -> None:
    async def story() -> None:
        async with client(broker.port, "edge", "up") as edge:
            await up(edge)
            began = monotonic()
        assert monotonic() - began < 1.0
        assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        assert not edge.publish("up", b"1")

    asyncio.run(story())


def test_what_the_broker_refuses_is_named_until_it_accepts_again(mosquitto: Mosquitto) -> None:
    folder = mosquitto.log.parent
    access, config = folder / "access", folder / "mosquitto.conf"
    access.write_text("topic readwrite allowed/#\n", encoding="utf-8")
    access.chmod(0o600)
    config.write_text(f"{config.read_text(encoding='utf-8')}acl_file {access}\n", encoding="utf-8")
    mosquitto.kill()
    mosquitto.start()

    async def story() -> tuple[str, str]:
        async with client(mosquitto.port, "one") as one:
            await up(one)
            assert one.publish("forbidden/1", b"1")
            await until(lambda: one.refusal != "")
            said = one.refusal
            assert one.room == 1_000  # what is refused takes up no room
            assert one.publish("allowed/1", b"1")
            await until(lambda: one.refusal == "")
            return said, one.refusal

    assert asyncio.run(story()) == ("refuses what is published (Not authorized)", "")
