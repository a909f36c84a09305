"""`docker-compose.yml`, made of the description of a site. Pure: the text in the repository is what this gives.

Containers run the processes of the description with its arguments and environment. What is added here is what only
containers have: images, users, mounts, networks, limits.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from deploy.description import WHOLE, Health, Place, Process, Program, named, processes
from deploy.env import PHONE, compose_place
from deploy.folder import DRAWN, FILLED_LATER
from runtime.version import __version__

IMAGES: Final[Mapping[Program, str]] = {
    Program.VITALLOOM: f"vitalloom:{__version__}",
    # Below 2.0.21 the receive maximum of its clients is not kept to.
    Program.MOSQUITTO: "eclipse-mosquitto:2.0.22",
    Program.KAFKA: "apache/kafka:4.1.1",
    Program.INFLUXDB: "influxdb:2.7.12",
    Program.GRAFANA: "grafana/grafana:13.2.3",
}

_CALLED: Final[Mapping[Program, list[str]]] = {
    Program.VITALLOOM: ["vitalloom"],
    Program.MOSQUITTO: ["mosquitto"],
    Program.KAFKA: ["java", "-cp", "/opt/kafka/libs/*"],
    Program.INFLUXDB: ["influxd"],
    Program.GRAFANA: ["grafana", "server", "--homepath", "/usr/share/grafana"],
}
"""Instead of what the images would do first, as root: the programs themselves, as natively."""

_PIDS: Final = "broker-pids"
_NOBODY: Final = "say --env-file DIR/.env; containers do not run as root, so DIR belongs to another user"
_SHORT: Final = 112
_IN_ONE: Final = ("mosquitto", "registry")
_OUTWARDS: Final = frozenset({"mosquitto", "registry", "ingest", "desk", "grafana"})
"""Everybody else sees the inner network only, which has no way out."""

_HEAD: Final = """\
# A whole site in containers. Made of deploy/description.py: `vitalloom site compose` prints this text, and a test
# compares the two; `vitalloom site run` starts the same processes without containers.
#
#   vitalloom site init site --host ward.example       the folder, as a user that is not root
#   docker compose --env-file site/.env up -d          or: make up
#   docker compose --env-file site/.env up -d --scale worker=3
#   docker compose --env-file site/.env --profile demo up -d
#
# The folder of the site is mounted where this machine has it, part by part: each container sees what it needs. Secrets
# are files in it, owned by the user that containers run as. No password stands here, and none has a default.
# Decision support and secondary notification. Not a certified medical device.
"""


def text() -> str:
    """The whole file."""
    place = compose_place()
    found = processes(place)
    parts = [_HEAD, "name: ${COMPOSE_PROJECT_NAME:-vitalloom}\n", _common(), "services:"]
    parts.append(_service(_PIDS, "the ids of the broker and the registry: one tells the other to read its files again",
                          "careful", _pids()))  # fmt: skip
    parts += [
        _service(one.name, one.about, "ours" if one.program is Program.VITALLOOM else "careful", service(one, place))
        for one in found
    ]
    parts.append(_block({"networks": {"inner": {"internal": True}, "outer": {}}}))
    used = {name for one in found for name in one.access.secrets}
    files = {name: {"file": f"{place.folder}/secrets/{name}"} for name in (*DRAWN, *FILLED_LATER) if name in used}
    parts.append(_block({"secrets": files}))
    return "\n".join(parts)


def service(one: Process, place: Place) -> dict[str, Any]:
    """What is particular about one service."""
    made: dict[str, Any] = {}
    if one.program is not Program.VITALLOOM:
        made["image"] = IMAGES[one.program]
        made["entrypoint"] = _CALLED[one.program]
    if one.profile:
        made["profiles"] = [one.profile]
    made["command"] = list(one.arguments)
    if one.environment:
        made["environment"] = dict(one.environment)
    if one.is_outside:
        made["network_mode"] = "host"
    elif one.name == "phone":
        made["network_mode"] = f"service:{PHONE}"
    else:
        made["networks"] = _networks(one)
    if one.name in _IN_ONE:
        made["pid"] = f"service:{_PIDS}"
    if one.publishes:
        made["ports"] = [
            f"{_env('VITALLOOM_FOR_' + port.to.upper())}:{place.facts[port.port]}:{place.facts[port.port]}"
            for port in one.publishes
        ]
    if mounts := _mounts(one, place):
        made["volumes"] = mounts
    if one.access.secrets:
        made["secrets"] = [{"source": name, "target": f"{place.folder}/secrets/{name}"} for name in one.access.secrets]
    needs = _needs(one, named(processes(place)))
    if needs:
        made["depends_on"] = needs
    if one.is_step:
        made["restart"] = "on-failure:5"
    if one.health is not None:
        made["healthcheck"] = {
            "test": ["CMD", *_asked(one.program, one.health, place)],
            "interval": "10s", "timeout": "5s", "retries": 6, "start_period": "60s",
        }  # fmt: skip
    made["stop_grace_period"] = f"{one.stop_within_s}s"
    made["mem_limit"] = f"{one.memory_mb}m"
    return made


def _common() -> str:
    careful = {
        # Without the site's .env, or with one of root's, nothing starts.
        "user": f"${{VITALLOOM_UID:?{_NOBODY}}}:{_env('VITALLOOM_GID')}",
        "read_only": True,
        "tmpfs": ["/tmp:size=64m,mode=1777"],  # noqa: S108 - of a container, in memory
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}},
    }
    ours = {"image": IMAGES[Program.VITALLOOM], "build": "."}
    return (
        f"x-careful: &careful\n{_indented(_block(careful), 2)}\n"
        f"x-ours: &ours\n  <<: *careful\n{_indented(_block(ours), 2)}"
    )


def _pids() -> dict[str, Any]:
    return {
        "image": IMAGES[Program.MOSQUITTO], "entrypoint": ["tail", "-f", "/dev/null"], "init": True,
        "network_mode": "none", "stop_grace_period": "2s", "mem_limit": "16m",
    }  # fmt: skip


def _networks(one: Process) -> Any:
    if one.name == "registry":
        # Who renews asks for the registry by the name that devices know, from within as well.
        return {"inner": {"aliases": [_env("VITALLOOM_HOST")]}, "outer": {}}
    return ["inner", "outer"] if one.name in _OUTWARDS else ["inner"]


def _mounts(one: Process, place: Place) -> list[dict[str, Any]]:
    def bind(path: str, **more: Any) -> dict[str, Any]:
        full = place.folder if path == WHOLE else f"{place.folder}/{path}"
        return {"type": "bind", "source": full, "target": full, **more, "bind": {"create_host_path": False}}

    hidden = [
        {"type": "tmpfs", "target": f"{place.folder}/{path}", "tmpfs": {"size": 4_096}} for path in one.access.hides
    ]
    return [
        *(bind(path) for path in one.access.writes),
        *(bind(path, read_only=True) for path in one.access.reads),
        *hidden,
    ]


def _needs(one: Process, known: Mapping[str, Process]) -> dict[str, dict[str, str]]:
    def condition(need: Process) -> str:
        if need.is_step:
            return "service_completed_successfully"
        return "service_healthy" if need.health is not None else "service_started"

    needs = {name: {"condition": condition(known[name])} for name in one.needs}
    if one.name in _IN_ONE:
        needs[_PIDS] = {"condition": "service_started"}
    return needs


def _asked(program: Program, health: Health, place: Place) -> list[str]:
    """A question that the image of the program has the means for."""
    at = f"{place.loopback}:{place.facts[health.port]}"
    if program is Program.VITALLOOM:
        return ["vitalloom", "health", place.facts[health.port], *(["--live"] if health.path == "/live" else [])]
    if program is Program.INFLUXDB:
        return ["influx", "ping", "--host", f"http://{at}"]
    if program is Program.GRAFANA:
        return ["wget", "-q", "-O", "/dev/null", f"http://{at}{health.path}"]
    return ["nc", "-z", place.loopback, place.facts[health.port]]


def _env(name: str) -> str:
    return f"${{{name}}}"


def _service(name: str, about: str, anchor: str, particular: Mapping[str, Any]) -> str:
    return f"  # {about}\n  {name}:\n    <<: *{anchor}\n{_indented(_block(particular), 4)}"


def _block(table: Mapping[str, Any]) -> str:
    """Key by key; what fits on a line stands on one, as somebody would write it."""
    rows = []
    for key, value in table.items():
        short = f"{key}: {_flow(value)}"
        if not isinstance(value, list | dict) or len(short) <= _SHORT:
            rows.append(short)
        elif isinstance(value, list):
            rows += [f"{key}:", *(f"  - {_flow(one)}" for one in value)]
        else:
            rows += [f"{key}:", _indented(_block(value), 2).rstrip("\n")]
    return "\n".join(rows) + "\n"


def _flow(value: Any) -> str:
    text_ = yaml.safe_dump(value, sort_keys=False, width=100_000, default_flow_style=True, allow_unicode=True)
    return text_.removesuffix("\n...\n").removesuffix("\n")


def _indented(text_: str, by: int) -> str:
    return "".join(f"{' ' * by}{row}" if row.strip() else row for row in text_.splitlines(keepends=True))


def variables() -> Iterable[str]:
    """Names that `.env` has to hold."""
    import re

    return sorted(set(re.findall(r"\$\{(VITALLOOM_[A-Z_]+)", text())))
