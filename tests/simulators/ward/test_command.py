"""The command `vitalloom ward` as a person runs it: real broker, agents and store, and the expected results."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simulators.broker import free_port
from tests.models.made_up import copied
from tests.oracle import check_store
from tests.patience import PATIENCE_S
from tests.services.mosquitto import Mosquitto, mosquitto_binary

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("VITALLOOM_DATA", ROOT / "../shared/data"))
CADENCE_MS, RECORDED_CADENCE_MS = 5_000, 60_000

pytestmark = pytest.mark.services


class Ended(NamedTuple):
    """A ward that is over."""

    code: int
    summary: dict[str, Any]
    text: str
    problem: str
    store: Path


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "vitalloom", "ward", *options]


def a_ward(folder: Path, *options: str, within_s: float = 120) -> Ended:
    """With one device a patient, or as told: readings of several at one moment are scored in the order of arrival."""
    options = options if "--devices" in options else (*options, "--devices", "1")
    done = subprocess.run(
        command("--headless", "--json", "--data", str(folder), *options),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=within_s,
    )
    last = (done.stdout.splitlines() or [""])[-1]
    summary = json.loads(last) if last.startswith("{") else {}
    return Ended(done.returncode, summary, done.stdout, done.stderr, folder / "store.sqlite")


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    store = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return store.execute(query).fetchall()
    finally:
        store.close()


# Arrival, and the ids of sessions with all that follows from them, differ from run to run; what was measured does not.
MEASURED = (
    "SELECT binding_id, at_ms, heart_rate, respiratory_rate, spo2, systolic_bp, diastolic_bp, temperature,"
    " supplemental_oxygen, consciousness, sensor_flags, battery FROM reading ORDER BY binding_id, at_ms"
)
SCORED = "SELECT binding_id, at_ms, total, at_least, risk, parts FROM news2 ORDER BY binding_id, at_ms, parts"
ALARMED = (
    "SELECT binding_id, rule_id, key, onset_ms, max(priority) FROM alarm"
    " WHERE state != 'pending' AND kind = 'physiological' GROUP BY alarm_id ORDER BY 1, 2, 3, 4"
)
ALARMS_WITHOUT_TIMES = (
    "SELECT binding_id, rule_id, key, max(priority) FROM alarm WHERE state != 'pending' AND kind = 'physiological'"
    " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
)
STORY = ("--duration", "10m", "--speed", "60", "--seed", "3")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Eight patients for ten minutes, and nothing goes wrong but with the patients."""
    return a_ward(tmp_path_factory.mktemp("wards") / "calm", *STORY)


def assert_everything_is_accounted_for(ward: Ended) -> None:
    summary = ward.summary
    assert ward.code == 0, ward.problem
    assert summary["sent"] == summary["accepted"] == summary["stored"] > 0
    assert summary["observations"] == summary["observations_stored"]
    assert summary["observations_refused"] == {}
    assert summary["duplicates_stored"] == summary["dead_letters"] == summary["on_the_way"] == 0
    assert rows(ward.store, "SELECT count(*), count(DISTINCT reading_id) FROM reading") == [(summary["stored"],) * 2]


def test_nurses_and_devices_of_a_patient_make_one_complete_score(tmp_path: Path) -> None:
    ward = a_ward(tmp_path / "mixed", "--duration", "10m", "--speed", "60", "--seed", "3", "--devices", "mixed")

    assert_everything_is_accounted_for(ward)
    summary = ward.summary
    assert summary["observations"] >= summary["patients"] == 8
    assert summary["news2_complete"] > 0.8 * summary["news2"]
    devices = rows(ward.store, "SELECT count(DISTINCT device) FROM reading GROUP BY binding_id ORDER BY 1")
    assert [count for (count,) in devices] == [1, 1, 1, 1, 2, 3, 3, 6]
    who = rows(ward.store, "SELECT DISTINCT observer FROM observation ORDER BY 1")
    assert who == [("anna",), ("ben",)]


def test_a_ward_accounts_for_every_reading_and_alarms(calm: Ended) -> None:
    assert_everything_is_accounted_for(calm)

    summary = calm.summary
    assert summary["rejected"] == 0
    assert summary["alarms"] > 0
    assert 0 < summary["seconds_to_first_alarm"] < 60
    assert summary["judged_by"].startswith("rules + sepsis ")
    assert "not a certified medical device" in calm.text
    texts = [text for (text,) in rows(calm.store, "SELECT text FROM alarm WHERE rule_id = 'news2'")]
    assert any("SpO2" in text and "(+3)" in text for text in texts)


def test_models_judge_every_patient_beside_the_rules_and_their_scores_are_stored(calm: Ended) -> None:
    patients = rows(calm.store, "SELECT count(DISTINCT binding_id) FROM reading")[0][0]
    judged = dict(rows(calm.store, "SELECT model, count(DISTINCT binding_id) FROM model_score GROUP BY model"))

    assert judged == {"sepsis": patients, "heart": patients // 4}
    assert rows(calm.store, "SELECT count(*) FROM model_score WHERE score IS NULL") == [(0,)]
    assert rows(calm.store, "SELECT count(*) FROM model_score WHERE NOT score BETWEEN 0 AND 1") == [(0,)]
    unfiled = "SELECT count(*) FROM model_score LEFT JOIN reading USING (reading_id) WHERE reading.reading_id IS NULL"
    assert rows(calm.store, unfiled) == [(0,)]
    first = "SELECT reason FROM model_score WHERE model = 'sepsis' GROUP BY binding_id HAVING at_ms = min(at_ms)"
    assert all(reason.count("(") == 3 for (reason,) in rows(calm.store, first))


def test_a_damaged_model_is_named_and_the_rules_judge_as_before(calm: Ended, tmp_path: Path) -> None:
    (copied("sepsis", tmp_path / "models") / "model.onnx").write_bytes(b"damaged")

    ward = a_ward(tmp_path / "ward", *STORY, "--models", str(tmp_path / "models"), "--apart")

    assert_everything_is_accounted_for(ward)
    assert ward.summary["judged_by"] == "rules only (sepsis refused: hash)"
    alarms = rows(
        ward.store, "SELECT count(DISTINCT binding_id), min(text) FROM alarm WHERE rule_id = 'model_unavailable'"
    )
    assert alarms == [(8, "sepsis model: refused: hash")]
    assert rows(ward.store, SCORED) == rows(calm.store, SCORED)
    of_rules = "SELECT DISTINCT rule_id FROM alarm WHERE kind = 'physiological' AND basis != 'model' ORDER BY 1"
    assert rows(ward.store, of_rules) == rows(calm.store, of_rules)


def test_every_news2_in_the_store_agrees_with_the_chart(calm: Ended) -> None:
    assert check_store(calm.store, cadence_ms=CADENCE_MS) == calm.summary["stored"] + calm.summary["observations"]


def test_the_same_seed_gives_the_same_readings_scores_and_alarms(calm: Ended, tmp_path: Path) -> None:
    again = a_ward(tmp_path / "again", "--duration", "10m", "--speed", "120", "--seed", "3")

    assert rows(again.store, MEASURED) == rows(calm.store, MEASURED)
    assert rows(again.store, SCORED) == rows(calm.store, SCORED)
    assert rows(again.store, ALARMED) == rows(calm.store, ALARMED)


def test_another_seed_gives_other_readings(calm: Ended, tmp_path: Path) -> None:
    other = a_ward(tmp_path / "other", "--duration", "1m", "--speed", "120", "--seed", "4")

    assert_everything_is_accounted_for(other)
    assert not set(rows(other.store, MEASURED)) & set(rows(calm.store, MEASURED))


def test_loss_doubles_disorder_and_two_kills_change_nothing_but_time(calm: Ended, tmp_path: Path) -> None:
    faults = ("--fault", "loss=5%,duplicate=2%,reorder=5%", "--fault", "broker-kill=3s", "--fault", "edge-kill=6s")

    rough = a_ward(tmp_path / "rough", *STORY, *faults)

    assert_everything_is_accounted_for(rough)
    happened = rough.summary["faults"]
    assert happened["broker killed"] == happened["edge killed"] == 1
    assert min(happened["lost"], happened["doubled"], happened["reordered"]) > 0
    assert rough.summary["duplicates"] > 0
    assert rows(rough.store, MEASURED) == rows(calm.store, MEASURED)
    assert rows(rough.store, ALARMS_WITHOUT_TIMES) == rows(calm.store, ALARMS_WITHOUT_TIMES)
    check_store(rough.store, cadence_ms=CADENCE_MS)


def test_damaged_frames_are_counted_and_sent_again(tmp_path: Path) -> None:
    ward = a_ward(tmp_path / "ward", "--duration", "4m", "--speed", "60", "--fault", "corrupt=5%")

    assert_everything_is_accounted_for(ward)
    assert ward.summary["rejected_by_reason"].keys() & {"auth", "magic", "signature", "length", "session_id"}


def test_a_real_mosquitto_carries_the_same_ward(calm: Ended, mosquitto: Mosquitto, tmp_path: Path) -> None:
    ward = a_ward(tmp_path / "ward", *STORY, "--broker", f"{mosquitto.host}:{mosquitto.port}")

    assert_everything_is_accounted_for(ward)
    assert rows(ward.store, MEASURED) == rows(calm.store, MEASURED)
    assert rows(ward.store, ALARMED) == rows(calm.store, ALARMED)


def test_a_mosquitto_that_requires_client_certificates_carries_the_same_ward(calm: Ended, tmp_path: Path) -> None:
    mosquitto_binary()
    ward = a_ward(tmp_path / "ward", *STORY, "--broker", "mosquitto")

    assert_everything_is_accounted_for(ward)
    assert rows(ward.store, MEASURED) == rows(calm.store, MEASURED)
    assert rows(ward.store, ALARMED) == rows(calm.store, ALARMED)
    conf = (tmp_path / "ward" / "site" / "broker" / "mosquitto.conf").read_text()
    assert "require_certificate true" in conf
    log = (tmp_path / "ward" / "mosquitto.log").read_text()
    assert len(set(re.findall(r"as ([0-9a-f]{32}(?:-a)?) ", log))) == 8 + 2 * 2  # wearables, lanes of edges


def test_a_broker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    ward = a_ward(tmp_path / "ward", "--broker", f"127.0.0.1:{free_port()}")

    assert ward.code == 2
    assert "does not answer: [Errno 111] Connection refused" in ward.problem.replace("\n", " ")


@pytest.mark.parametrize("skew", ["-1h", "87600h"])
def test_wrong_clocks_are_noticed_and_put_right(skew: str, tmp_path: Path) -> None:
    # At 20 times, a delay of the machine is less than what makes the uptime of a wearable uncertain again.
    ward = a_ward(tmp_path / "ward", "--duration", "3m", "--speed", "20", "--fault", f"skew={skew}")

    assert_everything_is_accounted_for(ward)
    begins, ends = rows(ward.store, "SELECT min(at_ms), max(at_ms) FROM reading WHERE NOT backfilled")[0]
    assert 2 * 60_000 < ends - begins < 4 * 60_000
    # Until a wearable's uptime is certain, times in the past may be those of a backlog: they are recorded as told.
    (unsure_s,) = rows(ward.store, "SELECT max(received_ms) - min(received_ms) FROM reading WHERE backfilled")[0]
    assert (unsure_s or 0) <= 30_000
    assert ward.summary["alarms_by_class"]["low clock"] == 8


def test_ctrl_c_ends_a_ward_cleanly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("--headless", "--json", "--speed", "60", "--data", str(tmp_path / "ward"), "--apart"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_readings(tmp_path / "ward" / "store.sqlite")
        children = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        out, problem = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()

    assert process.returncode == 0, problem
    summary = json.loads(out.splitlines()[-1])
    assert summary["sent"] == summary["accepted"] == summary["stored"] > 0
    assert len(children) == 3  # the broker and two agents
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []


def wait_for_readings(store: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if store.exists():
            try:
                if rows(store, "SELECT count(*) FROM reading")[0][0] > 20:
                    return
            except sqlite3.OperationalError:  # it is just being made
                pass
        time.sleep(0.05)
    raise AssertionError(f"no reading came within {PATIENCE_S:.0f} s")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# Recorded stays


@pytest.fixture
def stays(tmp_path: Path) -> Path:
    """Three stays of six hours; the second gets worse by the hour."""
    table: dict[str, list[Any]] = {
        name: [] for name in ("patient_id", "hour", "HR", "Resp", "O2Sat", "Temp", "SBP", "DBP", "FiO2")
    }
    for patient in range(3):
        worse = patient == 1
        for hour in range(6):
            values = (
                f"stay-{patient}",
                hour,
                70.0 + 12 * hour * worse,
                14.0 + 3 * hour * worse,
                98.0 - 2 * hour * worse,
                36.8 + 0.4 * hour * worse,
                125.0 - 8 * hour * worse,
                70.0,
                0.21,
            )
            for column, value in zip(table.values(), values, strict=True):
                column.append(value)
    path = tmp_path / "stays.parquet"
    pq.write_table(pa.table(table), path)
    return path


def test_recorded_stays_become_alarms(stays: Path, tmp_path: Path) -> None:
    ward = a_ward(tmp_path / "ward", "--replay", str(stays), "--patients", "3", "--speed", "3600")

    assert_everything_is_accounted_for(ward)
    assert ward.summary["simulated_s"] == pytest.approx(5 * 3_600, abs=120)
    worst = rows(ward.store, "SELECT DISTINCT binding_id FROM alarm WHERE rule_id = 'news2'")
    assert len(worst) == 1
    assert check_store(ward.store, cadence_ms=RECORDED_CADENCE_MS) == ward.summary["stored"]


def test_stays_of_real_patients_become_alarms(tmp_path: Path) -> None:
    path = DATA / "sepsis2019" / "setB_dev.parquet"
    if not path.is_file():
        pytest.skip("no recorded stays; set VITALLOOM_DATA to the folder that holds sepsis2019/setB_dev.parquet")

    ward = a_ward(tmp_path / "ward", "--replay", str(path), "--patients", "20", "--speed", "3600", "--duration", "3h")

    assert_everything_is_accounted_for(ward)
    assert ward.summary["alarms"] > 0
    compared = check_store(ward.store, cadence_ms=RECORDED_CADENCE_MS)
    assert compared == ward.summary["stored"] - rows(ward.store, "SELECT sum(late) FROM reading")[0][0]


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scenario", "nonsense"), "unknown scenario 'nonsense'; known are stable,"),
        (("--fault", "gremlins=5%"), "--fault gremlins=5%: no such fault; known are loss=5%"),
        (("--fault", "loss=lots"), "'lots' is not a share"),
        (
            ("--fault", "broker-kill=1s", "--broker", "localhost:1883"),
            "the ward can only kill a broker that it has started",
        ),
        (("--duration", "90"), "--duration 90: not a time; write for instance 90s"),
        (("--cadence", "often"), "--cadence often: not a time"),
        (("--broker", "localhost"), "--broker localhost: not a broker address; write mosquitto or host:port"),
        (("--replay", "missing.parquet"), "missing.parquet"),
    ],
)
def test_wrong_options_are_answered_with_one_sentence(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    ward = a_ward(tmp_path / "ward", *options)

    assert ward.code == 2
    assert message in ward.problem.replace("\n", " ")
    assert "Traceback" not in ward.problem


def test_a_replay_without_its_columns_names_them(tmp_path: Path) -> None:
    path = tmp_path / "half.csv"
    path.write_text("patient_id,hour,HR\n1,1,80\n", encoding="utf-8")

    ward = a_ward(tmp_path / "ward", "--replay", str(path))

    assert ward.code == 2
    assert "half.csv" in ward.problem
    assert "Resp" in ward.problem


def test_a_folder_with_something_in_it_is_not_used(calm: Ended) -> None:
    ward = a_ward(calm.store.parent, "--duration", "1m")

    assert ward.code == 2
    assert "is not an empty folder" in ward.problem


def test_the_scenarios_are_listed() -> None:
    done = subprocess.run(command("--scenario", "list"), cwd=ROOT, capture_output=True, text=True, check=True)

    assert all(name in done.stdout for name in ("stable", "sepsis-onset", "hypoxia", "mixed"))
