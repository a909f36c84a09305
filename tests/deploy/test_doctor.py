"""Ten sites, each broken in one way, and one that is well: the doctor names what is wrong, and the cure.

Real services; each test breaks one thing, and mends it for the next.
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

from deploy.doctor import Patient, examine
from deploy.findings import DAY_MS, Finding, Verdict
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


def ills(patient: Patient, clock: Clock | None = None) -> list[Finding]:
    """What is not well."""
    found = asyncio.run(examine(patient, clock or SystemClock()))
    assert found
    return [one for one in found if one.verdict is not Verdict.OK]


def only(found: list[Finding]) -> Finding:
    """What is wrong, if it is one thing."""
    assert len(found) == 1, found
    assert found[0].verdict is Verdict.WRONG
    return found[0]


def test_a_site_that_is_well_gives_no_finding(hospital: Hospital) -> None:
    told = [
        *("--site", hospital.site_folder, "--ingest", hospital.config("ingest"), "--worker", hospital.config("worker")),
        *("--store", hospital.config("store"), "--edge", hospital.edge()),
        *(word for port in hospital.ports.values() for word in ("--process", port)),
    ]

    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "doctor", *map(str, told), "--json", "--pause", "1"], cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    report = json.loads(done.stdout)
    about = {one["about"].split(" ")[0] for one in report["findings"]}
    assert [one for one in report["findings"] if one["verdict"] != "ok"] == []
    assert (done.returncode, report["wrong"], report["warnings"]) == (0, 0, 0)
    assert about == {
        "certificate", "revocation", "folder", "MQTT", "registry", "clock", "Kafka", "workers", "store", "InfluxDB",
        "bucket", "identity", "outbox", "model", "process",
    }  # fmt: skip


def test_a_wrong_authority(hospital: Hospital) -> None:
    stranger, _ = Authority.begin("stranger", at=moment(hospital.clock.now_ms()))

    with hospital.broker_of(stranger):
        found = only(ills(Patient(site=hospital.site_folder)))

    assert found.about.endswith("as the ingest")
    assert found.what == "the broker's certificate is not of our authority"
    assert found.cure.startswith("somebody may stand between; vitalloom broker write --site")


def test_an_expired_certificate(hospital: Hospital) -> None:
    service = hospital.site_folder / "services" / "monitor.pem"
    kept = service.read_bytes()
    service.write_bytes(hospital.certificate(hospital.site.authority, days_ago=100))
    try:
        with hospital.broker_of(hospital.site.authority, days_ago=100):
            found = {one.about: one for one in ills(Patient(site=hospital.site_folder))}
    finally:
        service.write_bytes(kept)

    address = f"MQTT broker at 127.0.0.1:{hospital.settings.port}, as the ingest"
    assert set(found) == {address, "certificate of service monitor"}
    assert "expired" in found[address].what
    assert found[address].cure.startswith("run `vitalloom broker write` at the site; ")
    assert found["certificate of service monitor"].what == "expired 10 days ago"
    assert found["certificate of service monitor"].cure.startswith("vitalloom pki renew monitor")


def test_a_token_without_rights(hospital: Hospital) -> None:
    found = ills(Patient(store=hospital.config("store", name="reads", token=hospital.folder / "reader.token")))

    assert [one.about.split(" ")[1] for one in found] == ["hospital", "hospital_1m", "hospital_1h"]
    assert all(one.verdict is Verdict.WRONG and "may not be written with the token" in one.what for one in found)
    assert all("vitalloom store init --tokens" in one.cure for one in found)


def test_a_missing_bucket(hospital: Hospital) -> None:
    found = ills(Patient(store=hospital.config("store", name="elsewhere", bucket="elsewhere", token=hospital.token)))

    assert [one.about.split(" ")[1] for one in found] == ["elsewhere", "elsewhere_1m", "elsewhere_1h"]
    assert all("there is no such bucket" in one.what and "vitalloom store init" in one.cure for one in found)


def test_a_disk_that_cannot_hold_what_is_promised(hospital: Hospital) -> None:
    more_than_there_is = (shutil.disk_usage(hospital.folder).free >> 20) + 1_000

    found = only(ills(Patient(edge=hospital.edge("full", outbox=f"budget_mb = {more_than_there_is}"))))

    assert found.about.startswith("outbox in")
    assert "more, and its disk has" in found.what
    assert "outbox.budget_mb" in found.cure


@pytest.mark.parametrize(("days", "side"), [(1, "ahead of"), (-1, "behind")])
def test_a_clock_that_is_off_by_a_day(hospital: Hospital, days: int, side: str) -> None:
    found = ills(Patient(site=hospital.site_folder, store=hospital.config("store")), OffClock(days * DAY_MS))

    clocks = [one for one in found if one.about == "clock of this machine"]
    assert {one.what for one in clocks} == {f"1 day {side} that of {other}" for other in ("the registry", "InfluxDB")}
    assert all(one.verdict is Verdict.WRONG and "time server" in one.cure for one in clocks)
    # What was issued today is not good yet for who lives yesterday: that is said with the same cure.
    assert all("clock" in one.cure for one in found if one not in clocks)


def test_a_broker_that_is_down(hospital: Hospital) -> None:
    hospital.broker.stop()
    try:
        found = ills(Patient(site=hospital.site_folder, edge=hospital.edge()))
    finally:
        hospital.broker.start()

    assert [one.about.rpartition(", as ")[2] for one in found] == ["the ingest", "this edge"]
    assert all("Connection refused" in one.what for one in found)
    assert f"mosquitto -c {hospital.files.config_file}" in found[0].cure


def test_a_topic_that_is_missing(hospital: Hospital) -> None:
    kafka = replace(hospital.kafka, topic_prefix="halved.", application="halved")

    async def halve() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        names = [topic(kafka, one.name) for one in TOPICS if one.name != KAFKA_STATE]
        await admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1) for name in names])
        await admin.close()

    asyncio.run(halve())
    found = only(ills(Patient(worker=hospital.config("worker", name="halved", kafka=kafka))))

    assert found.what == f"has no topic halved.{KAFKA_STATE}"
    assert found.cure == f"make them: vitalloom topics init --kafka {kafka.bootstrap} --topic-prefix halved."


def test_a_model_that_is_damaged(hospital: Hospital) -> None:
    models = hospital.folder / "models"
    shutil.copytree(RELEASED, models, ignore=shutil.ignore_patterns("*.svg", "*.md"), dirs_exist_ok=True)
    graph = models / "sepsis" / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)

    found = only(ills(Patient(edge=hospital.edge("damaged", more=f'models = "{models}"'))))

    assert found.about == "model sepsis"
    assert "is not the file that the passport names" in found.what
    assert "put it back as it was released" in found.cure


def test_lag_that_grows(hospital: Hospital) -> None:
    """The worker is there, holds its partitions and reads nothing: what a process id would never show."""
    patient = Patient(worker=hospital.config("worker"), pause_s=2)

    async def story() -> list[Finding]:
        sender = producer(hospital.kafka)
        await sender.start()

        async def send() -> None:
            while True:
                await sender.send_and_wait(topic(hospital.kafka, KAFKA_READINGS), b"not a reading", key=b"0" * 32)

        sending = asyncio.create_task(send())
        try:
            return await examine(patient, SystemClock())
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

    (lag,) = [one for one in found if one.verdict is Verdict.WRONG]
    assert lag.about == "workers (hospital-vitals)"
    assert "more came and none was read" in lag.what
    assert "vitalloom worker" in lag.cure


def test_a_table_for_people_names_each_and_its_cure(hospital: Hospital) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vitalloom", "doctor", "--process", "1", "--edge", str(hospital.folder / "none.toml")],
        cwd=ROOT, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert "2 wrong, 0 to look after, 0 well" in done.stdout
    for words in ("is not ready: 127.0.0.1:1 does not answer", "--sample-config shows every key", "no such file"):
        assert words in " ".join(done.stdout.split()), done.stdout
    assert "Not a certified medical device." in done.stdout
    assert "Traceback" not in done.stderr


def test_an_edge_needs_no_library_of_a_cluster() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            ("import sys, deploy.doctor, deploy.edge_examination\n"
            "print(*sorted({name.split('.')[0] for name in sys.modules}))"),
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert set(done.stdout.split()).isdisjoint({"stream", "aiokafka", "faust", "influxdb_client", "starlette"})


def test_what_is_told_has_to_be_there(tmp_path: Path) -> None:
    found = only(ills(Patient(site=tmp_path)))

    assert "no site here; create one: vitalloom pki init" in found.what
