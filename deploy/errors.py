"""Errors of the deployment of a site."""

from pathlib import Path


class DeployError(Exception):
    """Base of every error of this room."""


class SiteIncomplete(DeployError):
    """The folder of a site cannot be used; the message names the problem and the fix."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"{folder}: {problem}")
        self.folder = folder


class ToolMissing(DeployError):
    """A server program is not installed on this machine."""

    def __init__(self, name: str, fix: str) -> None:
        super().__init__(f"{name} is not installed; fix: {fix}")
        self.name = name


class SiteDoesNotStart(DeployError):
    """A process of a site did not start; with the end of its log."""

    def __init__(self, name: str, problem: str, *, log: str = "") -> None:
        super().__init__(f"{name} {problem}" + (f"; end of its log: {log}" if log else ""))
        self.name = name


class PortTaken(DeployError):
    """Another program listens on a port of the site."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(
            f"port {port} of {name} is in use by another program; stop that program, or change `ports` in site.toml"
        )
        self.port = port
