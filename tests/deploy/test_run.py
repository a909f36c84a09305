"""A site on this machine before anything runs: what is asked of whom, what is in its way, what people are told."""

import asyncio
import io
import socket
from pathlib import Path

import pytest
from rich.console import Console

from deploy import settings
from deploy.board import Rate
from deploy.description import named
from deploy.errors import PortTaken, SiteIncomplete, ToolMissing
from deploy.folder import Folder
from deploy.run import Native, run
from deploy.supervisor import State
from tests.deploy.first_site import free_row

pytestmark = pytest.mark.services("mosquitto", "kafka", "influxdb")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    row, made = free_row(), tmp_path / "site"
    Folder(made).begin(
        name="north", host="127.0.0.1", registry_port=row.registry, broker_port=row.broker, first_port=row.first,
        who="test",
    )  # fmt: skip
    return made


def native(folder: Path, *, demo: bool = False, workers: int = 1) -> Native:
    return Native(folder, demo=demo, workers=workers, out=Console(file=io.StringIO(), width=200))


def test_each_is_asked_where_it_listens(folder: Path) -> None:
    site = native(folder, workers=3)
    ports, found = settings.read(folder).ports, named(site.processes)

    assert site.question(found["kafka"]) == f"kafka://127.0.0.1:{ports.kafka}"
    assert site.question(found["mosquitto"]) == f"tcp://127.0.0.1:{site.facts.broker_port}"
    assert site.question(found["ingest"]) == f"http://127.0.0.1:{ports.ingest_http}/ready"
    assert site.question(found["prepare"]) == ""
    pages = {site.question(found[f"worker-{number}"]) for number in (1, 2, 3)}
    assert len(pages) == 3
    assert {one.environment["VITALLOOM_WORKER__HTTP__LISTEN"] for one in site.processes if "worker" in one.name} == {
        page.removeprefix("http://").removesuffix("/ready") for page in pages
    }


def test_a_port_that_somebody_has_is_named_before_anything_starts(folder: Path) -> None:
    site = native(folder)
    with socket.create_server(("127.0.0.1", settings.read(folder).ports.influxdb)), pytest.raises(PortTaken) as found:
        asyncio.run(site.run(for_s=1))

    assert "which influxdb needs" in str(found.value)
    assert {one.starts for one in site.supervisor.watched.values()} == {0}


def test_a_site_for_patients_says_that_nobody_is_called_until_somebody_is(folder: Path) -> None:
    def said(site: Native) -> str:
        return " ".join(one.where for one in site.places())

    assert "NOBODY IS CALLED" in said(native(folder))
    assert "NOBODY IS CALLED" not in said(native(folder, demo=True))

    desk = folder / "config" / "desk.toml"
    desk.write_text(desk.read_text().replace('nurse = ["demo"]', 'nurse = ["anna"]'))

    assert "NOBODY IS CALLED" not in said(native(folder))


def test_grafana_is_left_out_where_there_is_none_and_a_missing_kafka_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> tuple[str, ...]:
        raise ToolMissing("it", "install it")

    monkeypatch.setattr("deploy.native.tools.find", lambda _: None)
    monkeypatch.setattr(
        "deploy.supervisor.command_of_program", lambda program: missing() if program == "grafana" else ("x",)
    )
    site = native(folder)
    assert site.supervisor.watched["grafana"].state is State.MISSING
    assert "not installed" in " ".join(one.where for one in site.places())

    monkeypatch.setattr("deploy.supervisor.command_of_program", lambda _: missing())
    with pytest.raises(ToolMissing, match="install it"):
        native(folder)


def test_an_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(SiteIncomplete, match="vitalloom site init"):
        native(tmp_path)


def test_a_site_runs_once(folder: Path) -> None:
    from deploy.run import _alone_with

    with _alone_with(folder), pytest.raises(SiteIncomplete, match="runs already"):
        run(folder, demo=False, workers=None, for_s=1)


def test_a_rate_is_one_of_ten_seconds_and_begins_anew_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, counted = [0.0], [0.0]
    monkeypatch.setattr("deploy.board.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("deploy.board._counter", lambda *_: counted[0])
    rate = Rate("127.0.0.1", 1)

    for second in range(20):
        clock[0], counted[0] = float(second), 3.0 * second
        rate.look()
    assert rate.now == pytest.approx(3.0)

    clock[0], counted[0] = 20.0, 1.0
    rate.look()
    assert rate.now is None
