"""The version of vitalloom, read by the packaging, the command line and heartbeats."""

__version__ = "0.1.0"
