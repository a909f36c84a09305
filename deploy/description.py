"""One description of a site: its processes, their arguments, addresses, files, health, order. Pure.

`docker-compose.yml` and `vitalloom site run` are made of it. What differs between the two is a `Place`: how a process
is reached by others, and what its program is called there. Paths do not differ: a container sees the site's folder
where this machine has it. So arguments and generated files are the same, and environments carry addresses only.
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
    """What is run. How it is called depends on the place."""

    VITALLOOM = "vitalloom"
    MOSQUITTO = "mosquitto"
    KAFKA = "kafka"  # Java, with Kafka's classes
    INFLUXDB = "influxdb"
    GRAFANA = "grafana"


class Ports(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the processes of a site listen. Those that devices are told are in `site.json`."""

    kafka: int = 9_092
    kafka_controller: int = 9_093
    influxdb: int = 8_086
    grafana: int = 3_000
    desk: int = 8_095
    phone: int = 8_099
    ingest_http: int = 9_101
    worker_http: int = 9_102  # of the first worker; on one machine each further one has the next from 9120 on
    store_http: int = 9_103
    desk_http: int = 9_104
    registry_http: int = 9_105

    @classmethod
    def after(cls, first: int) -> "Ports":
        """One after the other: for a second site on one machine."""
        return cls(**{name: first + index for index, name in enumerate(cls.__struct_fields__)})


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a site runs, as far as its description has to know."""

    folder: str  # of the site, as its processes see it
    facts: Mapping[str, str]  # ports by name; kafka_id, kafka_heap, partitions, backstop_webhook
    hosts: Mapping[str, str]  # of processes, by name
    loopback: str = "127.0.0.1"
    listen: str  # the address that processes listen on
    outside: str  # and those that devices come to

    def address(self, name: str, *, port: str = "") -> str:
        return f"{self.hosts[name]}:{self.facts[port or name]}"


class Check(StrEnum):
    """How to see whether a process does its work."""

    READY = "ready"  # its own page says 200: it makes progress
    HTTP = "http"  # a page of it says 200
    TCP = "tcp"  # it takes a connection
    KAFKA = "kafka"  # it speaks Kafka's protocol


class Health(NamedTuple):
    """What to ask, from within the place where the process runs."""

    how: Check
    port: str  # a name of `Ports`, `broker` or `registry`
    path: str = "/"


class Published(NamedTuple):
    """A port that is for others than this site."""

    port: str
    to: Literal["devices", "people"]


class Access(NamedTuple):
    """What a process sees of the site's folder. Everything else is out of its reach in a container."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()  # within what it may write or read
    secrets: tuple[str, ...] = ()  # files in `secrets/`


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a site."""

    name: str
    about: str
    program: Program = Program.VITALLOOM
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = {}  # addresses; never a secret
    needs: tuple[str, ...] = ()  # must be well, or done, before
    health: Health | None = None
    is_step: bool = False  # ends by itself, with 0
    access: Access = Access()
    publishes: tuple[Published, ...] = ()
    stop_within_s: int = STOP_WITHIN_S
    memory_mb: int
    scales: bool = False  # any number of them share the work
    profile: str = ""
    is_outside: bool = False  # a device, not a part of the site: it comes as devices do, by the site's public address
    is_optional: bool = False  # a machine without its program is no reason to start nothing


WHOLE: Final = "."
"""The site's folder itself."""
_KEYS: Final = ("ca", "control", "registry", "services", "broker", "secrets")
_SERVERS: Final = ("data/kafka", "data/influxdb", "data/grafana")
"""Of what lies in the site's folder, what somebody who only reads the registry has no business with."""


def processes(place: Place) -> tuple[Process, ...]:
    """All of a site, in an order in which they may be started."""
    at, facts = place.folder, place.facts
    kafka, influxdb = place.address("kafka"), f"http://{place.address('influxdb')}"
    java = ("-Xms256m", f"-Xmx{facts['kafka_heap']}", f"-Dlog4j2.configurationFile={at}/config/kafka-log4j2.xml")
    properties = f"{at}/config/kafka.properties"
    controller = f"CONTROLLER://{place.loopback}:{facts['kafka_controller']}"
    return (
        Process(
            name="broker-files",
            about="writes the MQTT broker's configuration, access list and certificate",
            arguments=("broker", "write", "--site", at, "--host", "mosquitto", "--listen", place.outside),
            is_step=True,
            access=Access(writes=(WHOLE,)),
            memory_mb=192,
        ),
        Process(
            name="mosquitto",
            about="MQTT broker: edges and wearables come here, with certificates",
            program=Program.MOSQUITTO,
            arguments=("-c", f"{at}/broker/mosquitto.conf"),
            needs=("broker-files",),
            health=Health(Check.TCP, "broker"),
            access=Access(writes=("broker",)),
            publishes=(Published("broker", "devices"),),
            memory_mb=768,
        ),
        Process(
            name="registry",
            about="enrols and renews devices; keeps the broker's lists true",
            arguments=(
                "registry", "serve", "--site", at, "--host", place.outside, "--http-listen",
                f"{place.listen}:{facts['registry_http']}",
            ),
            needs=("broker-files",),
            health=Health(Check.READY, "registry_http", "/ready"),
            access=Access(writes=(WHOLE,), hides=("secrets", "people", "data")),
            publishes=(Published("registry", "devices"),),
            memory_mb=256,
        ),
        Process(
            name="kafka-format",
            about="makes Kafka's folder, once",
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
            about="the log between ingest, workers, store and desk",
            program=Program.KAFKA,
            arguments=(
                *java, "kafka.Kafka", properties,
                "--override", f"listeners=PLAINTEXT://{place.listen}:{facts['kafka']},{controller}",
                "--override", f"advertised.listeners=PLAINTEXT://{kafka}",
            ),
            needs=("kafka-format",),
            health=Health(Check.KAFKA, "kafka"),
            access=Access(reads=("config/kafka.properties", "config/kafka-log4j2.xml"), writes=("data/kafka",)),
            memory_mb=1_024,
        ),
        Process(
            name="influxdb",
            about="the database of readings, scores and alarms",
            program=Program.INFLUXDB,
            arguments=(
                # Hardening: Flux and templates fetch nothing from private addresses, and templates no local files.
                "--reporting-disabled", "--hardening-enabled", "--log-level", "warn",
                "--http-bind-address", f"{place.listen}:{facts['influxdb']}",
                "--bolt-path", f"{at}/data/influxdb/bolt",
                "--sqlite-path", f"{at}/data/influxdb/sqlite",
                "--engine-path", f"{at}/data/influxdb/engine",
            ),
            health=Health(Check.HTTP, "influxdb", "/health"),
            access=Access(writes=("data/influxdb",)),
            memory_mb=2_048,
        ),
        Process(
            name="prepare",
            about="makes topics, buckets and tokens, as far as they are missing",
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
            about="opens what edges send, signs when it is stored",
            arguments=(
                "ingest", "--site", at, "--data", f"{at}/data/ingest", "--config", f"{at}/config/ingest.toml",
            ),
            environment={
                "VITALLOOM_INGEST__KAFKA__BOOTSTRAP": kafka,
                "VITALLOOM_INGEST__BROKER__HOST": place.hosts["mosquitto"],
                "VITALLOOM_INGEST__BROKER__PORT": facts["broker"],
                **_http("INGEST", place, "ingest_http"),
            },
            needs=("prepare", "mosquitto", "registry"),
            health=Health(Check.READY, "ingest_http", "/ready"),
            access=Access(writes=(WHOLE,), hides=(*_KEYS, *_SERVERS, "people", "data/desk")),
            memory_mb=512,
        ),
        Process(
            name="worker",
            about="judges readings: scores, windows, alarms",
            arguments=("worker", "--config", f"{at}/config/worker.toml"),
            environment={"VITALLOOM_WORKER__KAFKA__BOOTSTRAP": kafka, **_http("WORKER", place, "worker_http")},
            needs=("prepare",),
            health=Health(Check.READY, "worker_http", "/ready"),
            access=Access(reads=("config/worker.toml",)),
            memory_mb=1_024,
            scales=True,
        ),
        Process(
            name="store",
            about="writes what was judged to InfluxDB, and says when it is there",
            arguments=("store", "run", "--config", f"{at}/config/store.toml"),
            environment={
                "VITALLOOM_STORE__KAFKA__BOOTSTRAP": kafka,
                "VITALLOOM_STORE__INFLUX__URL": influxdb,
                **_http("STORE", place, "store_http"),
            },
            needs=("prepare",),
            health=Health(Check.READY, "store_http", "/ready"),
            access=Access(reads=("config/store.toml",), secrets=("writer.token",)),
            memory_mb=512,
        ),
        Process(
            name="desk",
            about="calls people until somebody answers, and lets them answer",
            arguments=("desk", "--config", f"{at}/config/desk.toml"),
            environment={
                "VITALLOOM_DESK__KAFKA__BOOTSTRAP": kafka,
                "VITALLOOM_DESK__API__LISTEN": f"{place.listen}:{facts['desk']}",
                # In a container it has to listen beyond loopback; outside of it only this machine gets there.
                "VITALLOOM_DESK__API__PLAIN_TEXT": "false" if place.listen == place.loopback else "true",
                **_http("DESK", place, "desk_http"),
            },
            needs=("prepare",),
            health=Health(Check.READY, "desk_http", "/ready"),
            access=Access(writes=(WHOLE,), hides=(*_KEYS, *_SERVERS, "ingest", "data/ingest")),
            publishes=(Published("desk", "people"),),
            memory_mb=512,
        ),
        Process(
            name="grafana",
            about="trends and the wall screen; a backstop behind the alarms",
            program=Program.GRAFANA,
            arguments=("--config", f"{at}/config/grafana.ini"),
            environment={
                "GF_SERVER_HTTP_ADDR": place.listen,
                "GF_SERVER_HTTP_PORT": facts["grafana"],
                # Not in grafana.ini: the image sets these for itself, and the environment wins.
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
            health=Health(Check.HTTP, "grafana", "/api/health"),
            access=Access(
                reads=("config/grafana.ini", "config/grafana"), writes=("data/grafana",),
                secrets=("reader.token", "grafana-admin.password"),
            ),
            publishes=(Published("grafana", "people"),),
            memory_mb=512,
            is_optional=True,
        ),
        *_demo(place),
    )  # fmt: skip


def _demo(place: Place) -> tuple[Process, ...]:
    """A ward of simulated patients before the site, and a phone behind it."""
    at = place.folder
    ward = Access(writes=("demo",))
    return (
        Process(
            name="phone",
            about="shows what a phone would show",
            arguments=(
                "site", "phone", "--listen", f"{place.listen}:{place.facts['phone']}",
                "--file", f"{at}/data/phone.jsonl",
            ),
            health=Health(Check.HTTP, "phone"),
            access=Access(writes=("data",), hides=(*_SERVERS, "data/ingest", "data/desk")),
            memory_mb=128,
            profile=DEMO,
        ),
        Process(
            name="demo-enrol",
            about="invites, enrols and binds the devices of the demo",
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
                about=f"agent of the beds that it hears, as on a Raspberry Pi ({number} of {DEMO_EDGES})",
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
            about=f"{DEMO_PATIENTS} simulated patients; one of them deteriorates at once",
            arguments=("site", "wearables", at),
            needs=("demo-enrol",),
            access=ward,
            memory_mb=512,
            is_outside=True,
            profile=DEMO,
        ),
    )  # fmt: skip


def _http(kind: str, place: Place, port: str) -> dict[str, str]:
    return {f"VITALLOOM_{kind}__HTTP__LISTEN": f"{place.listen}:{place.facts[port]}"}


def named(found: Iterable[Process]) -> dict[str, Process]:
    return {one.name: one for one in found}


def chosen(found: Iterable[Process], *, profiles: Sequence[str] = ()) -> tuple[Process, ...]:
    """Without those of profiles that nobody asked for."""
    return tuple(one for one in found if not one.profile or one.profile in profiles)


def with_copies(found: Iterable[Process], *, workers: int, place: Place) -> tuple[Process, ...]:
    """On one machine: each copy under a name and with a page of its own."""
    made: list[Process] = []
    for one in found:
        if not one.scales:
            made.append(one)
            continue
        made += [_copy(one, number, place) for number in range(1, workers + 1)]
    return tuple(made)


FURTHER_WORKERS: Final = 18
"""The second worker's page is so far above the first one's: past the pages of the others."""


def port_of_copy(first: int, number: int) -> int:
    return first if number == 1 else first + FURTHER_WORKERS + number - 2


def _copy(one: Process, number: int, place: Place) -> Process:
    assert one.health is not None  # noqa: S101 - what scales has a page
    port = port_of_copy(int(place.facts[one.health.port]), number)
    name = f"{one.name}-{number}"
    key = f"VITALLOOM_{one.name.upper()}__HTTP__LISTEN"
    return msgspec.structs.replace(
        one, name=name, environment={**one.environment, key: f"{place.listen}:{port}"},
        health=one.health._replace(port=str(port)), scales=False,
    )  # fmt: skip


def start_order(found: Sequence[Process]) -> list[list[Process]]:
    """Rounds: each of them needs only what is in the rounds before it. The other way round is the order of stopping.

    Raises:
        ValueError: a need that nobody meets.
    """
    left, done, rounds = list(found), set[str](), list[list[Process]]()
    while left:
        ready = [one for one in left if all(need in done for need in one.needs)]
        if not ready:
            raise ValueError(f"nobody meets what {left[0].name} needs: {', '.join(left[0].needs)}")
        rounds.append(ready)
        done |= {one.name for one in ready}
        left = [one for one in left if one not in ready]
    return rounds
