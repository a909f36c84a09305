"""Errors of the room `models`."""

from collections.abc import Iterable
from pathlib import Path


class ModelsError(Exception):
    """Base class of all errors of `models`."""


class StepOutOfOrder(ModelsError):
    """A step that is not later than the previous step of the same patient."""

    def __init__(self, at_ms: int, last_ms: int) -> None:
        super().__init__(
            f"step at {at_ms} ms is not later than the previous one at {last_ms} ms; give steps in order of time"
        )


class NoSuchAttribute(ModelsError):
    """A name that is not an attribute of the heart models."""

    def __init__(self, name: str, *, known: tuple[str, ...]) -> None:
        super().__init__(f"{name[:40]!r} is not an attribute; the attributes are {', '.join(known)}")
        self.name = name


class BadSearch(ModelsError):
    """Invalid arguments of the cuttlefish search."""


class UnusableEcg(ModelsError):
    """An ECG recording that the rhythm model cannot use."""


class ModelUnavailable(ModelsError):
    """A model that is not trusted, or cannot run on this machine.

    Args:
        reason: one word for counters and alarms.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BadPassport(ModelUnavailable):
    """A passport or model file that is missing, changed, too old, or not signed by a trusted key."""


class BadPatientFile(ModelsError):
    """A file of patients that cannot be used. `row` is the number that a spreadsheet program shows; the header is 1."""

    def __init__(self, source: str, problem: str, *, row: int | None = None, column: str | None = None) -> None:
        place = [source, f"row {row}" if row else "", f"column {column}" if column else ""]
        super().__init__(f"{', '.join(part for part in place if part)}: {problem}")
        self.problem = problem
        self.row = row
        self.column = column


class BadReplay(ModelsError):
    """A file that holds no recorded stays in a known format."""

    def __init__(self, problem: str, *, path: Path, accepted: str, missing: Iterable[str] = ()) -> None:
        self.path = path
        self.missing = tuple(missing)
        super().__init__(f"{path}: {problem}; accepted formats: {accepted}")


class FileRefused(ModelsError):
    """A file that the operating system does not let us read or write."""

    def __init__(self, verb: str, path: Path, error: OSError) -> None:
        super().__init__(f"cannot {verb} {path}: {error.strerror or error}")
        self.path = path


class BadRecordings(BadPatientFile):
    """A file of recorded patients that cannot be used."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(str(path), text)
        self.path = path


class ExportFailed(ModelsError):
    """A network that could not be exported to a valid model file."""


class BadRun(ModelsError):
    """A training run that cannot start, continue or be evaluated."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path = path


class BadUnit(ModelsError):
    """A unit that the user names for a column and that is not known there."""
