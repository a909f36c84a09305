"""The services that the tests use, for a person: `python -m tests.services up`, and `down`."""

import os
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from tests.services.missing import REQUIRED

_FOLDER: Final = Path(".cache/services")
_PIDS: Final = _FOLDER / "pids.json"


def up() -> int:
    """Start them, say where they are, and leave them running."""
    if _PIDS.exists():
        return _fail(f"they are up already; stop them first: make services-down (or remove {_PIDS})")
    os.environ[REQUIRED] = "1"
    _FOLDER.mkdir(parents=True, exist_ok=True)
    kafka, influxdb = Kafka(_FOLDER / "kafka"), InfluxDB(_FOLDER / "influxdb")
    pids = {}
    try:
        for one in (kafka, influxdb):
            one.start()
            pids[one.server.name] = one.server.pid
    finally:
        _PIDS.write_bytes(msgspec.json.encode(pids))
    _tell(f"Kafka     {kafka.address}")
    _tell(f"InfluxDB  {influxdb.url}  organisation {influxdb.org}, token {influxdb.token}")
    _tell("Nothing of this is protected, and it listens on this machine only. Stop them: make services-down")
    return 0


def down() -> int:
    """Stop what `up` has started."""
    if not _PIDS.exists():
        _tell("nothing is up")
        return 0
    for name, pid in msgspec.json.decode(_PIDS.read_bytes(), type=dict[str, int]).items():
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            _tell(f"{name} had ended by itself")
    _PIDS.unlink()
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _fail(problem: str) -> int:
    sys.stderr.write(f"{problem}\n")
    return 1


if __name__ == "__main__":
    known = {"up": up, "down": down}
    sys.exit(known[sys.argv[1]]() if sys.argv[1:] and sys.argv[1] in known else _fail("up or down?"))
