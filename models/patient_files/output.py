"""A file that a command writes from a patients' file: it appears under its name only when it is complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from models.errors import BadPatientFile, FileRefused


@contextmanager
def new_file(out: Path, *, source: Path | None = None) -> Iterator[TextIO]:
    """A text file in UTF-8 to write; the file that was there is kept until the new one is complete, with its mode.

    A device or pipe is written directly, and the target of a symbolic link is replaced, not the link.

    Args:
        source: the file that is being read, if it must not be replaced.

    Raises:
        BadPatientFile: `out` is `source`, which would be lost.
        FileRefused: `out` cannot be written.
    """
    try:
        target = out.resolve()
        if source is not None and is_same(source, target):
            raise BadPatientFile(source.name, f"--out {out} is the file that is read; give another name")
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8", newline="") as stream:
                yield stream
            return
        part = target.with_name(f".vitalloom-{os.getpid()}.part")
        try:
            with part.open("w", encoding="utf-8", newline="") as stream:
                if target.exists():
                    shutil.copymode(target, part)
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileRefused("write", out, error) from error


def is_same(one: Path, other: Path) -> bool:
    """Whether two names are the same file."""
    return one.exists() and other.exists() and one.samefile(other)
