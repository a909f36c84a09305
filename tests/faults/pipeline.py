"""A whole site on real services: wearables, edges, Mosquitto, ingest, Kafka, workers, the store writer, InfluxDB.

Everything between the edges and the database is a process of its own that can be killed, stopped, frozen and started
again. Whether a reading is stored is asked of the database, never of who says so.
"""

import asyncio
import contextlib
import getpass
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from edge.agent import EdgeAgent
from edge.outbox import Keep
from runtime.clock import FileClock
from simulators.broker import LOOPBACK, RealBroker, free_port
from simulators.enrolled import EnrolledSite
from simulators.stories import START_MS, Simulated
from simulators.ward.agents import Agent, AgentTask, cadences, config_of
from simulators.ward.data_centre import DataCentre
from simulators.ward.edges import Edges
from simulators.ward.lifetime import Lifetime
from simulators.ward.options import WardOptions, WardSettings
from simulators.ward.pace import Pace
from simulators.ward.setup import WardSetup
from simulators.ward.ward import Ward
from stream.config import InfluxConfig
from stream.embedded.store import Store
from stream.errors import DatabaseFailed
from stream.records import PeriodRecord, ReadingRecord, decode_patient_record
from stream.site.broker_files import BrokerFolder
from stream.site.mosquitto_conf import BrokerSettings
from stream.store.influx import Database, prepare_database
from tests.faults.workers import expected_alarms, physiological
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka
from tests.services.native import Server
from tests.stream.cluster import Log
from vitals.messages import AlarmChanged
from vitals.sender_clock import SIMULATED_BOUND_MS
from wire.codec import reading_id
from wire.envelope import FrameClass
from wire.errors import Reason
from wire.receiver import Opened
from wire.topics import KAFKA_DEAD_LETTERS, KAFKA_READINGS

ROOT: Final = Path(__file__).parents[2]
YEARS: Final = 36_500
WHOLE_S: Final = 4.0
"""A site has recovered when no reading waits longer than this for the database. Real seconds, like all results."""
CADENCE_MS: Final = 5_000
_LOOK_S: Final = 0.3


class Verdict(msgspec.Struct, kw_only=True):
    """Results: what happened to every reading, and how long recovery took."""

    fault: str
    sent: int
    accepted: int
    stored: int
    duplicated: int  # readings that are in the database twice
    doubled_in_log: int  # records that came to Kafka again; they are harmless
    poison: int  # frames that are authentic and make no sense
    dead_letters: int
    alarms: int
    alarms_wrong: int | None  # patients whose alarms are not those of one process; None: the log was lost
    differences: list[str]  # of those patients: what came and what was expected
    times: int  # that something was done to it
    mttr_s: float  # from the worst blow until the site was whole, the outage included
    whole_again_s: float  # from the repair
    oldest_s: float  # the longest that a reading waited
    seconds: float

    @property
    def is_good(self) -> bool:
        return (
            self.sent == self.accepted == self.stored
            and self.dead_letters == self.poison
            and not self.duplicated
            and not self.alarms_wrong
        )


class _DataCentreElsewhere(DataCentre):
    """Processes of their own take the place of the ward's data centre; the database is asked what is stored."""

    def __init__(self, pipeline: "Pipeline", *told: Any, **more: Any) -> None:
        super().__init__(*told, **more)
        self._pipeline = pipeline
        self._known: set[bytes] = set()

    async def start(self, lifetime: Lifetime) -> None:
        lifetime.run(self._ask_the_database(), name="database")

    @property
    def is_connected(self) -> bool:
        return True

    @property
    def stored(self) -> int:
        return len(self._known)

    async def _ask_the_database(self) -> None:
        async with Database(self._pipeline.influx) as database:
            while True:
                try:
                    points = await self._pipeline.points(database)
                except DatabaseFailed:
                    points = []
                new = set(points) - self._known
                self._known |= new
                self._pipeline.ward.pace.done(new)
                self._pipeline.look()
                await asyncio.sleep(self._pipeline.look_s)


class _Ward(Ward):
    """A ward whose data centre is elsewhere."""

    def __init__(self, pipeline: "Pipeline", setup: WardSetup) -> None:
        self._pipeline = pipeline
        super().__init__(setup)

    def _make_pace(self) -> Pace:
        # Time does not wait: what is late is late.
        return Pace(self.setup.clock, speed=self.setup.options.speed, slack_ms=10**12)

    def _make_data_centre(self) -> DataCentre:
        return _DataCentreElsewhere(
            self._pipeline, self.setup, self.connections, on_stored=self.pace.done, on_alarm=self.alarms.add
        )

    def _make_edges(self) -> Edges:
        setup = self.setup
        agents = [
            AgentTask(
                config_of(
                    setup.folder / f"edge-{index + 1}",
                    broker=setup.address,
                    cadence_ms=setup.story.cadence_ms,
                    clock_file=setup.clock.path.resolve(),
                    short_timers=True,
                    tls=True,
                ),
                wallet,
                setup.clock,
                rng=random.Random(index),
            )
            for index, wallet in enumerate(setup.site.edges)
        ]
        return Edges(setup.site, agents)


class _Poison:
    """After every n-th reading, an edge seals a payload that cannot be decoded."""

    def __init__(self, agents: Sequence[Agent], *, every: int) -> None:
        self.count = 0
        self._taken = itertools.count(1)
        for one in agents:
            assert isinstance(one, AgentTask)
            agent = one._agent
            intake = agent._intake
            accept = partial(self._accept, agent, intake._accept_reading, every)
            intake._accept_reading = accept  # type: ignore[method-assign]

    def _accept(
        self, agent: EdgeAgent, healthy: Callable[..., Reason | None], every: int, opened: Opened, now_ms: int
    ) -> Reason | None:
        reason = healthy(opened, now_ms)
        if next(self._taken) % every == 0:
            self.count += 1
            agent._keeper.keep(opened.binding_id, FrameClass.VITALS, b"\x93poison", Keep.ALWAYS, now_ms)
        return reason


class Pipeline:
    """A site, for as long as a block lasts; see `site`."""

    def __init__(
        self,
        folder: Path,
        kafka: Kafka,
        influxdb: InfluxDB,
        *,
        workers: int,
        engine: str,
        speed: float,
        cadence_ms: int = CADENCE_MS,
        look_s: float = _LOOK_S,
    ) -> None:
        self.speed = speed
        self.cadence_ms = cadence_ms
        self.look_s = look_s
        self.folder = folder
        self.kafka, self.influxdb = kafka, influxdb
        self.log = Log(kafka)
        self.ward: _Ward
        self.broker: RealBroker
        self.enrolled: EnrolledSite
        self.poison: _Poison | None = None
        self._wearables: dict[str, bytes] = {}
        token = folder / "token"
        token.write_text(influxdb.token, encoding="utf-8")
        self.influx = InfluxConfig(
            url=influxdb.url, org=influxdb.org, token_file=token, bucket=self.log.config.application, timeout_ms=5_000
        )
        self.ingest = self.process("ingest", "ingest", "--site", str(folder / "site"), "--data", str(folder / "ingest"))
        self.store = self.process("store", "store", "run")
        self.workers = [self.process(f"worker-{n}", "worker", "--engine", engine) for n in range(workers)]
        self.began = time.monotonic()
        self.oldest_s = 0.0
        self.blows: list[float] = []
        self.repaired = 0.0
        self.whole = 0.0

    def process(self, name: str, *command: str, module: str = "vitalloom") -> Server:
        """A vitalloom process, configured by environment variables that suit every kind."""
        told = {"PYTHONPATH": str(ROOT)}
        for kind in ("INGEST", "WORKER", "STORE"):
            log = self.log.config
            told |= {
                f"VITALLOOM_{kind}__HTTP__LISTEN": "",
                f"VITALLOOM_{kind}__KAFKA__BOOTSTRAP": log.bootstrap,
                f"VITALLOOM_{kind}__KAFKA__APPLICATION": log.application,
                f"VITALLOOM_{kind}__KAFKA__TOPIC_PREFIX": log.topic_prefix,
            }
        told |= {f"VITALLOOM_{kind}__CLOCK_FILE": str(self.folder / "clock") for kind in ("INGEST", "WORKER")}
        told |= {
            f"VITALLOOM_WORKER__CADENCE_MS__{sign.upper()}": str(ms) for sign, ms in cadences(self.cadence_ms).items()
        }
        told |= {
            "VITALLOOM_WORKER__SESSION_TIMEOUT_MS": "3000",
            "VITALLOOM_STORE__BATCH_MS": "200",
            "VITALLOOM_STORE__INFLUX__URL": self.influx.url,
            "VITALLOOM_STORE__INFLUX__ORG": self.influx.org,
            "VITALLOOM_STORE__INFLUX__TOKEN_FILE": str(self.influx.token_file),
            "VITALLOOM_STORE__INFLUX__BUCKET": self.influx.bucket,
        }
        return Server(
            name,
            [sys.executable, "-m", module, *command],
            log=self.folder / f"{name}.log",
            is_ready=lambda: True,
            environment=told,
        )

    async def points(self, database: Database, *, bucket: str = "") -> list[bytes]:
        """Ids of all readings in the database, each as often as it is there."""
        found = await database.query(
            f'from(bucket: "{bucket or self.influx.bucket}") |> range(start: 0) '
            '|> filter(fn: (r) => r._measurement == "vitals" and (r._field == "session" or r._field == "counter")) '
            '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        )
        # A query may see a point of which one field is not there yet.
        whole = [one for one in found if one["session"] is not None and one["counter"] is not None]
        return [
            reading_id(self._wearables[one["binding"]], bytes.fromhex(one["session"]), one["counter"]) for one in whole
        ]

    def look(self) -> None:
        """Note the age of the oldest reading that is not stored, and whether the site has recovered."""
        now_ms = self.ward.setup.clock.now_ms()
        oldest = next(iter(self.ward.pace.in_transit().values()), now_ms)
        age_s = (now_ms - oldest) / 1_000 / self.speed
        self.oldest_s = max(self.oldest_s, age_s)
        if age_s > WHOLE_S:
            self.whole = 0.0
        elif self.repaired and not self.whole:
            self.whole = time.monotonic()

    def blow(self) -> None:
        """Note the time of a fault."""
        self.blows.append(time.monotonic())
        self.repaired = self.whole = 0.0

    def repair(self) -> None:
        self.repaired = time.monotonic()

    async def start(self) -> None:
        """Start all processes, in any order: each waits for the others."""
        for one in (self.ingest, self.store, *self.workers):
            await asyncio.to_thread(one.start)

    def end(self) -> None:
        for one in (self.ingest, *self.workers, self.store):
            one.kill()

    def alive(self) -> None:
        """Check that no process ended by itself."""
        for one in (self.ingest, *self.workers, self.store):
            assert one.is_running, f"{one.name} ended: {one.said()}"

    async def verdict(self, fault: str, *, log_lost: bool = False, judged_again: bool = False) -> Verdict:
        """Compare the readings in the database and in Kafka with what was sent.

        Args:
            judged_again: whether readings were judged a second time: then alarms came again, each the same.
        """
        async with Database(self.influx) as database:
            points = await self.points(database)
        counts = self.ward.fleets.counts
        frames: Counter[Any] = Counter()
        readings: Counter[bytes] = Counter()
        for record in await self.log.records(KAFKA_READINGS):
            arrived = decode_patient_record(record.value)
            if isinstance(arrived, PeriodRecord):
                continue  # who is bound
            assert isinstance(arrived, ReadingRecord)
            frames[arrived.frame] += 1
            readings[arrived.messages[0].reading_id] += 1
        alarms = await physiological(self.log)
        wrong: dict[str, list[str]] = {}
        if not log_lost:
            expected, _ = await expected_alarms(
                self.log, self.folder, cadence_ms=cadences(self.cadence_ms), clock_bound_ms=SIMULATED_BOUND_MS
            )
            same: Callable[[Any, Any], bool] = _same_facts if judged_again else (lambda one, other: one == other)
            pairs = {one: (alarms.get(one, []), expected.get(one, [])) for one in alarms | expected}
            wrong = {one: _differences(*pair) for one, pair in pairs.items() if not same(*pair)}
        blow, now = (self.blows[-1] if self.blows else 0.0), time.monotonic()
        whole = self.whole or now
        return Verdict(
            fault=fault,
            sent=counts.sent,
            accepted=counts.accepted,
            stored=len(set(points)),
            duplicated=len(points) - len(set(points)),
            doubled_in_log=sum(readings.values()) - len(readings),
            poison=0 if self.poison is None else self.poison.count,
            dead_letters=len(await self.log.records(KAFKA_DEAD_LETTERS)),
            alarms=sum(map(len, alarms.values())),
            alarms_wrong=None if log_lost else len(wrong),
            differences=[line for lines in wrong.values() for line in lines],
            times=len(self.blows),
            mttr_s=round(whole - blow, 1) if blow else 0.0,
            whole_again_s=round(whole - self.repaired, 1) if self.repaired else 0.0,
            oldest_s=round(self.oldest_s, 1),
            seconds=round(now - self.began, 1),
        )


def _differences(found: list[AlarmChanged], expected: list[AlarmChanged]) -> list[str]:
    """Each change of an alarm that only one side has."""
    return [f"came: {one}" for one in found if one not in expected] + [
        f"expected: {one}" for one in expected if one not in found
    ] or [f"another order or number: {len(found)} came, {len(expected)} expected"]


def _same_facts(found: list[AlarmChanged], expected: list[AlarmChanged]) -> bool:
    return {msgspec.msgpack.encode(one) for one in found} == {msgspec.msgpack.encode(one) for one in expected}


def _broker(enrolled: EnrolledSite, folder: Path, *, port: int, max_queued: int) -> RealBroker:
    """Mosquitto with the access list of the site."""
    files = BrokerFolder((folder / "site" / "broker").resolve())
    settings = BrokerSettings(
        folder=files.folder,
        user=getpass.getuser(),
        port=port,
        host=LOOPBACK,
        max_connections=-1,
        max_queued=max_queued,
    )
    files.write(
        enrolled.site.registry,
        enrolled.site.authority,
        settings,
        hosts=(LOOPBACK,),
        at=datetime.now(UTC),
        who="t",
    )
    return RealBroker(files.config_file, port=port, log=folder / "mosquitto.log")


@contextlib.asynccontextmanager
async def site(
    folder: Path,
    kafka: Kafka,
    influxdb: InfluxDB,
    *,
    seconds: int,
    patients: int = 8,
    edges: int = 2,
    workers: int = 1,
    engine: str = "faust",
    seed: int = 1,
    max_queued: int = 20_000,
    poison_every: int = 0,
    speed: float = 10.0,
    cadence_ms: int = CADENCE_MS,
    look_s: float = _LOOK_S,
    scenario: str = "mixed",
) -> AsyncIterator[Pipeline]:
    """A running site with a simulated ward that is ready to start."""
    folder.mkdir(parents=True, exist_ok=True)
    clock = FileClock.create(folder / "clock", START_MS)
    pipeline = Pipeline(
        folder, kafka, influxdb, workers=workers, engine=engine, speed=speed, cadence_ms=cadence_ms, look_s=look_s
    )
    await pipeline.log.begin()
    await asyncio.to_thread(prepare_database, pipeline.influx, retention_days=YEARS, aggregate_days=YEARS)
    options = WardOptions(
        scenario=scenario,
        patients=patients,
        edges=edges,
        speed=speed,
        duration=f"{round(seconds * speed)}s",
        cadence=f"{cadence_ms // 1_000}s",
        seed=seed,
        broker="mosquitto",
        headless=True,
        as_json=True,
    )
    story = Simulated(scenario, patients=patients, seed=seed, cadence_ms=cadence_ms)
    port = free_port()
    with contextlib.ExitStack() as stack:
        stack.callback(clock.close)
        enrolled = pipeline.enrolled = stack.enter_context(
            contextlib.closing(EnrolledSite(folder, clock, broker_port=port))
        )
        await enrolled.enrol(wearables=patients, edges=edges, now_ms=START_MS, about=story.about)
        broker = pipeline.broker = _broker(enrolled, folder, port=port, max_queued=max_queued)
        stack.enter_context(broker)
        store = stack.enter_context(Store(folder / "unused.sqlite"))
        pipeline._wearables = {one.binding_id.hex(): one.wearable_id for one in enrolled.bindings}
        setup = WardSetup(
            options=options,
            settings=WardSettings.parse(options),
            story=story,
            folder=folder,
            address=(LOOPBACK, port),
            broker=broker,
            store=store,
            clock=clock,
            site=enrolled,
            began_s=time.monotonic(),
        )
        pipeline.ward = _Ward(pipeline, setup)
        if poison_every:
            pipeline.poison = _Poison(pipeline.ward.edges.agents, every=poison_every)
        stack.callback(pipeline.end)
        await pipeline.start()
        yield pipeline


async def live(pipeline: Pipeline, fault: Callable[[Pipeline], Awaitable[None]] | None = None) -> None:
    """Run the ward from its first reading to its last, and inject the fault meanwhile."""
    doing = None if fault is None else asyncio.ensure_future(fault(pipeline))
    pipeline.began = time.monotonic()
    try:
        await pipeline.ward.run()
        if doing is not None:
            assert doing.done(), "the story ended before the fault did"
            await doing
    finally:
        if doing is not None:
            doing.cancel()
