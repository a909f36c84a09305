"""Model files on disk: each is checked against its signed passport before it is loaded.

One folder for each model: `passport.json`, `model.onnx`, and for three of them `weights.npz`. A model that fails the
check is not used; the edge then runs on rules only and reports it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from models.errors import BadPassport, ModelUnavailable
from models.passport import FILE, RELEASE_KEYS, Passport, decode, number_of

RELEASED: Final = Path(__file__).parent / "artifacts"
"""Folder of the models that are released with vitalloom."""
GRAPH: Final = "model.onnx"
WEIGHTS: Final = "weights.npz"
MAX_FILE_BYTES: Final = 4 << 20
"""Size limit of one model file. Released models have at most 300 kB; a larger file may be an attack on memory."""


class Artifact(NamedTuple):
    """One trusted model: all files that its passport names are present and unchanged."""

    passport: Passport
    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 of the graph, in hex: identifies the model independently of its name."""
        return self.passport.files[GRAPH]

    @property
    def title(self) -> str:
        return f"{self.passport.name} {self.passport.version}"


class LoadedModels(NamedTuple):
    """The models of a folder, trusted and refused, by name."""

    models: Mapping[str, Artifact]
    refused: Mapping[str, ModelUnavailable]  # the reason of each


def load(folder: Path, *, trusted: tuple[str, ...] = RELEASE_KEYS, not_below: str = "0.0.0") -> Artifact:
    """Check and load one model.

    Args:
        trusted: public keys of trusted releases, hex.
        not_below: the newest version that was ever accepted here. An older one is refused although it is signed, so
            that an attacker cannot bring back a known weakness.

    Raises:
        BadPassport: a file is missing, changed, too large or too old, or its key is not trusted.
    """
    passport = decode(_read(folder / FILE), trusted=trusted)
    if passport.name != folder.name:
        raise BadPassport(
            "name", f"{folder.name}: the passport belongs to model {passport.name[:40]!r}; rename the folder"
        )
    if number_of(passport.version) < number_of(not_below):
        raise BadPassport("version", f"{passport.name} {passport.version} is older than {not_below}, accepted before")
    files = {}
    for name, digest in passport.files.items():
        if name not in (GRAPH, WEIGHTS):
            raise BadPassport(
                "schema", f"{passport.name}: unknown file {name[:40]!r} in the passport; use {GRAPH} and {WEIGHTS}"
            )
        content = _read(folder / name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise BadPassport(
                "hash", f"{passport.name}: SHA-256 of {name} differs from the passport; copy the model again"
            )
        files[name] = content
    if GRAPH not in files:
        raise BadPassport("schema", f"{passport.name}: the passport names no {GRAPH}")
    return Artifact(passport, files)


def load_all(
    folder: Path | None, *, trusted: tuple[str, ...] = RELEASE_KEYS, not_below: Mapping[str, str] | None = None
) -> LoadedModels:
    """Check and load every model of a folder; one that is refused does not affect the others."""
    models: dict[str, Artifact] = {}
    refused: dict[str, ModelUnavailable] = {}
    for home in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
        if not (home / FILE).is_file() and not (home / GRAPH).is_file():
            continue
        try:
            models[home.name] = load(home, trusted=trusted, not_below=(not_below or {}).get(home.name, "0.0.0"))
        except ModelUnavailable as error:
            refused[home.name] = error
    return LoadedModels(models, refused)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadPassport("missing", f"{path.parent.name}: cannot read {path.name} ({error.strerror})") from None
    if len(content) > MAX_FILE_BYTES:
        raise BadPassport("size", f"{path.parent.name}: {path.name} is larger than {MAX_FILE_BYTES >> 20} MB")
    return content
