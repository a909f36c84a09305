"""What can go wrong with a site as a whole, on one screen."""

from pathlib import Path


class DeployError(Exception):
    """Base of every error of this room."""


class SiteIncomplete(DeployError):
    """A site's folder that cannot be used as it is; the message says what is wrong, and the cure."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"{folder}: {problem}")
        self.folder = folder


class ToolMissing(DeployError):
    """A server that is not installed on this machine."""

    def __init__(self, name: str, cure: str) -> None:
        super().__init__(f"{name} is not installed here; the cure: {cure}")
        self.name = name


class SiteDoesNotStart(DeployError):
    """A process of a site that did not come up; with the end of its log."""

    def __init__(self, name: str, problem: str, *, said: str = "") -> None:
        super().__init__(f"{name} {problem}" + (f"; it said: {said}" if said else ""))
        self.name = name


class PortTaken(DeployError):
    """Somebody else listens where a process of the site has to."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(
            f"port {port}, which {name} needs, is taken by another program; end that, or give this site others: "
            "`ports` in site.toml"
        )
        self.port = port
