"""A wall clock that a test moves for real processes, by libfaketime; their monotonic clock stays true."""

import os
from pathlib import Path
from typing import Final

from tests.services.missing import missing

_PLACES: Final = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


class FakeTime:
    """The clock of all processes that are started with `environment`.

    Args:
        file: holds the offset; it is read by every look at the clock.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.days = 0.0
        self.set(days=0)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, *, days: float) -> None:
        """Days ahead of this machine's clock."""
        partial = self._file.with_suffix(".new")
        partial.write_text(f"{round(days * 86_400):+d}\n", encoding="ascii")
        os.replace(partial, self._file)
        self.days = days


def _library() -> str:
    found = [path for pattern in _PLACES for path in sorted(Path("/").glob(pattern[1:]))]
    if not found:
        missing("faketime", "sudo apt-get install faketime")
    return str(found[0])
