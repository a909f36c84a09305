"""From an empty folder to readings of two patients, and one device silenced: docs/security.md, command by command."""

import json
import logging
import sqlite3
import time
from pathlib import Path

import pytest

from simulators.broker import free_port
from tests.services.journey import Block, Journey, blocks
from tests.services.mosquitto import mosquitto_binary

DOCUMENT = (Path(__file__).parent.parent / "docs" / "security.md").read_text(encoding="utf-8")
PROMISED_S = 60.0
WATCHED_S = 8.0

_log = logging.getLogger(__name__)


def readings(folder: Path) -> dict[str, int]:
    """How many are stored, by binding."""
    file = folder / "data" / "store.sqlite"
    if not file.exists():
        return {}
    store = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return dict(store.execute("SELECT binding_id, count(*) FROM reading GROUP BY 1").fetchall())
    except sqlite3.OperationalError:  # it is being made
        return {}
    finally:
        store.close()


def last_arrival(folder: Path, binding: str) -> float:
    """When the data centre last took a reading, in seconds since the epoch."""
    store = sqlite3.connect(f"file:{folder / 'data' / 'store.sqlite'}?mode=ro", uri=True)
    (arrived_ms,) = store.execute("SELECT max(arrived_ms) FROM reading WHERE binding_id = ?", (binding,)).fetchone()
    store.close()
    return float(arrived_ms) / 1_000


@pytest.mark.services
def test_everything_between_an_empty_folder_and_a_lost_device_works_as_it_is_written(tmp_path: Path) -> None:
    mosquitto_binary()
    begin, broker, registry, stream, enrol, *devices, lost = blocks(DOCUMENT, "From an empty folder")
    assert [one.is_service for one in (begin, enrol, lost)] == [False] * 3
    ports = f"--registry-port {free_port()} --broker-port {free_port()}"
    with Journey(tmp_path, {"pki init": f"pki init {ports}"}) as journey:
        journey.take(begin)
        for one in (broker, registry, stream):
            journey.take(one)
        journey.until(lambda: "running" in journey.said("mosquitto"), "the broker")
        journey.until(lambda: "registry is listening" in journey.said("vitalloom registry"), "the registry")
        journey.take(enrol)
        site = tmp_path / "site"
        bob, ann = sorted(bindings(journey, site), key=lambda one: one["bed"], reverse=True)
        for one in devices:
            journey.take(one)
        flowing_s = journey.until(
            lambda: all(readings(tmp_path).get(one["binding_id"], 0) >= 3 for one in (ann, bob)), "readings of both"
        )

        wall = time.time()
        journey.take(lost)
        said = journey.take(Block("vitalloom pki show\nvitalloom audit verify\n", is_service=False))
        done, anns = time.monotonic(), readings(tmp_path)[ann["binding_id"]]
        journey.until(lambda: time.monotonic() - done > WATCHED_S, "the time to pass")

        silent_s = last_arrival(tmp_path, bob["binding_id"]) - wall
        assert silent_s < PROMISED_S
        assert last_arrival(tmp_path, ann["binding_id"]) - wall > WATCHED_S  # she is heard all the time
        assert "revoked" in said
        assert "none altered" in said
        assert readings(tmp_path)[ann["binding_id"]] >= anns + 5
        edge_s = (tmp_path / "bay-1" / "documents" / f"1-{bob['wearable_id']}.doc").stat().st_mtime - wall
        broker_s = (site / "broker" / "acl").stat().st_mtime - wall
        assert 0 < broker_s < PROMISED_S
        assert 0 < edge_s < PROMISED_S
        assert f"user {bob['wearable_id']}\n" + "topic deny #" in (site / "broker" / "acl").read_text()
        for secret in ("P0001", "P0002"):
            assert secret not in "".join(path.read_text(errors="replace") for path in tmp_path.glob("*.log"))
    _log.info(
        "flowing after %.1f s; after the revocation the last reading came at %.1f s, the broker was told at %.1f s,"
        " the edge at %.1f s", flowing_s, silent_s, broker_s, edge_s,
    )  # fmt: skip


def bindings(journey: Journey, site: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(
        journey.take(Block(f"vitalloom registry bindings --json --site {site}", is_service=False))
    )
    return found
