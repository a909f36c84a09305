"""Models as they lie on a disk: found, checked against their passports, and only then loaded.

A folder for each: `passport.json`, `model.onnx`, and for two of them `weights.npz`. One that cannot be checked does
not judge: then the rules judge alone, and say so.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from models.errors import BadPassport, ModelUnavailable
from models.passport import FILE, RELEASE_KEYS, Passport, decode, number_of

RELEASED: Final = Path(__file__).parent / "artifacts"
"""The models that come with vitalloom."""
GRAPH: Final = "model.onnx"
WEIGHTS: Final = "weights.npz"
MOST_BYTES: Final = 4 << 20
"""Of one file. Small models are the point; a huge file is somebody's attempt."""


class Artifact(NamedTuple):
    """One model, believed: everything that its passport names is there and unchanged."""

    passport: Passport
    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """Which model this is, whatever it calls itself."""
        return self.passport.files[GRAPH]

    @property
    def title(self) -> str:
        return f"{self.passport.name} {self.passport.version}"


class Found(NamedTuple):
    """What a folder holds."""

    models: Mapping[str, Artifact]
    refused: Mapping[str, ModelUnavailable]  # by name, and why


def load(folder: Path, *, trusted: tuple[str, ...] = RELEASE_KEYS, not_below: str = "0.0.0") -> Artifact:
    """One model.

    Args:
        trusted: keys that are believed, hex.
        not_below: the newest version that this place has ever accepted. An older one may be signed and is refused:
            somebody may want its weakness back.

    Raises:
        BadPassport: something is missing, changed, too large, too old, or signed by a stranger.
    """
    passport = decode(_read(folder / FILE), trusted=trusted)
    if passport.name != folder.name:
        raise BadPassport("name", f"{folder.name}: the passport is of {passport.name[:40]!r}")
    if number_of(passport.version) < number_of(not_below):
        raise BadPassport("version", f"{passport.name} {passport.version} is older than {not_below}, accepted before")
    files = {}
    for name, digest in passport.files.items():
        if name not in (GRAPH, WEIGHTS):
            raise BadPassport("schema", f"{passport.name}: names a file {name[:40]!r}; known are {GRAPH} and {WEIGHTS}")
        content = _read(folder / name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise BadPassport("hash", f"{passport.name}: {name} is not the file that the passport names; copy it anew")
        files[name] = content
    if GRAPH not in files:
        raise BadPassport("schema", f"{passport.name}: the passport names no {GRAPH}")
    return Artifact(passport, files)


def find(
    folder: Path | None, *, trusted: tuple[str, ...] = RELEASE_KEYS, not_below: Mapping[str, str] | None = None
) -> Found:
    """Every model of a folder, each believed or refused by itself."""
    models: dict[str, Artifact] = {}
    refused: dict[str, ModelUnavailable] = {}
    for home in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
        if not (home / FILE).is_file() and not (home / GRAPH).is_file():
            continue
        try:
            models[home.name] = load(home, trusted=trusted, not_below=(not_below or {}).get(home.name, "0.0.0"))
        except ModelUnavailable as error:
            refused[home.name] = error
    return Found(models, refused)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadPassport("missing", f"{path.parent.name}: {path.name} cannot be read ({error.strerror})") from None
    if len(content) > MOST_BYTES:
        raise BadPassport("size", f"{path.parent.name}: {path.name} is larger than {MOST_BYTES >> 20} MB")
    return content
