"""What `vitalloom doctor DIR` checks: everything that the folder and the description of a site name."""

import os
from pathlib import Path

from deploy import settings
from deploy.description import HealthCheckKind, by_name, processes
from deploy.doctor import DoctorTargets
from deploy.folder import facts_of


def site_targets(folder: Path, *, pause_s: float) -> DoctorTargets:
    """The targets of a site. Sets the addresses of its processes in the environment, where configurations read them.

    Raises:
        SiteIncomplete, SiteUnusable: there is no site, or a part of it is missing.
    """
    site_settings = settings.read(folder)
    facts = facts_of(folder)
    deployment = settings.native_deployment(folder, site_settings, facts)
    found = by_name(processes(deployment))
    for one in found.values():
        for name, value in one.environment.items():
            if name.startswith("VITALLOOM_"):
                os.environ.setdefault(name, value)
    config = folder / "config"
    return DoctorTargets(
        site=folder,
        ingest=config / "ingest.toml",
        worker=config / "worker.toml",
        store=config / "store.toml",
        processes=tuple(
            f"{settings.LOOPBACK}:{deployment.facts[one.health.port]}"
            for one in found.values()
            if one.health is not None and one.health.kind is HealthCheckKind.READY
        ),
        pause_s=pause_s,
    )
