"""An edge does not forget which version of a model was the newest that it has believed."""

from pathlib import Path

import pytest

from edge.model_versions import ModelVersions


def test_the_newest_outlives_a_restart_and_an_older_one_does_not_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    ModelVersions(path).accept({"sepsis": "1.2.0", "heart-home": "1.0.0"})
    ModelVersions(path).accept({"sepsis": "1.10.0"})
    ModelVersions(path).accept({"sepsis": "1.9.0"})

    assert ModelVersions(path).newest == {"sepsis": "1.10.0", "heart-home": "1.0.0"}


def test_before_the_first_model_nothing_is_known_and_nothing_is_written(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path / "models.json")
    versions.accept({})

    assert versions.newest == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"sepsis": 1}', b"\xff\xfe", b'{"sepsis": "one"}'])
def test_a_damaged_file_stops_nobody(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_bytes(content)

    versions = ModelVersions(path)
    versions.accept({"sepsis": "1.0.0"})

    assert ModelVersions(path).newest == {"sepsis": "1.0.0"}


def test_a_disk_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    versions = ModelVersions(tmp_path / "gone" / "models.json")
    versions.accept({"sepsis": "1.0.0"})

    assert versions.newest == {"sepsis": "1.0.0"}


def test_a_file_that_cannot_be_read_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "models.json").mkdir()

    assert ModelVersions(tmp_path / "models.json").newest == {}
