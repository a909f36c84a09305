"""Every process prints a configuration that says everything it can be told, and is its defaults when it is used."""

import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from edge.config import EdgeConfig
from runtime.config import load
from runtime.errors import ConfigError
from stream.config import IngestConfig, StoreConfig, WorkerConfig

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^# (\w+ = \S.*|\[[a-z_.]+\].*)$")
"""A key or a table that is commented out; sentences have no equals sign after their first word."""


class Sample(NamedTuple):
    command: tuple[str, ...]
    kind: type[msgspec.Struct]
    needed: dict[str, Any]  # keys without a default

    @property
    def prefix(self) -> str:
        return f"VITALLOOM_{self.command[0].upper()}"


SAMPLES = {
    "ingest": Sample(("ingest",), IngestConfig, {}),
    "worker": Sample(("worker",), WorkerConfig, {}),
    "store": Sample(("store", "run"), StoreConfig, {}),
    "edge": Sample(("edge",), EdgeConfig, {"identity": Path("identity"), "data_dir": Path("data")}),
}


def vitalloom(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitalloom", *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


@functools.cache
def printed(name: str) -> str:
    done = vitalloom(*SAMPLES[name].command, "--sample-config")
    assert done.returncode == 0, done.stderr
    return done.stdout


def uncommented(text: str) -> str:
    return "\n".join(found[1] if (found := LINE.match(line)) else line for line in text.splitlines()) + "\n"


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every key with its place; an empty table is a key by itself."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict) and value:
        return {key: one for name, inner in value.items() for key, one in flat(inner, f"{path}.{name}").items()}
    return {path.removeprefix("."): value}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_as_it_is_printed_is_the_defaults(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]
    path = tmp_path / "sample.toml"
    path.write_text(printed(name), encoding="utf-8")

    found = load(sample.kind, path, env_prefix=sample.prefix, environment={})

    assert found == sample.kind(**sample.needed)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_with_every_line_in_use_loads_and_shows_the_defaults(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]
    path = tmp_path / "sample.toml"
    path.write_text(uncommented(printed(name)), encoding="utf-8")

    shown = flat(load(sample.kind, path, env_prefix=sample.prefix, environment={}))
    defaults = flat(sample.kind(**sample.needed))

    # What is off by default has an example instead: None says nothing of how it would look.
    examples = {key for key, value in defaults.items() if value is None or value == {}}
    assert {key: value for key, value in shown.items() if not any(_is_in(key, one) for one in examples)} == {
        key: value for key, value in defaults.items() if key not in examples
    }
    for one in examples:
        assert any(_is_in(key, one) for key in shown), f"{one} is not in the sample"


def _is_in(key: str, table: str) -> bool:
    return key == table or key.startswith(f"{table}.")


@pytest.mark.parametrize("name", SAMPLES)
def test_every_line_of_a_sample_that_looks_like_a_key_is_one(name: str) -> None:
    keys = flat(tomllib.loads(uncommented(printed(name))))

    assert len(keys) > 8
    assert {"log_level", "log_format", "http.listen"} <= set(keys)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("log_levl = 'INFO'", "log_levl"),
        ("log_level = 'LOUD'", "$.log_level"),
        ("log_format = 'xml'", "$.log_format"),
        ("[http]\nlisten = 'everywhere'", "$.http"),
        ("[http]\nlisten = 9101", "$.http.listen"),
    ],
)
def test_a_configuration_that_cannot_be_used_names_the_key(name: str, text: str, named: str, tmp_path: Path) -> None:
    path = wrong(name, text, tmp_path)

    with pytest.raises(ConfigError) as caught:
        load(SAMPLES[name].kind, path, env_prefix=SAMPLES[name].prefix, environment={})

    assert named in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", SAMPLES)
def test_check_config_says_so_in_one_sentence(name: str, tmp_path: Path) -> None:
    path = wrong(name, "log_levl = 'INFO'", tmp_path)

    done = vitalloom(*SAMPLES[name].command, "--config", str(path), "--check-config")

    assert done.returncode == 2
    assert f"{path}: Object contains unknown field `log_levl`" in done.stderr
    assert "Traceback" not in done.stderr


def wrong(name: str, text: str, folder: Path) -> Path:
    head = 'identity = "identity"\ndata_dir = "data"\n' if name == "edge" else ""
    path = folder / "wrong.toml"
    path.write_text(f"{head}{text}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["ingest", "worker", "store"])
def test_a_configuration_that_can_be_used_is_said_to_be(name: str) -> None:
    done = vitalloom(*SAMPLES[name].command, "--check-config")

    assert (done.returncode, done.stdout.strip()) == (0, "the configuration is valid")
