"""Loading model files: a model is trusted completely or refused."""

from pathlib import Path

import pytest

from models.artifacts import RELEASED, load, load_all
from models.errors import BadPassport
from models.passport import FILE, number_of
from tests.models.made_up import PUBLIC, copied, resigned

NAMES = ("sepsis", "heart", "heart-home", "rhythm")


def test_every_released_model_is_trusted_and_small() -> None:
    found = load_all(RELEASED)

    assert set(found.models) == set(NAMES)
    assert found.refused == {}
    assert len(found.models["sepsis"].files["model.onnx"]) <= 200_000
    assert len(found.models["rhythm"].files["model.onnx"]) <= 300_000


def test_released_files_hold_no_stack_traces_or_paths() -> None:
    for artifact in load_all(RELEASED).models.values():
        for name, content in artifact.files.items():
            assert b'File "' not in content, f"{artifact.title}: {name} holds a stack trace"
            assert b"training/" not in content, f"{artifact.title}: {name} names a folder"


@pytest.mark.parametrize("name", NAMES)
def test_every_released_model_has_figures_and_a_card(name: str) -> None:
    passport = load(RELEASED / name).passport
    card = (RELEASED / name / "card.md").read_text()

    assert passport.metrics
    assert passport.limits
    assert f"{name} {passport.version}" in card
    assert "not a certified medical device" in card
    assert passport.made_by in card
    assert all(digest in card for digest in passport.files.values())


@pytest.mark.parametrize("file", ["model.onnx", "weights.npz", FILE])
def test_a_single_changed_bit_is_refused(tmp_path: Path, file: str) -> None:
    home = copied("sepsis", tmp_path)
    content = bytearray((home / file).read_bytes())
    content[len(content) // 2] ^= 1
    (home / file).write_bytes(content)

    with pytest.raises(BadPassport):
        load(home)


@pytest.mark.parametrize("file", ["model.onnx", FILE])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    home = copied("heart", tmp_path)
    (home / file).unlink()

    with pytest.raises(BadPassport, match=file) as caught:
        load(home)

    assert caught.value.reason == "missing"


def test_a_signature_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    home = copied("heart", tmp_path)
    resigned(home)

    with pytest.raises(BadPassport) as caught:
        load(home)

    assert caught.value.reason == "signature"
    assert load(home, trusted=(PUBLIC,)).passport.name == "heart"


def test_a_version_below_the_newest_accepted_one_is_refused(tmp_path: Path) -> None:
    home = copied("heart", tmp_path)
    version = load(home).passport.version
    newer = ".".join(str(one) for one in (number_of(version)[0], 99, 0))

    with pytest.raises(BadPassport) as caught:
        load(home, not_below=newer)

    assert caught.value.reason == "version"
    assert load(home, not_below=version)


def test_a_model_in_a_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    home = copied("heart", tmp_path)
    other = home.rename(tmp_path / "sepsis")

    with pytest.raises(BadPassport) as caught:
        load(other)

    assert caught.value.reason == "name"


@pytest.mark.parametrize("version", ["", "1", "1.0", "1.0.x", "1.0.0.0", "-1.0.0", "1.0.9999999"])
def test_a_version_that_is_not_three_numbers_is_refused(version: str) -> None:
    with pytest.raises(BadPassport):
        number_of(version)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 9}', b"\xff\xfe", b"[" * 100_000])
def test_an_invalid_passport_is_refused(tmp_path: Path, content: bytes) -> None:
    home = copied("heart", tmp_path)
    (home / FILE).write_bytes(content)

    with pytest.raises(BadPassport) as caught:
        load(home)

    assert caught.value.reason == "schema"


def test_one_damaged_model_does_not_stop_the_others(tmp_path: Path) -> None:
    copied("heart", tmp_path)
    (copied("sepsis", tmp_path) / "model.onnx").write_bytes(b"")

    found = load_all(tmp_path)

    assert set(found.models) == {"heart"}
    assert {name: error.reason for name, error in found.refused.items()} == {"sepsis": "hash"}
