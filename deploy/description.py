"""Description of a site: its processes with arguments, addresses, files, health checks and start order. Pure.

`docker-compose.yml` and `vitalloom site run` are generated from it. They differ by a `Deployment`: the addresses of the
processes. Paths do not differ: containers mount the folder of the site at its path on the host. So arguments and
generated files are the same, and environment variables carry only addresses.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, Literal, NamedTuple

import msgspec

STOP_WITHIN_S: Final = 10
DEMO: Final = "demo"
DEMO_EDGES: Final = 2
DEMO_PATIENTS: Final = 6


class Program(StrEnum):
    """A program. Its command line depends on the deployment."""

    VITALLOOM = "vitalloom"
    MOSQUITTO = "mosquitto"
    KAFKA = "kafka"  # Java, with Kafka's classes
    INFLUXDB = "influxdb"
    GRAFANA = "grafana"


class Ports(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ports of the processes of a site. Those of the registry and the MQTT broker are in `site.json`."""

    kafka: int = 9_092
    kafka_controller: int = 9_093
    influxdb: int = 8_086
    grafana: int = 3_000
    desk: int = 8_095
    phone: int = 8_099
    ingest_http: int = 9_101
    worker_http: int = 9_102  # of the first worker; on one machine further workers use 9120 and above
    store_http: int = 9_103
    desk_http: int = 9_104
    registry_http: int = 9_105

    @classmethod
    def after(cls, first: int) -> "Ports":
        """Consecutive ports from `first` on, for a second site on one machine."""
        return cls(**{name: first + index for index, name in enumerate(cls.__struct_fields__)})


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """Where a site runs: natively on this machine or in containers."""

    folder: str  # path of the site's folder, as its processes see it
    facts: Mapping[str, str]  # ports by name; also kafka_id, kafka_heap, partitions, backstop_webhook
    hosts: Mapping[str, str]  # host by process name
    loopback: str = "127.0.0.1"
    listen: str  # address that processes listen on
    outside: str  # address that the processes for devices listen on

    def address(self, name: str, *, port: str = "") -> str:
        return f"{self.hosts[name]}:{self.facts[port or name]}"


class HealthCheckKind(StrEnum):
    """Kind of a health check."""

    READY = "ready"  # its /ready endpoint returns 200
    HTTP = "http"  # a URL returns 200
    TCP = "tcp"  # it accepts a connection
    KAFKA = "kafka"  # it answers in the Kafka protocol


class HealthCheck(NamedTuple):
    """The health check of a process, run on the machine or in the container of the process."""

    kind: HealthCheckKind
    port: str  # field name of `Ports`, `broker` or `registry`
    path: str = "/"


class PublishedPort(NamedTuple):
    """A port that is open to devices or to people."""

    port: str
    to: Literal["devices", "people"]


class Access(NamedTuple):
    """Parts of the site's folder that a process has access to. Containers mount nothing else."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()  # excluded from `reads` and `writes`
    secrets: tuple[str, ...] = ()  # files in `secrets/`


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a site."""

    name: str
    about: str
    program: Program = Program.VITALLOOM
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = {}  # addresses, never a secret
    needs: tuple[str, ...] = ()  # processes that have to be ready, or steps that have to be done, before
    health: HealthCheck | None = None
    is_step: bool = False  # ends by itself with exit status 0
    access: Access = Access()
    publishes: tuple[PublishedPort, ...] = ()
    stop_within_s: int = STOP_WITHIN_S
    memory_mb: int
    scales: bool = False  # several instances share the work
    profile: str = ""
    is_outside: bool = False  # a simulated device: it connects to the public address of the site
    is_optional: bool = False  # the site starts without it if its program is not installed


WHOLE: Final = "."
"""The whole folder of the site."""
_KEYS: Final = ("ca", "control", "registry", "services", "broker", "secrets")
_SERVERS: Final = ("data/kafka", "data/influxdb", "data/grafana")
"""Folders of the servers, hidden from processes that only read the registry."""


def processes(deployment: Deployment) -> tuple[Process, ...]:
    """All processes of a site, in an order in which they can be started."""
    at, facts = deployment.folder, deployment.facts
    kafka, influxdb = deployment.address("kafka"), f"http://{deployment.address('influxdb')}"
    java = ("-Xms256m", f"-Xmx{facts['kafka_heap']}", f"-Dlog4j2.configurationFile={at}/config/kafka-log4j2.xml")
    properties = f"{at}/config/kafka.properties"
    controller = f"CONTROLLER://{deployment.loopback}:{facts['kafka_controller']}"
    return (
        Process(
            name="broker-files",
            about="writes the MQTT broker's configuration, access list and certificate",
            arguments=("broker", "write", "--site", at, "--host", "mosquitto", "--listen", deployment.outside),
            is_step=True,
            access=Access(writes=(WHOLE,)),
            memory_mb=192,
        ),
        Process(
            name="mosquitto",
            about="MQTT broker for edges and wearables, with client certificates",
            program=Program.MOSQUITTO,
            arguments=("-c", f"{at}/broker/mosquitto.conf"),
            needs=("broker-files",),
            health=HealthCheck(HealthCheckKind.TCP, "broker"),
            access=Access(writes=("broker",)),
            publishes=(PublishedPort("broker", "devices"),),
            memory_mb=768,
        ),
        Process(
            name="registry",
            about="enrols and renews devices; updates the broker's access and revocation lists",
            arguments=(
                "registry", "serve", "--site", at, "--host", deployment.outside, "--http-listen",
                f"{deployment.listen}:{facts['registry_http']}",
            ),
            needs=("broker-files",),
            health=HealthCheck(HealthCheckKind.READY, "registry_http", "/ready"),
            access=Access(writes=(WHOLE,), hides=("secrets", "people", "data")),
            publishes=(PublishedPort("registry", "devices"),),
            memory_mb=256,
        ),
        Process(
            name="kafka-format",
            about="creates the data folder of Kafka, once",
            program=Program.KAFKA,
            arguments=(
                *java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", facts["kafka_id"],
                "-c", properties,
            ),
            is_step=True,
            access=Access(reads=("config/kafka.properties", "config/kafka-log4j2.xml"), writes=("data/kafka",)),
            memory_mb=1_024,
        ),
        Process(
            name="kafka",
            about="Kafka, between ingest, workers, store writer and desk",
            program=Program.KAFKA,
            arguments=(
                *java, "kafka.Kafka", properties,
                "--override", f"listeners=PLAINTEXT://{deployment.listen}:{facts['kafka']},{controller}",
                "--override", f"advertised.listeners=PLAINTEXT://{kafka}",
            ),
            needs=("kafka-format",),
            health=HealthCheck(HealthCheckKind.KAFKA, "kafka"),
            access=Access(reads=("config/kafka.properties", "config/kafka-log4j2.xml"), writes=("data/kafka",)),
            memory_mb=1_024,
        ),
        Process(
            name="influxdb",
            about="InfluxDB, the database of readings, scores and alarms",
            program=Program.INFLUXDB,
            arguments=(
                # Hardening: Flux and templates cannot read private addresses, and templates cannot read local files.
                "--reporting-disabled", "--hardening-enabled", "--log-level", "warn",
                "--http-bind-address", f"{deployment.listen}:{facts['influxdb']}",
                "--bolt-path", f"{at}/data/influxdb/bolt",
                "--sqlite-path", f"{at}/data/influxdb/sqlite",
                "--engine-path", f"{at}/data/influxdb/engine",
            ),
            health=HealthCheck(HealthCheckKind.HTTP, "influxdb", "/health"),
            access=Access(writes=("data/influxdb",)),
            memory_mb=2_048,
        ),
        Process(
            name="prepare",
            about="creates missing topics, buckets and tokens",
            arguments=(
                "site", "prepare", at, "--kafka", kafka, "--influxdb", influxdb, "--partitions", facts["partitions"],
            ),
            needs=("kafka", "influxdb"),
            is_step=True,
            access=Access(reads=("config",), writes=("secrets",)),
            memory_mb=256,
        ),
        Process(
            name="ingest",
            about="receives readings from edges, confirms them when they are stored",
            arguments=(
                "ingest", "--site", at, "--data", f"{at}/data/ingest", "--config", f"{at}/config/ingest.toml",
            ),
            environment={
                "VITALLOOM_INGEST__KAFKA__BOOTSTRAP": kafka,
                "VITALLOOM_INGEST__BROKER__HOST": deployment.hosts["mosquitto"],
                "VITALLOOM_INGEST__BROKER__PORT": facts["broker"],
                **_http("INGEST", deployment, "ingest_http"),
            },
            needs=("prepare", "mosquitto", "registry"),
            health=HealthCheck(HealthCheckKind.READY, "ingest_http", "/ready"),
            access=Access(writes=(WHOLE,), hides=(*_KEYS, *_SERVERS, "people", "data/desk")),
            memory_mb=512,
        ),
        Process(
            name="worker",
            about="processes readings: scores, aggregates, alarms",
            arguments=("worker", "--config", f"{at}/config/worker.toml"),
            environment={"VITALLOOM_WORKER__KAFKA__BOOTSTRAP": kafka, **_http("WORKER", deployment, "worker_http")},
            needs=("prepare",),
            health=HealthCheck(HealthCheckKind.READY, "worker_http", "/ready"),
            access=Access(reads=("config/worker.toml",)),
            memory_mb=1_024,
            scales=True,
        ),
        Process(
            name="store",
            about="writes results of the workers to InfluxDB, and confirms them",
            arguments=("store", "run", "--config", f"{at}/config/store.toml"),
            environment={
                "VITALLOOM_STORE__KAFKA__BOOTSTRAP": kafka,
                "VITALLOOM_STORE__INFLUX__URL": influxdb,
                **_http("STORE", deployment, "store_http"),
            },
            needs=("prepare",),
            health=HealthCheck(HealthCheckKind.READY, "store_http", "/ready"),
            access=Access(reads=("config/store.toml",), secrets=("writer.token",)),
            memory_mb=512,
        ),
        Process(
            name="desk",
            about="alarm desk: notifies people until an alarm is answered",
            arguments=("desk", "--config", f"{at}/config/desk.toml"),
            environment={
                "VITALLOOM_DESK__KAFKA__BOOTSTRAP": kafka,
                "VITALLOOM_DESK__API__LISTEN": f"{deployment.listen}:{facts['desk']}",
                # In a container it has to listen on all addresses; the published port is for this machine only.
                "VITALLOOM_DESK__API__PLAIN_TEXT": "false" if deployment.listen == deployment.loopback else "true",
                **_http("DESK", deployment, "desk_http"),
            },
            needs=("prepare",),
            health=HealthCheck(HealthCheckKind.READY, "desk_http", "/ready"),
            access=Access(writes=(WHOLE,), hides=(*_KEYS, *_SERVERS, "ingest", "data/ingest")),
            publishes=(PublishedPort("desk", "people"),),
            memory_mb=512,
        ),
        Process(
            name="grafana",
            about="dashboards, and backstop alert rules",
            program=Program.GRAFANA,
            arguments=("--config", f"{at}/config/grafana.ini"),
            environment={
                "GF_SERVER_HTTP_ADDR": deployment.listen,
                "GF_SERVER_HTTP_PORT": facts["grafana"],
                # Not in grafana.ini: the image sets these variables, and they override the file.
                "GF_PATHS_DATA": f"{at}/data/grafana",
                "GF_PATHS_LOGS": f"{at}/data/grafana/log",
                "GF_PATHS_PLUGINS": f"{at}/data/grafana/plugins",
                "GF_PATHS_PROVISIONING": f"{at}/config/grafana/provisioning",
                "VITALLOOM_INFLUX_URL": influxdb,
                "VITALLOOM_INFLUX_ORG": "vitalloom",
                "VITALLOOM_DASHBOARDS": f"{at}/config/grafana/grafana",
                "VITALLOOM_BACKSTOP_WEBHOOK": facts["backstop_webhook"],
            },
            needs=("prepare",),
            health=HealthCheck(HealthCheckKind.HTTP, "grafana", "/api/health"),
            access=Access(
                reads=("config/grafana.ini", "config/grafana"), writes=("data/grafana",),
                secrets=("reader.token", "grafana-admin.password"),
            ),
            publishes=(PublishedPort("grafana", "people"),),
            memory_mb=512,
            is_optional=True,
        ),
        *_demo(deployment),
    )  # fmt: skip


def _demo(deployment: Deployment) -> tuple[Process, ...]:
    """Simulated edges and wearables, and a simulated phone that receives notifications."""
    at = deployment.folder
    ward = Access(writes=("demo",))
    return (
        Process(
            name="phone",
            about="simulated phone: shows the notifications of the desk",
            arguments=(
                "site",
                "phone",
                "--listen",
                f"{deployment.listen}:{deployment.facts['phone']}",
                "--file",
                f"{at}/data/phone.jsonl",
            ),
            health=HealthCheck(HealthCheckKind.HTTP, "phone"),
            access=Access(writes=("data",), hides=(*_SERVERS, "data/ingest", "data/desk")),
            memory_mb=128,
            profile=DEMO,
        ),
        Process(
            name="demo-enrol",
            about="enrols the devices of the demo and assigns them to beds",
            arguments=("site", "enrol-demo", at),
            needs=("registry", "mosquitto"),
            is_step=True,
            access=Access(writes=(WHOLE,), hides=("secrets", "people", "data")),
            memory_mb=512,
            is_outside=True,
            profile=DEMO,
        ),
        *(
            Process(
                name=f"edge-{number}",
                about=f"edge agent, as on a Raspberry Pi ({number} of {DEMO_EDGES})",
                arguments=("edge", "--config", f"{at}/demo/edge-{number}.toml"),
                needs=("demo-enrol",),
                access=ward,
                memory_mb=512,
                is_outside=True,
                profile=DEMO,
            )
            for number in range(1, DEMO_EDGES + 1)
        ),
        Process(
            name="wearables",
            about=f"wearables of {DEMO_PATIENTS} simulated patients, one of whom deteriorates",
            arguments=("site", "wearables", at),
            needs=("demo-enrol",),
            access=ward,
            memory_mb=512,
            is_outside=True,
            profile=DEMO,
        ),
    )


def _http(kind: str, deployment: Deployment, port: str) -> dict[str, str]:
    return {f"VITALLOOM_{kind}__HTTP__LISTEN": f"{deployment.listen}:{deployment.facts[port]}"}


def by_name(found: Iterable[Process]) -> dict[str, Process]:
    return {one.name: one for one in found}


def in_profiles(found: Iterable[Process], *, profiles: Sequence[str] = ()) -> tuple[Process, ...]:
    """The processes without a profile and those of `profiles`."""
    return tuple(one for one in found if not one.profile or one.profile in profiles)


def with_copies(found: Iterable[Process], *, workers: int, deployment: Deployment) -> tuple[Process, ...]:
    """Replace each process that scales by `workers` copies, each with its own name and port."""
    made: list[Process] = []
    for one in found:
        if not one.scales:
            made.append(one)
            continue
        made += [_copy(one, number, deployment) for number in range(1, workers + 1)]
    return tuple(made)


FURTHER_WORKERS: Final = 18
"""Distance between the ports of the first and the second worker, above the ports of other processes."""


def port_of_copy(first: int, number: int) -> int:
    return first if number == 1 else first + FURTHER_WORKERS + number - 2


def _copy(one: Process, number: int, deployment: Deployment) -> Process:
    assert one.health is not None  # noqa: S101 - a process that scales has a health check
    port = port_of_copy(int(deployment.facts[one.health.port]), number)
    name = f"{one.name}-{number}"
    key = f"VITALLOOM_{one.name.upper()}__HTTP__LISTEN"
    return msgspec.structs.replace(
        one,
        name=name,
        environment={**one.environment, key: f"{deployment.listen}:{port}"},
        health=one.health._replace(port=str(port)),
        scales=False,
    )


def start_order(found: Sequence[Process]) -> list[list[Process]]:
    """Rounds of processes: each round needs only earlier rounds. Processes are stopped in reverse order.

    Raises:
        ValueError: a process needs one that does not exist, or needs itself.
    """
    left, done, rounds = list(found), set[str](), list[list[Process]]()
    while left:
        ready = [one for one in left if all(need in done for need in one.needs)]
        if not ready:
            raise ValueError(f"unsatisfiable dependency: {left[0].name} needs {', '.join(left[0].needs)}")
        rounds.append(ready)
        done |= {one.name for one in ready}
        left = [one for one in left if one not in ready]
    return rounds
