"""The version of everything here, in one place: packaging, the command line and heartbeats read it."""

from typing import Final

__version__: Final = "0.1.0"
