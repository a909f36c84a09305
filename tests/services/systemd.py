"""Programs of systemd, to check files with. Nothing is started by it."""

import shutil

from deploy.native import tools
from tests.services.missing import missing


def systemd(program: str) -> str:
    """Where it is. Where there is none the test is skipped, or fails if the environment demands services."""
    found = shutil.which(program)
    if found is None:
        missing("systemd", tools.why_missing("systemd"))
    return found
