"""Errors that can occur before a process starts its work."""

from pathlib import Path


class RuntimeFault(Exception):
    """Base of every error of this room."""


class ConfigError(RuntimeFault):
    """A configuration that cannot be used; the message names the file or variable, the key and the fix."""

    def __init__(self, problem: str, *, source: Path | str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source


class MissingExtra(RuntimeFault):
    """An optional part of vitalloom is not installed."""

    def __init__(self, *, extra: str, module: str) -> None:
        super().__init__(f"{module} is not installed; fix: pip install 'vitalloom[{extra}]'")
        self.extra = extra
        self.module = module


class CannotListen(RuntimeFault):
    """The health endpoint of a process cannot listen on its address."""

    def __init__(self, listen: str, process: str, problem: str) -> None:
        super().__init__(
            f"http.listen = {listen}: cannot listen there ({problem}); fix: if another {process} runs on this "
            f'machine, give each its own port, or use port 0 for any free port, or disable it with http.listen = ""'
        )
        self.listen = listen


class UnknownTimeZone(RuntimeFault):
    """The name of a time zone is not in the IANA database of this machine."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"time_zone: {name[:60]!r} is not a time zone that this machine knows; give an IANA name such as "
            "Europe/Berlin, or install the package tzdata"
        )
        self.name = name


class NoSuchAddress(RuntimeFault):
    """The argument is not the address of a process."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where[:80]!r}: not an address; give a port, host:port or http://host:port")


class NotPrivate(RuntimeFault):
    """A file or folder that holds keys is accessible to other users."""

    def __init__(self, path: Path, problem: str, fix: str) -> None:
        super().__init__(f"{path}: {problem}; fix: {fix}")
        self.path = path


class NoArgon2(RuntimeFault):
    """This build of the package cryptography cannot hash passwords."""

    def __init__(self) -> None:
        super().__init__(
            "this build of cryptography has no Argon2id; fix: pip install --only-binary :all: cryptography"
        )


class BadTypedTime(RuntimeFault):
    """A time that a person typed is none, or leaves open which day is meant; the message says what to type."""


def first_of(group: BaseExceptionGroup[BaseException], *kinds: type[BaseException]) -> BaseException | None:
    """The first error of these kinds in a group, if the group holds no other errors; else None."""
    others = group.split(kinds)[1]
    if others is not None:
        return None
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
