"""Errors of building and publishing dashboards; each message names the fix."""


class DashboardsError(Exception):
    """Base of every error of this room."""


class FilesOutdated(DashboardsError):
    """Generated files are missing, outdated or superfluous."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"not up to date: {', '.join(names)}; run `vitalloom dashboards build`")
        self.names = names


class GrafanaRefused(DashboardsError):
    """A request to Grafana failed."""

    def __init__(self, url: str, what: str, why: str) -> None:
        super().__init__(f"Grafana at {url}: {what}: {why}")
        self.url = url
