"""The process supervisor: start order, restarts, and shutdown without leftover processes."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.description import HealthCheck, HealthCheckKind, Process
from deploy.errors import SiteDoesNotStart
from deploy.supervisor import ProcessState, ProcessSupervisor, SupervisedProcess, pause_s
from simulators.broker import free_port
from tests.patience import PATIENCE_S

SERVES = """
import signal, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    server.accept()[0].close()
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def process(
    name: str, code: str, *more: str, needs: tuple[str, ...] = (), port: int = 0, step: bool = False
) -> Process:
    return Process(
        name=name,
        about="",
        arguments=("-c", code, *more),
        needs=needs,
        memory_mb=1,
        is_step=step,
        stop_within_s=1,
        health=HealthCheck(HealthCheckKind.TCP, str(port)) if port else None,
    )


class Site:
    """A supervisor of small test programs, and the changes of state that it reported."""

    def __init__(self, folder: Path, *these: Process) -> None:
        (folder / "logs").mkdir()
        self.changes: list[tuple[str, ProcessState]] = []
        self.stop = asyncio.Event()
        self.supervisor = ProcessSupervisor(
            these,
            folder,
            lambda one: f"tcp://127.0.0.1:{one.health.port}" if one.health else "",
            on_change=lambda one: self.changes.append((one.name, one.state)),
            command=lambda one: [sys.executable, *one.arguments],
        )

    def __getitem__(self, name: str) -> SupervisedProcess:
        return self.supervisor.processes[name]

    async def until(self, condition: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.02)

    def order(self, state: ProcessState) -> list[str]:
        return [name for name, changed in self.changes if changed is state]


def alive(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.services
def test_process_starts_after_its_dependencies_and_stops_before_them(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    site = Site(
        tmp_path,
        process("made", "pass", step=True),
        process("base", SERVES, str(port), needs=("made",), port=port),
        process("top", SERVES, str(other), needs=("base",), port=other),
    )

    async def story() -> None:
        running = asyncio.create_task(site.supervisor.run(site.stop))
        await site.until(lambda: site.supervisor.are_up)
        site.stop.set()
        await running

    asyncio.run(story())

    assert site.order(ProcessState.READY) == ["base", "top"]
    assert site.order(ProcessState.STARTING) == ["made", "base", "top"]
    assert site.order(ProcessState.STOPPED) == ["top", "base"]
    assert not alive(site["base"].pid)


@pytest.mark.services
def test_killed_process_is_restarted_and_others_keep_running(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    site = Site(tmp_path, process("a", SERVES, str(port), port=port), process("b", SERVES, str(other), port=other))

    async def story() -> tuple[int | None, int | None]:
        running = asyncio.create_task(site.supervisor.run(site.stop))
        await site.until(lambda: site.supervisor.are_up)
        first, neighbour = site["a"].pid, site["b"].pid
        os.kill(first or 0, 9)
        await site.until(lambda: site["a"].state is ProcessState.READY and site["a"].pid != first)
        assert site["b"].pid == neighbour
        site.stop.set()
        await running
        return first, site["a"].pid

    first, second = asyncio.run(story())

    assert first != second
    assert site["a"].restarts == 1
    assert ("a", ProcessState.RESTARTING) in site.changes
    assert not alive(second)


@pytest.mark.services
def test_process_that_never_gets_ready_stops_the_site_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.supervisor.pause_s", lambda _: 0.0)
    port, closed = free_port(), free_port()
    site = Site(
        tmp_path,
        process("healthy", SERVES, str(port), port=port),
        process("broken", "raise SystemExit('no bucket here')", port=closed),
    )

    with pytest.raises(SiteDoesNotStart, match=r"broken ended 5 times; end of its log: .*no bucket here"):
        asyncio.run(site.supervisor.run(site.stop))

    assert not alive(site["healthy"].pid)


@pytest.mark.services
def test_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    site = Site(tmp_path, process("stubborn", STUBBORN))

    async def story() -> None:
        running = asyncio.create_task(site.supervisor.run(site.stop))
        await site.until(lambda: "up" in site.supervisor.log_tail(site["stubborn"]))
        site.stop.set()
        await running

    asyncio.run(story())

    assert "did not end within 1 s" in site["stubborn"].problem
    assert not alive(site["stubborn"].pid)


@pytest.mark.services
def test_processes_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    port = free_port()
    code = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.deploy.test_supervisor import SERVES, process
from deploy.supervisor import ProcessSupervisor
supervisor = ProcessSupervisor(
    [process("a", SERVES, "{port}", port={port})], Path({str(tmp_path)!r}), lambda one: "tcp://127.0.0.1:{port}",
    on_change=lambda one: print(one.state.value, one.pid, flush=True),
    command=lambda one: [sys.executable, *one.arguments],
)
asyncio.run(supervisor.run(asyncio.Event()))
"""

    async def story() -> int:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert parent.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while not (line := (await parent.stdout.readline()).decode()).startswith("ready"):
                assert line
        pid = int(line.split()[1])
        parent.kill()
        await parent.wait()
        async with asyncio.timeout(PATIENCE_S):
            while alive(pid):
                await asyncio.sleep(0.02)
        return pid

    assert not alive(asyncio.run(story()))


@pytest.mark.parametrize(("failed", "pause"), [(0, 0.5), (1, 0.5), (2, 1.0), (4, 4.0), (6, 15.0), (50, 15.0)])
def test_pause_before_a_restart_grows_up_to_a_limit(failed: int, pause: float) -> None:
    assert pause_s(failed) == pause
