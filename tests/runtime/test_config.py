"""Configuration is read once, and a mistake in it names its key."""

from pathlib import Path

import msgspec
import pytest

from runtime.config import load
from runtime.errors import ConfigError


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: int = 1883


class Agent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ward: str
    broker: Broker = Broker()
    window_ms: int = 10_000


def _file(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_becomes_one_typed_object(tmp_path: Path) -> None:
    path = _file(tmp_path, 'ward = "7b"\n[broker]\nport = 8883\n')

    agent = load(Agent, path, env_prefix="TEST", environment={})

    assert agent == Agent(ward="7b", broker=Broker(port=8883))


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, 'ward = "7b"\n')

    agent = load(Agent, path, env_prefix="TEST", environment={"TEST__BROKER__HOST": "mqtt", "TEST__WINDOW_MS": "500"})

    assert agent.broker.host == "mqtt"
    assert agent.window_ms == 500


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('ward = "7b"\n[broker]\nprot = 1\n', ["prot", "$.broker"]),
        ('ward = "7b"\nwindow_ms = "soon"\n', ["window_ms"]),
        ("", ["ward"]),
        ("ward = ", ["not TOML"]),
    ],
)
def test_a_mistake_is_an_error_that_names_the_file_and_the_key(tmp_path: Path, text: str, names: list[str]) -> None:
    path = _file(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        load(Agent, path, env_prefix="TEST", environment={})

    for name in [str(path), *names]:
        assert name in str(caught.value)


def test_missing_file_is_an_error_that_says_how_to_create_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--sample-config"):
        load(Agent, tmp_path / "none.toml", env_prefix="TEST", environment={})
