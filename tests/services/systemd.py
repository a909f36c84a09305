"""Programs of systemd, to check files with. Nothing is started by it."""

import os
import shutil

import pytest

from tests.services.native import REQUIRED


def systemd(program: str) -> str:
    """Where it is. Where there is none the test is skipped, or fails if the environment demands services."""
    found = shutil.which(program)
    if found is None:
        problem = f"{program} is not installed; deploy/native/install.sh systemd installs it"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(problem)
        pytest.skip(problem)
    return found
