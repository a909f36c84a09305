"""`vitalloom site run`: health checks, ports in use, missing programs, and the entries of the screen."""

import asyncio
import io
import socket
import stat
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from deploy import settings
from deploy.description import by_name
from deploy.errors import PortTaken, SiteIncomplete, ToolMissing
from deploy.folder import SiteFolder
from deploy.run import NativeSite, run
from deploy.site_screen import ReadingRate
from deploy.supervisor import ProcessState, ProcessSupervisor
from tests.deploy.first_site import free_ports
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.services("mosquitto", "kafka", "influxdb")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ports, made = free_ports(), tmp_path / "site"
    SiteFolder(made).create(
        name="north",
        host="127.0.0.1",
        registry_port=ports.registry,
        broker_port=ports.broker,
        first_port=ports.first,
        who="test",
    )
    return made


def native(folder: Path, *, demo: bool = False, workers: int = 1) -> NativeSite:
    return NativeSite(folder, demo=demo, workers=workers, out=Console(file=io.StringIO(), width=200))


def test_health_url_has_the_address_of_the_process(folder: Path) -> None:
    site = native(folder, workers=3)
    ports, found = settings.read(folder).ports, by_name(site.processes)

    assert site.health_url(found["kafka"]) == f"kafka://127.0.0.1:{ports.kafka}"
    assert site.health_url(found["mosquitto"]) == f"tcp://127.0.0.1:{site.facts.broker_port}"
    assert site.health_url(found["ingest"]) == f"http://127.0.0.1:{ports.ingest_http}/ready"
    assert site.health_url(found["prepare"]) == ""
    urls = {site.health_url(found[f"worker-{number}"]) for number in (1, 2, 3)}
    assert len(urls) == 3
    assert {one.environment["VITALLOOM_WORKER__HTTP__LISTEN"] for one in site.processes if "worker" in one.name} == {
        url.removeprefix("http://").removesuffix("/ready") for url in urls
    }


def test_port_in_use_is_an_error_before_any_process_starts(folder: Path) -> None:
    site = native(folder)
    with socket.create_server(("127.0.0.1", settings.read(folder).ports.influxdb)), pytest.raises(PortTaken) as found:
        asyncio.run(site.run(for_s=1))

    assert "of influxdb is in use" in str(found.value)
    assert {one.starts for one in site.supervisor.processes.values()} == {0}


def test_site_without_recipients_shows_a_warning(folder: Path) -> None:
    def shown(site: NativeSite) -> str:
        return " ".join(one.text for one in site.entries())

    assert "NO PERSON IS NOTIFIED" in shown(native(folder))
    assert "NO PERSON IS NOTIFIED" not in shown(native(folder, demo=True))

    desk = folder / "config" / "desk.toml"
    desk.write_text(desk.read_text().replace('nurse = ["demo"]', 'nurse = ["anna"]'))

    assert "NO PERSON IS NOTIFIED" not in shown(native(folder))


def test_missing_grafana_is_skipped_but_missing_kafka_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> tuple[str, ...]:
        raise ToolMissing("it", "install it")

    monkeypatch.setattr("deploy.native.tools.find", lambda _: None)
    monkeypatch.setattr(
        "deploy.supervisor.command_of_program", lambda program: missing() if program == "grafana" else ("x",)
    )
    site = native(folder)
    assert site.supervisor.processes["grafana"].state is ProcessState.MISSING
    assert "not installed" in " ".join(one.text for one in site.entries())

    monkeypatch.setattr("deploy.supervisor.command_of_program", lambda _: missing())
    with pytest.raises(ToolMissing, match="install it"):
        native(folder)


GRAFANA_STAND_IN = """#!{python}
# Not Grafana: answers /api/health as Grafana does, once it has its home, its configuration and its provisioning folder.
import http.server, os, pathlib, sys
home, config = sys.argv[sys.argv.index("--homepath") + 1], sys.argv[sys.argv.index("--config") + 1]
assert pathlib.Path(home, "conf/defaults.ini").is_file() and pathlib.Path(config).is_file()
assert pathlib.Path(os.environ["GF_PATHS_PROVISIONING"], "alerting/rules.yaml").is_file()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()
        self.wfile.write(b'{{"database": "ok"}}')
address = os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"])
http.server.HTTPServer(address, Handler).serve_forever()
"""


def test_installed_grafana_is_started_and_its_password_shown_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "grafana"
    (home / "conf").mkdir(parents=True)
    (home / "conf" / "defaults.ini").touch()
    (home / "bin").mkdir()
    (home / "bin" / "grafana-server").write_text(GRAFANA_STAND_IN.format(python=sys.executable))
    (home / "bin" / "grafana-server").chmod(0o755)
    monkeypatch.setenv("GF_PATHS_HOME", str(home))
    screen = io.StringIO()
    site = NativeSite(folder, demo=False, workers=1, out=Console(file=screen, width=200, force_terminal=True))
    # Grafana alone, without the steps before it.
    grafana = msgspec.structs.replace(by_name(site.processes)["grafana"], needs=())
    site.supervisor = ProcessSupervisor([grafana], site.folder, site.health_url)

    async def until_ready() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(site.supervisor.run(stop))
        await asyncio.wait_for(site.supervisor.processes["grafana"].was_ready.wait(), PATIENCE_S)
        site.show_first_password()
        site.show_first_password()
        stop.set()
        await running

    asyncio.run(until_ready())

    secret = folder / "secrets" / "grafana-admin.password"
    assert screen.getvalue().count(secret.read_text()) == 1
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert f"http://127.0.0.1:{settings.read(folder).ports.grafana}" in screen.getvalue()


def test_site_without_grafana_says_so(folder: Path) -> None:
    site = NativeSite(folder, demo=False, workers=1, out=Console(file=io.StringIO()), grafana=False)

    assert "grafana" not in site.supervisor.processes
    assert "--no-grafana" in " ".join(one.text for one in site.entries())


def test_empty_folder_is_an_error_that_names_site_init(tmp_path: Path) -> None:
    with pytest.raises(SiteIncomplete, match="vitalloom site init"):
        native(tmp_path)


def test_site_cannot_run_twice_at_the_same_time(folder: Path) -> None:
    from deploy.run import _locked

    with _locked(folder), pytest.raises(SiteIncomplete, match="already running"):
        run(folder, demo=False, workers=None, for_s=1)


def test_reading_rate_covers_ten_seconds_and_restarts_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, counted = [0.0], [0.0]
    monkeypatch.setattr("deploy.site_screen.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("deploy.site_screen._counter", lambda *_: counted[0])
    rate = ReadingRate("127.0.0.1", 1)

    for second in range(20):
        clock[0], counted[0] = float(second), 3.0 * second
        rate.sample()
    assert rate.now == pytest.approx(3.0)

    clock[0], counted[0] = 20.0, 1.0
    rate.sample()
    assert rate.now is None
