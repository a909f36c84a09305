"""`vitalloom doctor` on ten sites, each broken in one way, and on a healthy one: it names the problem and the fix.

Real services; each test breaks one thing and repairs it for the next.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from msgspec.structs import replace

from deploy.checks import DAY_MS, CheckResult, Severity
from deploy.doctor import DoctorTargets, run_checks
from models.artifacts import RELEASED
from runtime.clock import Clock, SystemClock
from stream.kafka import TOPICS, producer, topic
from tests.deploy.hospital import ROOT, Hospital
from wire.enrol.authority import Authority, moment
from wire.topics import KAFKA_READINGS, KAFKA_STATE

pytestmark = pytest.mark.services


class OffClock(SystemClock):
    """A machine whose clock is wrong."""

    def __init__(self, by_ms: int) -> None:
        self._by_ms = by_ms

    def now_ms(self) -> int:
        return super().now_ms() + self._by_ms


def problems(targets: DoctorTargets, clock: Clock | None = None) -> list[CheckResult]:
    """The results that are not OK."""
    found = asyncio.run(run_checks(targets, clock or SystemClock()))
    assert found
    return [one for one in found if one.severity is not Severity.OK]


def only_error(found: list[CheckResult]) -> CheckResult:
    """The one result, which has to be an error."""
    assert len(found) == 1, found
    assert found[0].severity is Severity.ERROR
    return found[0]


def test_healthy_site_has_no_problems(hospital: Hospital) -> None:
    told = [
        *("--site", hospital.site_folder, "--ingest", hospital.config("ingest"), "--worker", hospital.config("worker")),
        *("--store", hospital.config("store"), "--edge", hospital.edge()),
        *(word for port in hospital.ports.values() for word in ("--process", port)),
    ]

    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "doctor", *map(str, told), "--json", "--pause", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    report = json.loads(done.stdout)
    subjects = {one["subject"].split(" ")[0] for one in report["checks"]}
    assert [one for one in report["checks"] if one["severity"] != "ok"] == []
    assert (done.returncode, report["errors"], report["warnings"]) == (0, 0, 0)
    assert subjects == {
        "certificate",
        "revocation",
        "folder",
        "MQTT",
        "registry",
        "age",
        "clock",
        "Kafka",
        "workers",
        "store",
        "dead",
        "InfluxDB",
        "bucket",
        "identity",
        "outbox",
        "model",
        "process",
    }


def test_broker_certificate_of_another_authority(hospital: Hospital) -> None:
    stranger, _ = Authority.begin("stranger", at=moment(hospital.clock.now_ms()))

    with hospital.broker_of(stranger):
        found = only_error(problems(DoctorTargets(site=hospital.site_folder)))

    assert found.subject.endswith("as ingest")
    assert found.result == "the broker's certificate is not issued by this site's authority"
    assert found.fix.startswith("the connection may be intercepted; vitalloom broker write --site")


def test_expired_certificate(hospital: Hospital) -> None:
    service = hospital.site_folder / "services" / "monitor.pem"
    kept = service.read_bytes()
    service.write_bytes(hospital.certificate(hospital.site.authority, days_ago=100))
    try:
        with hospital.broker_of(hospital.site.authority, days_ago=100):
            found = {one.subject: one for one in problems(DoctorTargets(site=hospital.site_folder))}
    finally:
        service.write_bytes(kept)

    address = f"MQTT broker at 127.0.0.1:{hospital.settings.port}, as ingest"
    assert set(found) == {address, "certificate of service monitor"}
    assert "expired" in found[address].result
    assert found[address].fix.startswith("run `vitalloom broker write` at the site; ")
    assert found["certificate of service monitor"].result == "expired 10 days ago"
    assert found["certificate of service monitor"].fix.startswith("vitalloom pki renew monitor")


def test_token_without_permission(hospital: Hospital) -> None:
    found = problems(
        DoctorTargets(store=hospital.config("store", name="reads", token=hospital.folder / "reader.token"))
    )

    assert [one.subject.split(" ")[1] for one in found] == ["hospital", "hospital_1m", "hospital_1h"]
    assert all(one.severity is Severity.ERROR and "has no permission to write" in one.result for one in found)
    assert all("vitalloom store init --tokens" in one.fix for one in found)


def test_missing_bucket(hospital: Hospital) -> None:
    found = problems(
        DoctorTargets(store=hospital.config("store", name="elsewhere", bucket="elsewhere", token=hospital.token))
    )

    assert [one.subject.split(" ")[1] for one in found] == ["elsewhere", "elsewhere_1m", "elsewhere_1h"]
    assert all("the bucket does not exist" in one.result and "vitalloom store init" in one.fix for one in found)


def test_disk_without_space_for_the_configured_growth(hospital: Hospital) -> None:
    more_than_free = (shutil.disk_usage(hospital.folder).free >> 20) + 1_000

    found = only_error(problems(DoctorTargets(edge=hospital.edge("full", outbox=f"budget_mb = {more_than_free}"))))

    assert found.subject.startswith("outbox in")
    assert "but the disk has only" in found.result
    assert "outbox.budget_mb" in found.fix


@pytest.mark.parametrize(("days", "side"), [(1, "ahead of"), (-1, "behind")])
def test_clock_offset_of_a_day(hospital: Hospital, days: int, side: str) -> None:
    found = problems(DoctorTargets(site=hospital.site_folder, store=hospital.config("store")), OffClock(days * DAY_MS))

    clocks = [one for one in found if one.subject == "clock of this machine"]
    assert {one.result for one in clocks} == {
        f"1 day {side} the clock of {other}" for other in ("the registry", "InfluxDB")
    }
    assert all(one.severity is Severity.ERROR and "time server" in one.fix for one in clocks)
    # With a clock one day behind, certificates issued today are not valid yet; the fix is the same.
    assert all("clock" in one.fix for one in found if one not in clocks)


def test_broker_that_is_down(hospital: Hospital) -> None:
    hospital.broker.stop()
    try:
        found = problems(DoctorTargets(site=hospital.site_folder, edge=hospital.edge()))
    finally:
        hospital.broker.start()

    assert [one.subject.rpartition(", as ")[2] for one in found] == ["ingest", "this edge"]
    assert all("Connection refused" in one.result for one in found)
    assert f"mosquitto -c {hospital.files.config_file}" in found[0].fix


def test_missing_topic(hospital: Hospital) -> None:
    kafka = replace(hospital.kafka, topic_prefix="halved.", application="halved")

    async def halve() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        names = [topic(kafka, one.name) for one in TOPICS if one.name != KAFKA_STATE]
        await admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1) for name in names])
        await admin.close()

    asyncio.run(halve())
    found = only_error(problems(DoctorTargets(worker=hospital.config("worker", name="halved", kafka=kafka))))

    assert found.result == f"has no topic halved.{KAFKA_STATE}"
    assert found.fix == f"create it: vitalloom topics init --kafka {kafka.bootstrap} --topic-prefix halved."


def test_damaged_model(hospital: Hospital) -> None:
    models = hospital.folder / "models"
    shutil.copytree(RELEASED, models, ignore=shutil.ignore_patterns("*.svg", "*.md"), dirs_exist_ok=True)
    graph = models / "sepsis" / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)

    found = only_error(problems(DoctorTargets(edge=hospital.edge("damaged", more=f'models = "{models}"'))))

    assert found.subject == "model sepsis"
    assert "SHA-256 of model.onnx differs from the passport" in found.result
    assert "restore the released files" in found.fix


def test_growing_consumer_lag(hospital: Hospital) -> None:
    """The worker process exists and holds its partitions, but consumes nothing; its process id would look fine."""
    targets = DoctorTargets(worker=hospital.config("worker"), pause_s=2)

    async def story() -> list[CheckResult]:
        sender = producer(hospital.kafka)
        await sender.start()

        async def send() -> None:
            while True:
                await sender.send_and_wait(topic(hospital.kafka, KAFKA_READINGS), b"not a reading", key=b"0" * 32)

        sending = asyncio.create_task(send())
        try:
            return await run_checks(targets, SystemClock())
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            await sender.stop()

    worker = hospital.processes["worker"].pid
    os.kill(worker, signal.SIGSTOP)
    try:
        found = asyncio.run(story())
    finally:
        os.kill(worker, signal.SIGCONT)

    (lag,) = [one for one in found if one.severity is Severity.ERROR]
    assert lag.subject == "workers (hospital-vitals)"
    assert "were added and none was consumed" in lag.result
    assert "vitalloom worker" in lag.fix


def test_table_lists_each_problem_with_its_fix(hospital: Hospital) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "doctor", "--process", "1", "--edge", str(hospital.folder / "none.toml")],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "400"},  # the folder of a test can have a long path
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "2 errors, 0 warnings, 0 OK" in done.stdout
    for words in ("is not ready: 127.0.0.1:1 does not answer", "--sample-config to see every key", "no such file"):
        assert words in " ".join(done.stdout.split()), done.stdout
    assert "Not a certified medical device." in done.stdout
    assert "Traceback" not in done.stderr


def test_edge_checks_need_no_library_of_a_cluster() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            (
                "import sys, deploy.doctor, deploy.edge_checks\n"
                "print(*sorted({name.split('.')[0] for name in sys.modules}))"
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert set(done.stdout.split()).isdisjoint({"stream", "aiokafka", "faust", "influxdb_client", "starlette"})


def test_folder_without_a_site_is_an_error(tmp_path: Path) -> None:
    found = only_error(problems(DoctorTargets(site=tmp_path)))

    assert "no site here; create one: vitalloom pki init" in found.result
