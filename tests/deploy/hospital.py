"""A whole site on real services: authority, registry, broker, ingest, a worker, a store writer, an edge's identity.

All tests share it, so each test repairs what it breaks.
"""

import asyncio
import contextlib
import os
import pwd
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from runtime import health
from runtime.clock import SystemClock
from simulators.broker import LOOPBACK, free_port
from simulators.enrolled import EnrolledSite
from stream.config import InfluxConfig, KafkaConfig
from stream.kafka import create_topics
from stream.site.broker_files import BrokerFolder
from stream.site.mosquitto_conf import BrokerSettings
from stream.store.influx import prepare_database
from tests.patience import PATIENCE_S
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from tests.services.mosquitto import Mosquitto, mosquitto_binary
from tests.services.native import Server
from wire.enrol.authority import Authority, key_pem, moment, new_tls_key, pem
from wire.identity import About

ROOT = Path(__file__).parents[2]
WHO = "tester"


class Hospital:
    """A healthy site with everything that `vitalloom doctor` checks.

    Args:
        name: of its topics and its bucket.
    """

    def __init__(self, folder: Path, kafka: Kafka, influxdb: InfluxDB, *, name: str = "hospital") -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.enrolled = EnrolledSite(folder, self.clock, broker_port=free_port())
        self.site = self.enrolled.site
        self.site_folder = folder / "site"
        asyncio.run(
            self.enrolled.enrol(
                wearables=2, edges=1, now_ms=self.clock.now_ms(), about=lambda _: About(age_years=67.0, is_male=True)
            )
        )
        self.files = BrokerFolder(self.site.broker_folder)
        log = folder / "mosquitto.log"
        self.settings = BrokerSettings(
            folder=self.files.folder,
            user=pwd.getpwuid(os.getuid()).pw_name,
            host=LOOPBACK,
            port=self.site.facts.broker_port,
            log_dest=f"file {log}",
        )
        self.broker = Mosquitto(mosquitto_binary(), self.files.config_file, port=self.settings.port, log=log)
        self.kafka = KafkaConfig(bootstrap=kafka.address, application=name, topic_prefix=f"{name}.")
        self.token = folder / "operator.token"
        self.token.write_text(influxdb.token, encoding="utf-8")
        self.influx = InfluxConfig(url=influxdb.url, org=influxdb.org, token_file=folder / "writer.token", bucket=name)
        self.ports = {name: free_port() for name in ("registry", "ingest", "worker", "store", "edge")}
        site, at = ("--site", str(self.site_folder)), "127.0.0.1"
        self.processes = {
            "registry": self._process("registry", "registry", "serve", *site, "--host", at),
            "ingest": self._process(
                "ingest", "ingest", *site, "--data", str(folder / "data"), "--config", str(self.config("ingest"))
            ),
            "worker": self._process("worker", "worker", "--engine", "plain", "--config", str(self.config("worker"))),
            "store": self._process("store", "store", "run", "--config", str(self.config("store"))),
            "edge": self._process("edge", "edge", "--config", str(self.edge())),
        }

    def start(self) -> None:
        self.write_broker()
        self.broker.start()
        asyncio.run(create_topics(self.kafka, partitions=2))
        made = InfluxConfig(url=self.influx.url, org=self.influx.org, token_file=self.token, bucket=self.influx.bucket)
        prepare_database(made, retention_days=90, aggregate_days=90, tokens=self.folder)
        self.start_all()

    def start_all(self) -> None:
        """Start processes that do not run, and wait until all are ready."""
        for one in self.processes.values():
            if not one.is_running:
                one.start()
        for name, port in self.ports.items():
            until(lambda port=str(port): health.check(port).is_healthy, f"{name} is ready")  # type: ignore[misc]

    def end(self) -> None:
        for one in self.processes.values():
            one.stop()
        self.broker.kill()
        self.enrolled.close()

    def config(
        self,
        kind: str,
        *,
        name: str = "",
        more: str = "",
        kafka: KafkaConfig | None = None,
        bucket: str = "",
        token: Path | None = None,
    ) -> Path:
        """A configuration file of a process."""
        log = kafka or self.kafka
        text = (
            f'[kafka]\nbootstrap = "{log.bootstrap}"\napplication = "{log.application}"\n'
            f'topic_prefix = "{log.topic_prefix}"\n'
        )
        if kind == "store":
            text += (
                f'[influx]\nurl = "{self.influx.url}"\norg = "{self.influx.org}"\n'
                f'token_file = "{token or self.influx.token_file}"\nbucket = "{bucket or self.influx.bucket}"\n'
            )
        path = self.folder / f"{name or kind}.toml"
        path.write_text(more + text, encoding="utf-8")
        return path

    def edge(self, name: str = "edge", *, more: str = "", outbox: str = "budget_mb = 64") -> Path:
        """An edge's configuration, beside its identity."""
        path = self.folder / "edge-1" / f"{name}.toml"
        path.write_text(f'identity = "identity"\ndata_dir = "data"\n{more}\n[outbox]\n{outbox}\n', encoding="utf-8")
        return path

    def write_broker(self) -> None:
        self.files.write(
            self.site.registry,
            self.site.authority,
            self.settings,
            hosts=[LOOPBACK, "localhost"],
            at=moment(self.clock.now_ms()),
            who=WHO,
        )

    @contextlib.contextmanager
    def broker_of(self, authority: Authority, *, days_ago: int = 0) -> Iterator[None]:
        """The broker shows a certificate of this authority that was issued some days ago, for 90 days."""
        made = self.certificate(authority, days_ago=days_ago)
        other = self.folder / "other"
        other.mkdir(exist_ok=True)
        # Files of its own: those of the site, the registry would put right within a second.
        (other / "broker.pem").write_bytes(made)
        lines = self.files.config_file.read_text(encoding="utf-8").splitlines()
        shown = [
            f"{key} {other / 'broker.pem'}" if (key := line.split(" ")[0]) in ("certfile", "keyfile") else line
            for line in lines
        ]
        (other / "mosquitto.conf").write_text("\n".join(shown) + "\n", encoding="utf-8")
        self.broker.stop()
        stranger = Mosquitto(
            mosquitto_binary(), other / "mosquitto.conf", port=self.settings.port, log=self.folder / "mosquitto.log"
        )
        try:
            stranger.start()
            yield
        finally:
            stranger.kill()
            self.broker.start()

    def certificate(self, authority: Authority, *, days_ago: int = 0) -> bytes:
        """Of a server on loopback, with its key."""
        key, at = new_tls_key(), datetime.now(UTC) - timedelta(days=days_ago)
        made = authority.server(key.public_key(), hosts=[LOOPBACK], at=at, days=90)
        return pem(made) + pem(authority.issuing) + key_pem(key)

    def another_worker(self, name: str, engine: str = "faust") -> Server:
        """Beside the one that is there."""
        return self._process(name, "worker", "--engine", engine, "--config", str(self.config("worker")))

    def wearable(self, number: int) -> Server:
        """One of the two devices that are on a patient, measuring once a second."""
        identity = self.folder / "wearables" / f"{number}"
        return self._process(f"wearable-{number}", "wearable", "--identity", str(identity), "--cadence", "1s")

    def figures(self, name: str) -> dict[str, float]:
        """Metrics of a process, by name with the values of their labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/metrics", timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        return {
            " ".join((sample.name.removeprefix("vitalloom_"), *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("vitalloom_")
        }

    def _process(self, name: str, *command: str) -> Server:
        return Server(
            name,
            [sys.executable, "-m", "vitalloom", *command],
            log=self.folder / f"{name}.log",
            is_ready=lambda: True,
            environment={
                "PYTHONPATH": str(ROOT),
                f"VITALLOOM_{name.upper()}__HTTP__LISTEN": f"127.0.0.1:{self.ports.get(name, 0)}",
            },
        )


def until(condition: Callable[[], bool], what: str, *, within_s: float = PATIENCE_S) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
