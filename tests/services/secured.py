"""A site with its authority, its registry and a Mosquitto on the files that a real one would have; and its clients."""

import os
import pwd
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from runtime.clock import SystemClock
from simulators.broker import LOOPBACK, free_port
from stream.site.broker_files import BrokerFolder, BrokerUpdate
from stream.site.mosquitto_conf import BrokerSettings
from stream.site.registry import Registry
from tests.patience import PATIENCE_S
from tests.services.mosquitto import Mosquitto, mosquitto_binary
from wire.enrol.authority import LIST_DAYS, Authority, key_pem, new_tls_key, pem
from wire.identity import Role

WHO = "test"
TAKEN, NO_SUBSCRIBERS, NOT_AUTHORIZED = 0x00, 0x10, 0x87  # answers to a message
WITHOUT_END = 0xFFFFFFFF


def until(condition: Callable[[], bool], *, within_s: float = PATIENCE_S) -> bool:
    """Wait for something to become true; whether it did in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def now() -> datetime:
    return datetime.now(UTC)


class Heard(NamedTuple):
    topic: str
    payload: bytes


class Speaker:
    """One MQTT 5 connection with a certificate.

    Args:
        client_id: what it says it is called.
        sleeps: whether the broker keeps what comes while it is away.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None,
        port: int,
        *,
        client_id: str = "x",
        sleeps: bool = False,
        will: str | None = None,
    ) -> None:
        self.heard: list[Heard] = []
        self.refusal = ""
        self._answers: dict[int, int] = {}
        self._up, self._down = threading.Event(), threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        if context is not None:
            self._client.tls_set_context(context)
        if will is not None:
            self._client.will_set(will, b"will", qos=1)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_answer
        self._client.on_subscribe = self._on_subscribe
        wishes = Properties(PacketTypes.CONNECT)
        wishes.SessionExpiryInterval = WITHOUT_END if sleeps else 0
        try:
            if context is not None:
                # paho does not close the socket of a handshake that failed, so there is one before it.
                with (
                    socket.create_connection((LOOPBACK, port)) as plain,
                    context.wrap_socket(plain, server_hostname=LOOPBACK),
                ):
                    pass
            self._client.connect(LOOPBACK, port, keepalive=30, clean_start=not sleeps, properties=wishes)
        except OSError as error:
            self.refusal = str(error)
            return
        self._client.loop_start()
        until(lambda: self._up.is_set() or self._down.is_set())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def connected(self) -> bool:
        return self._up.is_set() and not self._down.is_set()

    def hear(self, *filters: str) -> None:
        """Subscribe, and wait for the broker's answer."""
        _, mid = self._client.subscribe([(one, 1) for one in filters])
        assert mid is not None
        assert until(lambda: mid in self._answers)

    def say(self, topic: str, payload: bytes = b"said") -> int | None:
        """Publish; the reason code of the answer, or None if the connection was lost instead."""
        mid = self._client.publish(topic, payload, qos=1).mid
        until(lambda: mid in self._answers or self._down.is_set())
        return self._answers.get(mid)

    def murmur(self, topic: str, payload: bytes = b"said") -> None:
        """Publish at QoS 0, which nobody answers."""
        self._client.publish(topic, payload, qos=0)

    def vanish(self) -> None:
        """End the connection without a word; returns when we have noticed."""
        sock = self._client.socket()
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        assert self.loses_connection()

    def hears(self, topic: str, payload: bytes = b"said") -> bool:
        """Whether this comes in time."""
        return until(lambda: Heard(topic, payload) in self.heard)

    def loses_connection(self) -> bool:
        return self._down.wait(PATIENCE_S)

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refusal = str(reason)
            self._down.set()
        else:
            self._up.set()

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.refusal = self.refusal or str(reason)
        self._down.set()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.heard.append(Heard(message.topic, bytes(message.payload)))

    def _on_answer(self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._answers[mid] = reason.value

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        self._answers[mid] = max(reason.value for reason in reasons)


class SecuredSite:
    """Authority, registry and broker of a site that is all in one folder."""

    def __init__(self, folder: Path, *, list_days: float = LIST_DAYS) -> None:
        self.folder = folder
        self.authority, _ = Authority.begin("test", at=now())
        control = (Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())
        self.registry = Registry(folder / "registry.sqlite", control=control, tenant_id=b"t" * 16, clock=SystemClock())
        self.files = BrokerFolder(folder / "the broker", list_days=list_days)
        log = folder / "mosquitto.log"
        self.settings = BrokerSettings(
            folder=self.files.folder,
            user=pwd.getpwuid(os.getuid()).pw_name,
            host=LOOPBACK,
            port=free_port(),
            log_dest=f"file {log}",
            status_every_s=1,
        )
        self.root = folder / "root.crt"
        self.root.write_bytes(pem(self.authority.root))
        self.broker = Mosquitto(mosquitto_binary(), self.files.config_file, port=self.settings.port, log=log)

    def begin(self) -> None:
        self.write()
        self.broker.start()

    def end(self) -> None:
        self.broker.kill()
        self.registry.close()

    def write(self) -> BrokerUpdate:
        return self.files.write(
            self.registry, self.authority, self.settings, hosts=["localhost", LOOPBACK], at=now(), who=WHO
        )

    def refresh(self) -> BrokerUpdate:
        return self.files.refresh(self.registry, self.authority, at=now(), who=WHO)

    def new_device(self, role: Role) -> str:
        """A device with its certificates; an edge has two."""
        device_id = self.registry.add_device(role, who=WHO)
        name = device_id.hex()
        for one in (name, f"{name}-a") if role == "edge" else (name,):
            self.certify(one, device_id=name)
        return name

    def certify(self, name: str, *, device_id: str | None = None, authority: Authority | None = None) -> None:
        issuer, key = authority or self.authority, new_tls_key()
        made = issuer.device(key.public_key(), common_name=name, tenant=self.registry.tenant_id, at=now())
        self.registry.certificates.record(made, name=name, device_id=device_id)
        self._file(name).write_bytes(pem(made) + pem(issuer.issuing) + key_pem(key))

    def bind(self, wearable: str, edge: str) -> bytes:
        return self.registry.bind(
            wearable_id=bytes.fromhex(wearable), edge_id=bytes.fromhex(edge), patient="P0001", bed="1", who=WHO
        )

    def revoke(self, name: str) -> None:
        self.registry.revoke(bytes.fromhex(name), why="stolen", who=WHO)

    def context(self, name: str | None) -> ssl.SSLContext:
        """What a client with that certificate, or with none, brings along; it trusts our root and nobody else."""
        made = ssl.create_default_context(cafile=self.root)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        if name is not None:
            made.load_cert_chain(self._file(name))
        return made

    def speaker(self, name: str, **how: Any) -> Speaker:
        return Speaker(self.context(name), self.broker.port, **how)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


@contextmanager
def a_secured_site(folder: Path, *, list_days: float = LIST_DAYS) -> Iterator[SecuredSite]:
    """A site; `begin` starts its broker, the end of the block ends it."""
    site = SecuredSite(folder, list_days=list_days)
    try:
        yield site
    finally:
        site.end()
