"""Runs the processes of a site on this machine: starts them in order, checks their health, restarts them."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from deploy import health
from deploy.description import HealthCheckKind, Process, Program, start_order
from deploy.errors import SiteDoesNotStart, ToolMissing
from deploy.native import tools

STARTING_INTERVAL_S: Final = 0.2  # between two health checks of a process that is starting
READY_INTERVAL_S: Final = 1.0  # between two health checks of a ready process
MAX_FAILED_STARTS: Final = 5
"""The site is stopped when a process that was never ready has ended this often."""
STABLE_S: Final = 30.0
"""After running this long, a process that ends is restarted after the shortest pause."""
UNRESPONSIVE_S: Final = 60.0
"""A vitalloom process whose /live endpoint fails for this long is restarted."""
_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_KEEP_LOG_BYTES: Final = 20 * 2**20
_TAIL: Final = 600
_PR_SET_PDEATHSIG: Final = 1


class ProcessState(StrEnum):
    """State of a supervised process."""

    WAITING = "waiting"  # for the processes that it needs
    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not ready"
    DONE = "done"  # a step that has finished
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    MISSING = "not installed"


class SupervisedProcess:
    """A process and its current state."""

    def __init__(self, process: Process, command: Sequence[str]) -> None:
        self.process = process
        self.command = list(command)
        self.state = ProcessState.WAITING
        self.since = time.monotonic()
        self.starts = 0
        self.problem = ""
        self.pid: int | None = None
        self.was_ready = asyncio.Event()
        self.child: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def restarts(self) -> int:
        return max(0, self.starts - 1)


class ProcessSupervisor:
    """Starts, checks, restarts and stops the processes of a site.

    Args:
        processes: as in the description.
        folder: the folder of the site; logs are written to `logs/` in it.
        health_url: returns the URL for `health.problem_of`; empty: the process has no health check.
        on_change: called after each change of state.
        command: returns the command line of a process; default: `command_of`.
    """

    def __init__(
        self,
        processes: Sequence[Process],
        folder: Path,
        health_url: Callable[[Process], str],
        *,
        on_change: Callable[[SupervisedProcess], None] = lambda _: None,
        command: Callable[[Process], Sequence[str]] | None = None,
    ) -> None:
        self._rounds = start_order(processes)
        self._folder = folder
        self._health_url = health_url
        self._on_change = on_change
        self._stopping = False
        self.processes: dict[str, SupervisedProcess] = {}
        for one in processes:
            self._add(one, command or command_of)

    def _add(self, one: Process, command: Callable[[Process], Sequence[str]]) -> None:
        try:
            arguments = command(one)
        except ToolMissing as error:
            if not one.is_optional:
                raise
            self.processes[one.name] = missing = SupervisedProcess(one, ())
            missing.state, missing.problem = ProcessState.MISSING, str(error)
            return
        self.processes[one.name] = SupervisedProcess(one, arguments)

    @property
    def are_up(self) -> bool:
        """Whether every installed process has been ready once."""
        return all(one.was_ready.is_set() for one in self.processes.values() if one.state is not ProcessState.MISSING)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then stop all processes in reverse order.

        Raises:
            SiteDoesNotStart: a process ended repeatedly before it was ready.
        """
        tasks = [
            asyncio.create_task(self._keep(one), name=one.name)
            for one in self.processes.values()
            if one.state is not ProcessState.MISSING
        ]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            left = {stopping, *tasks}
            while stopping in left:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for one in done:  # a finished step, or a process that does not start
                    one.result()
        finally:
            stopping.cancel()
            self._stopping = True
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop_all()

    async def _keep(self, one: SupervisedProcess) -> None:
        for need in one.process.needs:
            await self.processes[need].was_ready.wait()
        failed = 0
        while True:
            began = time.monotonic()
            await self._start(one)
            if one.process.is_step:
                if await self._step(one):
                    return
            else:
                await self._watch(one)
            ran_s = time.monotonic() - began
            failed = 0 if ran_s > STABLE_S else failed + 1
            if failed >= MAX_FAILED_STARTS and not one.was_ready.is_set():
                raise SiteDoesNotStart(one.name, f"ended {failed} times", log=self.log_tail(one))
            one.problem = f"ended with {_exit(one)}"
            self._change(one, ProcessState.RESTARTING)
            await asyncio.sleep(pause_s(failed))

    async def _start(self, one: SupervisedProcess) -> None:
        log = self._folder / "logs" / f"{one.name}.log"
        _rotate(log)
        with log.open("ab") as out:
            one.child = await asyncio.create_subprocess_exec(
                *one.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self._folder,
                env=os.environ | dict(one.process.environment),
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        one.pid, one.starts = one.child.pid, one.starts + 1
        self._change(one, ProcessState.STARTING)

    async def _step(self, one: SupervisedProcess) -> bool:
        assert one.child is not None  # noqa: S101 - it was started
        if await one.child.wait():
            return False
        self._change(one, ProcessState.DONE)
        one.was_ready.set()
        return True

    async def _watch(self, one: SupervisedProcess) -> None:
        """Until it ends."""
        assert one.child is not None  # noqa: S101 - it was started
        url, heard = self._health_url(one.process), time.monotonic()
        ending = asyncio.create_task(one.child.wait(), name=f"{one.name} ends")
        try:
            while True:
                problem = await asyncio.to_thread(health.problem_of, url) if url else ""
                if not ending.done():
                    heard = heard if problem and await self._is_unresponsive(one) else time.monotonic()
                    if time.monotonic() - heard > UNRESPONSIVE_S:
                        one.child.kill()
                    self._judge(one, problem)
                pause = READY_INTERVAL_S if one.state is ProcessState.READY else STARTING_INTERVAL_S
                done, _ = await asyncio.wait([ending], timeout=pause)
                if done:
                    return
        finally:
            ending.cancel()

    async def _is_unresponsive(self, one: SupervisedProcess) -> bool:
        """Whether its /live endpoint fails."""
        found = one.process.health
        if found is None or found.kind is not HealthCheckKind.READY:
            return False
        return bool(
            await asyncio.to_thread(health.problem_of, self._health_url(one.process).replace(found.path, "/live"))
        )

    def _judge(self, one: SupervisedProcess, problem: str) -> None:
        one.problem = problem
        if not problem:
            one.was_ready.set()
            self._change(one, ProcessState.READY)
        elif one.state is ProcessState.READY:
            self._change(one, ProcessState.NOT_READY)

    async def _stop_all(self) -> None:
        for these in reversed(self._rounds):
            await asyncio.gather(*(self._stop(self.processes[one.name]) for one in these))

    async def _stop(self, one: SupervisedProcess) -> None:
        child = one.child
        if child is None or child.returncode is not None:
            if one.state not in (ProcessState.MISSING, ProcessState.DONE):
                one.problem = ""
                self._change(one, ProcessState.STOPPED)
            return
        one.problem = ""
        self._change(one, ProcessState.STOPPING)
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), one.process.stop_within_s)
        except TimeoutError:
            one.problem = f"did not end within {one.process.stop_within_s} s and was killed"
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        self._change(one, ProcessState.STOPPED)

    def _change(self, one: SupervisedProcess, state: ProcessState) -> None:
        if one.state is not state:
            one.state, one.since = state, time.monotonic()
            self._on_change(one)

    def log_tail(self, one: SupervisedProcess) -> str:
        """The end of the log of a process."""
        log = self._folder / "logs" / f"{one.name}.log"
        return log.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip() if log.exists() else ""


def command_of(one: Process) -> list[str]:
    """The command line of a process on this machine. Raises ToolMissing."""
    return [*command_of_program(one.program), *one.arguments]


def command_of_program(program: Program) -> Sequence[str]:
    """The command line of a program, without arguments. Raises ToolMissing."""
    return _PROGRAMS[program]()


_PROGRAMS: Final[Mapping[Program, Callable[[], Sequence[str]]]] = {
    Program.VITALLOOM: lambda: (sys.executable, "-m", "vitalloom"),
    Program.MOSQUITTO: lambda: (tools.mosquitto(),),
    Program.KAFKA: tools.kafka,
    Program.INFLUXDB: lambda: (tools.influxd(),),
    Program.GRAFANA: tools.grafana,
}


def pause_s(failed: int) -> float:
    """Seconds before the next start, after `failed` starts that did not last.

    >>> [pause_s(n) for n in (0, 1, 2, 3, 9)]
    [0.5, 0.5, 1.0, 2.0, 15.0]
    """
    return min(_LONGEST_PAUSE_S, _PAUSE_S * 2.0 ** max(0, failed - 1))


def _exit(one: SupervisedProcess) -> str:
    code = one.child.returncode if one.child is not None else None
    if code is None:
        return "unknown status"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _KEEP_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _end_with_parent() -> None:
    """Runs between fork and exec: the child gets SIGTERM when this process dies, so that none is left running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
