"""The version of everything here, in one place: packaging, the command line and heartbeats read it."""

__version__ = "0.1.0"
