"""`docker-compose.yml`, generated from the description of a site. Pure: the file in the repository is its output.

Containers run the processes of the description with its arguments and environment. This module adds what only
containers have: images, users, mounts, networks, limits.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from deploy.description import WHOLE, Deployment, HealthCheck, Process, Program, by_name, processes
from deploy.env import PHONE, compose_deployment
from deploy.folder import GENERATED_SECRETS, INFLUXDB_TOKENS
from runtime.version import __version__

IMAGES: Final[Mapping[Program, str]] = {
    Program.VITALLOOM: f"vitalloom:{__version__}",
    # Versions below 2.0.21 ignore the receive maximum of clients.
    Program.MOSQUITTO: "eclipse-mosquitto:2.0.22",
    Program.KAFKA: "apache/kafka:4.1.1",
    Program.INFLUXDB: "influxdb:2.7.12",
    Program.GRAFANA: "grafana/grafana:13.2.3",
}

_ENTRYPOINTS: Final[Mapping[Program, list[str]]] = {
    Program.VITALLOOM: ["vitalloom"],
    Program.MOSQUITTO: ["mosquitto"],
    Program.KAFKA: ["java", "-cp", "/opt/kafka/libs/*"],
    Program.INFLUXDB: ["influxd"],
    Program.GRAFANA: ["grafana", "server", "--homepath", "/usr/share/grafana"],
}
"""The programs themselves, without the start scripts of the images, which need root."""

_PIDS: Final = "broker-pids"
_NO_USER: Final = "use --env-file DIR/.env; containers do not run as root, so DIR has to belong to another user"
_SHORT: Final = 112
_SHARED_PIDS: Final = ("mosquitto", "registry")
_EXTERNAL: Final = frozenset({"mosquitto", "registry", "ingest", "desk", "grafana"})
"""Services with access to the outer network; the others have the inner network only."""

_HEAD: Final = """\
# A site in containers. Generated from deploy/description.py by `vitalloom site compose`; do not edit.
# `vitalloom site run` starts the same processes without containers.
#
#   vitalloom site init site --host ward.example       create the folder, as a non-root user
#   docker compose --env-file site/.env up -d          or: make up
#   docker compose --env-file site/.env up -d --scale worker=3
#   docker compose --env-file site/.env --profile demo up -d
#
# Each container mounts the parts of the site's folder that it needs, at their paths on the host. Secrets are files in
# that folder, owned by the user of the containers. This file has no passwords, and there are no default passwords.
# Decision support and secondary notification. Not a certified medical device.
"""


def text() -> str:
    """The content of the file."""
    deployment = compose_deployment()
    found = processes(deployment)
    parts = [_HEAD, "name: ${COMPOSE_PROJECT_NAME:-vitalloom}\n", _common(), "services:"]
    parts.append(
        _service(_PIDS, "shared process ids: the registry signals the broker to reload its files", "careful", _pids())
    )
    parts += [
        _service(
            one.name, one.about, "ours" if one.program is Program.VITALLOOM else "careful", service(one, deployment)
        )
        for one in found
    ]
    parts.append(_block({"networks": {"inner": {"internal": True}, "outer": {}}}))
    used = {name for one in found for name in one.access.secrets}
    files = {
        name: {"file": f"{deployment.folder}/secrets/{name}"}
        for name in (*GENERATED_SECRETS, *INFLUXDB_TOKENS)
        if name in used
    }
    parts.append(_block({"secrets": files}))
    return "\n".join(parts)


def service(one: Process, deployment: Deployment) -> dict[str, Any]:
    """The keys of one service beyond the shared ones."""
    made: dict[str, Any] = {}
    if one.program is not Program.VITALLOOM:
        made["image"] = IMAGES[one.program]
        made["entrypoint"] = _ENTRYPOINTS[one.program]
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
    if one.name in _SHARED_PIDS:
        made["pid"] = f"service:{_PIDS}"
    if one.publishes:
        made["ports"] = [
            f"{_env('VITALLOOM_FOR_' + port.to.upper())}:{deployment.facts[port.port]}:{deployment.facts[port.port]}"
            for port in one.publishes
        ]
    if mounts := _mounts(one, deployment):
        made["volumes"] = mounts
    if one.access.secrets:
        made["secrets"] = [
            {"source": name, "target": f"{deployment.folder}/secrets/{name}"} for name in one.access.secrets
        ]
    needs = _needs(one, by_name(processes(deployment)))
    if needs:
        made["depends_on"] = needs
    if one.is_step:
        made["restart"] = "on-failure:5"
    if one.health is not None:
        made["healthcheck"] = {
            "test": ["CMD", *_health_command(one.program, one.health, deployment)],
            "interval": "10s",
            "timeout": "5s",
            "retries": 6,
            "start_period": "60s",
        }
    made["stop_grace_period"] = f"{one.stop_within_s}s"
    made["mem_limit"] = f"{one.memory_mb}m"
    return made


def _common() -> str:
    careful = {
        # Without the .env of a site, or if it belongs to root, nothing starts.
        "user": f"${{VITALLOOM_UID:?{_NO_USER}}}:{_env('VITALLOOM_GID')}",
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
        "image": IMAGES[Program.MOSQUITTO],
        "entrypoint": ["tail", "-f", "/dev/null"],
        "init": True,
        "network_mode": "none",
        "stop_grace_period": "2s",
        "mem_limit": "16m",
    }


def _networks(one: Process) -> Any:
    if one.name == "registry":
        # Ingest renews its certificate at the registry by its external name.
        return {"inner": {"aliases": [_env("VITALLOOM_HOST")]}, "outer": {}}
    return ["inner", "outer"] if one.name in _EXTERNAL else ["inner"]


def _mounts(one: Process, deployment: Deployment) -> list[dict[str, Any]]:
    def bind(path: str, **more: Any) -> dict[str, Any]:
        full = deployment.folder if path == WHOLE else f"{deployment.folder}/{path}"
        return {"type": "bind", "source": full, "target": full, **more, "bind": {"create_host_path": False}}

    hidden = [
        {"type": "tmpfs", "target": f"{deployment.folder}/{path}", "tmpfs": {"size": 4_096}}
        for path in one.access.hides
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
    if one.name in _SHARED_PIDS:
        needs[_PIDS] = {"condition": "service_started"}
    return needs


def _health_command(program: Program, health: HealthCheck, deployment: Deployment) -> list[str]:
    """A health check command that exists in the image of the program."""
    at = f"{deployment.loopback}:{deployment.facts[health.port]}"
    if program is Program.VITALLOOM:
        return ["vitalloom", "health", deployment.facts[health.port], *(["--live"] if health.path == "/live" else [])]
    if program is Program.INFLUXDB:
        return ["influx", "ping", "--host", f"http://{at}"]
    if program is Program.GRAFANA:
        return ["wget", "-q", "-O", "/dev/null", f"http://{at}{health.path}"]
    return ["nc", "-z", deployment.loopback, deployment.facts[health.port]]


def _env(name: str) -> str:
    return f"${{{name}}}"


def _service(name: str, about: str, anchor: str, particular: Mapping[str, Any]) -> str:
    return f"  # {about}\n  {name}:\n    <<: *{anchor}\n{_indented(_block(particular), 4)}"


def _block(table: Mapping[str, Any]) -> str:
    """YAML with one line per key where the value fits on it."""
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
    """Names of the variables that `.env` has to define."""
    import re

    return sorted(set(re.findall(r"\$\{(VITALLOOM_[A-Z_]+)", text())))
