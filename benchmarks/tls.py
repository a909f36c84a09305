"""What TLS costs for each MQTT message, and for each connection: one broker, plain and TLS in turn.

`python -m benchmarks.tls [--json] [--quick]`

Mosquitto where it is installed, else the embedded broker. Processor time of the client, which sends and hears every
message, and of the broker.
"""

import asyncio
import getpass
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from ssl import SSLContext
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import track

from benchmarks._timing import QUICK, report
from runtime.clock import SystemClock
from simulators.broker import LOOPBACK, Broker, BrokerTls, EmbeddedBroker, RealBroker, free_port
from stream.site.broker_files import BrokerFolder
from stream.site.folder import Site, SiteFacts
from stream.site.mosquitto_conf import BrokerSettings
from wire.identity import TlsFiles
from wire.lanes import tls_context
from wire.mqtt import MqttClient

ROUNDS: Final = 1 if QUICK else 7
MESSAGES: Final = 200 if QUICK else 3_000
CONNECTIONS: Final = 3 if QUICK else 15
FRAME: Final = bytes(144)  # as long as a sealed reading
TOPIC: Final = "vl/v1/w/00/up/1"
_PLAIN: Final = """\
user {user}
allow_anonymous true
set_tcp_nodelay true
listener {port} {host}
max_inflight_messages 0
max_queued_messages 0
"""
_TLS: Final = """\
cafile {folder}/clients.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
tls_version tlsv1.3
require_certificate true
"""


class Cost(NamedTuple):
    """Of one message, in µs of processor time; and of one connection, in ms of wall time."""

    client: float
    broker: float
    connection: float


class Side:
    """One broker, and how it is reached."""

    def __init__(self, broker: Broker, tls: Callable[[], SSLContext] | None) -> None:
        self._broker = broker
        self._tls = tls

    def client(self, name: str, *topics: str) -> MqttClient:
        return MqttClient(
            host=LOOPBACK, port=self._broker.port, client_id=name, subscriptions=topics, tls=self._tls,
            receive_maximum=1_000, outbound_limit=500,
        )  # fmt: skip

    async def measure(self) -> Cost:
        async with AsyncExitStack() as stack:
            hears = await stack.enter_async_context(self.client("hears", TOPIC))
            says = await stack.enter_async_context(self.client("says"))
            assert await hears.wait_connected(10)
            assert await says.wait_connected(10)
            before = time.process_time(), _processor_s(self._broker.pid)
            sent = heard = 0
            while heard < MESSAGES:
                while sent < MESSAGES and sent - heard < 400 and says.publish(TOPIC, FRAME):
                    sent += 1
                for message in await hears.receive(256, within_s=1.0):
                    hears.acknowledge(message)
                    heard += 1
            after = time.process_time(), _processor_s(self._broker.pid)
        began = time.perf_counter()
        for _ in range(CONNECTIONS):
            async with self.client("comes and goes") as client:
                assert await client.wait_connected(10)
        connection = (time.perf_counter() - began) / CONNECTIONS
        own, brokers = ((b - a) / MESSAGES * 1e6 for a, b in zip(before, after, strict=True))
        return Cost(own, brokers, connection * 1e3)


def _processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sides(folder: Path, stack: ExitStack) -> tuple[str, dict[str, Side]]:
    """The name of the broker, and both ways to it."""
    facts = SiteFacts(
        name="bench", tenant_id="ab" * 16, registry_host=LOOPBACK, registry_port=1, broker_host=LOOPBACK, broker_port=1
    )
    site = Site.create(folder / "site", facts, clock=SystemClock(), who="bench")
    files = BrokerFolder(site.broker_folder)
    settings = BrokerSettings(folder=files.folder, user=getpass.getuser(), port=1)
    files.write(site.registry, site.authority, settings, hosts=(LOOPBACK,), at=datetime.now(UTC), who="bench")
    client = tls_context(TlsFiles(site.root_file, site.issue_service("monitor", who="bench"), None))
    site.close()
    real = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    found = {}
    for name, tls in (("plain", None), ("tls", client)):
        port, own = free_port(), folder / name
        own.mkdir()
        broker: Broker
        if real:
            text = _PLAIN.format(user=getpass.getuser(), port=port, host=LOOPBACK)
            text += "" if tls is None else _TLS.format(folder=files.folder)
            (own / "mosquitto.conf").write_text(text, encoding="utf-8")
            broker = RealBroker(own / "mosquitto.conf", port=port, log=own / "log")
        else:
            server = BrokerTls(files.folder / "broker.crt", files.folder / "broker.key")
            broker = EmbeddedBroker(own, port=port, tls=None if tls is None else server)
        found[name] = Side(stack.enter_context(broker), tls)
    return "Mosquitto" if real else "embedded", found


async def _measured(both: dict[str, Side]) -> dict[str, Cost]:
    costs: dict[str, list[Cost]] = {name: [] for name in both}
    for side in both.values():
        await side.measure()  # warm
    for _ in track(range(ROUNDS), description="rounds", console=Console(stderr=True), transient=True):
        for name, side in both.items():
            costs[name].append(await side.measure())
    return {name: Cost(*(statistics.median(one) for one in zip(*found, strict=True))) for name, found in costs.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        broker, both = sides(Path(folder), stack)
        cost = asyncio.run(_measured(both))
    plain, tls = cost["plain"], cost["tls"]
    ratio = Cost(tls.client / plain.client, _ratio(tls.broker, plain.broker), tls.connection / plain.connection)
    rows = [
        ("client, a message sent and heard, µs", f"{plain.client:.0f}", f"{tls.client:.0f}", f"{ratio.client:.2f}"),
        ("broker, a message, µs", f"{plain.broker:.0f}", f"{tls.broker:.0f}", f"{ratio.broker:.2f}"),
        ("a connection, ms", f"{plain.connection:.1f}", f"{tls.connection:.1f}", f"{ratio.connection:.2f}"),
    ]
    report(
        "tls",
        rows,
        (broker, "plain", "TLS 1.3", "ratio"),
        {
            "broker": broker,
            "client_ratio": round(ratio.client, 2),
            "broker_ratio": round(ratio.broker, 2),
            "connection_ratio": round(ratio.connection, 2),
            "connection_ms": {"plain": round(plain.connection, 2), "tls": round(tls.connection, 2)},
            "client_us": {"plain": round(plain.client, 1), "tls": round(tls.client, 1)},
        },
    )


def _ratio(one: float, other: float) -> float:
    """The system counts a broker's time in hundredths of a second; a short run may show none."""
    return max(one, 1.0) / max(other, 1.0)


if __name__ == "__main__":
    main()
