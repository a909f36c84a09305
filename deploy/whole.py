"""A whole site under examination: `vitalloom doctor DIR` looks at all that its folder and its description name."""

import os
from pathlib import Path

from deploy import settings
from deploy.description import Check, named, processes
from deploy.doctor import Patient
from deploy.folder import facts_of


def patient(folder: Path, *, pause_s: float) -> Patient:
    """What to look at. Addresses of its processes are put into the environment, where configurations look for them.

    Raises:
        SiteIncomplete, SiteUnusable: no site there, or a part of it is missing.
    """
    told = settings.read(folder)
    facts = facts_of(folder)
    place = settings.native(folder, told, facts)
    found = named(processes(place))
    for one in found.values():
        for name, value in one.environment.items():
            if name.startswith("VITALLOOM_"):
                os.environ.setdefault(name, value)
    config = folder / "config"
    return Patient(
        site=folder,
        ingest=config / "ingest.toml",
        worker=config / "worker.toml",
        store=config / "store.toml",
        processes=tuple(
            f"{settings.LOOPBACK}:{place.facts[one.health.port]}"
            for one in found.values()
            if one.health is not None and one.health.how is Check.READY
        ),
        pause_s=pause_s,
    )
