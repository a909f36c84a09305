"""What can go wrong before a process has begun its work."""

from pathlib import Path


class RuntimeFault(Exception):
    """Base of every error of this room."""


class ConfigError(RuntimeFault):
    """A configuration that cannot be used; the message names the file or variable, the key, and the cure."""

    def __init__(self, problem: str, *, source: Path | str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source


class MissingExtra(RuntimeFault):
    """A part of vitalloom that is not installed here."""

    def __init__(self, *, extra: str, module: str) -> None:
        super().__init__(f"{module} is not installed here; the cure: pip install 'vitalloom[{extra}]'")
        self.extra = extra
        self.module = module


class CannotListen(RuntimeFault):
    """The address on which a process was to say how it is cannot be had."""

    def __init__(self, listen: str, process: str, problem: str) -> None:
        super().__init__(
            f"http.listen = {listen}: cannot be listened on ({problem}); the cure: if another {process} runs here, "
            f'give each a port of its own, or port 0 for any that is free, or switch it off with http.listen = ""'
        )
        self.listen = listen


class NoSuchAddress(RuntimeFault):
    """What was to be asked is no address."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where[:80]!r}: say which process by a port, host:port or http://host:port")


class NotPrivate(RuntimeFault):
    """A file or folder with keys that others can reach."""

    def __init__(self, path: Path, problem: str, cure: str) -> None:
        super().__init__(f"{path}: {problem}; the cure: {cure}")
        self.path = path
