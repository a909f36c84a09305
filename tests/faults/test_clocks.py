"""A whole site with real services, an edge's agent under a clock that is wrong: the alarm sounds, the clock is said.

The agent's process runs under libfaketime; the wearable, the broker, Kafka, ingest and the worker have the right time.
"""

import asyncio
import glob
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from runtime.clock import SystemClock
from simulators.device import run_wearable
from simulators.stories import START_MS, Moment
from stream.kafka import consumer
from stream.records import AlarmRecord, decode_alarm_record
from tests.deploy.hospital import ROOT, Hospital
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from tests.services.missing import missing
from tests.services.native import Server
from vitals.messages import AlarmChanged, AlarmKind, AlarmState, Priority
from wire.codec import VitalsV1
from wire.enrol.wallet import Wallet
from wire.topics import KAFKA_ALARMS

pytestmark = pytest.mark.services

SOUNDS_WITHIN_S: Final = 40.0
SAID_WITHIN_S: Final = 120.0


def libfaketime() -> str:
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        missing("faketime", "apt-get install faketime")
    return found[0]


class Ill:
    """NEWS2 of 9 from the first reading, once a second."""

    def moments(self) -> Iterator[Moment]:
        for k in range(3_600):
            signs: dict[str, Any] = {
                "heart_rate": 125.0 + k % 3,
                "respiratory_rate": 27.0 + k % 2,
                "spo2": 90.0 + k % 2,
            }
            sample = VitalsV1(t_ms=START_MS + 1_000 * k, t_quality=2, uptime_ms=60_000 + 1_000 * k, **signs)
            yield Moment(START_MS + 1_000 * k, [(0, sample)])


def an_edge(hospital: Hospital, clock: str, library: str) -> Server:
    """The agent of the site's edge under a clock that is off by `clock`, as libfaketime writes it."""
    (hospital.folder / "edge-1" / "edge.toml").write_text(
        'identity = "identity"\ndata_dir = "data"\n[outbox]\nbudget_mb = 64\n', encoding="utf-8"
    )
    return Server(
        "edge",
        hospital.processes["edge"]._command,
        log=hospital.folder / "edge.log",
        is_ready=lambda: True,
        environment={
            "PYTHONPATH": str(ROOT),
            "VITALLOOM_EDGE__HTTP__LISTEN": f"127.0.0.1:{hospital.ports['edge']}",
            "LD_PRELOAD": library,
            "FAKETIME": clock,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        },
    )


async def alarms_of(hospital: Hospital, found: list[tuple[float, AlarmChanged | None]]) -> None:
    """Every alarm of the data centre, with the time at which it was read; an edge's as None."""
    reader = consumer(hospital.kafka, KAFKA_ALARMS, group=None)
    await reader.start()
    try:
        async for record in reader:
            one = decode_alarm_record(record.value)
            found.append((time.monotonic(), one.alarm if isinstance(one, AlarmRecord) else None))
    finally:
        await reader.stop()


async def live(hospital: Hospital) -> tuple[float, list[tuple[float, AlarmChanged | None]]]:
    """An ill patient, until the clock has been said; when it began, and every alarm."""
    found: list[tuple[float, AlarmChanged | None]] = []
    wallet = Wallet.load(hospital.folder / "wearables" / "1")
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(alarms_of(hospital, found))
        wearing = tasks.create_task(run_wearable(wallet, Ill(), SystemClock(), once_assigned=True))  # type: ignore[arg-type]
        began = time.monotonic()
        while time.monotonic() - began < SAID_WITHIN_S:
            await asyncio.sleep(1.0)
            if any(one is not None and one.rule_id == "clock" and one.key == "edge" for _, one in found):
                break
        reading.cancel()
        wearing.cancel()
    return began, found


@pytest.mark.parametrize(
    ("clock", "side"), [("-10m", "9 min behind|10 min behind"), ("+210s", "3 min ahead")], ids=["behind", "ahead"]
)
def test_an_edge_with_a_wrong_clock_is_judged_live_and_said(
    tmp_path: Path, kafka: Kafka, influxdb: InfluxDB, clock: str, side: str
) -> None:
    library = libfaketime()
    hospital = Hospital(tmp_path, kafka, influxdb, name=f"clock-{side[:1]}")
    hospital.processes["edge"] = an_edge(hospital, clock, library)
    try:
        hospital.start()
        began, found = asyncio.run(live(hospital))
    finally:
        hospital.end()
    told = [(at - began, one) for at, one in found if one is not None and not one.retrospective]
    sounding = [(at, one) for at, one in told if one.state is AlarmState.ACTIVE and one.kind is AlarmKind.PHYSIOLOGICAL]
    said = [one.text for _, one in told if one.rule_id == "clock" and one.key == "edge"]

    assert any(one.rule_id == "news2" and one.priority is Priority.HIGH for _, one in sounding)
    assert min(at for at, one in sounding if one.priority is Priority.HIGH) < SOUNDS_WITHIN_S
    assert not [one for _, one in told if one.rule_id == "no_data"]
    assert said
    assert any(text in said[0] for text in side.split("|"))
    ids = {(one.rule_id, one.key, one.alarm_id) for _, one in sounding}
    assert len(ids) == len({(rule, key) for rule, key, _ in ids})
