"""The registry's process: the broker's files follow the registry, also after its folder was damaged."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import logs
from runtime.clock import SystemClock
from stream.site import process
from stream.site.broker_files import BrokerFolder
from stream.site.folder import Site
from stream.site.mosquitto_conf import BrokerSettings
from stream.site.upkeep import SiteUpkeep
from tests.patience import PATIENCE_S
from tests.stream.site.registries import FACTS
from tests.stream.site.test_mosquitto_conf import ME
from wire.enrol.authority import moment


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(process, "REFRESH_S", 0.0)
    made = Site.create(tmp_path / "site", FACTS, clock=SystemClock(), who="tester")
    settings = BrokerSettings(folder=made.broker_folder, user=ME, port=8_883)
    BrokerFolder(made.broker_folder).write(
        made.registry, made.authority, settings, hosts=("127.0.0.1",), at=moment(SystemClock().now_ms()), who="tester"
    )
    return made


def test_the_files_follow_the_registry_and_a_damaged_folder_ends_nothing(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.set_up(level="INFO")
    acl = site.broker_folder / "acl"

    async def story() -> None:
        keeping = asyncio.create_task(process.look_after_site(SiteUpkeep(site, SystemClock())))
        edge = site.registry.add_device("edge", who="tester")
        await until(lambda: edge.hex() in acl.read_text())

        kept = site.broker_folder.rename(site.broker_folder.with_name("kept"))
        site.broker_folder.mkdir()
        shutil.copy(kept / "mosquitto.conf", site.broker_folder)  # and nothing else
        await until(lambda: "holds no broker files" in capfd.readouterr().err)
        shutil.rmtree(site.broker_folder)
        kept.rename(site.broker_folder)

        another = site.registry.add_device("edge", who="tester")
        await until(lambda: another.hex() in acl.read_text())
        assert not keeping.done()
        keeping.cancel()

    asyncio.run(story())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)
