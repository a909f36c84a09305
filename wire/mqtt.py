"""The MQTT 5 session: manual acknowledgement, bounded in both directions, reconnecting for ever. The only MQTT import.

paho-mqtt is driven by the running asyncio loop, without a thread. Every connection is a new paho client, so that
paho never resends a half-sent message: the owner of a message sends it again until it is acknowledged end to end.
Therefore a failing topic, a full queue and an unreachable broker are return values, not errors.
"""

import asyncio
import contextlib
import functools
import random
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from runtime.logs import get
from wire.client_tls import check_server

SESSION_EXPIRY_S: Final = 0xFFFF_FFFF
"""Without end. Of a session with an end that sleeps through a SIGHUP, Mosquitto 2.0 reads freed memory later."""
MAX_PACKET_BYTES: Final = 16_384
FIRST_RETRY_S: Final = 0.2
LONGEST_RETRY_S: Final = 10.0  # longer gaps in the monitoring of a patient are not acceptable

_KEEPALIVE_S: Final = 30
_CONNECT_WITHIN_S: Final = 5.0
_MISC_EVERY_S: Final = 1.0
_STOOD_S: Final = 5.0  # a connection that lasted so long was one
_SUBSCRIBE_AT_ONCE: Final = 100  # topic filters in one packet, which has to fit into MAX_PACKET_BYTES

_FIXES: Final = {
    "certificate revoked": "the certificate of this device is revoked; see the registry",
    "certificate_revoked": "the certificate of this device is revoked; see the registry",
    "certificate expired": "the certificate of this device has expired: run `vitalloom pki renew` and enrol again",
    "certificate_expired": "the certificate of this device has expired: run `vitalloom pki renew` and enrol again",
    "not yet valid": "the clock of this machine is behind: set it (timedatectl), or let it reach a time server",
    "certificate has expired": "the broker's certificate has expired: run `vitalloom broker write` at the site",
    "unknown ca": "the broker does not trust this site's authority: is it the broker of this site?",
    "unknown_ca": "the broker does not trust this site's authority: is it the broker of this site?",
    "certificate required": "the broker requires a certificate: enrol this device (vitalloom enrol)",
    "certificate_required": "the broker requires a certificate: enrol this device (vitalloom enrol)",
    "hostname mismatch": "the broker's certificate names another host: issue it for this one (vitalloom broker write)",
    "address mismatch": "the broker's certificate names another host: issue it for this one (vitalloom broker write)",
    "certificate verify failed": (
        "the broker's certificate is not issued by this site's authority: the connection may be intercepted"
    ),
    "not authorized": "the broker refuses this device: is it in the access list?",
    "wrong version number": "the broker does not speak TLS on this port",
    "eof occurred in violation": "the broker hung up in the handshake: does it speak TLS on this port?",
    "has been closed (eof)": "the broker hung up in the handshake: does it speak TLS on this port?",
}
"""Words in errors of TLS and brokers, and the problem with its fix; the first match counts."""

_log = get(__name__)


def fix_for(problem: str) -> str | None:
    """The problem and its fix, if the error text of TLS or the broker is known; else None."""
    return next((fix for word, fix in _FIXES.items() if word in problem.lower()), None)


class Inbound(NamedTuple):
    """A message that arrived. It is acknowledged by `MqttClient.acknowledge` once its effect is on disk."""

    topic: str
    payload: bytes
    connection: int
    mid: int


class MqttClient:
    """One client id at one broker, for as long as the `async with` block lasts.

    Args:
        host, port: of the broker.
        client_id: stable, so that the broker keeps the session where it can.
        subscriptions: topic filters that do not overlap.
        receive_maximum: how many unacknowledged messages the broker may have under way to us.
        inbound_limit: how many messages wait here; at the limit the socket is not read, whatever the broker ignores.
        outbound_limit: how many messages may be without PUBACK; at the limit `publish` says False.
        jitter: draws the reconnect delays.
        tls: makes the context of each connection; None: no TLS.
        on_state: told True on every (re)connect and False on every loss.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        client_id: str,
        subscriptions: Sequence[str],
        receive_maximum: int = 50,
        inbound_limit: int = 1_000,
        outbound_limit: int = 1_000,
        jitter: random.Random | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        on_state: Callable[[bool], None] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._client_id = client_id
        self._subscriptions = list(dict.fromkeys(subscriptions))
        self._receive_maximum = receive_maximum
        self._inbound_limit = inbound_limit
        self._outbound_limit = outbound_limit
        self._jitter = jitter or random.Random()
        self._tls = tls
        self._on_state = on_state
        self._paho: Client | None = None
        self._last_problem = ""  # as paho tells it
        self._driver: _SocketDriver | None = None
        self._inbound: deque[Inbound] = deque()
        self._unanswered: dict[int, bool] = {}  # by mid, in order of arrival: whether it may be answered
        self._arrived = asyncio.Event()
        self._lost = asyncio.Event()
        self._up = asyncio.Event()
        self._connection = 0
        self._without_puback = 0
        self._task: asyncio.Task[None] | None = None
        self.received = 0
        self.published = 0
        self.refused = 0  # publishes that found no connection or no room
        self.connects = 0
        self.trouble = ""  # why there is no connection, as far as that is known
        self.refusal = ""  # what the broker refuses although it is connected; empty: nothing

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and our subscriptions."""
        return self._up.is_set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"mqtt {self._client_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._leave()

    async def wait_connected(self, within_s: float) -> bool:
        """Wait for a connection; False if there is none in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._up.wait()
        except TimeoutError:
            return False
        return True

    def publish(self, topic: str, payload: bytes) -> bool:
        """Hand a message to the broker at QoS 1. False: not now; keep it and try again when there is room."""
        if self._paho is None or not self._up.is_set() or self._without_puback >= self._outbound_limit:
            self.refused += 1
            return False
        info = self._paho.publish(topic, payload, qos=1)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.refused += 1
            return False
        self._without_puback += 1
        self.published += 1
        return True

    @property
    def room(self) -> int:
        """How many messages `publish` would take now."""
        return self._outbound_limit - self._without_puback if self._up.is_set() else 0

    def subscribe(self, topics: Sequence[str]) -> None:
        """Hear these from now on, too; after a reconnect as well."""
        new = [topic for topic in dict.fromkeys(topics) if topic not in self._subscriptions]
        self._subscriptions += new
        if self._paho is not None and self._up.is_set():
            for at in range(0, len(new), _SUBSCRIBE_AT_ONCE):
                self._paho.subscribe([(one, 1) for one in new[at : at + _SUBSCRIBE_AT_ONCE]])

    def announce(self, arrived: asyncio.Event) -> None:
        """Set this event when something arrives: for a caller that waits for several clients."""
        self._arrived = arrived

    async def receive(self, limit: int = 64, *, within_s: float | None = None) -> list[Inbound]:
        """Up to `limit` messages, as soon as there is one; nothing if `within_s` passes first."""
        if not self._inbound:
            self._arrived.clear()
            try:
                # Not `wait_for`: before Python 3.12 it can swallow a cancellation that comes together with a message.
                async with asyncio.timeout(within_s):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        taken = [self._inbound.popleft() for _ in range(min(limit, len(self._inbound)))]
        driver = self._driver
        if driver is not None and not driver.is_reading and len(self._inbound) <= self._inbound_limit // 2:
            driver.read()
        return taken

    @property
    def waiting(self) -> int:
        """How many messages came and were not taken yet."""
        return len(self._inbound)

    def acknowledge(self, message: Inbound) -> None:
        """PUBACK, in the order in which messages came, as MQTT demands: one that is not acknowledged holds up the rest.

        What came over an earlier connection is forgotten: the broker or the sender sends it again.
        """
        if self._paho is None or message.connection != self._connection or message.mid not in self._unanswered:
            return
        self._unanswered[message.mid] = True
        while self._unanswered:
            mid, is_done = next(iter(self._unanswered.items()))
            if not is_done:
                return
            del self._unanswered[mid]
            self._paho.ack(mid, 1)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        delay_s = FIRST_RETRY_S
        while True:
            self._lost.clear()
            if await self._try_to_connect():
                began_s = loop.time()
                await self._look_after()
                # A broker that accepts and hangs up at once deserves no less patience than one that is away.
                if loop.time() - began_s > _STOOD_S:
                    delay_s = FIRST_RETRY_S
            self._leave()
            # Full jitter: a thousand edges must not come back in step.
            await asyncio.sleep(self._jitter.uniform(0.1, 1.0) * delay_s)
            delay_s = min(2 * delay_s, LONGEST_RETRY_S)

    async def _try_to_connect(self) -> bool:
        try:
            paho = self._made()
            self._paho = paho
            # paho connects and shakes hands synchronously; a broker that is slow at that must not stop everything else.
            connect = functools.partial(
                paho.connect,
                self._host,
                self._port,
                keepalive=_KEEPALIVE_S,
                clean_start=False,
                properties=self._wishes(),
            )
            async with asyncio.timeout(2 * _CONNECT_WITHIN_S):
                await asyncio.to_thread(connect)
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                await _first_of(self._up, self._lost)
        except (OSError, TimeoutError) as error:  # errors of TLS are among them
            self._note_trouble(str(error) or type(error).__name__)
            return False
        if not self._up.is_set():
            self._note_trouble("the broker hung up")
        return self._up.is_set()

    def _note_trouble(self, problem: str) -> None:
        """Log why there is no connection, once for each reason."""
        known = fix_for(problem) or fix_for(self._last_problem)
        self._last_problem = ""
        told = known or problem
        if told != self.trouble:
            self.trouble = told
            # A broker that is unreachable for a while needs no action; a certificate does.
            level = _log.warning if known is not None else _log.debug
            level("broker not reached", client=self._client_id, problem=told)

    async def _look_after(self) -> None:
        while not self._lost.is_set() and self._paho is not None:
            self._paho.loop_misc()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MISC_EVERY_S):
                    await self._lost.wait()

    def _leave(self) -> None:
        driver, self._driver, self._paho = self._driver, None, None
        was_up = self._up.is_set()
        self._up.clear()
        self._without_puback = 0
        # Whatever waits came over this connection. Without a PUBACK its sender will send it again.
        self._inbound.clear()
        self._unanswered.clear()
        if driver is not None:
            driver.abandon()
        if was_up:
            _log.info("broker lost", client=self._client_id)
            if self._on_state is not None:
                self._on_state(False)

    def _made(self) -> Client:
        paho = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        paho.connect_timeout = _CONNECT_WITHIN_S
        paho.max_inflight_messages_set(self._outbound_limit)
        if self._tls is not None:
            context = self._tls()
            context.sslsocket_class = _Handshaking
            paho.tls_set_context(context)
        self._connection += 1
        self._driver = _SocketDriver(paho, on_closed=self._lost.set)
        self._listen(paho, self._driver, self._connection)
        return paho

    def _listen(self, paho: Client, driver: "_SocketDriver", connection: int) -> None:
        """Set paho's callbacks; all of them come from the loop's own thread."""
        wanted: deque[Sequence[str]] = deque()

        def on_log(_client: Client, _data: Any, level: int, text: str) -> None:
            if level == LogLevel.MQTT_LOG_ERR:
                self._last_problem = text

        def subscribe_next(client: Client) -> None:
            if wanted:
                client.subscribe([(one, 1) for one in wanted.popleft()])
            else:
                self._come_up()

        def on_connect(client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                self._last_problem = str(reason)
                self._lost.set()
                return
            self.refusal = ""
            topics = self._subscriptions
            wanted.extend(topics[at : at + _SUBSCRIBE_AT_ONCE] for at in range(0, len(topics), _SUBSCRIBE_AT_ONCE))
            subscribe_next(client)

        def on_subscribe(client: Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
            if any(reason.is_failure for reason in reasons):
                self._note_refusal("refuses a subscription", next(one for one in reasons if one.is_failure))
            if not self._up.is_set():
                subscribe_next(client)

        def on_publish(_client: Client, _data: Any, _mid: int, reason: Any, _properties: Any) -> None:
            self._without_puback -= 1
            if reason.is_failure:
                self._note_refusal("refuses what is published", reason)
            elif self.refusal.startswith("refuses what"):
                self.refusal = ""

        def on_disconnect(_client: Client, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
            self._lost.set()

        def on_message(_client: Client, _data: Any, message: MQTTMessage) -> None:
            self.received += 1
            if message.qos == 1:  # at QoS 0 there is nothing to answer, and an answer would cost us the connection
                self._unanswered[message.mid] = False
            self._inbound.append(Inbound(_topic_of(message), bytes(message.payload), connection, message.mid))
            self._arrived.set()
            if len(self._inbound) >= self._inbound_limit:
                driver.stop_reading()

        paho.on_log = on_log
        paho.on_connect = on_connect
        paho.on_subscribe = on_subscribe
        paho.on_publish = on_publish
        paho.on_disconnect = on_disconnect
        paho.on_message = on_message

    def _note_refusal(self, what: str, reason: Any) -> None:
        """What the broker refuses: its access list, mostly, so it lasts. Whoever sends goes on: a list can change."""
        refusal = f"{what} ({reason})"
        if refusal != self.refusal:
            self.refusal = refusal
            _log.error("the broker refuses a message", client=self._client_id, problem=refusal)

    def _wishes(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = self._receive_maximum
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        return properties

    def _come_up(self) -> None:
        if not self._up.is_set():
            self._up.set()
            self.connects += 1
            self.trouble = ""
            _log.info("broker connected", client=self._client_id)
            if self._on_state is not None:
                self._on_state(True)


class _SocketDriver:
    """Reads and writes the socket of one paho client from the running loop.

    paho opens the socket in the thread that connects, and does everything else in the loop's own thread.

    Args:
        on_closed: is called when the socket is closed.
    """

    def __init__(self, paho: Client, *, on_closed: Callable[[], None]) -> None:
        self.is_reading = False
        self._paho = paho
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._thread = threading.current_thread()
        self._socket: socket.socket | None = None
        self._is_abandoned = False
        paho.on_socket_open = self._on_open
        paho.on_socket_close = self._on_close
        paho.on_socket_register_write = self._on_register_write
        paho.on_socket_unregister_write = self._on_unregister_write

    def read(self) -> None:
        """Read what arrives from now on."""
        if self._socket is not None and not self.is_reading:
            self._loop.add_reader(self._socket, self._read_all, self._socket)
            self.is_reading = True
            # What TLS had taken off the socket before we stopped reading, the socket will not call us for.
            self._loop.call_soon(self._read_rest, self._socket)

    def stop_reading(self) -> None:
        """Leave what arrives in the socket."""
        if self._socket is not None and self.is_reading:
            self._loop.remove_reader(self._socket)
        self.is_reading = False

    def abandon(self) -> None:
        """The connection is given up; disconnect, and close a socket that is still being opened."""
        self._is_abandoned = True
        self._paho.disconnect()
        self.stop_reading()
        self._socket = None

    def _read_all(self, sock: Any) -> None:
        self._paho.loop_read()
        self._read_rest(sock)

    def _read_rest(self, sock: Any) -> None:
        """TLS may hold more than the socket shows, and the loop would not call again for that."""
        pending = getattr(sock, "pending", None)
        while pending is not None and self._socket is sock and self.is_reading and pending():
            self._paho.loop_read()

    # Callbacks of paho. The first two come from the thread that connects, all others from the loop's own.

    def _on_open(self, _client: Client, _data: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._loop.call_soon_threadsafe(self._opened, sock)
        except RuntimeError:  # the loop has ended meanwhile
            sock.close()

    def _on_register_write(self, _client: Client, _data: Any, sock: Any) -> None:
        if threading.current_thread() is not self._thread:
            self._loop.call_soon_threadsafe(self._want_write, sock)
            return
        self._want_write(sock)

    def _on_unregister_write(self, _client: Client, _data: Any, sock: Any) -> None:
        if threading.current_thread() is self._thread:
            self._loop.remove_writer(sock)

    def _on_close(self, _client: Client, _data: Any, sock: Any) -> None:
        if threading.current_thread() is not self._thread:
            self._loop.call_soon_threadsafe(self._closed, sock)
            return
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        self._closed(sock)

    def _opened(self, sock: Any) -> None:
        if self._is_abandoned:
            sock.close()
            return
        self._socket = sock
        self.read()

    def _closed(self, sock: Any) -> None:
        if self._socket is sock:
            self._socket = None
            self.is_reading = False
            self._on_closed()

    def _want_write(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.add_writer(sock, self._paho.loop_write)


class _Handshaking(ssl.SSLSocket):
    """A socket that does not stay open after a handshake that failed; paho forgets it."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
            check_server(self)
        except BaseException:
            self.close()
            raise


def _topic_of(message: MQTTMessage) -> str:
    try:
        return message.topic
    except UnicodeDecodeError:  # no broker should forward this; an empty topic matches no device
        return ""


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
