"""Everything that can go wrong with models, on one screen."""

from pathlib import Path


class ModelsError(Exception):
    """Base of every error of this room."""


class StepOutOfOrder(ModelsError):
    """A step that is not later than the one before it."""

    def __init__(self, at_ms: int, last_ms: int) -> None:
        super().__init__(f"a step at {at_ms} ms after one at {last_ms} ms: steps of a patient rise in time")


class NoSuchAttribute(ModelsError):
    """A name that is no attribute of a patient."""

    def __init__(self, name: str, *, known: tuple[str, ...]) -> None:
        super().__init__(f"{name[:40]!r} is no attribute; known are {', '.join(known)}")
        self.name = name


class BadSearch(ModelsError):
    """A search that cannot begin."""


class UnusableEcg(ModelsError):
    """A recording of which no rhythm can be told."""


class ModelUnavailable(ModelsError):
    """A model that cannot be believed, or cannot run here.

    Args:
        reason: one word for counters and alarms.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BadPassport(ModelUnavailable):
    """A passport or one of its files that is not what somebody trusted has signed."""


class BadRecordings(ModelsError):
    """A file of recorded patients that cannot be used."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path = path


class ExportFailed(ModelsError):
    """A network that did not become the file that it should."""


class BadRun(ModelsError):
    """A training run that cannot begin, or cannot go on."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path = path
