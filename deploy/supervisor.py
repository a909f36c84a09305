"""Keeps the processes of a site running on this machine: starts them in order, watches them, starts them again.

What is decided (how long to wait before the next start, when to give up) are the functions at the end.
"""

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
from deploy.description import Check, Process, Program, start_order
from deploy.errors import SiteDoesNotStart, ToolMissing
from deploy.native import tools

SOON_S: Final = 0.2  # between two looks at a process that is coming up
NOW_AND_THEN_S: Final = 1.0
TRIES: Final = 5
"""A process that has never been well and ends so often will not come up by being started again."""
WELL_S: Final = 30.0
"""Who was well for so long begins anew with a short pause."""
DEAF_S: Final = 60.0
"""One of ours that does not even say that it lives is ended, and started again."""
_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_KEEP_LOG_BYTES: Final = 20 * 2**20
_TAIL: Final = 600
_PR_SET_PDEATHSIG: Final = 1


class State(StrEnum):
    WAITING = "waiting"  # for what it needs
    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not ready"
    DONE = "done"  # a step
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    MISSING = "not installed"


class Watched:
    """One process as it is now."""

    def __init__(self, process: Process, command: Sequence[str]) -> None:
        self.process = process
        self.command = list(command)
        self.state = State.WAITING
        self.since = time.monotonic()
        self.starts = 0
        self.problem = ""
        self.pid: int | None = None
        self.well = asyncio.Event()  # it was, once
        self.child: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def restarts(self) -> int:
        return max(0, self.starts - 1)


class Supervisor:
    """The processes of a site.

    Args:
        processes: in an order of the description.
        folder: the site's; logs go to `logs/` in it.
        question: what `health.problem_of` is asked about a process.
        on_change: called after each change of a state.
        call: how a process is called; default: `command_of`.
    """

    def __init__(
        self,
        processes: Sequence[Process],
        folder: Path,
        question: Callable[[Process], str],
        *,
        on_change: Callable[[Watched], None] = lambda _: None,
        call: Callable[[Process], Sequence[str]] | None = None,
    ) -> None:
        self._rounds = start_order(processes)
        self._folder = folder
        self._question = question
        self._on_change = on_change
        self._stopping = False
        self.watched: dict[str, Watched] = {}
        for one in processes:
            self._take(one, call or command_of)

    def _take(self, one: Process, call: Callable[[Process], Sequence[str]]) -> None:
        try:
            command = call(one)
        except ToolMissing as error:
            if not one.is_optional:
                raise
            self.watched[one.name] = missing = Watched(one, ())
            missing.state, missing.problem = State.MISSING, str(error)
            return
        self.watched[one.name] = Watched(one, command)

    @property
    def are_up(self) -> bool:
        """Whether everything has been well, once."""
        return all(one.well.is_set() for one in self.watched.values() if one.state is not State.MISSING)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then everything ends, those first that need the others.

        Raises:
            SiteDoesNotStart: a process ends again and again.
        """
        keeping = [
            asyncio.create_task(self._keep(one), name=one.name)
            for one in self.watched.values()
            if one.state is not State.MISSING
        ]
        told = asyncio.create_task(stop.wait(), name="stop")
        try:
            left = {told, *keeping}
            while told in left:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for one in done:  # a step that is done, or one that does not come up
                    one.result()
        finally:
            told.cancel()
            self._stopping = True
            for one in keeping:
                one.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            await self._stop_all()

    async def _keep(self, one: Watched) -> None:
        for need in one.process.needs:
            await self.watched[need].well.wait()
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
            failed = 0 if ran_s > WELL_S else failed + 1
            if failed >= TRIES and not one.well.is_set():
                raise SiteDoesNotStart(one.name, f"ended {failed} times", said=self.said(one))
            one.problem = f"ended with {_exit(one)}"
            self._change(one, State.RESTARTING)
            await asyncio.sleep(pause_s(failed))

    async def _start(self, one: Watched) -> None:
        log = self._folder / "logs" / f"{one.name}.log"
        _make_room(log)
        with log.open("ab") as out:
            one.child = await asyncio.create_subprocess_exec(
                *one.command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, cwd=self._folder,
                env=os.environ | dict(one.process.environment), start_new_session=True, preexec_fn=_end_with_parent,
            )  # fmt: skip
        one.pid, one.starts = one.child.pid, one.starts + 1
        self._change(one, State.STARTING)

    async def _step(self, one: Watched) -> bool:
        assert one.child is not None  # noqa: S101 - it was started
        if await one.child.wait():
            return False
        self._change(one, State.DONE)
        one.well.set()
        return True

    async def _watch(self, one: Watched) -> None:
        """Until it ends."""
        assert one.child is not None  # noqa: S101 - it was started
        question, heard = self._question(one.process), time.monotonic()
        ending = asyncio.create_task(one.child.wait(), name=f"{one.name} ends")
        try:
            while True:
                problem = await asyncio.to_thread(health.problem_of, question) if question else ""
                if not ending.done():
                    heard = heard if problem and await self._is_deaf(one) else time.monotonic()
                    if time.monotonic() - heard > DEAF_S:
                        one.child.kill()
                    self._judge(one, problem)
                pause = NOW_AND_THEN_S if one.state is State.READY else SOON_S
                done, _ = await asyncio.wait([ending], timeout=pause)
                if done:
                    return
        finally:
            ending.cancel()

    async def _is_deaf(self, one: Watched) -> bool:
        """Whether it does not even say that it lives."""
        found = one.process.health
        if found is None or found.how is not Check.READY:
            return False
        return bool(
            await asyncio.to_thread(health.problem_of, self._question(one.process).replace(found.path, "/live"))
        )

    def _judge(self, one: Watched, problem: str) -> None:
        one.problem = problem
        if not problem:
            one.well.set()
            self._change(one, State.READY)
        elif one.state is State.READY:
            self._change(one, State.NOT_READY)

    async def _stop_all(self) -> None:
        for these in reversed(self._rounds):
            await asyncio.gather(*(self._stop(self.watched[one.name]) for one in these))

    async def _stop(self, one: Watched) -> None:
        child = one.child
        if child is None or child.returncode is not None:
            if one.state not in (State.MISSING, State.DONE):
                one.problem = ""
                self._change(one, State.STOPPED)
            return
        one.problem = ""
        self._change(one, State.STOPPING)
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), one.process.stop_within_s)
        except TimeoutError:
            one.problem = f"did not end within {one.process.stop_within_s} s and was killed"
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        self._change(one, State.STOPPED)

    def _change(self, one: Watched, state: State) -> None:
        if one.state is not state:
            one.state, one.since = state, time.monotonic()
            self._on_change(one)

    def said(self, one: Watched) -> str:
        """The end of its log."""
        log = self._folder / "logs" / f"{one.name}.log"
        return log.read_text(encoding="utf-8", errors="replace")[-_TAIL:].strip() if log.exists() else ""


def command_of(one: Process) -> list[str]:
    """How it is called on this machine. Raises ToolMissing."""
    return [*command_of_program(one.program), *one.arguments]


def command_of_program(program: Program) -> Sequence[str]:
    """Without its arguments. Raises ToolMissing."""
    return _PROGRAMS[program]()


_PROGRAMS: Final[Mapping[Program, Callable[[], Sequence[str]]]] = {
    Program.VITALLOOM: lambda: (sys.executable, "-m", "vitalloom"),
    Program.MOSQUITTO: lambda: (tools.mosquitto(),),
    Program.KAFKA: tools.kafka,
    Program.INFLUXDB: lambda: (tools.influxd(),),
    Program.GRAFANA: tools.grafana,
}


def pause_s(failed: int) -> float:
    """Before the next start, after so many that did not last.

    >>> [pause_s(n) for n in (0, 1, 2, 3, 9)]
    [0.5, 0.5, 1.0, 2.0, 15.0]
    """
    return min(_LONGEST_PAUSE_S, _PAUSE_S * 2.0 ** max(0, failed - 1))


def _exit(one: Watched) -> str:
    code = one.child.returncode if one.child is not None else None
    if code is None:
        return "nothing"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"


def _make_room(log: Path) -> None:
    if log.exists() and log.stat().st_size > _KEEP_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def _end_with_parent() -> None:
    """Between fork and exec: whatever becomes of us, nothing of the site is left running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
