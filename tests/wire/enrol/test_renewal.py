"""Once an hour a device renews what grows old; a registry that is away costs a line in the log and nothing else.

The registry is the real one, without the network between.
"""

import asyncio
import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import wire.enrol.identity_file
import wire.enrol.kept_documents
import wire.enrol.renewal
from runtime.clock import ManualClock
from runtime.hardening import write_private
from stream.errors import EnrolmentRefused
from tests.patience import PATIENCE_S
from tests.stream.site.registries import DAY, FACTS, HOUR, NOW, Desk
from wire.enrol.client import next_keys, prekey_request, renew_request
from wire.enrol.identity_file import NewKeys
from wire.enrol.renewal import TimeFloor, keep_up, look_after
from wire.enrol.requests import EnrolReply, PrekeyReply
from wire.enrol.wallet import Wallet
from wire.errors import EnrolmentFailed, NotEnrolled, Reason, Rejected

ADDRESS = "192.0.2.7"


class Line:
    """The network between a device and the registry: may be down, and may lose answers."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.is_down = False
        self.loses_answers = False
        self.visits: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.before: Callable[[Wallet], object] = lambda _: None

    def ask_renewal(self, wallet: Wallet) -> tuple[EnrolReply, NewKeys]:
        self._begin("renewal", wallet)
        keys, desk = next_keys(wallet), self.desk
        with self._answering():
            reply = desk.enrolment.renew(
                renew_request(wallet, keys, desk.server),
                peer=desk.peer(wallet),
                server=desk.server,
                address=ADDRESS,
                mono_ms=desk.clock.mono_ms(),
            )
        return reply, keys

    def announce_prekey(self, wallet: Wallet, *, now_ms: int) -> PrekeyReply:
        self._begin("prekey", wallet)
        with self._answering():
            return self.desk.enrolment.new_prekey(
                prekey_request(wallet, now_ms=now_ms),
                peer=self.desk.peer(wallet),
                address=ADDRESS,
                mono_ms=self.desk.clock.mono_ms(),
            )

    def _begin(self, what: str, wallet: Wallet) -> None:
        self.visits.append(what)
        self.threads.add(threading.current_thread())
        self.before(wallet)
        if self.is_down:
            raise EnrolmentFailed(f"{FACTS.url}: not reached (timed out); is the registry up?")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """What the registry has done is done; whether anybody hears of it is another matter."""
        try:
            yield
        except EnrolmentRefused as error:
            raise EnrolmentFailed(str(error)) from error
        if self.loses_answers:
            raise EnrolmentFailed(f"{FACTS.url}: broke off (TimeoutError); try again")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.site.close()


@pytest.fixture
def line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Line:
    made = Line(desk)
    monkeypatch.setattr(wire.enrol.renewal, "ask_renewal", made.ask_renewal)
    monkeypatch.setattr(wire.enrol.renewal, "announce_prekey", made.announce_prekey)
    return made


@pytest.fixture
def edge(desk: Desk) -> Wallet:
    return desk.enrol("edge")


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def look(desk: Desk, wallet: Wallet, *, after_ms: int = 0) -> None:
    """So much later the device looks after itself."""
    desk.clock.advance(after_ms)
    asyncio.run(look_after(wallet, desk.clock.now_ms()))


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[tuple[str, str]]:
    """What the wire has logged: the event, and the problem."""
    return [
        (one.getMessage(), getattr(one, "vitalloom_facts", {}).get("problem", ""))
        for one in caplog.records
        if one.levelno >= level and one.name == "wire.enrol.renewal"
    ]


def is_up_to_date(desk: Desk, wallet: Wallet) -> bool:
    """Both sides agree, and a restart would change nothing."""
    again = Wallet.load(wallet.folder)
    return wallet.digest == desk.registry.documents.digest_for(wallet.me.device_id) == again.digest


# When


def test_in_its_first_week_a_device_visits_nobody(
    desk: Desk, line: Line, edge: Wallet, heard: pytest.LogCaptureFixture
) -> None:
    for _ in range(7 * 24 - 1):
        look(desk, edge, after_ms=HOUR)

    assert (line.visits, lines(heard)) == ([], [])


def test_every_week_a_prekey_and_after_fifteen_days_everything(desk: Desk, line: Line, edge: Wallet) -> None:
    #   day   7       14       15           22      29      30
    #         prekey  prekey   renewal      prekey  prekey  renewal
    days = []
    for day in range(1, 32):
        look(desk, edge, after_ms=DAY)
        if line.visits:
            days.append((day, line.visits.pop()))
        assert line.visits == []

    assert days == [
        (7, "prekey"),
        (14, "prekey"),
        (15, "renewal"),
        (22, "prekey"),
        (29, "prekey"),
        (30, "renewal"),
    ]
    assert is_up_to_date(desk, edge)


@pytest.mark.parametrize("role", ["edge", "wearable"])
def test_a_device_lives_for_years_without_anybody(desk: Desk, line: Line, role: str) -> None:
    wallet = desk.enrol(role)  # type: ignore[arg-type]
    for day in range(1, 731):
        line.is_down = day % 3 == 0
        if day % 300 == 0:  # certificates end with the key that issued them
            desk.site.renew_issuing(passphrase="", who="tester")
        look(desk, wallet, after_ms=DAY)

    assert wallet.expiry(desk.clock.now_ms()) is None
    assert len(wallet.me.prekeys) <= 60 // 6 + 2  # two months of them
    assert is_up_to_date(desk, wallet)


# What


def test_a_new_prekey_is_on_disk_before_the_registry_hears_of_it(desk: Desk, line: Line, edge: Wallet) -> None:
    first = edge.me.recipient().prekey_id
    kept: list[list[bytes]] = []
    line.before = lambda wallet: kept.append(list(Wallet.load(wallet.folder).me.prekeys))

    look(desk, edge, after_ms=7 * DAY)

    assert kept == [[first, edge.me.recipient().prekey_id]]
    assert edge.unannounced is None
    assert is_up_to_date(desk, edge)


def test_so_is_the_prekey_of_a_renewal(desk: Desk, line: Line, edge: Wallet) -> None:
    kept: list[bytes] = []
    line.before = lambda wallet: kept.extend(Wallet.load(wallet.folder).me.prekeys)

    look(desk, edge, after_ms=20 * DAY)

    assert line.visits == ["renewal"]
    assert edge.me.recipient().prekey_id in kept


def test_a_renewal_is_one_line_in_the_log(
    desk: Desk, line: Line, edge: Wallet, heard: pytest.LogCaptureFixture
) -> None:
    serial = edge.me.credential_serial

    look(desk, edge, after_ms=20 * DAY)

    assert edge.me.credential_serial != serial
    assert lines(heard) == [("device certificate renewed", "")]


def test_what_is_over_is_destroyed_even_if_nobody_can_be_reached(desk: Desk, line: Line, edge: Wallet) -> None:
    wearable = desk.enrol()
    binding = desk.bind(wearable, edge)
    desk.registry.unbind(binding, who="tester")
    desk.deliver(edge)
    line.is_down = True

    look(desk, edge, after_ms=15 * DAY)

    assert edge.provision.directory.bindings() == ()


def test_a_device_that_has_lost_its_documents_asks_for_them(desk: Desk, line: Line) -> None:
    wearable = desk.enrol()
    for one in (wearable.folder / "documents").iterdir():
        one.unlink()
    again = Wallet.load(wearable.folder)

    look(desk, again)

    assert line.visits == ["prekey"]
    assert is_up_to_date(desk, again)


# When it does not work


def test_a_registry_that_is_away_is_asked_again_with_the_same_prekey(
    desk: Desk, line: Line, edge: Wallet, heard: pytest.LogCaptureFixture
) -> None:
    line.is_down = True
    for _ in range(3):
        look(desk, edge, after_ms=7 * DAY if not line.visits else HOUR)
    line.is_down = False
    look(desk, edge, after_ms=HOUR)

    assert line.visits == ["prekey"] * 4
    assert (
        lines(heard, logging.WARNING)
        == [("could not renew", f"{FACTS.url}: not reached (timed out); is the registry up?")] * 3
    )
    assert len(edge.me.prekeys) == 2
    assert is_up_to_date(desk, edge)


def test_answers_that_are_lost_do_not_lose_the_device(desk: Desk, line: Line, edge: Wallet) -> None:
    line.loses_answers = True
    look(desk, edge, after_ms=20 * DAY)
    for _ in range(10):
        look(desk, edge, after_ms=HOUR)
        desk.deliver(edge)  # over MQTT, meanwhile
    line.loses_answers = False

    look(desk, edge, after_ms=HOUR)

    assert edge.expiry(desk.clock.now_ms()) is None
    assert not edge.wants_renewal(desk.clock.now_ms())
    assert is_up_to_date(desk, edge)


def test_an_answer_that_is_refused_is_a_line_in_the_log(
    desk: Desk, line: Line, edge: Wallet, heard: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise Rejected(Reason.SIGNATURE)

    monkeypatch.setattr(edge, "accept_all", refuses)

    look(desk, edge, after_ms=7 * DAY)

    assert lines(heard, logging.WARNING) == [("could not renew", "frame refused (signature)")]


@pytest.mark.parametrize("day", [7, 20])
def test_a_full_disk_stops_nothing(
    desk: Desk, line: Line, edge: Wallet, heard: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, day: int
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        for module in (wire.enrol.identity_file, wire.enrol.kept_documents):
            patched.setattr(module, "write_private", full)
        look(desk, edge, after_ms=day * DAY)
    assert [event for event, _ in lines(heard, logging.WARNING)] == ["could not renew"]
    assert line.visits == []

    look(desk, edge, after_ms=HOUR)

    assert line.visits == ["prekey" if day == 7 else "renewal"]
    assert is_up_to_date(desk, edge)


@pytest.mark.parametrize(
    ("day", "problem"),
    [
        (22, ""),
        (23, "certificate of edge {id} expires in 7 days and could not be renewed: is {url} reachable?"),
        (29, "certificate of edge {id} expires in 1 day and could not be renewed: is {url} reachable?"),
        (32, "certificate of edge {id} expired 2 days ago: run `vitalloom pki renew {id}`"),
    ],
)
def test_somebody_is_told_before_it_is_too_late(
    desk: Desk, line: Line, edge: Wallet, heard: pytest.LogCaptureFixture, day: int, problem: str
) -> None:
    line.is_down = True

    look(desk, edge, after_ms=day * DAY)

    wanted = problem.format(id=edge.me.device_id.hex(), url=FACTS.url)
    assert lines(heard, logging.ERROR) == (
        [("device certificate has expired or expires soon", wanted)] if problem else []
    )


def test_a_revoked_device_goes_on_and_says_so(
    desk: Desk, line: Line, edge: Wallet, heard: pytest.LogCaptureFixture
) -> None:
    desk.registry.revoke(edge.me.device_id, why="stolen", who="tester")

    look(desk, edge, after_ms=20 * DAY)

    ((event, problem),) = lines(heard, logging.WARNING)
    assert event == "could not renew"
    assert "revoked" in problem


# Beside everything else


def test_a_slow_registry_holds_up_nobody(desk: Desk, line: Line, edge: Wallet) -> None:
    gate, ticks = threading.Event(), 0
    line.before = lambda _: gate.wait(PATIENCE_S)
    desk.clock.advance(20 * DAY)

    async def story() -> None:
        nonlocal ticks
        looking = asyncio.create_task(look_after(edge, desk.clock.now_ms()))
        while ticks < 50:
            await asyncio.sleep(0)
            ticks += 1
        assert not looking.done()
        gate.set()
        await looking

    asyncio.run(story())

    assert line.visits == ["renewal"]
    assert threading.main_thread() not in line.threads
    assert is_up_to_date(desk, edge)


def test_upkeep_looks_at_once_and_then_every_hour_until_it_is_cancelled(
    desk: Desk, edge: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    async def look_once(_: Wallet, now_ms: int) -> None:
        looked.append(now_ms)
        desk.clock.advance(HOUR)

    async def story() -> None:
        keeping = asyncio.create_task(keep_up(edge, desk.clock, every_s=0))
        while len(looked) < 3:
            await asyncio.sleep(0)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping

    monkeypatch.setattr(wire.enrol.renewal, "look_after", look_once)
    asyncio.run(story())

    assert looked[:3] == [NOW, NOW + HOUR, NOW + 2 * HOUR]


def test_an_identity_that_was_replaced_is_used_without_a_restart(desk: Desk, edge: Wallet) -> None:
    invitation = desk.again(edge.me.device_id)
    running = Wallet.load(edge.folder)
    other = desk.enrol(invitation=invitation)  # as `vitalloom enrol --again` does, into the same folder
    assert other.folder == running.folder
    assert running.me.credential_serial != other.me.credential_serial

    assert running.follow_file()

    assert running.me.credential_serial == other.me.credential_serial
    assert running.me.recipient().prekey_id == other.me.recipient().prekey_id
    assert running.end_date == other.end_date
    assert running.digest == other.digest
    assert not running.follow_file()
    running.add_prekey(bytes(8), X25519PrivateKey.generate(), now_ms=NOW)
    assert not running.follow_file()  # its own writing is no news
    assert Wallet.load(edge.folder).me.credential_serial == other.me.credential_serial


def test_the_identity_of_another_device_is_not_used_by_a_running_process(desk: Desk, edge: Wallet) -> None:
    running, other = Wallet.load(edge.folder), desk.enrol("edge")
    serial = running.me.credential_serial
    write_private(edge.folder / "identity.json", (other.folder / "identity.json").read_bytes())

    with pytest.raises(NotEnrolled, match="another device now; start this process again"):
        running.follow_file()

    assert running.me.credential_serial == serial


def test_a_failed_renewal_is_tried_again_after_a_minute_and_ever_more_rarely(
    edge: Wallet, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []

    async def fail(wallet: Wallet, _: int) -> None:
        wallet.renewal_problem = "" if len(rests) == 8 else "the registry is away"

    async def rest(_: Wallet, seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 10:
            raise asyncio.CancelledError

    monkeypatch.setattr(wire.enrol.renewal, "look_after", fail)
    monkeypatch.setattr(wire.enrol.renewal, "_rest", rest)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(keep_up(edge, desk.clock))

    assert rests == [60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600, 60]


def test_the_reason_of_a_failed_renewal_is_kept_until_one_succeeds(desk: Desk, line: Line, edge: Wallet) -> None:
    line.is_down = True
    look(desk, edge, after_ms=15 * DAY)
    assert edge.renewal_problem
    assert edge.end_date.problem == edge.renewal_problem

    line.is_down = False
    look(desk, edge, after_ms=HOUR)
    assert edge.renewal_problem == ""


def test_a_machine_that_starts_in_1970_counts_from_the_newest_time_that_it_knows(desk: Desk, edge: Wallet) -> None:
    clock = ManualClock(now_ms=DAY, mono_ms=5)
    floor = TimeFloor(edge, clock)
    assert abs(floor.now_ms() - NOW) < HOUR
    assert not edge.wants_renewal(floor.now_ms())

    clock.advance(16 * DAY)
    assert edge.wants_renewal(floor.now_ms())

    clock.set_wall(NOW + 2 * DAY)  # somebody has set it
    assert floor.now_ms() == NOW + 2 * DAY
