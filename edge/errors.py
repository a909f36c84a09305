"""Everything that can go wrong at the edge, on one screen."""

from pathlib import Path


class EdgeError(Exception):
    """Base of every error of this room."""


class NotCommitted(EdgeError):
    """The outbox could not write. Nothing of the transaction is on disk, and nothing may be acknowledged."""

    def __init__(self, problem: str, *, full: bool) -> None:
        fix = "free disk space or raise outbox.budget_mb" if full else "check the disk and its file system"
        super().__init__(f"the outbox could not commit ({problem}); {fix}")
        self.full = full


class OutboxDamaged(EdgeError):
    """The outbox was found damaged while it was open; a restart moves it aside and salvages it."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: damaged ({problem}); restart the agent, it salvages what can be read")
        self.path = path


class OutboxInUse(EdgeError):
    """Another process has the outbox open."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: in use by another agent; give each agent a data_dir of its own")
        self.path = path


class BadEdgeConfig(EdgeError):
    """A configuration that is well formed and cannot work; the message names the key and the fix."""


class BadMachine(EdgeError):
    """This machine cannot be set up; the message names the problem and the fix."""


class BadPerson(EdgeError):
    """The file of people, a name or a PIN cannot be used; the message says why, and the fix."""


class EntryRefused(EdgeError):
    """What a person entered at this edge was not taken; the message says why."""


class ExtremeEntry(EntryRefused):
    """A value is extreme; it is taken if the person confirms it."""
