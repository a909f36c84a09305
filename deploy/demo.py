"""Simulated edges and wearables for a site: they enrol like real devices and run in real time.

The oxygen saturation of one patient falls from the start, so there is an alarm within a minute or two. All files are in
`demo/` in the folder of the site.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

import msgspec

from deploy.description import DEMO_EDGES, DEMO_PATIENTS
from deploy.errors import SiteIncomplete
from runtime.clock import SystemClock
from runtime.config import load
from runtime.hardening import make_private_dir, write_private
from runtime.lifetime import run_until_signal, set_up_process
from simulators.device import run_wearable
from simulators.scenarios import scenario
from simulators.stories import Simulated
from stream.errors import NoSuchDevice
from stream.site.folder import Site
from wire.enrol.client import enrol
from wire.enrol.wallet import Wallet
from wire.identity import Role

ENVIRONMENT: Final = "VITALLOOM_DEMO"
CADENCE_MS: Final = 2_000
CUFF_MS: Final = 60_000
STORY: Final = "mixed"
_ACTOR: Final = "demo"


class DemoConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the demo, from the environment only."""

    later_minutes: float = 5.0  # skip this much of each patient's story


def edge_folder(number: int) -> str:
    """Folder of a demo edge, within the folder of the site."""
    return f"demo/edge-{number}"


def prepare(folder: Path) -> list[str]:
    """Enrol missing devices and assign them to beds; returns what was done.

    Raises:
        SiteUnusable, EnrolmentFailed: the message names the problem and the fix.
    """
    make_private_dir(folder / "demo")
    done: list[str] = []
    with contextlib.closing(Site.open(folder, clock=SystemClock())) as site:
        edges = [_enrolled(site, "edge", number, done) for number in range(1, DEMO_EDGES + 1)]
        worn = {one.wearable_id for one in site.registry.bindings() if one.valid_to_ms is None}
        for number in range(1, DEMO_PATIENTS + 1):
            device_id = _enrolled(site, "wearable", number, done)
            if device_id not in worn:
                site.registry.bind(
                    wearable_id=device_id,
                    edge_id=edges[number % DEMO_EDGES],
                    patient=f"DEMO-{number}",
                    bed=str(number),
                    about=_story(number, DemoConfig()).about(0),
                    who=_ACTOR,
                )
                done.append(f"bed {number}")
    for number in range(1, DEMO_EDGES + 1):
        _configure(folder, number)
    return done


def run_wearables(folder: Path) -> int:
    """Run all wearables of the demo in one process, each with its own connection and certificate.

    Raises:
        NotEnrolled: `vitalloom site enrol-demo` was not run.
    """
    set_up_process()
    asyncio.run(run_until_signal(_run_all(folder, load(DemoConfig, None, env_prefix=ENVIRONMENT))))
    return 0


async def _run_all(folder: Path, config: DemoConfig) -> None:
    clock = SystemClock()
    async with asyncio.TaskGroup() as tasks:
        for number in range(1, DEMO_PATIENTS + 1):
            wallet = Wallet.load(folder / "demo" / f"wearable-{number}")
            tasks.create_task(
                run_wearable(wallet, _story(number, config), clock, once_assigned=True), name=f"wearable {number}"
            )


def _story(number: int, config: DemoConfig) -> Simulated:
    name = scenario(STORY).for_bed(number - 1).name
    return Simulated(
        name,
        patients=1,
        seed=number,
        cadence_ms=CADENCE_MS,
        later_ms=round(config.later_minutes * 60_000),
        cuff_ms=CUFF_MS,
    )


def _enrolled(site: Site, role: Role, number: int, done: list[str]) -> bytes:
    label = f"demo-{role}-{number}"
    folder = site.folder / "demo" / f"{role}-{number}"
    try:
        device_id = site.registry.find(label)
    except NoSuchDevice:
        device_id = site.registry.add_device(role, label=label, who=_ACTOR)
    if not (folder / "identity.json").exists() and not any(folder.glob("*")):
        enrol(site.enrolment.invite(device_id, url=site.facts.url, who=_ACTOR), folder)
        done.append(label)
    elif Wallet.load(folder).me.device_id != device_id:
        raise SiteIncomplete(folder, "holds the identity of another device; remove the folder `demo` and start again")
    return device_id


def _configure(folder: Path, number: int) -> None:
    file = folder / f"{edge_folder(number)}.toml"
    if file.exists():
        return
    text = f"""\
# An edge of the demo. On a Raspberry Pi use `vitalloom edge setup`. All keys: vitalloom edge --sample-config
identity = "edge-{number}"
data_dir = "edge-{number}-data"
state_key = "edge-{number}-state.key"   # for simulated patients only; on a Raspberry Pi this key is in memory
status_file = "edge-{number}-status.json"
heartbeat_s = 10.0

[cadence_ms]
heart_rate = {CADENCE_MS}
respiratory_rate = {CADENCE_MS}
spo2 = {CADENCE_MS}
"""
    write_private(file, text.encode())
