"""Processes on this machine: started in order, started again when they die, and gone when the site ends."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.description import Check, Health, Process
from deploy.errors import SiteDoesNotStart
from deploy.supervisor import State, Supervisor, Watched, pause_s
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
        name=name, about="", arguments=("-c", code, *more), needs=needs, memory_mb=1, is_step=step, stop_within_s=1,
        health=Health(Check.TCP, str(port)) if port else None,
    )  # fmt: skip


class Site:
    """A supervisor over small programs, and what it said of them."""

    def __init__(self, folder: Path, *these: Process) -> None:
        (folder / "logs").mkdir()
        self.said: list[tuple[str, State]] = []
        self.stop = asyncio.Event()
        self.supervisor = Supervisor(
            these, folder, lambda one: f"tcp://127.0.0.1:{one.health.port}" if one.health else "",
            on_change=lambda one: self.said.append((one.name, one.state)),
            call=lambda one: [sys.executable, *one.arguments],
        )  # fmt: skip

    def __getitem__(self, name: str) -> Watched:
        return self.supervisor.watched[name]

    async def until(self, condition: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.02)

    def order(self, state: State) -> list[str]:
        return [name for name, said in self.said if said is state]


def alive(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.services
def test_who_needs_somebody_starts_after_them_and_ends_before(tmp_path: Path) -> None:
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

    assert site.order(State.READY) == ["base", "top"]
    assert site.order(State.STARTING) == ["made", "base", "top"]
    assert site.order(State.STOPPED) == ["top", "base"]
    assert not alive(site["base"].pid)


@pytest.mark.services
def test_one_that_is_killed_is_started_again_and_the_others_stay(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    site = Site(tmp_path, process("a", SERVES, str(port), port=port), process("b", SERVES, str(other), port=other))

    async def story() -> tuple[int | None, int | None]:
        running = asyncio.create_task(site.supervisor.run(site.stop))
        await site.until(lambda: site.supervisor.are_up)
        first, neighbour = site["a"].pid, site["b"].pid
        os.kill(first or 0, 9)
        await site.until(lambda: site["a"].state is State.READY and site["a"].pid != first)
        assert site["b"].pid == neighbour
        site.stop.set()
        await running
        return first, site["a"].pid

    first, second = asyncio.run(story())

    assert first != second
    assert site["a"].restarts == 1
    assert ("a", State.RESTARTING) in site.said
    assert not alive(second)


@pytest.mark.services
def test_one_that_never_comes_up_ends_everything_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.supervisor.pause_s", lambda _: 0.0)
    port, closed = free_port(), free_port()
    site = Site(
        tmp_path,
        process("well", SERVES, str(port), port=port),
        process("ill", "raise SystemExit('no bucket here')", port=closed),
    )

    with pytest.raises(SiteDoesNotStart, match=r"ill ended 5 times; it said: .*no bucket here"):
        asyncio.run(site.supervisor.run(site.stop))

    assert not alive(site["well"].pid)


@pytest.mark.services
def test_one_that_does_not_listen_is_killed_after_its_time(tmp_path: Path) -> None:
    site = Site(tmp_path, process("stubborn", STUBBORN))

    async def story() -> None:
        running = asyncio.create_task(site.supervisor.run(site.stop))
        await site.until(lambda: "up" in site.supervisor.said(site["stubborn"]))
        site.stop.set()
        await running

    asyncio.run(story())

    assert "did not end within 1 s" in site["stubborn"].problem
    assert not alive(site["stubborn"].pid)


@pytest.mark.services
def test_children_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    port = free_port()
    code = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.deploy.test_supervisor import SERVES, process
from deploy.supervisor import Supervisor
supervisor = Supervisor(
    [process("a", SERVES, "{port}", port={port})], Path({str(tmp_path)!r}), lambda one: "tcp://127.0.0.1:{port}",
    on_change=lambda one: print(one.state.value, one.pid, flush=True),
    call=lambda one: [sys.executable, *one.arguments],
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
def test_pauses_grow_and_have_an_end(failed: int, pause: float) -> None:
    assert pause_s(failed) == pause
