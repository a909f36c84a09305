"""A running site under load: metrics and readiness of each process, and its shutdown on SIGTERM."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.checks import Severity
from deploy.doctor import DoctorTargets, run_checks
from runtime import health
from runtime.clock import SystemClock
from stream.config import KafkaConfig
from tests.deploy.hospital import Hospital, until
from tests.faults.workers import Load
from tests.services.kafka import Kafka
from tests.services.native import Server

pytestmark = pytest.mark.services

WITHIN_S = 10.0
BASE = ("ready", "received_total", "sent_total", "progress_age_seconds")


class OneLog:
    """As a `Log` of tests, of a site that has one already."""

    def __init__(self, config: KafkaConfig) -> None:
        self.config = config


@contextlib.contextmanager
def worn(hospital: Hospital) -> Iterator[None]:
    """Two patients measure, through edge, broker, ingest, worker and store writer."""
    devices = [hospital.wearable(number) for number in (1, 2)]
    try:
        for one in devices:
            one.start()
        yield
    finally:
        for one in devices:
            one.stop()


@contextlib.asynccontextmanager
async def loaded(hospital: Hospital) -> AsyncIterator[Load]:
    """And two hundred readings a second beside them, straight into the log."""
    load = Load(OneLog(hospital.kafka), patients=40, per_s=5.0)  # type: ignore[arg-type]
    load.begin()
    try:
        yield load
    finally:
        await load.end()


def test_reading_is_counted_at_every_stage(hospital: Hospital) -> None:
    before = {name: hospital.figures(name) for name in hospital.ports}

    with worn(hospital):
        until(
            lambda: hospital.figures("edge")["accepted_total"] >= before["edge"]["accepted_total"] + 4,
            "readings at the edge",
        )
        until(
            lambda: hospital.figures("store")["points_total events"] >= before["store"]["points_total events"] + 4,
            "readings in the database",
        )
    until(lambda: hospital.figures("edge")["lag_records outbox"] == 0, "everything is signed for")
    until(lambda: sum(lags(hospital, "store").values()) == sum(lags(hospital, "worker").values()) == 0, "no lag")

    after = {name: hospital.figures(name) for name in hospital.ports}
    for name, figures in after.items():
        assert all(one in figures for one in BASE), name
        assert figures["ready"] == 1, name
        assert figures["progress_age_seconds"] < 5, name
        assert [key for key in figures if key.startswith("build_info ")] == [f"build_info {name} 0.1.0"]
        assert not [key for key, value in figures.items() if key.startswith("errors_total") and value], name
    for name in ("edge", "ingest", "worker", "store"):
        # Not how many: a record of the worker holds what a transaction says of a patient.
        assert after[name]["received_total"] > before[name]["received_total"], name
        assert after[name]["sent_total"] > before[name]["sent_total"], name
    assert after["ingest"]["stored_total"] >= before["ingest"]["stored_total"] + 4
    assert after["worker"]["partitions"] == 2
    assert after["worker"]["patients"] >= 2
    assert after["edge"]["connected"] == after["ingest"]["connected"] == 1


def lags(hospital: Hospital, name: str) -> dict[str, float]:
    return {key: value for key, value in hospital.figures(name).items() if key.startswith("lag_records ")}


def test_process_that_is_not_ready_reports_why_and_recovers(hospital: Hospital) -> None:
    def said(name: str) -> health.HealthAnswer:
        return health.check(str(hospital.ports[name]))

    hospital.broker.stop()
    try:
        for name in ("ingest", "edge"):
            until(lambda name=name: not said(name).is_healthy, f"{name} is not ready")  # type: ignore[misc]
            assert "MQTT broker" in said(name).text
            assert health.check(str(hospital.ports[name]), path="/live").is_healthy
        assert said("worker").is_healthy
        assert said("store").is_healthy
    finally:
        hospital.broker.start()
    for name in ("ingest", "edge"):
        until(lambda name=name: said(name).is_healthy, f"{name} is ready again")  # type: ignore[misc]


def test_each_process_stops_within_ten_seconds_under_load(hospital: Hospital) -> None:
    # Told to stop in the middle of it, one after the other, as an update does.
    faust = hospital.another_worker("faust")
    took: dict[str, float] = {}

    async def story() -> None:
        faust.start()
        async with loaded(hospital) as load:
            with worn(hospital):
                received = hospital.figures("worker")["received_total"]
                await asyncio.to_thread(until, lambda: "partition acquired" in faust.log.read_text(), "Faust works")
                await asyncio.to_thread(
                    until, lambda: hospital.figures("worker")["received_total"] > received + 200, "the load"
                )
                for name, one in (("faust", faust), *hospital.processes.items()):
                    took[name] = await asyncio.to_thread(ended, one)
                assert load.sent > 200

    asyncio.run(story())

    assert set(took) == {"faust", "registry", "ingest", "worker", "store", "edge"}
    assert max(took.values()) <= WITHIN_S, took
    print({name: round(seconds, 1) for name, seconds in took.items()})  # noqa: T201 - for the documents


def test_each_process_stops_in_time_while_kafka_hangs(hospital: Hospital, kafka: Kafka) -> None:
    # As may happen with `docker compose down`: the server that they wait for accepts connections, but does not answer.
    faust = hospital.another_worker("faust, again")
    faust.start()
    until(lambda: "partition acquired" in faust.log.read_text(), "Faust works")
    ending = {"faust": faust} | {name: hospital.processes[name] for name in ("ingest", "worker", "store")}

    kafka.server.freeze()
    try:
        with ThreadPoolExecutor() as pool:
            took = dict(zip(ending, pool.map(left, ending.values()), strict=True))
    finally:
        kafka.server.thaw()

    assert max(took.values()) <= WITHIN_S, took


def test_process_stops_in_time_while_the_mqtt_broker_hangs(hospital: Hospital) -> None:
    ending = {name: hospital.processes[name] for name in ("ingest", "edge")}
    for one in ending.values():
        one.stop()
    os.kill(hospital.broker.pid, signal.SIGSTOP)
    try:
        for name, one in ending.items():
            one.start()
            # The process handles signals by now, and waits for the handshake with the broker.
            until(lambda name=name: "MQTT broker" in health.check(str(hospital.ports[name])).text, f"{name} waits")  # type: ignore[misc]
        with ThreadPoolExecutor() as pool:
            took = dict(zip(ending, pool.map(left, ending.values()), strict=True))
    finally:
        os.kill(hospital.broker.pid, signal.SIGCONT)

    assert max(took.values()) <= WITHIN_S, took


def left(process: Server) -> float:
    """Seconds from SIGTERM to the end with exit status 0; errors that libraries log are ignored."""
    began = time.monotonic()
    assert process.told_to_stop(within_s=2 * WITHIN_S) == 0, process.said()
    return time.monotonic() - began


def ended(process: Server) -> float:
    """Seconds from SIGTERM to the end with exit status 0 and without a traceback in the log."""
    began = time.monotonic()
    status = process.told_to_stop(within_s=2 * WITHIN_S)
    seconds = time.monotonic() - began
    said = process.log.read_text(encoding="utf-8", errors="replace")
    assert status == 0, said[-2_000:]
    assert "Traceback" not in said, said[-4_000:]
    assert "stopped" in said[-2_000:], said[-2_000:]
    return seconds


def test_site_under_load_has_no_problems(hospital: Hospital) -> None:
    """Under load there is always some lag, which is OK as long as consumers keep up."""
    targets = DoctorTargets(worker=hospital.config("worker"), store=hospital.config("store"), pause_s=3)

    async def problems() -> list[str]:
        found = await run_checks(targets, SystemClock())
        return [f"{one.subject}: {one.result}" for one in found if one.severity is not Severity.OK]

    async def story() -> list[str]:
        async with loaded(hospital):
            return await problems()

    # Other tests of this site leave dead letters: there must be no more of them.
    until(lambda: sum(lags(hospital, "worker").values()) == 0, "what other tests have sent")
    before = [one for one in asyncio.run(problems()) if one.startswith("dead letters")]
    assert asyncio.run(story()) == before
