"""What can go wrong with dashboards, each with its cure."""


class DashboardsError(Exception):
    """Something about dashboards that a person can put right."""


class Drifted(DashboardsError):
    """Files are not what the code makes."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"not as the code makes them: {', '.join(names)}; run `vitalloom dashboards build`")
        self.names = names


class GrafanaRefused(DashboardsError):
    """Grafana did not do what it was asked."""

    def __init__(self, url: str, what: str, why: str) -> None:
        super().__init__(f"Grafana at {url}: {what}: {why}")
        self.url = url
