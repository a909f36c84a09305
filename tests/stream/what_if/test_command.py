"""`vitalloom orders what-if`: a clinician tries other orders on what is stored, and sees what they would have cost."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from stream.errors import StreamError, WhatIfRefused
from stream.orders import commands
from stream.what_if.run import StayResult, run
from stream.what_if.sqlite_source import SqliteSource
from tests.stream.what_if.wards import START, a_stored_ward
from vitals.orders import BadOrders
from vitals.plan import MonitoringPlan

UNCHANGED = '[order]\nlevel = "ward"\nname = "7"\nby = "dr-weber"\nwhy = "nothing"\n'
CALMER = """
[order]
level = "ward"
name = "7"
by = "dr-weber"
why = "one red sign for a minute is noise on this ward"
[rule.red_sign]
delay = "15 min"
[rule.low_spo2]
call = "observe"
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    a_stored_ward(folder / "store.sqlite", seed=5, plan=MonitoringPlan())
    return folder


def asked(tmp_path: Path, orders: str, *options: str) -> Result:
    (tmp_path / "new.toml").write_text(orders, encoding="utf-8")
    return CliRunner().invoke(commands.orders, ["what-if", str(tmp_path / "new.toml"), "--processes", "1", *options])


def the_account(tmp_path: Path, orders: str, *options: str) -> dict[str, object]:
    result = asked(tmp_path, orders, "--json", *options)
    assert result.exit_code == 0, result.exception
    return dict(json.loads(result.stdout))


@pytest.mark.slow
def test_orders_that_change_nothing_change_nothing(store: Path, tmp_path: Path) -> None:
    found = the_account(tmp_path, UNCHANGED, "--data", str(store))

    assert found["stored"] == found["same"]
    assert found["stored"] != 0
    assert found["then_per_day"] == found["new_per_day"]
    assert found["high"] == []
    assert found["stays"] == 3


@pytest.mark.slow
def test_calmer_orders_say_what_they_cost(store: Path, tmp_path: Path) -> None:
    found = the_account(tmp_path, CALMER, "--data", str(store))

    rows = {(row["rule_id"], row["priority"]): row for row in found["classes"]}  # type: ignore[attr-defined]
    assert rows["red_sign", "high"]["new"] < rows["red_sign", "high"]["then"]
    assert rows["low_spo2", "high"]["new"] == 0 < rows["low_spo2", "high"]["then"]
    assert rows["news2", "high"]["new"] == rows["news2", "high"]["then"]
    changed = [one["change"] for one in found["high"]]  # type: ignore[attr-defined]
    assert {one["rule_id"] for one in changed} == {"red_sign", "low_spo2"}
    assert any(one["later_ms"] is None for one in changed)
    assert any(one["later_ms"] is not None and one["later_ms"] >= 14 * 60_000 for one in changed)
    assert found["stored"] == found["same"]


@pytest.mark.slow
def test_two_processes_and_a_second_run_find_the_same(store: Path, tmp_path: Path) -> None:
    alone = the_account(tmp_path, CALMER, "--data", str(store))
    kept = tmp_path / "kept.jsonl"
    options = ("--data", str(store), "--processes", "2", "--keep", str(kept))

    together = the_account(tmp_path, CALMER, *options)
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join(lines[:2]) + lines[2][:40])  # a power cut while the third was written
    again = the_account(tmp_path, CALMER, *options)

    for one in (alone, together, again):
        one.pop("seconds")
        for name in ("high", "deteriorations"):
            one[name] = sorted(one[name], key=str)  # type: ignore[call-overload]
    assert alone == together == again
    assert len(kept.read_bytes().splitlines()) == 4  # the cut one is done again


def test_labels_say_what_would_be_missed(store: Path, tmp_path: Path) -> None:
    opened = SqliteSource(store / "store.sqlite").open()
    names = [one.stay_id for one in opened.stays()]
    opened.close()
    labels = tmp_path / "labels.csv"
    labels.write_text(f"patient,time\n{names[0]},{START + 3 * 3_600_000}\n", encoding="utf-8")
    observed = UNCHANGED + '[call]\nhigh = "observe"\nmedium = "observe"\ntechnical = "observe"\n'

    found = the_account(tmp_path, observed, "--data", str(store), "--labels", str(labels))

    assert [one["verdict"] for one in found["deteriorations"]] == ["missed"]  # type: ignore[attr-defined]
    assert found["new_per_day"] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "one of --data FOLDER, --influx URL, --stays FILE"),
        (("--influx", "http://localhost:1"), "--from and --to"),
        (("--data", "STORE", "--level", "bed"), "--level bed"),
        (("--data", "STORE", "--from", "yesterday"), "--from: 'yesterday' is no time"),
        (("--data", "STORE", "--ward", "9"), "no stay is left"),
        (("--data", "STORE", "--labels", "new.toml"), "patient,time"),
        (("--data", "nowhere"), "does not exist"),
    ],
)
def test_what_cannot_be_asked_is_said_with_the_fix(
    store: Path, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    places = {"STORE": str(store), "new.toml": str(tmp_path / "new.toml")}
    result = asked(tmp_path, UNCHANGED, *(places.get(one, one) for one in options))

    assert isinstance(result.exception, StreamError)
    assert says in str(result.exception)


def test_a_file_that_is_no_order_is_refused(store: Path, tmp_path: Path) -> None:
    result = asked(tmp_path, "[rule.red_sing]\ndelay = '1 min'\n", "--data", str(store))

    assert isinstance(result.exception, BadOrders | WhatIfRefused)


@pytest.mark.training
def test_a_picture_and_a_table_are_made(store: Path, tmp_path: Path) -> None:
    result = asked(tmp_path, CALMER, "--data", str(store), "--plot", str(tmp_path / "what-if.png"))

    assert result.exit_code == 0, result.exception
    assert (tmp_path / "what-if.png").read_bytes().startswith(b"\x89PNG")
    assert "red_sign" in result.stdout
    assert "The orders of then, replayed" in result.stdout


def test_recorded_stays_are_replayed_a_reading_a_minute(tmp_path: Path) -> None:
    rows = [f"{minute},{70 if minute < 30 else 135},,{16 if minute < 30 else 28},97,," for minute in range(120)]
    recorded = tmp_path / "one.csv"
    recorded.write_text("minute,HR,PULSE,RESP,SpO2,NBPSys,NBPDias\n" + "\n".join(rows) + "\n", encoding="utf-8")

    found = the_account(tmp_path, CALMER, "--stays", str(recorded))

    assert found["readings"] == 120
    assert found["stored"] is None
    delayed = [one["change"]["later_ms"] for one in found["high"]]  # type: ignore[attr-defined]
    assert delayed == [14 * 60_000] * 2  # heart rate and respiratory rate, after 15 min instead of one


def test_what_is_finished_is_shown_when_it_is_stopped(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*args: Any, **named: Any) -> Iterator[StayResult]:
        yield next(run(*args, **named))
        raise KeyboardInterrupt

    monkeypatch.setattr("stream.what_if.commands.run", stopped)

    result = asked(tmp_path, CALMER, "--data", str(store))

    assert result.exit_code == 130
    assert "1 of 3 stays" in result.stdout
    assert "Interrupted" in result.stdout
