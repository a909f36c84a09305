"""The registry's process beside the requests: what keeps the broker's files true, whatever becomes of them."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import logs
from runtime.clock import SystemClock
from stream import process
from stream.broker import BrokerFolder, BrokerSettings
from stream.file_store import Store
from stream.site import Site
from stream.watched import BrokerKept
from tests.patience import PATIENCE_S
from tests.stream.registries import FACTS
from tests.stream.test_broker import ME
from wire.authority import moment
from wire.wallet import Wallet


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
        keeping = asyncio.create_task(process._keep_broker(site, SystemClock(), BrokerKept()))
        edge = site.registry.add_device("edge", who="tester")
        await until(lambda: edge.hex() in acl.read_text())

        kept = site.broker_folder.rename(site.broker_folder.with_name("kept"))
        site.broker_folder.mkdir()
        shutil.copy(kept / "mosquitto.conf", site.broker_folder)  # and nothing else
        await until(lambda: "holds no broker's files" in capfd.readouterr().err)
        shutil.rmtree(site.broker_folder)
        kept.rename(site.broker_folder)

        another = site.registry.add_device("edge", who="tester")
        await until(lambda: another.hex() in acl.read_text())
        assert not keeping.done()
        keeping.cancel()

    asyncio.run(story())


def test_the_data_centre_scores_with_the_scale_that_was_ordered(site: Site, tmp_path: Path) -> None:
    registry = site.registry
    edge = registry.add_device("edge", who="tester")
    scales = {}
    for scale in (1, 2):
        wearable = registry.add_device("wearable", who="tester")
        scales[scale] = registry.bind(
            wearable_id=wearable, edge_id=edge, patient=f"P{scale}", bed="1", spo2_scale=scale, who="tester"
        )
    with Store(tmp_path / "store.sqlite") as store:
        stream = process.Stream(site, Wallet.load(site.ingest_folder), store, SystemClock())
        found = {scale: stream._plan_of(binding.hex()).spo2_scale for scale, binding in scales.items()}

    assert found == {1: 1, 2: 2}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)
