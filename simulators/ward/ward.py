"""A running ward: its parts, the order in which they start, and its way from the first connection to the summary."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Final

from runtime.errors import first_of
from simulators.errors import BadWard
from simulators.ward.alarm_desk import AlarmDeskPart
from simulators.ward.connections import Connections
from simulators.ward.data_centre import DataCentre
from simulators.ward.display import Display, print_alarm, print_line
from simulators.ward.edges import Edges, make_agents
from simulators.ward.fault_schedule import FaultSchedule
from simulators.ward.fleets import Fleets
from simulators.ward.lifetime import Lifetime, WardPart, lifetime
from simulators.ward.pace import Pace
from simulators.ward.playback import Playback
from simulators.ward.raised_alarms import RaisedAlarms
from simulators.ward.report import WardReport
from simulators.ward.rounds import RoundPatient, Rounds
from simulators.ward.setup import WardSetup
from simulators.ward.summary import WardSummary
from simulators.wearable import WearableKind

READY_WITHIN_S: Final = 20.0
"""Real seconds within which a stage must be ready; 10 ms more for each patient."""

_LOOK_S: Final = 0.02


class Ward:
    """Everything that a ward consists of, on one event loop.

    Each part keeps its own state and is a module of this folder. To add a part that lives as long as the ward, derive
    it from `WardPart`, make it in `__init__` and put it into `stages`; if it needs alarms, append its callback to
    `data_centre.alarm_listeners`.
    """

    def __init__(self, setup: WardSetup) -> None:
        self.setup = setup
        self.pace = self._make_pace()
        self._prints = setup.options.headless and not setup.options.as_json
        self.alarms = RaisedAlarms(
            {one.stay: one.bed for one in setup.site.bindings},
            began_s=setup.began_s,
            announce=print_alarm if self._prints else None,
        )
        self.connections = Connections(setup)
        self.data_centre = self._make_data_centre()
        self.desk = self._make_desk()
        self.edges = self._make_edges()
        self.fleets = Fleets(setup, self.connections, self.pace)
        self.playback = Playback(
            setup.story, setup.clock, self.pace, duration_ms=setup.settings.duration_ms, began_s=setup.began_s
        )
        self.rounds = self._make_rounds()
        self.faults = FaultSchedule(setup.settings, setup.broker, self.edges)
        self.report = WardReport(
            setup,
            pace=self.pace,
            playback=self.playback,
            connections=self.connections,
            data_centre=self.data_centre,
            edges=self.edges,
            fleets=self.fleets,
            faults=self.faults,
            alarms=self.alarms,
            calls=None if self.desk is None else self.desk.calls,
            rounds=None if self.rounds is None else self.rounds.counts,
        )
        self.display = Display(setup, self.report, self.playback, self.alarms, self.desk)
        # Receivers start before senders: a frame sent before its receiver listens has to be sent again.
        self.stages: tuple[tuple[WardPart, ...], ...] = (
            (self.data_centre, *(() if self.desk is None else (self.desk,))),
            (self.edges, self.fleets),
            (self.display, self.faults),
        )

    async def run(self) -> WardSummary:
        """Start every part, play the story, wait for the last readings, stop every part.

        Raises:
            BadWard: the broker does not answer, or an edge agent ended by itself.
        """
        try:
            with _signals_stop(self.playback):
                async with lifetime() as running:
                    await self._start(running)
                    await self.playback.play(self.fleets.send, before=None if self.rounds is None else self.rounds.make)
                    self.display.save_picture()
                    await self.playback.drain(lambda: self.fleets.unacknowledged)
                    if self.rounds is not None:
                        await self.rounds.sent()
        except BaseExceptionGroup as failed:
            raise first_of(failed, BadWard) or failed from None
        return self.report.summary()

    async def _start(self, running: Lifetime) -> None:
        started: list[WardPart] = []
        for stage in self.stages:
            for part in stage:
                await part.start(running)
                started.append(part)
            await self._until_ready(running, started)

    async def _until_ready(self, running: Lifetime, started: list[WardPart]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S + 0.01 * self.setup.story.patients
        while not (running.is_connected and all(part.is_ready for part in started)):
            if time.monotonic() > deadline:
                host, port = self.setup.address
                reason = running.connection_error or "is it an MQTT 5 broker, and is it up?"
                raise BadWard(f"the broker at {host}:{port} does not answer: {reason}")
            if self.playback.is_stopped:
                return
            await asyncio.sleep(_LOOK_S)

    def _make_pace(self) -> Pace:
        setup = self.setup
        slack_ms = max(30_000, setup.story.cadence_ms * 5 // 4)
        return Pace(setup.clock, speed=setup.options.speed, slack_ms=slack_ms)

    def _make_data_centre(self) -> DataCentre:
        return DataCentre(self.setup, self.connections, on_stored=self.pace.done, on_alarm=self.alarms.add)

    def _make_desk(self) -> AlarmDeskPart | None:
        if not self.setup.options.has_desk(self.setup.story.patients):
            return None
        return AlarmDeskPart(self.setup, self.data_centre, announce=print_line if self._prints else None)

    def _make_rounds(self) -> Rounds | None:
        if self.desk is None:
            return None
        setup = self.setup
        stays = dict.fromkeys(one.stay for one in setup.site.bindings)
        cuffed = {one.patient for one in setup.story.devices if one.kind in (WearableKind.MONITOR, WearableKind.CUFF)}
        return Rounds(
            [RoundPatient(number, stay_id, number in cuffed) for number, stay_id in enumerate(stays)],
            self.desk,
            self.pace,
            seed=setup.options.seed,
            body=setup.story.body,
            view=self.data_centre.view,
        )

    def _make_edges(self) -> Edges:
        return Edges(self.setup.site, make_agents(self.setup, self.data_centre.heartbeat))


@contextlib.contextmanager
def _signals_stop(playback: Playback) -> Iterator[None]:
    """Within the block, Ctrl-C and SIGTERM end the story early instead of the process."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, playback.stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
