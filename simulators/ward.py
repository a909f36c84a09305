"""The ward in one command: wearables, broker, edge agents, processor and store, all real, and a screen.

What is simulated is the patient and the passing of time. Frames are sealed, a broker carries them, agents keep them on
disk, and the numbers on the screen come out of the store.
"""

import asyncio
import contextlib
import getpass
import random
import shutil
import signal
import ssl
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from runtime import logs
from runtime.clock import FileClock
from simulators.agents import LIMITS, Agent, Apart, InProcess, cadences, config_of
from simulators.broker import LOOPBACK, Broker, BrokerTls, EmbeddedBroker, RealBroker, free_port
from simulators.enrolled import EnrolledSite
from simulators.errors import BadWard
from simulators.faults import FaultSpec, LossyLink
from simulators.flaky import FlakyClient
from simulators.fleet import TIMING, Fleet
from simulators.options import WardOptions, Wishes, milliseconds
from simulators.pace import Pace
from simulators.scenarios import SCENARIOS
from simulators.screen import Row, Status, as_svg
from simulators.screen import ward as ward_screen
from simulators.stories import RECORDED_CADENCE_MS, SIMULATED_CADENCE_MS, START_MS, Recorded, Simulated, Story
from simulators.summary import Summary
from stream.embedded.store import Store
from stream.embedded.stream import EmbeddedStream, lanes_of
from stream.ingest.courier import Courier
from stream.site.broker_files import BrokerFolder, BrokerSettings
from stream.site.directory import RegistryDirectory
from vitals.messages import AlarmChanged, AlarmState, ClockQuality
from vitals.monitor import PatientMonitor
from vitals.plan import MonitoringPlan
from vitals.view import PatientView
from wire.codec import HeartbeatV1, VitalsV1
from wire.identity import BindingRecord
from wire.lanes import Lanes, tls_context
from wire.mqtt import MqttClient
from wire.sender import Timing

READY_WITHIN_S: Final = 20.0
DRAIN_WITHIN_S: Final = 60.0  # of no progress at all

_REFRESH_S: Final = 0.25
_REFRESH_MANY_S: Final = 2.0
_MANY: Final = 300
_OWN_CONNECTIONS: Final = 64
_RECENT: Final = 6
_PICTURE_COLUMNS: Final = 150
_BROKER_AWAY_S: Final = 1.0


def main(options: WardOptions) -> int:
    """The command `vitalloom ward`: 0 if every reading is accounted for, 1 if not.

    Raises:
        SimulatorError, WireError, StreamError, EdgeError: what is wrong, and the cure.
    """
    if options.scenario == "list":
        _list_scenarios()
        return 0
    began = time.monotonic()
    wishes = Wishes.of(options)
    story = _story(options)
    logs.set_up(level="WARNING")
    summary = asyncio.run(_run(options, wishes, story, began))
    out = Console()
    out.print(summary.as_table())
    if options.data is not None:
        out.print(f"the store and the outboxes are in {options.data}", style="dim")
    if options.as_json:
        # The last line, as it is: no wrapping, no colours.
        sys.stdout.write(summary.as_json() + "\n")
        sys.stdout.flush()
    return 0 if summary.is_conserved else 1


def _story(options: WardOptions) -> Story:
    cadence_ms = None if options.cadence is None else milliseconds("--cadence", options.cadence)
    if options.replay is not None:
        story: Story = Recorded(
            options.replay,
            patients=options.patients,
            seed=options.seed,
            cadence_ms=cadence_ms or RECORDED_CADENCE_MS,
        )
    else:
        story = Simulated(
            options.scenario,
            patients=options.patients,
            seed=options.seed,
            cadence_ms=cadence_ms or SIMULATED_CADENCE_MS,
        )
    if not story.patients:
        raise BadWard(f"--replay {options.replay}: holds no stay with a vital sign")
    return story


def _list_scenarios() -> None:
    table = Table("scenario", "what happens")
    for row in SCENARIOS:
        table.add_row(row.name, row.summary)
    Console().print(table)


async def _run(options: WardOptions, wishes: Wishes, story: Story, began: float) -> Summary:
    with contextlib.ExitStack() as stack:
        folder = _folder(options, stack)
        clock = FileClock.create(folder / "clock", START_MS)
        stack.callback(clock.close)
        port = free_port()
        site = stack.enter_context(contextlib.closing(EnrolledSite(folder, clock, broker_port=port)))
        await _enrol(site, options, story)
        broker = None if wishes.broker else stack.enter_context(_broker(site, folder, port, wishes))
        store = stack.enter_context(Store(folder / "store.sqlite"))
        ward = Ward(
            options, wishes, story, folder=folder, address=wishes.broker or (LOOPBACK, port), broker=broker,
            store=store, clock=clock, site=site, began=began,
        )  # fmt: skip
        return await ward.run()


async def _enrol(site: EnrolledSite, options: WardOptions, story: Story) -> None:
    """With a bar where somebody looks: a large ward takes a while."""
    edges = min(options.edges, story.patients)
    quiet = options.as_json or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("enrolling devices", total=edges + story.patients)
        await site.enrol(
            wearables=story.patients,
            edges=edges,
            now_ms=START_MS,
            about=story.about,
            on_enrolled=lambda: progress.advance(task),
        )


def _broker(enrolled: EnrolledSite, folder: Path, port: int, wishes: Wishes) -> Broker:
    files = BrokerFolder((folder / "site" / "broker").resolve())
    site = enrolled.site
    settings = BrokerSettings(folder=files.folder, user=getpass.getuser(), port=port, host=LOOPBACK, max_connections=-1)
    files.write(
        site.registry, site.authority, settings, hosts=(LOOPBACK,), at=datetime.now(UTC), who="ward",
    )  # fmt: skip
    if wishes.mosquitto:
        return RealBroker(files.config_file, port=port, log=folder / "mosquitto.log")
    tls = BrokerTls(files.folder / "broker.crt", files.folder / "broker.key")
    return EmbeddedBroker(folder, port=port, tls=tls)


def _folder(options: WardOptions, stack: contextlib.ExitStack) -> Path:
    if options.data is None:
        folder = Path(tempfile.mkdtemp(prefix="vitalloom-ward-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
    if options.data.exists() and (not options.data.is_dir() or any(options.data.iterdir())):
        raise BadWard(f"--data {options.data}: is not an empty folder; a ward begins at the beginning, name a new one")
    options.data.mkdir(parents=True, exist_ok=True)
    return options.data


class Ward:
    """Everything that a ward consists of, wired together on one loop.

    Args:
        folder: for the store, the outboxes and the shared clock.
        address: of the broker.
        broker: that the ward has started; None where it is somebody else's, which is spoken to without TLS.
        site: with everybody enrolled.
        began: when the command began, by `time.monotonic`.
    """

    def __init__(
        self,
        options: WardOptions,
        wishes: Wishes,
        story: Story,
        *,
        folder: Path,
        address: tuple[str, int],
        broker: Broker | None,
        store: Store,
        clock: FileClock,
        site: EnrolledSite,
        began: float,
    ) -> None:
        self._options = options
        self._wishes = wishes
        self._story = story
        self._broker = broker
        self._store = store
        self._clock = clock
        self._began = began
        self._address = address
        self._orders = MonitoringPlan(cadence_ms=cadences(story.cadence_ms))
        self._site = site
        self._tls = broker is not None
        self._by_binding: dict[str, BindingRecord] = {one.binding_id.hex(): one for one in site.bindings}
        self.pace = Pace(clock, speed=options.speed, slack_ms=max(30_000, story.cadence_ms * 5 // 4))
        self.fleets = self._make_fleets()
        self.agents = self._make_agents(folder)
        self._directory = RegistryDirectory(site.site.registry)
        self._courier = Courier(site.site.registry)
        self.stream = EmbeddedStream(
            site.ingest.me,
            self._directory,
            store,
            self._plan_of,
            clock,
            limits=LIMITS,
            ack_interval_ms=50 if wishes.has_faults else 1_000,
            on_stored=self.pace.done,
            on_alarm=self._on_alarm,
            courier=self._courier,
            on_turn=self._look,
        )
        self._flaky: list[FlakyClient] = []
        self._stop = asyncio.Event()
        self._trouble = ""
        self._fault_counts: Counter[str] = Counter()
        self._alarmed: dict[bytes, int] = {}  # alarm id -> worst priority announced
        self._recent: deque[tuple[str, AlarmChanged]] = deque(maxlen=_RECENT)
        self._first_alarm_s: float | None = None
        self._real_began = began
        self._real_s = 0.0

    async def run(self) -> Summary:
        """From the first connection to the last signature."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
                working = await self._start(stack, tasks)
                try:
                    await self._tell()
                finally:
                    for task in working:
                        task.cancel()
        except* BadWard as failed:
            raise failed.exceptions[0] from None
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return self._summary()

    async def _start(self, stack: contextlib.AsyncExitStack, tasks: asyncio.TaskGroup) -> list["asyncio.Task[None]"]:
        self._courier.changed(self._clock.mono_ms())
        self._client = await stack.enter_async_context(self._stream_lanes())
        working = [tasks.create_task(self.stream.run(self._client), name="stream")]
        clients: list[MqttClient | Lanes] = [self._client]
        # Who hears first, then who speaks: what is said before anybody listens has to be said again.
        await self._ready(clients)
        working += [tasks.create_task(agent.run(), name=f"edge {n}") for n, agent in enumerate(self.agents)]
        for index, fleet in enumerate(self.fleets):
            client = await stack.enter_async_context(self._fleet_client(index, fleet))
            clients.append(client)
            working.append(tasks.create_task(fleet.run(client), name=f"fleet {index}"))
        await self._ready(clients, self.agents)
        working.append(tasks.create_task(self._show(), name="screen"))
        working += [tasks.create_task(work, name="fault") for work in self._disasters()]
        return working

    async def _ready(self, clients: Sequence[MqttClient | Lanes], agents: Sequence[Agent] = ()) -> None:
        """Wait until everybody is connected, and every edge knows whom it hears."""
        deadline = time.monotonic() + READY_WITHIN_S + 0.01 * self._story.patients
        registry = self._site.site.registry
        edges = list(zip(agents, self._site.edges, strict=False))
        wanted = {edge.me.device_id: registry.digest_for(edge.me.device_id) for _, edge in edges}
        while not (
            all(client.connected for client in clients)
            and all(agent.is_up and agent.documents == wanted[edge.me.device_id] for agent, edge in edges)
        ):
            if time.monotonic() > deadline:
                host, port = self._address
                trouble = next((one.trouble for one in clients if one.trouble), "is it an MQTT 5 broker, and is it up?")
                raise BadWard(f"the broker at {host}:{port} does not answer: {trouble}")
            if self._stop.is_set():
                return
            await asyncio.sleep(0.02)

    def _look(self, mono_ms: int) -> None:
        if self._directory.refresh(mono_ms):
            self._courier.changed(mono_ms)

    async def _tell(self) -> None:
        """Let the story happen, as fast as it may, until it ends or somebody has seen enough."""
        self._real_began = time.monotonic()
        duration_ms = self._wishes.duration_ms
        ends_ms = None if duration_ms is None else START_MS + duration_ms
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            async for at_ms, samples in self._moments(ends_ms, stopped):
                for index, sample in samples:
                    self.fleets[index % len(self.fleets)].send(index // len(self.fleets), self._stamped(sample), at_ms)
            if not self._stop.is_set() and ends_ms is not None and self._story.ends_ms is None:
                await self.pace.until(ends_ms)
        finally:
            stopped.cancel()
        self._draw()
        self._trouble = "waiting for the last readings"
        await self.pace.drained(within_s=DRAIN_WITHIN_S)
        await self._accepted()
        self._real_s = time.monotonic() - self._real_began

    def _stamped(self, sample: VitalsV1) -> VitalsV1:
        """As a wearable with a wrong clock would stamp it: one that knows that nobody has set it."""
        skew = self._wishes.link
        if not skew.skew_ms:
            return sample
        t_ms = max(skew.clock_ms(sample.t_ms), 0)
        return msgspec.structs.replace(sample, t_ms=t_ms, t_quality=int(ClockQuality.FREE_RUNNING))

    async def _moments(
        self, ends_ms: int | None, stopped: "asyncio.Task[Any]"
    ) -> AsyncIterator[tuple[int, list[tuple[int, VitalsV1]]]]:
        for moment in self._story.moments():
            if ends_ms is not None and moment.at_ms >= ends_ms:
                return
            waiting = asyncio.create_task(self.pace.until(moment.at_ms), name="pace")
            await asyncio.wait((waiting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                waiting.cancel()
                return
            waiting.result()
            yield moment.at_ms, moment.samples

    async def _accepted(self) -> None:
        """The wearables' own acknowledgements come a moment after the store's."""
        deadline = time.monotonic() + DRAIN_WITHIN_S
        while any(fleet.kept for fleet in self.fleets) and not self.pace.waiting_for and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    # Parts

    def _make_fleets(self) -> list[Fleet]:
        """A fleet, with a connection, for each wearable; in a large ward for those of each edge."""
        hurried = self._wishes.has_faults
        wearables = self._site.wearables
        fleets = len(wearables) if self._has_own_connections else len(self._site.edges)
        return [
            Fleet(
                wearables[index::fleets],
                self._clock,
                rng=random.Random(self._options.seed * 1_000 + index),
                link=self._link(index),
                timing=Timing(vitals_first_ms=1_000, vitals_max_ms=5_000) if hurried else TIMING,
                on_sent=self.pace.sent,
                on_done=self.pace.done,
            )
            for index in range(fleets)
        ]

    @property
    def _has_own_connections(self) -> bool:
        # A broker with an access list lets nobody speak for another.
        return self._wishes.mosquitto or self._story.patients <= _OWN_CONNECTIONS

    def _link(self, index: int) -> LossyLink | None:
        if self._wishes.link == FaultSpec():
            return None
        rng = random.Random(self._options.seed * 2_000 + index)
        return LossyLink(rng, self._wishes.link, start_mono_ms=self._clock.mono_ms())

    def _make_agents(self, folder: Path) -> list[Agent]:
        agents: list[Agent] = []
        for index, wallet in enumerate(self._site.edges):
            config = config_of(
                folder / f"edge-{index + 1}",
                broker=self._address,
                cadence_ms=self._story.cadence_ms,
                clock_file=self._clock.path.resolve(),
                hurried=self._wishes.has_faults,
                tls=self._tls,
                models=None if self._options.models is None else self._options.models.resolve(),
            )
            if self._wishes.apart:
                edge_id = wallet.me.device_id
                agents.append(Apart(config, lambda edge_id=edge_id: self._heartbeat(edge_id)))
            else:
                rng = random.Random(self._options.seed * 3_000 + index)
                agents.append(InProcess(config, wallet, self._clock, rng=rng))
        return agents

    def _stream_lanes(self) -> Lanes:
        return lanes_of(self._stream_client, apart=self._tls)

    def _stream_client(self, name: str, subscriptions: Sequence[str]) -> MqttClient:
        tls = tls_context(self._site.ingest.tls, alarm=name.endswith("-a")) if self._tls else None
        if self._wishes.link == FaultSpec():
            return self._mqtt(name, subscriptions, tls)
        client = FlakyClient(
            self._wishes.link,
            rng=random.Random(f"{self._options.seed} {name}"),
            host=self._address[0],
            port=self._address[1],
            client_id=name,
            subscriptions=subscriptions,
            receive_maximum=500,
            tls=tls,
        )
        self._flaky.append(client)
        return client

    def _fleet_client(self, index: int, fleet: Fleet) -> MqttClient:
        wearable = self._site.wearables[index]
        name = wearable.me.device_id.hex() if self._has_own_connections else f"fleet-{index}"
        return self._mqtt(name, fleet.subscriptions, tls_context(wearable.tls) if self._tls else None)

    def _mqtt(self, name: str, subscriptions: Sequence[str], tls: Callable[[], ssl.SSLContext] | None) -> MqttClient:
        host, port = self._address
        return MqttClient(
            host=host, port=port, client_id=name, subscriptions=subscriptions, receive_maximum=500, tls=tls
        )

    def _plan_of(self, _binding_id: str) -> MonitoringPlan:
        return self._orders

    def _heartbeat(self, edge_id: bytes) -> HeartbeatV1 | None:
        found = self._store.query("SELECT body FROM heartbeat WHERE edge_id = ?", (edge_id.hex(),))
        return msgspec.json.decode(found[0][0], type=HeartbeatV1) if found else None

    # Disasters

    def _disasters(self) -> list[Any]:
        work = []
        if self._wishes.broker_kill_s is not None:
            work.append(self._kill_broker(self._wishes.broker_kill_s))
        if self._wishes.edge_kill_s is not None:
            work.append(self._kill_edge(self._wishes.edge_kill_s))
        return work

    async def _kill_broker(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        assert self._broker is not None  # noqa: S101 - checked with the options
        self._trouble = "broker killed"
        self._broker.kill()
        self._fault_counts["broker killed"] += 1
        await asyncio.sleep(_BROKER_AWAY_S)
        self._broker.start()
        self._trouble = ""

    async def _kill_edge(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        victim = self.agents[0]
        assert isinstance(victim, Apart)  # noqa: S101 - an edge that is to be killed runs apart
        victim.kill()
        self._fault_counts["edge killed"] += 1

    # What people see

    def _on_alarm(self, alarm: AlarmChanged) -> None:
        if alarm.state is not AlarmState.ACTIVE or self._alarmed.get(alarm.alarm_id, 0) >= alarm.priority:
            return
        self._alarmed[alarm.alarm_id] = int(alarm.priority)
        if alarm.retrospective:
            return
        if self._first_alarm_s is None:
            self._first_alarm_s = time.monotonic() - self._began
        self._recent.append((self._by_binding[alarm.binding_id].bed, alarm))
        if self._options.headless and not self._options.as_json:
            bed, seen = self._recent[-1]
            sys.stdout.write(f"{_clock(seen.at_ms)}  bed {bed}: {seen.priority.name.lower()}: {seen.text}\n")
            sys.stdout.flush()

    async def _show(self) -> None:
        every_s = _REFRESH_S if self._story.patients <= _MANY else _REFRESH_MANY_S
        if self._options.headless:
            await self._show_progress()
            return
        console = Console()
        with Live(console=console, auto_refresh=False, screen=False, transient=True) as live:
            while True:
                live.update(self._screen(console), refresh=True)
                await asyncio.sleep(every_s)

    async def _show_progress(self) -> None:
        """For people a line now and then; nothing where only the last line is wanted."""
        if self._options.as_json or not sys.stderr.isatty():
            return
        console = Console(stderr=True)
        with console.status("") as status:
            while True:
                one = self._status()
                status.update(
                    f"{one.title}: {one.simulated} UTC, {one.speed:.0f}×, sent {one.sent}, stored {one.stored} "
                    f"{one.trouble}"
                )
                await asyncio.sleep(_REFRESH_S)

    def _seen_ms(self) -> int:
        """The moment up to which everything that was measured is in the store: what a screen may call now."""
        oldest_ms = next(iter(self.pace.on_the_way().values()), None)
        now_ms = self._clock.now_ms()
        return now_ms if oldest_ms is None else min(now_ms, oldest_ms)

    def _draw(self) -> None:
        """The last screen as a picture, for reports and documents."""
        if self._options.picture is not None:
            screen = self._screen(Console(width=_PICTURE_COLUMNS, height=40))
            svg = as_svg(screen, title="vitalloom ward", width=_PICTURE_COLUMNS)
            self._options.picture.write_text(svg, encoding="utf-8")

    def _screen(self, console: Console) -> Any:
        most = max(3, console.size.height - _RECENT - 6)
        seen_ms = self._seen_ms()
        return ward_screen(
            [
                Row(bed=binding.bed, patient=binding.patient, view=self._view(binding_id, seen_ms))
                for binding_id, binding in self._by_binding.items()
            ],
            self._status(),
            list(self._recent),
            now_ms=seen_ms,
            most=most,
            width=console.size.width,
        )

    def _view(self, binding_id: str, seen_ms: int) -> PatientView:
        state = self._store.state(binding_id)
        return PatientMonitor.restore(binding_id, state, self._orders).view(seen_ms)

    def _status(self) -> Status:
        now_ms = self._clock.now_ms()
        real_s = max(time.monotonic() - self._real_began, 0.001)
        rejected = self._rejected()
        lost = "" if self._client.connected else "broker lost, reconnecting"
        return Status(
            title=self._story.title,
            simulated=_clock(now_ms),
            speed=(now_ms - START_MS) / 1_000 / real_s,
            judged_by=self._judged_by(),
            sent=sum(fleet.counts.sent for fleet in self.fleets),
            stored=self.stream.counts.stored,
            waiting=self.pace.waiting_for,
            duplicates=self._duplicates(),
            rejected=sum(rejected.values()),
            trouble=self._trouble or lost,
        )

    def _judged_by(self) -> str:
        """As the edges say it of themselves."""
        said = dict.fromkeys(one for one in (agent.judged_by for agent in self.agents) if one)
        return "; ".join(said) or "not known yet"

    def _duplicates(self) -> int:
        return self.stream.counts.duplicates + sum(agent.duplicates() for agent in self.agents)

    def _rejected(self) -> Counter[str]:
        return sum((agent.rejected() for agent in self.agents), Counter(self.stream.counts.rejected))

    def _summary(self) -> Summary:
        store = self._store
        (stored, distinct) = store.query(
            "SELECT count(*), count(DISTINCT hex(session_id) || ':' || counter) FROM reading"
        )[0]
        rejected = self._rejected()
        simulated_s = (self._clock.now_ms() - START_MS) / 1_000
        real_s = max(self._real_s or time.monotonic() - self._real_began, 0.001)
        alarms = {rule: count for rule, count in store.alarms_by_class().items() if count}
        return Summary(
            story=self._story.title,
            patients=self._story.patients,
            judged_by=self._judged_by(),
            sent=sum(fleet.counts.sent for fleet in self.fleets),
            accepted=sum(fleet.counts.accepted for fleet in self.fleets),
            stored=int(stored),
            duplicates=self._duplicates(),
            duplicates_stored=int(stored) - int(distinct),
            rejected=sum(rejected.values()),
            rejected_by_reason=dict(sorted(rejected.items())),
            refused=sum(fleet.counts.refused for fleet in self.fleets),
            given_up=sum(fleet.counts.given_up for fleet in self.fleets),
            dead_letters=store.count("dead_letter"),
            alarms=sum(alarms.values()),
            alarms_by_class=alarms,
            local_alarms=sum(agent.local_alarms() for agent in self.agents),
            seconds_to_first_alarm=None if self._first_alarm_s is None else round(self._first_alarm_s, 3),
            simulated_s=round(simulated_s, 3),
            real_s=round(real_s, 3),
            speed_asked=self._options.speed,
            speed=round(simulated_s / real_s, 2),
            held_s=round(self.pace.held_ms / 1_000, 3),
            on_the_way=self.pace.waiting_for,
            faults=dict(self._faults()),
        )

    def _faults(self) -> Counter[str]:
        counts = Counter(self._fault_counts)
        injected = [fleet.link.counts for fleet in self.fleets if fleet.link is not None]
        injected += [one.faults for one in self._flaky]
        for one in injected:
            counts.update({"lost": one.lost + one.cut, "doubled": one.duplicated, "reordered": one.reordered})
            counts.update({"damaged": one.corrupted, "delayed": one.delayed})
        return Counter({name: count for name, count in counts.items() if count})


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%H:%M:%S")
