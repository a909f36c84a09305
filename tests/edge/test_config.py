"""A configuration that is wrong says which key, and what to do."""

import re
from pathlib import Path

import msgspec
import pytest

import edge.config
from edge.bedside.signals import BedsideConfig
from edge.config import BrokerConfig, EdgeConfig, read
from edge.errors import BadEdgeConfig
from runtime.errors import ConfigError

SAMPLE = Path(edge.config.__file__).with_name("sample.toml")


def a_file(folder: Path, text: str) -> Path:
    path = folder / "edge.toml"
    path.write_text('identity = "id.json"\ndata_dir = "data"\n' + text, encoding="utf-8")
    return path


def test_the_sample_works_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(SAMPLE.read_text(encoding="utf-8"), encoding="utf-8")

    config = read(path)

    assert config.identity == tmp_path / "identity"  # relative to the file
    assert config.broker == BrokerConfig()  # where enrolment said


def test_the_sample_shows_every_key_with_its_default(tmp_path: Path) -> None:
    uncommented = re.sub(r"^# (\w+ = )", r"\1", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path = tmp_path / "edge.toml"
    path.write_text(uncommented, encoding="utf-8")

    shown = read(path)

    examples = {
        "state_key": Path("/run/vitalloom/state.key"),
        "status_file": Path("/run/vitalloom/status.json"),
        "bedside": BedsideConfig(red=17, yellow=27, green=22, buzzer=23),
        "models": tmp_path / "models",
        "clock_file": tmp_path / "clock",
        "cadence_ms": {"heart_rate": 5_000},
    }
    expected = EdgeConfig(identity=tmp_path / "identity", data_dir=tmp_path / "data", **examples)
    assert msgspec.structs.asdict(shown) == msgspec.structs.asdict(expected)
    for key in _keys(EdgeConfig):
        assert re.search(rf"^(# )?{key} = |^\[{key}\]", SAMPLE.read_text(encoding="utf-8"), re.MULTILINE), key


@pytest.mark.parametrize("key", ["", "ab", "Z" * 64, "AB" * 32])
def test_a_key_of_models_that_is_no_key_is_named(key: str, tmp_path: Path) -> None:
    with pytest.raises(BadEdgeConfig, match="model_keys"):
        read(a_file(tmp_path, f'model_keys = ["{key}"]\n'))


def test_keys_of_models_are_hexadecimal(tmp_path: Path) -> None:
    assert read(a_file(tmp_path, f'model_keys = ["{"ab" * 32}"]\n')).model_keys == ("ab" * 32,)


def _keys(kind: type) -> set[str]:
    found = set()
    for field in msgspec.structs.fields(kind):
        found.add(field.encode_name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= _keys(field.type)
    return found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[broker]\nprot = 1", "unknown field `prot` - at `$.broker`"),
        ("[broker]\nport = 70000", "broker.port is not a TCP port"),
        ('[broker]\nport = "1883"', "at `$.broker.port`"),
        ("heartbeat_s = -1", "heartbeat_s must be above 0"),
        ("ack_interval_ms = 99999", "ack_interval_ms must be between 0 and 10000"),
        ("[outbox]\nbudget_mb = 1", "outbox.budget_mb is too small; give it at least 8"),
        ("[outbox]\ncommit_rows = 200", "outbox.commit_rows must not be above broker.receive_maximum"),
        ("[local_alarm]\nafter_s = 0", "local_alarm.after_s must be above 0"),
        ("[cadence_ms]\nheart_rte = 5", "cadence_ms.heart_rte: unknown vital sign; known are heart_rate"),
        ("[cadence_ms]\nspo2 = 0", "cadence_ms.spo2 must be above 0"),
        ("port 5", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, BadEdgeConfig)) as caught:
        read(a_file(tmp_path, text))

    assert says in str(caught.value)


def test_the_environment_overrules_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITALLOOM_EDGE__BROKER__HOST", "10.0.0.7")
    monkeypatch.setenv("VITALLOOM_EDGE__OUTBOX__COMMIT_MS", "5000")

    config = read(a_file(tmp_path, '[broker]\nhost = "elsewhere"'))

    assert (config.broker.host, config.outbox.commit_ms) == ("10.0.0.7", 5_000)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--sample-config"):
        read(tmp_path / "nowhere.toml")
