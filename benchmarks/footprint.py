"""Resources of an edge: download and installed size, memory, start-up time, bytes written to the memory card.

`python -m benchmarks.footprint [--json] [--quick]`. Sizes are those of the wheels for aarch64 and CPython 3.11, in the
versions that are pinned for the emulated Raspberry Pi; they are downloaded, except with `--quick`. Memory and time are
measured on this machine.
"""

import asyncio
import contextlib
import getpass
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks._timing import QUICK, report
from edge.outbox import Batch, Outbox, Sealed
from edge.status import read as read_status
from runtime.clock import SystemClock
from simulators.broker import LOOPBACK, BrokerTls, EmbeddedBroker, free_port
from simulators.device import run_wearable
from simulators.enrolled import EnrolledSite
from simulators.stories import Simulated
from stream.site.broker_files import BrokerFolder
from stream.site.mosquitto_conf import BrokerSettings
from wire.identity import About

ROOT: Final = Path(__file__).parents[1]
PINS: Final = ROOT / "deploy" / "native" / "pi_server" / "requirements.txt"
PATIENTS: Final = 2 if QUICK else 8
LONG_S: Final = 1.0 if QUICK else 30.0
WITHIN_S: Final = 60.0
ABOUT: Final = About(age_years=71.0, is_male=True, chest_pain=2)
THREE: Final = """
from models.artifacts import RELEASED, load_all
from models.runtime import engine_of
found = load_all(RELEASED).models
engines = [engine_of(found[name]) for name in {names}]
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))
"""

WITHOUT: Final = "import sys; sys.modules['{module}'] = None; import vitalloom; vitalloom.main()"
ONNXRUNTIME: Final = ("onnxruntime", "protobuf", "flatbuffers", "packaging")
"""onnxruntime and the packages that only it requires."""


def main() -> None:
    """Measure and print."""
    facts: dict[str, float | dict[str, float]] = {}
    if not QUICK:
        with tempfile.TemporaryDirectory() as folder:
            facts |= sizes(Path(folder))
    agent, anonymous = asyncio.run(agent_memory())
    in_numpy, _ = asyncio.run(agent_memory(without="onnxruntime"))
    rhythm = loaded_mb("['sepsis', 'heart-home', 'rhythm']") - loaded_mb("['sepsis', 'heart-home']")
    facts |= {
        "agent_mb": agent,
        "agent_anonymous_mb": anonymous,
        "agent_without_onnxruntime_mb": in_numpy,
        "rhythm_adds_mb": max(rhythm, 0.1),
        "agent_and_rhythm_mb": agent + max(rhythm, 0.1),
        "watch_mb": rss_after("import edge.bedside.watch"),
        "import_agent_s": seconds("import edge.process"),
        "import_watch_s": seconds("import edge.bedside.watch"),
        "bytes_a_reading": {f"{rows} a commit": written(rows) for rows in (2, 8, 48)},
    }
    rows = [(name, _text(value)) for name, value in facts.items()]
    report("footprint", rows, ("measurement", "value"), facts)


def _text(value: float | dict[str, float]) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {one:,.0f}" for name, one in value.items())
    return f"{value:,.2f}"


def sizes(folder: Path) -> dict[str, float]:
    """Megabytes (of a million bytes) to download and installed, including vitalloom itself."""
    wheels, site = folder / "wheels", folder / "site"
    tags = [word for minor in range(17, 37) for word in ("--platform", f"manylinux_2_{minor}_aarch64")]
    there = [*tags, "--platform", "manylinux2014_aarch64", "--implementation", "cp", "--python-version", "3.11"]
    run = [sys.executable, "-m"]
    quiet = ["--quiet", "--no-deps", "--only-binary=:all:"]
    _call([*run, "pip", "download", *quiet, *there, "--dest", str(wheels), "-r", str(PINS)])
    _call([*run, "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)])
    files = list(wheels.glob("*.whl"))
    fewer = [file for file in files if not file.name.startswith(ONNXRUNTIME)]
    install = [*run, "pip", "install", *quiet, *there, "--target"]
    _call([*install, str(site / "all"), *map(str, files)])
    _call([*install, str(site / "fewer"), *map(str, fewer)])
    return {
        "download_mb": sum(file.stat().st_size for file in files) / 1e6,
        "installed_mb": _bytes(site / "all") / 1e6,
        "download_without_onnxruntime_mb": sum(file.stat().st_size for file in fewer) / 1e6,
        "installed_without_onnxruntime_mb": _bytes(site / "fewer") / 1e6,
    }


def _call(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def agent_memory(*, without: str = "") -> tuple[float, float]:
    """Resident and anonymous megabytes of `vitalloom edge` after it has received readings of all patients."""
    with tempfile.TemporaryDirectory() as text:
        folder, port, clock = Path(text), free_port(), SystemClock()
        site = EnrolledSite(folder, clock, broker_port=port)
        with contextlib.closing(site):
            await site.enrol(wearables=PATIENTS, edges=1, now_ms=clock.now_ms(), about=lambda _: ABOUT)
            files = BrokerFolder(folder / "site" / "broker")
            settings = BrokerSettings(folder=files.folder, user=getpass.getuser(), port=port)
            files.write(
                site.site.registry, site.site.authority, settings, hosts=(LOOPBACK,), at=datetime.now(UTC), who="bench"
            )
            (folder / "edge.toml").write_text(
                'identity = "edge-1/identity"\ndata_dir = "data"\nstate_key = "state.key"\nstatus_file = "status"\n',
                encoding="utf-8",
            )
            tls = BrokerTls(files.folder / "broker.crt", files.folder / "broker.key")
            config, centre = (
                str(folder / "edge.toml"),
                ("--site", str(folder / "site"), "--data", str(folder / "store")),
            )
            # The data centre sends the edge its bindings.
            with (
                EmbeddedBroker(folder, port=port, tls=tls),
                _process("stream", *centre),
                _process("edge", "--config", config, without=without) as agent,
            ):
                story = Simulated("mixed", patients=1, seed=1, cadence_ms=500)
                worn = [asyncio.create_task(run_wearable(one, story, clock)) for one in site.wearables]
                await _until_heard(folder / "status", agent, worn)
                for one in worn:
                    one.cancel()
                await asyncio.gather(*worn, return_exceptions=True)
                return _kb(agent.pid, "VmRSS") * 1_024 / 1e6, _kb(agent.pid, "RssAnon") * 1_024 / 1e6


@contextlib.contextmanager
def _process(*arguments: str, without: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    command = ["-c", WITHOUT.replace("{module}", without), *arguments] if without else ["-m", "vitalloom", *arguments]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


async def _until_heard(status_file: Path, agent: "subprocess.Popen[bytes]", worn: list["asyncio.Task[None]"]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        status = read_status(status_file)
        if status is not None and len([one for one in status.beds if one.heard_ms is not None]) == PATIENTS:
            await asyncio.sleep(LONG_S)
            return
        assert agent.poll() is None, "the agent ended"
        for one in worn:
            if one.done():
                one.result()
        assert time.monotonic() < deadline, "the agent has not received readings of all patients"
        await asyncio.sleep(0.1)


def _kb(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(what)))


def loaded_mb(names: str) -> float:
    return int(_call([sys.executable, "-c", THREE.replace("{names}", names)])) * 1_024 / 1e6


def rss_after(code: str) -> float:
    tail = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"
    return int(_call([sys.executable, "-c", f"{code}\n{tail}"])) * 1_024 / 1e6


def seconds(code: str) -> float:
    """Processor time of a Python process that runs this code, minus that of an empty one."""
    return max(_median_s(code) - _median_s("pass"), 0.001)


def _median_s(code: str) -> float:
    found = []
    for _ in range(1 if QUICK else 7):
        before = os.times()
        _call([sys.executable, "-c", code])
        after = os.times()
        found.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(found)


def written(rows: int) -> float:
    """Bytes written to the operating system per reading, with `rows` readings per commit."""
    readings = 480 if QUICK else 4_800
    with tempfile.TemporaryDirectory() as folder:
        box, session = Outbox.open(Path(folder) / "outbox.sqlite", budget_bytes=2**28, now_ms=0), bytes(16)
        for first in range(0, readings, rows):
            frames = [Sealed(box.new_id(), 1, 0, session, first + k, first, bytes(192)) for k in range(rows)]
            states = {bytes([k % 8]) * 16: bytes(700) for k in range(rows)}
            box.commit(Batch(rows=frames, patients=states, freed=[(session, first - rows, first - 1)]))
        figure = box.bytes_written / box.rows_written
        box.close()
    return figure


if __name__ == "__main__":
    main()
