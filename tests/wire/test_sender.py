"""The sender: order, windows, timers, and that everything arrives over a link that does what it likes."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.envelope import Ack, FrameClass, Stage
from wire.sender import Sender
from wire.sending.rows import Outgoing, Row, SendingSession
from wire.sending.settings import Timing, Windows

VITALS, ALARM = int(FrameClass.VITALS), int(FrameClass.ALARM)
ANN, BOB = b"a" * 16, b"b" * 16
EXACT = Timing(jitter=0)


class Shelf:
    """A backlog that is a list."""

    def __init__(self) -> None:
        self.rows: dict[tuple[bytes, int], Row] = {}
        self.reads = 0

    def page(self, session_id: bytes, from_counter: int, limit: int) -> Sequence[Row]:
        self.reads += 1
        found = [row for (sid, counter), row in self.rows.items() if sid == session_id and counter >= from_counter]
        return sorted(found, key=lambda row: row.counter)[:limit]


class Bench:
    """An uplink, its backlog, and a hand that takes what it gives."""

    def __init__(
        self, *, windows: Windows | None = None, timing: Timing = EXACT, frees_at: Stage = Stage.STORED
    ) -> None:
        self.shelf = Shelf()
        self.uplink = Sender(backlog=self.shelf, frees_at=frees_at, rng=Random(1), windows=windows, timing=timing)
        self._row_id = 0
        self._counters: dict[bytes, int] = {}

    def session(self, name: str, patient: bytes = ANN, frame_class: int = VITALS, number: int = 1) -> bytes:
        session_id = name.encode().ljust(16)
        self.uplink.open(SendingSession(session_id, (patient, frame_class), number, b"SESSION " + name.encode()))
        return session_id

    def keep(self, session_id: bytes, patient: bytes = ANN, *, offer: bool = True) -> Row:
        counter = self._counters.get(session_id, -1) + 1
        self._counters[session_id] = counter
        self._row_id += 1
        row = Row(self._row_id, session_id, counter, patient, b"%s/%d" % (session_id.strip(), counter))
        self.shelf.rows[session_id, counter] = row
        if offer:
            self.uplink.offer(row)
        return row

    def drain(self, at_ms: int = 0, limit: int = 10_000) -> list[str]:
        """Everything that wants to leave now, as text."""
        sent = []
        while len(sent) < limit and (out := self.uplink.next(at_ms)) is not None:
            self.uplink.sent(out, at_ms)
            sent.append(out.frame.decode())
        return sent

    def ack(self, session_id: bytes, *ranges: tuple[int, int], stage: Stage = Stage.STORED, at_ms: int = 0) -> int:
        effect = self.uplink.on_ack(an_ack(session_id, *ranges, stage=stage), at_ms)
        for sid, low, high in effect.freed:
            for counter in range(low, high + 1):
                del self.shelf.rows[sid, counter]
        return sum(high - low + 1 for _, low, high in effect.freed)


def an_ack(session_id: bytes, *ranges: tuple[int, int], stage: Stage = Stage.STORED, last_number: int = 0) -> Ack:
    return Ack(stage, 0, ranges, last_number, 0, b"cloud".ljust(16), session_id, VITALS, 0)


def test_nothing_leaves_without_a_connection() -> None:
    bench = Bench()
    bench.keep(bench.session("s"))

    assert bench.drain() == []
    bench.uplink.on_connected(0)
    assert bench.drain() == ["SESSION s", "s/0"]


def test_alarms_go_before_vitals_and_the_newest_of_each_patient_before_backlog() -> None:
    bench = Bench(windows=Windows(live=1))
    vitals, other, alarm = bench.session("v"), bench.session("w", BOB), bench.session("x", ANN, ALARM)
    for _ in range(3):
        bench.keep(vitals)
        bench.keep(other, BOB)
    bench.keep(alarm)

    bench.uplink.on_connected(0)

    assert bench.drain() == ["SESSION x", "x/0", "SESSION v", "v/2", "SESSION w", "w/2", "v/0", "w/0", "v/1", "w/1"]


def test_a_burst_of_a_patient_leaves_in_the_order_in_which_it_was_made() -> None:
    bench = Bench(windows=Windows(live=3))
    session = bench.session("v")
    for _ in range(5):
        bench.keep(session)

    bench.uplink.on_connected(0)

    # The three newest in order, and only then what had to wait longer than a burst.
    assert bench.drain() == ["SESSION v", "v/2", "v/3", "v/4", "v/0", "v/1"]


def test_a_row_is_freed_when_it_is_stored_and_not_when_it_is_durable() -> None:
    bench = Bench()
    session = bench.session("s")
    bench.keep(session)
    bench.uplink.on_connected(0)
    bench.drain()

    assert bench.ack(session, (0, 0), stage=Stage.DURABLE) == 0
    assert bench.ack(session, (0, 0), stage=Stage.STORED) == 1
    assert bench.ack(session, (0, 0), stage=Stage.STORED) == 0  # once is enough
    assert bench.uplink.in_flight == 0


@pytest.mark.parametrize("stage", [Stage.DURABLE, Stage.STORED, Stage.REJECTED])
def test_a_wearable_may_free_its_rows_at_durable(stage: Stage) -> None:
    bench = Bench(frees_at=Stage.DURABLE)
    session = bench.session("s")
    bench.keep(session)
    bench.uplink.on_connected(0)
    bench.drain()

    assert bench.ack(session, (0, 0), stage=stage) == 1


def test_vitals_are_sent_again_after_10_16_and_25_seconds() -> None:
    #   0      10      26        51.6 s
    #   |-10---|--16---|--25.6---|
    bench = Bench()
    session = bench.session("s")
    bench.keep(session)
    bench.uplink.on_connected(0)
    bench.drain(0)
    bench.ack(session, stage=Stage.DURABLE)  # the session is known, the row is not

    at = [ms for ms in range(0, 60_000, 100) if bench.drain(ms)]

    assert at == [10_000, 26_000, 51_600]


def test_alarms_are_sent_again_after_2_4_8_and_then_every_15_seconds() -> None:
    bench = Bench()
    session = bench.session("s", ANN, ALARM)
    bench.keep(session)
    bench.uplink.on_connected(0)
    bench.drain(0)
    bench.ack(session, stage=Stage.DURABLE)

    at = [ms for ms in range(0, 60_000, 100) if bench.drain(ms)]

    assert at == [2_000, 6_000, 14_000, 29_000, 44_000, 59_000]


def test_timers_spread_by_a_fifth_to_either_side() -> None:
    bench = Bench(timing=Timing())
    sessions = [bench.session(f"s{n}", bytes([n]) * 16) for n in range(50)]
    for n, session in enumerate(sessions):
        bench.keep(session, bytes([n]) * 16)
    bench.uplink.on_connected(0)
    bench.drain(0)

    first = bench.uplink.due_ms(0)
    assert first is not None
    assert 8_000 <= first < 9_000
    for ms in range(8_000, 12_001, 50):
        bench.drain(ms)
    assert bench.uplink.counts.resent == 50


def test_a_reconnect_makes_everything_due_with_fresh_timers() -> None:
    bench = Bench()
    session = bench.session("s")
    bench.keep(session)
    bench.uplink.on_connected(0)
    bench.drain(0)
    bench.drain(10_000)

    bench.uplink.on_disconnected()
    assert bench.drain(20_000) == []
    bench.uplink.on_connected(30_000)

    assert bench.drain(30_000) == ["SESSION s", "s/0"]
    assert bench.uplink.due_ms(30_000) == 40_000


def test_windows_hold_and_backlog_leaves_room_for_what_happens_now() -> None:
    bench = Bench(windows=Windows(vitals=10, alarms=2, live=1))
    session, alarms = bench.session("s"), bench.session("x", ANN, ALARM)
    for _ in range(20):
        bench.keep(session)
    for _ in range(5):
        bench.keep(alarms)
    bench.uplink.on_connected(0)

    first = bench.drain()

    assert first[:3] == ["SESSION x", "x/0", "x/1"]
    assert first[3:] == ["SESSION s", "s/19"] + [f"s/{n}" for n in range(7)]  # 7 of 10 places
    bench.keep(session)
    bench.keep(session)
    assert bench.drain() == ["s/21"]
    bench.ack(alarms, (0, 0))
    assert bench.drain() == ["x/2"]


def test_what_was_overtaken_is_sent_again_at_once_and_once() -> None:
    bench = Bench()
    session = bench.session("s")
    for _ in range(4):
        bench.keep(session)
        bench.uplink.on_connected(0) if not bench.uplink.connected else None
        bench.drain()

    bench.ack(session, (2, 2), at_ms=100)  # 0 and 1 left before 2

    assert bench.drain(100) == ["s/0", "s/1"]
    bench.ack(session, (2, 2), at_ms=110)
    assert bench.drain(110) == []
    bench.ack(session, (3, 3), at_ms=120)  # 3 left before 0 and 1 were sent again: says nothing about them
    assert bench.drain(120) == []
    assert bench.uplink.counts.resent_fast == 2


def test_need_session_brings_the_session_and_its_unacknowledged_rows() -> None:
    bench = Bench()
    session = bench.session("s", number=7)
    for _ in range(3):
        bench.keep(session)
        bench.uplink.on_connected(0) if not bench.uplink.connected else None
        bench.drain()
    bench.ack(session, (1, 1))
    bench.drain()

    bench.uplink.on_ack(an_ack(session, stage=Stage.NEED_SESSION, last_number=6), 100)

    assert bench.drain(100) == ["SESSION s", "s/0", "s/2"]
    bench.uplink.on_ack(an_ack(session, stage=Stage.NEED_SESSION, last_number=6), 200)  # replayed: no amplifier
    assert bench.drain(200) == []


def test_a_number_that_is_too_low_refuses_the_session_and_gives_the_window_back() -> None:
    bench = Bench()
    session = bench.session("s", number=7)
    bench.keep(session)
    bench.uplink.on_connected(0)
    bench.drain()

    effect = bench.uplink.on_ack(an_ack(session, stage=Stage.NEED_SESSION, last_number=9), 100)

    assert effect.refused is not None
    assert effect.refused.last_number == 9
    assert bench.uplink.in_flight == 0
    assert bench.drain(100_000) == []
    newer = bench.session("t", number=10)
    bench.keep(newer)
    assert bench.drain(100_000) == ["SESSION t", "t/0"]


def test_a_forged_acknowledgement_frees_nothing_and_is_counted() -> None:
    bench = Bench()
    session = bench.session("s")
    bench.keep(session)

    assert bench.ack(session, (0, 5)) == 1  # 1 to 5 never existed
    assert bench.uplink.counts.never_sent == 1
    bench.uplink.on_ack(an_ack(b"nobody's".ljust(16), (0, 0)), 0)
    assert bench.uplink.counts.unknown_session == 1


def test_a_younger_session_waits_until_the_older_one_is_known() -> None:
    # Number 2 before number 1 would lock 1 out for good: the receiver takes rising numbers only.
    bench = Bench()
    old = bench.session("old", number=1)
    bench.keep(old)
    young = bench.session("young", number=2)
    bench.keep(young)
    bench.uplink.on_connected(0)

    assert bench.drain() == ["SESSION old", "old/0"]
    bench.ack(old, (0, 0))
    assert bench.drain() == ["SESSION young", "young/0"]
    assert bench.uplink.drain_retired() == [old]


def test_a_session_that_is_never_answered_does_not_hold_up_other_patients() -> None:
    bench = Bench()
    stuck = bench.session("stuck", ANN, number=1)
    bench.keep(stuck)
    bench.keep(bench.session("later", ANN, number=2))
    bench.keep(bench.session("bob", BOB), BOB)
    bench.uplink.on_connected(0)

    assert sorted(bench.drain()) == ["SESSION bob", "SESSION stuck", "bob/0", "stuck/0"]


def test_what_an_earlier_run_left_is_sent_oldest_first() -> None:
    bench = Bench()
    first, second = b"one".ljust(16), b"two".ljust(16)
    for session in (first, second, first, second):
        bench.keep(session, offer=False)
    del bench.shelf.rows[first, 0]  # was stored before the restart
    bench.uplink.open(SendingSession(first, (ANN, VITALS), 1, b"SESSION one", 1, ((0, 0),)))
    bench.uplink.open(SendingSession(second, (BOB, VITALS), 1, b"SESSION two", 1, ()))
    bench.uplink.resume(first, 3)
    bench.uplink.resume(second, 2)
    bench.uplink.on_connected(0)

    assert bench.drain() == ["SESSION two", "two/0", "SESSION one", "one/1", "two/1"]


def test_shed_rows_are_not_sent() -> None:
    bench = Bench()
    session = bench.session("s")
    for _ in range(4):
        bench.keep(session)
    for counter in (0, 1):
        del bench.shelf.rows[session, counter]
    bench.uplink.forget(session, 0, 1)
    bench.uplink.on_connected(0)

    assert bench.drain() == ["SESSION s", "s/2", "s/3"]


def test_a_rate_limit_gives_backlog_seven_tenths() -> None:
    bench = Bench(windows=Windows(vitals=10_000, frames_per_s=10, burst=10, backlog_share=0.7, live=1))
    session = bench.session("s")
    for _ in range(500):
        bench.keep(session)
    bench.uplink.on_connected(0)
    bench.drain(0)

    sent = [one for ms in range(100, 9_100, 100) for one in bench.drain(ms)]

    assert 62 <= len(sent) <= 64  # of the 90 that 9 s allow, with nothing newer to send


def test_a_long_backlog_is_read_in_pages_and_costs_little() -> None:
    bench = Bench()
    session = bench.session("s")
    for _ in range(2_000):
        bench.keep(session)
    bench.uplink.on_connected(0)
    stored = 0

    while stored < 2_000:
        assert bench.drain()
        counters = list(bench.uplink._sessions[session].in_flight)
        stored += bench.ack(session, *((counter, counter) for counter in counters))

    assert bench.shelf.rows == {}
    assert bench.shelf.reads <= 2 * 2_000 / 32


class Link:
    """A broker and a receiver in one that lose, repeat, reorder, and forget."""

    def __init__(self, rng: Random, loss: float) -> None:
        self.rng = rng
        self.loss = loss
        self.under_way: list[Outgoing] = []
        self.numbers: dict[tuple[bytes, int], int] = {}
        self.known: set[bytes] = set()
        self.stored: set[bytes] = set()
        self.by_session: dict[bytes, set[int]] = {}
        self.acks: list[Ack] = []

    def carry(self, out: Outgoing, session: tuple[tuple[bytes, int], int]) -> None:
        if self.rng.random() < self.loss:
            return
        (stream, number) = session
        if out.row is None:
            if out.session_id in self.known or number > self.numbers.get(stream, -1):
                self.known.add(out.session_id)
                self.numbers[stream] = max(number, self.numbers.get(stream, -1))
            else:
                self.acks.append(an_ack(out.session_id, stage=Stage.NEED_SESSION, last_number=self.numbers[stream]))
        elif out.session_id not in self.known:
            self.acks.append(an_ack(out.session_id, stage=Stage.NEED_SESSION))
        else:
            self.stored.add(out.frame)
            counters = self.by_session.setdefault(out.session_id, set())
            counters.add(out.row.counter)
            self.acks.append(an_ack(out.session_id, *((counter, counter) for counter in sorted(counters)[-64:])))

    def answers(self) -> list[Ack]:
        acks, self.acks = self.acks, []
        if self.loss:
            self.rng.shuffle(acks)
            acks = [ack for ack in acks for _ in range(self.rng.choice((0, 1, 1, 2)))]
        return acks


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), loss=st.sampled_from([0.0, 0.05, 0.3, 0.7]))
def test_everything_arrives_and_no_session_is_locked_out(seed: int, loss: float) -> None:
    rng = Random(seed)
    bench = Bench(windows=Windows(vitals=8, alarms=4), timing=Timing())
    link = Link(rng, loss)
    sessions: dict[bytes, tuple[tuple[bytes, int], int]] = {}
    current: dict[tuple[bytes, int], bytes] = {}
    kept: set[bytes] = set()
    mono_ms = 0
    bench.uplink.on_connected(0)
    for step in range(2_000):
        mono_ms += rng.choice((10, 200, 2_000)) if step < 400 else 5_000
        if step == 400:
            link.loss = 0.0
        if step < 300:
            patient, frame_class = rng.choice((ANN, BOB)), rng.choice((VITALS, VITALS, ALARM))
            stream = (patient, frame_class)
            if stream not in current or rng.random() < 0.1:
                number = 1 + max((n for s, n in sessions.values() if s == stream), default=0)
                current[stream] = bench.session(
                    f"{number} of {patient[:1]!r}{frame_class}", patient, frame_class, number
                )
                sessions[current[stream]] = (stream, number)
            kept.add(bench.keep(current[stream], patient).frame)
            if rng.random() < 0.03:
                bench.uplink.on_disconnected()
                bench.uplink.on_connected(mono_ms)
        while (out := bench.uplink.next(mono_ms)) is not None:
            bench.uplink.sent(out, mono_ms)
            link.carry(out, sessions[out.session_id])
        for ack in link.answers():
            for sid, low, high in bench.uplink.on_ack(ack, mono_ms).freed:
                for counter in range(low, high + 1):
                    del bench.shelf.rows[sid, counter]
        assert bench.uplink.in_flight <= 12
        if step > 400 and not bench.shelf.rows:
            break

    assert link.stored == kept
    assert bench.shelf.rows == {}
    assert bench.uplink.counts.refused_sessions == 0
    assert bench.uplink.counts.never_sent == 0
