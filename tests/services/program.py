"""Programs that only tests need."""

from deploy.native import tools
from tests.services.missing import missing


def program(command: str, *, of: str) -> str:
    """Where a command is; `of` names the package as `install.sh` does.

    Where there is none the test is skipped, or fails if the environment demands services.
    """
    found = tools.find(command)
    if found is None:
        missing(of, tools.why_missing(of))
    return found
