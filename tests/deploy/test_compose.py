"""What containers would run: the file against the description, the schema, the client, and the folder of a site."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

import vitalloom
from deploy import compose, env, settings
from deploy.description import Program, by_name, processes
from deploy.folder import SiteFolder
from stream.site.folder import SiteFacts

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SCHEMA = Path(__file__).parent / "compose-spec.json"  # of compose-go 2.9.1, Apache-2.0
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = sorted(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
PLACES = r"(?<![\w.])(0\.0\.0\.0|127\.0\.0\.1|kafka|influxdb|mosquitto|phone|desk)(?=:\d|$)"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SiteFacts]:
    folder = tmp_path_factory.mktemp("compose") / "site"
    return folder, SiteFolder(folder).create(
        name="north", host="127.0.0.1", registry_port=8_443, broker_port=8_883, first_port=None, who="test"
    )


@pytest.fixture(scope="module")
def variables(site: tuple[Path, SiteFacts]) -> dict[str, str]:
    """Of `.env`, as it is for a user who is not root."""
    folder, facts = site
    text = env.text(folder, settings.read(folder), facts, uid=1_000, gid=1_000)
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))  # type: ignore[misc]


def test_file_is_generated_from_the_description() -> None:
    assert FILE.read_text(encoding="utf-8") == compose.text(), "vitalloom site compose > docker-compose.yml"


def test_file_follows_the_compose_schema() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))

    jsonschema.Draft7Validator(schema).validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def test_every_process_of_the_description_is_a_service(services: dict[str, Any]) -> None:
    found = by_name(processes(env.compose_deployment()))

    assert set(services) == set(found) | {"broker-pids"}
    for name, one in found.items():
        assert services[name]["command"] == list(one.arguments), name
        assert services[name].get("environment", {}) == dict(one.environment), name


def test_only_addresses_differ_from_the_native_deployment(
    services: dict[str, Any], site: tuple[Path, SiteFacts]
) -> None:
    folder, facts = site
    here = settings.native_deployment(folder, settings.read(folder), facts)

    for one in processes(here):
        contained = [_filled(word, folder, here.facts) for word in services[one.name]["command"]]
        assert [_no_host(word) for word in contained] == [_no_host(word) for word in one.arguments], one.name
        assert set(services[one.name].get("environment", {})) == set(one.environment)


def _filled(text: str, folder: Path, facts: Any) -> str:
    text = text.replace("${VITALLOOM_DIR}", str(folder.resolve()))
    return re.sub(r"\$\{VITALLOOM_([A-Z_]+)\}", lambda found: facts[found[1].lower()], text)


def _no_host(word: str) -> str:
    return re.sub(PLACES, "HOST", word)


def test_images_are_pinned(services: dict[str, Any]) -> None:
    images = {one["image"] for one in services.values()}

    assert all(re.search(r":v?\d+\.\d+(\.\d+)?$", image) for image in images), images
    major, minor, patch = map(int, compose.IMAGES[Program.MOSQUITTO].partition(":")[2].split("."))
    assert (major, minor, patch) >= (2, 0, 21)


def test_every_container_is_confined(services: dict[str, Any]) -> None:
    for name, one in services.items():
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["read_only"] is True, name
        assert one["user"].startswith("${VITALLOOM_UID:?"), name
        assert one["mem_limit"], name
        assert one["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name
        assert one["restart"] in ("unless-stopped", "on-failure:5"), name
        assert "container_name" not in one, name
        assert one.get("privileged") is None


def test_only_ports_for_devices_and_people_are_published(services: dict[str, Any]) -> None:
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}

    assert {"mosquitto", "registry"} <= set(published) <= {"mosquitto", "registry", "desk", "grafana"}
    for ports in published.values():
        assert all(port.startswith(("${VITALLOOM_FOR_DEVICES}:", "${VITALLOOM_FOR_PEOPLE}:")) for port in ports)


def test_workers_can_be_scaled(services: dict[str, Any]) -> None:
    worker = services["worker"]

    assert "ports" not in worker
    assert "container_name" not in worker
    assert not [one for one in worker["volumes"] if not one.get("read_only")], "what three would write to"


def test_no_secret_in_the_file_or_in_the_environment(
    services: dict[str, Any], variables: dict[str, str], site: tuple[Path, SiteFacts]
) -> None:
    folder, _ = site
    drawn = [path.read_text().strip() for path in (folder / "secrets").iterdir()]
    told = [*variables.values(), FILE.read_text(encoding="utf-8")]

    assert not [secret for secret in drawn if secret and any(secret in text for text in told)]
    for name, one in services.items():
        for key in one.get("environment", {}):
            assert not re.search("PASSWORD|TOKEN|SECRET|KEY", key) or key.endswith(("__FILE", "_FILE")), (name, key)


def test_env_file_defines_every_variable(variables: dict[str, str]) -> None:
    assert set(compose.variables()) <= set(variables)


def test_site_init_creates_every_mounted_file(services: dict[str, Any], site: tuple[Path, SiteFacts]) -> None:
    folder, _ = site
    sources = [m["source"] for one in services.values() for m in one.get("volumes", ()) if m["type"] == "bind"]
    hidden = [m["target"] for one in services.values() for m in one.get("volumes", ()) if m["type"] == "tmpfs"]
    secrets = [one["file"] for one in yaml.safe_load(FILE.read_text())["secrets"].values()]

    assert sources
    for path in [*sources, *hidden, *secrets]:
        assert path.startswith("${VITALLOOM_DIR}")
        assert Path(path.replace("${VITALLOOM_DIR}", str(folder))).exists(), path


def test_every_command_line_is_valid(site: tuple[Path, SiteFacts], services: dict[str, Any]) -> None:
    folder, facts = site
    here = settings.native_deployment(folder, settings.read(folder), facts)
    asked = 0

    for one in processes(here):
        if one.program is Program.VITALLOOM:
            _parse([_filled(word, folder, here.facts) for word in services[one.name]["command"]])
            asked += 1
        test = services[one.name].get("healthcheck", {}).get("test", [])
        if test[1:2] == ["vitalloom"]:
            _parse([_filled(word, folder, here.facts) for word in test[2:]])
    assert asked >= 8


def _parse(words: list[str]) -> None:
    """As the command line would, without doing it. Raises what it would refuse."""
    command: Any = typer.main.get_command(vitalloom.command_line(words[0]))
    context = command.make_context("vitalloom", list(words))
    while hasattr(command, "resolve_command") and (rest := [*context._protected_args, *context.args]):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def test_processes_accept_their_configuration_files(site: tuple[Path, SiteFacts]) -> None:
    from runtime.config import load
    from stream.config import IngestConfig, StoreConfig, WorkerConfig

    folder, _ = site
    deployment = env.compose_deployment()
    found = by_name(processes(deployment))
    for name, kind in (("ingest", IngestConfig), ("worker", WorkerConfig), ("store", StoreConfig)):
        told = {key: re.sub(r"\$\{[A-Z_]+\}", "1234", value) for key, value in found[name].environment.items()}
        load(kind, folder / "config" / f"{name}.toml", env_prefix=f"VITALLOOM_{name.upper()}", environment=told)


@pytest.mark.services
def test_compose_client_reads_the_file(variables: dict[str, str], tmp_path: Path) -> None:
    """`docker compose config`; where the client or its plugin is not there, the schema has to do."""
    client = shutil.which("docker")
    if client is None or subprocess.run([client, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker client with compose on this machine; the schema was checked")
    file = tmp_path / "env"
    file.write_text("".join(f"{key}={value}\n" for key, value in variables.items()))
    command = [
        client,
        "compose",
        "--file",
        str(FILE),
        "--env-file",
        str(file),
        "--profile",
        "demo",
        "config",
        "--format",
        "json",
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "not set" not in done.stderr, done.stderr
    told = json.loads(done.stdout)
    assert told["services"]["worker"]["user"] == "1000:1000"
    assert told["services"]["edge-1"]["network_mode"] == "host"


def test_nothing_starts_without_a_site_or_with_one_of_root(site: tuple[Path, SiteFacts]) -> None:
    folder, facts = site

    assert "VITALLOOM_UID" not in [
        line.partition("=")[0] for line in env.text(folder, settings.read(folder), facts, uid=0, gid=0).splitlines()
    ]
    assert "${VITALLOOM_UID:?" in FILE.read_text()


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Instructions of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


class TestImage:
    """The Dockerfile, as far as it can be judged without an engine."""

    def copied(self, lines: list[str]) -> Iterator[str]:
        for line in lines:
            if line.startswith("COPY ") and "--from=" not in line:
                yield from line.split()[1:-1]

    def test_every_package_is_copied_and_exists(self, lines: list[str]) -> None:
        copied = set(self.copied(lines))

        assert set(OURS) <= copied
        assert [one for one in copied if not (ROOT / one).exists()] == []

    def test_image_runs_as_an_unprivileged_user_without_a_shell(self, lines: list[str]) -> None:
        assert "USER 10001:10001" in lines
        for line in lines:
            word, _, rest = line.partition(" ")
            if word in ("RUN", "ENTRYPOINT", "CMD"):
                assert isinstance(json.loads(rest), list), line

    def test_installed_extra_exists(self, lines: list[str]) -> None:
        extras = PROJECT["project"]["optional-dependencies"]

        assert "site" in extras
        assert any(".[site]" in line for line in lines)

    def test_build_is_staged_on_pinned_base_images(self, lines: list[str]) -> None:
        grounds = [line.split()[1] for line in lines if line.startswith("FROM ")]

        assert len(grounds) == 2
        assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", one) for one in grounds)
