"""The newest version of each model that this edge has ever trusted, in one small file.

An older version has a valid signature too; an attacker who reinstalls it exploits a weakness that was fixed since.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from models.errors import BadPassport
from models.passport import number_of
from runtime import logs

_log = logs.get(__name__)
_DECODER: Final = msgspec.json.Decoder(dict[str, str])


class ModelVersions:
    """Reads the file when it is made. A damaged file is no obstacle: the models trusted next count as the newest.

    Args:
        path: of the file; it is written when the first model is trusted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.newest: dict[str, str] = {}
        if not path.exists():
            return
        try:
            known = _DECODER.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning(
                "cannot read the trusted model versions; an outdated model would be accepted", problem=str(error)
            )
            return
        self.newest = {name: version for name, version in known.items() if _is(version)}

    def accept(self, versions: dict[str, str]) -> None:
        """These versions are trusted now."""
        newest = dict(self.newest)
        for name, version in versions.items():
            if name not in newest or number_of(version) > number_of(newest[name]):
                newest[name] = version
        if newest == self.newest:
            return
        self.newest = newest
        half = self._path.with_suffix(".part")
        try:
            with half.open("wb") as file:
                file.write(msgspec.json.encode(newest))
                file.flush()
                os.fsync(file.fileno())
            half.replace(self._path)
        except OSError as error:
            _log.error("cannot save trusted model versions", problem=error.strerror)


def _is(version: str) -> bool:
    try:
        number_of(version)
    except BadPassport:
        return False
    return True
