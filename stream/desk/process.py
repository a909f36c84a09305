"""The alarm desk process: reads alarms, notifies people, serves the API for their answers, forwards the answers.

The source of alarms and the sink of answers are protocols of `stream.desk.ports`: Kafka for `vitalloom desk`, the
embedded store for `vitalloom stream` and `vitalloom ward`.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from runtime import metrics
from runtime.clock import ElapsedClock, FileClock, SystemClock
from runtime.config import load
from runtime.errors import ConfigError, NotPrivate, UnknownTimeZone
from runtime.hardening import make_private_dir
from runtime.lifetime import run_until_signal, set_up_process
from runtime.logs import get
from runtime.metrics import Figure, Figures
from runtime.time_zone import zone_of
from stream.config import DeskConfig
from stream.desk.book import BOOK_FILE, DeskBook
from stream.desk.desk import AlarmDesk, Place
from stream.desk.end_dates import EndDates
from stream.desk.http import DeskServer, build_app
from stream.desk.notify import Addresses
from stream.desk.ordered_calls import NOTHING, OrdersOf
from stream.desk.ports import AlarmSource, EntrySink
from stream.desk.users import Door, Users
from stream.errors import AlarmSourceLost, CommitFailed, DeskRequestRefused, DeskUnusable, KafkaUnusable
from stream.site.directory import RegistryDirectory
from stream.site.folder import Site
from vitals.errors import BadPlan
from vitals.orders import Orders
from vitals.orders_in_force import OrdersInForce
from wire.stays import KnownStay, Stays, stays_of

USERS_FILE: Final = "users.json"
NO_USERS: Final = "no users, so alarms cannot be answered; add one: vitalloom desk user add NAME"

CATCH_UP_S: Final = 30.0
"""Longest wait after a start before notifying: by then most of the alarms that were missed are answered or over."""

_AGAIN_S: Final = 1.0
_LOOK_AT_FILES_S: Final = 2.0
_LOOK_AT_ENDS_S: Final = 20.0
_STALLED_MS: Final = 15_000
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

_log = get(__name__)

PlaceOf: TypeAlias = Callable[[str], Place]
"""Bed and patient of a binding id."""


PatientCount: TypeAlias = Callable[[], int | None]
"""Number of monitored patients; None if it is not known."""


def desk_config(path: Path | None) -> DeskConfig:
    """Load and check the configuration.

    Raises:
        ConfigError: a key is wrong; names it.
    """
    config = load(DeskConfig, path, env_prefix="VITALLOOM_DESK")
    source: Path | str = "environment" if path is None else path
    problem = ""
    try:
        config.policy.check()
        zone_of(config.time_zone)
        host, _ = metrics.address(config.api.listen)
    except BadPlan as error:
        raise ConfigError(f"policy.{error}", source=source) from error
    except UnknownTimeZone as error:
        raise ConfigError(str(error), source=source) from error
    except ValueError as error:
        raise ConfigError(f"api.{error}", source=source) from error
    if config.detail not in ("none", "values"):
        problem = f'detail = "{config.detail}" must be "none" or "values"'
    elif config.api.tls is None and host not in _LOOPBACK and not config.api.plain_text:
        problem = (
            "api.listen is reachable from other machines and would send passwords unencrypted; set api.tls, or "
            "api.plain_text = true behind a proxy that adds TLS"
        )
    elif not 1 <= config.api.longest_silence_minutes <= 1_440:
        problem = "api.longest_silence_minutes must be between 1 and 1440"
    elif not 1 <= config.api.entries_per_minute <= 1_000_000:
        problem = "api.entries_per_minute must be between 1 and 1000000"
    elif not 0 < config.api.session_hours <= 168:
        problem = "api.session_hours must be more than 0 and at most 168"
    elif min(config.send_timeout_ms, config.digest_after, config.digest_window_ms, config.keep_days) < 1:
        problem = "send_timeout_ms, digest_after, digest_window_ms and keep_days must be 1 or more"
    if problem:
        raise ConfigError(problem, source=source)
    return config


def users_of(config: DeskConfig) -> Users:
    """The file of users who may answer alarms."""
    return Users(config.api.users or config.data / USERS_FILE)


def people_problem(config: DeskConfig, addresses: Addresses) -> str:
    """A role of the escalation policy that cannot be reached, and why; empty if all can."""
    for _, ladder in config.policy.ladders():
        for step in ladder.steps:
            people = config.roles.get(step.who, ())
            if not people:
                return f'roles.{step.who}: the policy calls this role, but it has no person; fix: {step.who} = ["NAME"]'
            for person in people:
                if not addresses.of(person):
                    return f"{addresses.path}: has no address of {person}, who has the role {step.who}"
            if not any(addresses.recipients(person, way) for person in people for way in step.channels):
                ways = ", ".join(step.channels)
                names = ", ".join(people)
                return f"{addresses.path}: the role {step.who} is called by {ways}, but {names} has no such address"
    return ""


def check(config: DeskConfig) -> list[str]:
    """The command `vitalloom desk --check-config`: check all but Kafka; returns notes.

    Raises:
        ConfigError, DeskUnusable, NotPrivate, SiteUnusable: what is wrong, and the fix.
    """
    addresses = Addresses(config.addresses)
    addresses.check()
    if problem := people_problem(config, addresses):
        raise DeskUnusable(problem)
    if config.site is not None:
        with contextlib.closing(Site.open(config.site, clock=SystemClock(), to_read=True)):
            pass
    notes = []
    if not users_of(config).all():
        notes.append(NO_USERS)
    return notes


def run_desk(config: DeskConfig, file: Path | None, source: AlarmSource, sink: EntrySink) -> int:
    """The command `vitalloom desk`.

    Raises:
        DeskUnusable, NotPrivate, SiteUnusable, FileUnusable, HttpServerFailed: what is wrong, and the fix.
    """
    set_up_process(level=config.log_level, form=config.log_format)
    clock: ElapsedClock = SystemClock() if config.clock_file is None else FileClock(config.clock_file)
    with contextlib.ExitStack() as stack:
        place_of: PlaceOf = lambda _: Place()  # noqa: E731
        patients: PatientCount = lambda: None  # noqa: E731
        stays: Stays = list
        orders_of = NOTHING
        if config.site is not None:
            site = stack.enter_context(contextlib.closing(Site.open(config.site, clock=clock, to_read=True)))
            beds = Beds(RegistryDirectory(site.registry), clock)
            place_of, patients, stays, orders_of = beds, beds.patients, beds.stays, beds.orders
        process = stack.enter_context(
            opened_desk(
                config,
                file,
                source,
                sink,
                clock,
                place_of=place_of,
                patients=patients,
                stays=stays,
                orders_of=orders_of,
            )
        )
        asyncio.run(run_until_signal(process.run()))
    return 0


@contextlib.contextmanager
def opened_desk(
    config: DeskConfig,
    file: Path | None,
    source: AlarmSource,
    sink: EntrySink,
    clock: ElapsedClock,
    *,
    place_of: PlaceOf,
    patients: PatientCount,
    stays: Stays = list,
    orders_of: OrdersOf = NOTHING,
) -> Iterator["DeskProcess"]:
    """A desk with its book, ready to run; the book is closed with the block.

    Args:
        file: of the configuration; see `DeskProcess`.
        place_of: bed and patient of a binding.
        patients: number of monitored patients, None if it is not known; an outage is judged against it.
        stays: stays of the site, about which people may enter what they observe.
        orders_of: the orders of a stay that are in force now.

    Raises:
        DeskUnusable, NotPrivate, FileUnusable: what is wrong, and the fix.
    """
    addresses = Addresses(config.addresses)
    problem = _usable(addresses) or people_problem(config, addresses)
    if problem:
        # A desk that reaches some people is better than none. Health reports the problem until it is fixed.
        _log.error("some people cannot be notified", problem=problem)
    if not users_of(config).all():
        _log.warning(NO_USERS)
    make_private_dir(config.data)
    with DeskBook(config.data / BOOK_FILE) as book:
        desk = AlarmDesk(
            config, book, addresses, clock, place_of=place_of, patients=patients, stays=stays, orders_of=orders_of
        )
        yield DeskProcess(config, desk, book, clock, source, sink, file=file, problem=problem)


def _usable(addresses: Addresses) -> str:
    try:
        addresses.check()
    except DeskUnusable as error:
        return str(error)
    return ""


class Beds:
    """Bed, patient, devices and orders of a stay, and the number of monitored patients, from the registry."""

    def __init__(self, directory: RegistryDirectory, clock: ElapsedClock) -> None:
        self._directory = directory
        self._clock = clock
        self._orders = OrdersInForce()

    def __call__(self, stay_id: str) -> Place:
        try:
            self._directory.refresh(self._clock.mono_ms())
            found = self._directory.of_stay(bytes.fromhex(stay_id))
        except sqlite3.Error as error:
            # The notification is sent all the same, and names the stay instead of the bed.
            _log.error("cannot read the registry", problem=str(error))
            found = ()
        except ValueError:  # of a simulated ward, whose stays are not ids
            found = ()
        if not found:
            return Place()
        newest = next((one for one in reversed(found) if one.valid_to_ms is None), found[-1])
        devices = {one.binding_id.hex(): one.device_name or one.wearable_id.hex()[:8] for one in found}
        return Place(newest.bed, newest.patient, devices)

    def orders(self, stay_id: str) -> Orders | None:
        """The orders of a stay that are in force now; None: nothing is ordered, or the registry cannot be read."""
        try:
            self._directory.refresh(self._clock.mono_ms())
            signed = self._directory.orders_of(bytes.fromhex(stay_id))
        except sqlite3.Error as error:
            # People are called as if nothing were ordered: nobody is left out.
            _log.error("cannot read the registry", problem=str(error))
            return None
        except ValueError:  # of a simulated ward, whose stays are not ids
            return None
        if signed is not None:
            self._orders.accept(stay_id, signed.orders)
        for unreadable in self._orders.drain_unreadable():
            _log.error("orders cannot be read; those before stay in force", stay=unreadable[:8])
        found = self._orders.of(stay_id)
        return None if found is None else found.at(self._clock.now_ms())

    def patients(self) -> int | None:
        """Number of patients monitored now; None if the registry cannot be read."""
        now_ms = self._clock.now_ms()
        try:
            self._directory.refresh(self._clock.mono_ms())
            found = self._directory.bindings()
        except sqlite3.Error as error:
            _log.error("cannot read the registry", problem=str(error))
            return None
        return len({one.stay_id for one in found if one.valid_from_ms <= now_ms < (one.stay_ended_ms or now_ms + 1)})

    def stays(self) -> list[KnownStay]:
        """Stays that go on, or ended a short time ago. Raises DeskRequestRefused: the registry cannot be read."""
        try:
            self._directory.refresh(self._clock.mono_ms())
            return stays_of(self._directory.bindings())
        except sqlite3.Error as error:
            _log.error("cannot read the registry", problem=str(error))
            raise DeskRequestRefused(503, "the desk cannot read the registry; it is NOT done") from error


class DeskProcess:
    """One alarm desk with its reader, API, notification loop and health.

    Args:
        source: source of alarms.
        sink: sink of answers.
        file: configuration file, read again when it changes; None: roles never change.
        problem: at the start, which people cannot be notified; empty if all can.
    """

    def __init__(
        self,
        config: DeskConfig,
        desk: AlarmDesk,
        book: DeskBook,
        clock: ElapsedClock,
        source: AlarmSource,
        sink: EntrySink,
        *,
        file: Path | None = None,
        problem: str = "",
    ) -> None:
        self._config = config
        self._source = source
        self._sink = sink
        self.desk = desk
        self.url = ""  # of the API, once it is served
        self.door = Door(users_of(config), book, clock, session_ms=int(config.api.session_hours * 3_600_000))
        self._book = book
        self._clock = clock
        self._file = file
        self._addresses = config.addresses
        self._caught_up = asyncio.Event()
        self._read_ms: int | None = None  # monotonic: when the log last answered
        self._began_ms = clock.mono_ms()
        self._lag: Mapping[str, int] = {}
        self._errors = dict.fromkeys(("read", "entry", "configuration"), 0)
        self._bad_files = problem
        self._needs_restart: tuple[str, ...] = ()  # a sentence, if the configuration has other keys now

    async def run(self) -> None:
        """Serve until cancelled."""
        app = build_app(
            self.desk,
            self.door,
            self._clock,
            site=self._config.site_name,
            trouble=self.trouble,
            longest_silence_minutes=self._config.api.longest_silence_minutes,
            entries_per_minute=self._config.api.entries_per_minute,
        )
        api = DeskServer(app, self._config.api)
        ends = EndDates(self._config, self._clock, api.tls, more_notes=lambda: self._needs_restart)
        async with (
            api as server,
            metrics.serving(self._config.http, process="desk", source=self, ends=ends.watch),
            asyncio.TaskGroup() as tasks,
        ):
            self.url = server.url
            _log.info("alarm desk API listening", url=server.url)
            tasks.create_task(_retry_for_ever(self._read, self._failed("read")), name="alarms")
            tasks.create_task(_retry_for_ever(self._pass_on, self._failed("entry")), name="entries")
            tasks.create_task(self._call(), name="calls")
            tasks.create_task(self._watch_files(), name="roles and addresses")
            tasks.create_task(_retry_for_ever(partial(self._watch_ends, ends), self._failed("read")), name="end dates")

    # Health: called from another thread, so it only reads

    def figures(self) -> Figures:
        counts = self.desk.counts
        low, medium, high = counts.open_by_priority
        turned_ms, watch = counts.turned_ms, self.desk.clock_watch
        return Figures(
            received=counts.records,
            sent=counts.accepted,
            errors={**self._errors, "notify": counts.failed.total(), "book": counts.refused_commits},
            discarded={"unreadable": counts.unreadable},
            lag={**self._lag, "notifications": counts.waiting, "entries": counts.pending_entries},
            progress_age_s=None if turned_ms is None else (self._clock.mono_ms() - turned_ms) / 1_000,
            more=(
                *(
                    Figure("desk_alarms_active", "Alarms whose condition is present.", count, (("priority", name),))
                    for name, count in (("low", low), ("medium", medium), ("high", high))
                ),
                Figure("desk_high_unanswered", "High-priority alarms without an answer.", counts.unanswered_high),
                Figure("desk_opened", "Alarms opened.", counts.opened, grows=True),
                Figure("desk_answered", "Alarms acknowledged by people.", counts.answered, grows=True),
                Figure("desk_silenced", "Silences set by people.", counts.silenced, grows=True),
                Figure(
                    "desk_ordered",
                    "Acknowledgements, silences and observations that the data centre has stored.",
                    counts.passed_on,
                    grows=True,
                ),
                Figure("desk_clock_steps", "Times that the wall clock of the desk was set.", watch.steps, grows=True),
                Figure(
                    "desk_clock_behind_seconds",
                    "The clock of the alarm log minus that of the desk, by the newest live record.",
                    watch.behind_ms / 1_000,
                ),
                Figure(
                    "desk_other_logs",
                    "Times that the alarm log was found to be another one and was read from its beginning.",
                    counts.other_logs,
                    grows=True,
                ),
                Figure("desk_digests", "Messages that combined several alarms.", counts.digests, grows=True),
                Figure("desk_late", "Messages that a service accepted after send_timeout_ms.", counts.late, grows=True),
                Figure(
                    "desk_no_address",
                    "Due notifications for which no person has an address.",
                    counts.no_address,
                    grows=True,
                ),
                Figure(
                    "desk_slowest_first_call_seconds",
                    "Longest time from an alarm that notifies at once to the first attempt.",
                    counts.slowest_first_ms / 1_000,
                ),
            ),
        )

    def trouble(self) -> str:
        now_ms, counts = self._clock.mono_ms(), self.desk.counts
        if counts.refusing:
            return f"cannot write to the desk's book: {counts.refusing}"
        if self._bad_files:
            return self._bad_files
        if now_ms - (self._read_ms or self._began_ms) > _STALLED_MS:
            return f"cannot read alarms from {self._source.name}"
        if not self._caught_up.is_set():
            return "still reading the alarms that it missed"
        if now_ms - (counts.turned_ms or now_ms) > _STALLED_MS:
            return "notification loop stalled"
        return self.desk.clock_watch.problem()

    # Reading

    async def _read(self) -> None:
        is_current = False  # what is read now was written just now
        async with contextlib.aclosing(self._source.batches(self._book.positions.of)) as batches:
            async for batch in batches:
                if batch.records:
                    self.desk.hear(batch.records, is_another_log=batch.is_another_log)
                written_ms = batch.records[-1].written_ms if batch.records else None
                if is_current and written_ms is not None and self._config.clock_file is None:
                    self.desk.clock_watch.hear(written_ms)
                is_current = batch.is_current
                self._read_ms = self._clock.mono_ms()
                self._lag = batch.lag
                if batch.is_current and not self._caught_up.is_set():
                    self._caught_up.set()
                    _log.info("caught up with the alarms that it missed")

    # Calling

    async def _call(self) -> None:
        """Notify, once missed alarms are read or `CATCH_UP_S` is over: a desk without source notifies from its book."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_S):
                await self._caught_up.wait()
        await self.desk.serve()

    # Forwarding answers

    async def _pass_on(self) -> None:
        async with self._sink.opened() as put:
            while True:
                self.desk.entry_queued.clear()
                for pending in self.desk.to_pass_on():
                    await put(pending.entry)
                    self.desk.passed_on(pending)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await self.desk.entry_queued.wait()

    def _failed(self, stage: str) -> Callable[[Exception], None]:
        said = ""

        def tell(error: Exception) -> None:
            nonlocal said
            self._errors[stage] += 1
            if str(error) != said:
                said = str(error)
                _log.warning("failed; tried again every second", stage=stage, problem=repr(error))

        return tell

    # Changes of roles and addresses

    async def _watch_ends(self, ends: EndDates) -> None:
        """Look at what ends, and tell people of it."""
        while True:
            ends.look()
            ends.tell(self.desk)
            await asyncio.sleep(_LOOK_AT_ENDS_S)

    async def _watch_files(self) -> None:
        """Read roles and addresses again when their files change, so that a change of shift needs no restart."""
        stamps = self._stamps()
        while True:
            await asyncio.sleep(_LOOK_AT_FILES_S)
            found = self._stamps()
            if found == stamps:
                continue
            stamps = found
            try:
                config = self._config if self._file is None else desk_config(self._file)
                addresses = Addresses(config.addresses)
                addresses.check()
                if problem := people_problem(config, addresses):
                    raise DeskUnusable(problem)
            except (ConfigError, DeskUnusable, NotPrivate) as error:
                self._bad_files = f"the changed roles or addresses are not usable: {error}"
                self._errors["configuration"] += 1
                _log.error(
                    "cannot use the changed roles or addresses; the previous ones stay in force", problem=str(error)
                )
                continue
            self._bad_files = ""
            self._addresses = config.addresses
            self._needs_restart = _started_with(self._config, config)
            self.desk.set_people(config.roles, addresses)
            _log.info("roles and addresses reloaded")

    def _stamps(self) -> list[tuple[int, int]]:
        """Changes of content or of permissions."""
        stamps = []
        for path in (self._file, self._addresses):
            try:
                found = os.stat(path) if path is not None else None
            except OSError:
                found = None
            stamps.append((0, 0) if found is None else (found.st_ctime_ns, found.st_ino))
        return stamps


def _started_with(config: DeskConfig, now: DeskConfig) -> tuple[str, ...]:
    """A sentence about keys that were changed in the file and are read when the desk starts."""
    changed = [
        name
        for name in DeskConfig.__struct_fields__
        if name not in ("roles", "addresses") and getattr(config, name) != getattr(now, name)
    ]
    return (f"changed in the configuration, and in force after a restart: {', '.join(changed)}",) if changed else ()


async def _retry_for_ever(work: Callable[[], Awaitable[None]], tell: Callable[[Exception], None]) -> None:
    """Run `work` again a second after an error; the rest of the desk goes on meanwhile."""
    while True:
        try:
            await work()
        except (AlarmSourceLost, KafkaUnusable, OSError, CommitFailed) as error:
            tell(error)
            await asyncio.sleep(_AGAIN_S)
