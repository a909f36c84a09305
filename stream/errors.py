"""What can go wrong in the data centre, on one screen."""

from pathlib import Path


class StreamError(Exception):
    """Base of every error of the stream room."""


class StoreUnusable(StreamError):
    """A store that cannot be opened."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class StoreRefused(StreamError):
    """A commit that did not happen: nothing of it is in the store, nothing of it may be acknowledged."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: nothing was written ({problem})")
        self.path = path
