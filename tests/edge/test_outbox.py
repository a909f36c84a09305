"""The outbox: what it promises when the power goes, the disk fills, and the card rots."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import NotCommitted, OutboxInUse
from edge.outbox import PAGE_BYTES, Batch, Gap, Keep, Outbox, Sealed, SentSession
from wire.envelope import FrameClass
from wire.receiver import SessionRow

HOUR_MS = 3_600_000
NOW_MS = 1_790_000_000_000
ANN = b"a" * 16
SID = b"s" * 16
ROOMY = 64 * 2**20


def an_outbox(folder: Path, *, budget_bytes: int = ROOMY) -> Outbox:
    return Outbox.open(folder / "outbox.sqlite", budget_bytes=budget_bytes, now_ms=NOW_MS)


def a_session(session_id: bytes = SID, *, last: int = 0, number: int = 1, closed: bool = False) -> SentSession:
    return SentSession(session_id, ANN, FrameClass.VITALS, number, b"S" * 312, last, closed)


def rows(
    outbox: Outbox, counters: range, *, at_ms: int = NOW_MS, keep: Keep = Keep.ORDINARY, size: int = 208
) -> list[Sealed]:
    return [
        Sealed(outbox.new_id(), FrameClass.VITALS, keep, SID, counter, at_ms, bytes([counter % 251]) * size)
        for counter in counters
    ]


def counters_in(outbox: Outbox) -> list[int]:
    return [row.counter for row in outbox.page(SID, 0, 1_000_000)]


def test_a_committed_batch_is_there_after_a_restart(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path)
    received = SessionRow(
        session_id=SID, sender=b"w" * 16, info=b"i" * 120, hpke=b"h" * 80, ranges=((0, 2), (5, 5)), last_ms=7
    )
    outbox.commit(
        Batch(
            rows=rows(outbox, range(3)),
            received=[received],
            sessions={SID: a_session(last=2)},
            patients={ANN: b"state"},
        )
    )
    outbox.close()

    again = an_outbox(tmp_path)

    assert again.start.text == "ok"
    assert [(row.counter, row.patient) for row in again.page(SID, 1, 10)] == [(1, ANN), (2, ANN)]
    assert again.received() == [received]
    assert again.sessions() == [a_session(last=2)]
    assert again.patients() == {ANN: b"state"}
    assert again.depth == 3
    assert again.new_id() == 4


def test_only_what_was_stored_leaves(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path)
    outbox.commit(Batch(rows=rows(outbox, range(10)), sessions={SID: a_session(last=9)}))

    outbox.commit(Batch(freed=[(SID, 0, 3), (SID, 7, 7)]))

    assert counters_in(outbox) == [4, 5, 6, 8, 9]
    assert outbox.waiting() == {SID: (5, [(4, 6), (8, 9)])}
    assert outbox.depth == 5


_SECOND = """
import sys
from pathlib import Path
from edge.outbox import Outbox
Outbox.open(Path(sys.argv[1]), budget_bytes=2**20, now_ms=0)
"""


@pytest.mark.services
def test_two_agents_cannot_have_one_outbox(tmp_path: Path) -> None:
    an_outbox(tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", _SECOND, str(tmp_path / "outbox.sqlite")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert OutboxInUse.__name__ in done.stderr


def test_settings_that_durability_rests_on(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path)
    ask = outbox._connection.execute

    assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ask("PRAGMA synchronous").fetchone() == (2,)
    assert ask("PRAGMA locking_mode").fetchone() == ("exclusive",)
    assert ask("PRAGMA wal_autocheckpoint").fetchone() == (64,)
    assert ask("PRAGMA max_page_count").fetchone() == (ROOMY // PAGE_BYTES,)
    assert (tmp_path / "outbox.sqlite").stat().st_mode & 0o077 == 0
    assert not (tmp_path / "outbox.sqlite-shm").exists()


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_power_cut_after_any_statement_loses_nothing_that_was_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    # A copy of the files at each statement is what a disk that honours fsync may hold then.
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("cut")
    outbox = an_outbox(folder)
    acknowledged: set[int] = set()
    freed: set[int] = set()
    offered: set[int] = set()
    cuts: list[tuple[Path, set[int], set[int], set[int]]] = []

    def cut(_statement: str) -> None:
        if rng.random() < 0.15:
            copy = folder / f"cut{len(cuts)}"
            copy.mkdir()
            for part in folder.glob("outbox.sqlite*"):
                shutil.copy(part, copy / part.name)
            cuts.append((copy, set(acknowledged), set(freed), set(offered)))

    outbox._connection.set_trace_callback(cut)
    counter = 0
    for _ in range(12):
        size = rng.choice((1, 8, 64))
        batch = Batch(
            rows=rows(outbox, range(counter, counter + size)), sessions={SID: a_session(last=counter + size - 1)}
        )
        if acknowledged - freed and rng.random() < 0.4:
            one = rng.choice(sorted(acknowledged - freed))
            batch.freed.append((SID, one, one))
            freed.add(one)
        offered |= set(range(counter, counter + size))
        counter += size
        outbox.commit(batch)
        acknowledged = set(offered)

    for copy, committed, gone, begun in cuts:
        after = an_outbox(copy)
        found = set(counters_in(after))
        assert after.start.text == "ok"
        assert committed - gone <= found <= begun
        (session,) = after.sessions() or (a_session(last=-1),)
        assert max(found, default=-1) <= session.last_counter
        after.close()
    outbox.close()


_WRITER = """
import sys
from pathlib import Path
from edge.outbox import Batch, Outbox, Sealed, SentSession
outbox = Outbox.open(Path(sys.argv[1]), budget_bytes=64 * 2**20, now_ms=0)
counter = 0
while True:
    rows = [Sealed(outbox.new_id(), 1, 0, b"s" * 16, counter + n, 0, bytes(208)) for n in range(16)]
    counter += 16
    session = SentSession(b"s" * 16, b"a" * 16, 1, 1, b"S" * 312, counter - 1, False)
    outbox.commit(Batch(rows=rows, sessions={session.session_id: session}))
    print(counter, flush=True)  # the acknowledgement
"""


@pytest.mark.services
@pytest.mark.parametrize("after", [1, 7, 40])
def test_kill_9_in_mid_batch_loses_nothing_that_was_acknowledged(tmp_path: Path, after: int) -> None:
    path = tmp_path / "outbox.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as writer:
        assert writer.stdout is not None
        for _ in range(after):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout:
            acknowledged = int(line)

    outbox = an_outbox(tmp_path)

    assert outbox.start.text == "ok"
    found = counters_in(outbox)
    assert found == list(range(len(found)))
    assert len(found) in (acknowledged, acknowledged + 16)


def test_a_bad_row_becomes_a_gap_and_the_rest_stays(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path)
    outbox.commit(Batch(rows=rows(outbox, range(5)), sessions={SID: a_session(last=4)}, patients={ANN: b"state"}))
    outbox.close()
    raw = sqlite3.connect(tmp_path / "outbox.sqlite")
    raw.execute("UPDATE outbox SET frame=? WHERE ctr=3", (b"rot",))
    raw.execute("UPDATE patient SET state=?", (b"rotten",))
    raw.commit()
    raw.close()

    again = an_outbox(tmp_path)

    assert again.start.text == "bad rows 2"
    assert counters_in(again) == [0, 1, 2, 4]
    assert again.gaps() == [Gap(ANN, FrameClass.VITALS, NOW_MS, NOW_MS, 1, "bad row")]
    assert again.patients() == {}


def test_a_rotten_page_is_moved_aside_and_salvaged_row_by_row(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path)
    outbox.commit(Batch(rows=rows(outbox, range(2_000)), sessions={SID: a_session(last=1_999)}))
    outbox.close()
    path = tmp_path / "outbox.sqlite"
    whole = bytearray(path.read_bytes())
    for page in (58, 59, 88):  # of the table; its index stays whole
        whole[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = random.Random(page).randbytes(PAGE_BYTES)
    path.write_bytes(whole)

    again = an_outbox(tmp_path)

    found = counters_in(again)
    assert 1_900 < len(found) < 2_000
    assert again.start.text == f"salvaged {len(found)} of 2000"
    assert again.sessions() == [a_session(last=1_999)]
    assert sum(gap.rows for gap in again.gaps()) == 2_000 - len(found)
    assert again.start.moved_to is not None
    assert (tmp_path / again.start.moved_to).exists()
    again.commit(Batch(rows=rows(again, range(2_000, 2_001))))
    again.close()
    assert an_outbox(tmp_path).start.text == "ok"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"not a database, " * 512,
        lambda raw: raw[: len(raw) // 2],
        lambda raw: bytes(100) + raw[100:],
        lambda _: b"",
        lambda raw: raw[:4096] + random.Random(3).randbytes(len(raw) - 4096),
    ],
    ids=["other file", "cut in half", "no header", "empty", "noise after the first page"],
)
def test_whatever_is_in_the_file_the_agent_starts(tmp_path: Path, spoil: object) -> None:
    outbox = an_outbox(tmp_path)
    outbox.commit(Batch(rows=rows(outbox, range(300)), sessions={SID: a_session(last=299)}))
    outbox.close()
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]

    again = an_outbox(tmp_path)

    again.commit(Batch(rows=rows(again, range(1_000, 1_001)), sessions={SID: a_session(last=1_000)}))
    assert counters_in(again)[-1] == 1_000


def fill(outbox: Outbox, share: float, *, at_ms: int, first: int) -> int:
    counter = first
    while outbox.used() < share:
        batch = rows(outbox, range(counter, counter + 60), at_ms=at_ms)
        every = [Keep.EPISODE, Keep.EXTREME, Keep.PER_FIVE_MINUTES, Keep.PER_MINUTE] + [Keep.ORDINARY] * 8
        batch = [row._replace(keep=every[row.counter % 12]) for row in batch]
        outbox.commit(Batch(rows=batch, sessions={SID: a_session(last=counter + 59)}))
        counter += 60
    return counter


def keeps_in(outbox: Outbox) -> dict[Keep, int]:
    found = outbox._all("SELECT keep, count(*) FROM outbox GROUP BY keep", ())
    return {Keep(keep): number for keep, number in found}


def test_at_85_percent_ordinary_readings_older_than_a_day_go_and_a_gap_says_so(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path, budget_bytes=2**20)
    middle = fill(outbox, 0.5, at_ms=NOW_MS - 30 * HOUR_MS, first=0)
    last = fill(outbox, 0.86, at_ms=NOW_MS - HOUR_MS, first=middle)
    before = keeps_in(outbox)

    void = outbox.shed(NOW_MS)

    assert 0.80 < outbox.used() < 0.85
    assert void
    assert all(counter < middle for _, counter, _ in void)  # nothing younger than a day
    after = keeps_in(outbox)
    assert after.pop(Keep.ORDINARY) == before.pop(Keep.ORDINARY) - len(void)
    assert after == before
    assert outbox.gaps() == [
        Gap(ANN, FrameClass.VITALS, NOW_MS - 30 * HOUR_MS, NOW_MS - 30 * HOUR_MS, len(void), "shed")
    ]
    assert outbox.depth == last - len(void)
    assert outbox.shed(NOW_MS) == []


def test_below_85_percent_nothing_is_given_up(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path, budget_bytes=2**20)
    fill(outbox, 0.75, at_ms=NOW_MS - 48 * HOUR_MS, first=0)

    assert outbox.shed(NOW_MS) == []


def test_at_95_percent_one_reading_in_five_minutes_extremes_and_alarms_remain(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path, budget_bytes=2**20)
    alarms = [
        row._replace(frame_class=FrameClass.ALARM, keep=Keep.ALWAYS)
        for row in rows(outbox, range(1_000_000, 1_000_050))
    ]
    outbox.commit(Batch(rows=alarms, sessions={SID: a_session()}))
    fill(outbox, 0.955, at_ms=NOW_MS - HOUR_MS, first=0)
    before = keeps_in(outbox)

    outbox.shed(NOW_MS)

    assert outbox.used() < 0.95
    after = keeps_in(outbox)
    for keep in (Keep.PER_FIVE_MINUTES, Keep.EXTREME, Keep.EPISODE, Keep.ALWAYS):
        assert after[keep] == before[keep]


def test_a_full_budget_is_a_typed_error_commits_nothing_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path, budget_bytes=64 * PAGE_BYTES)
    counter = 0
    with pytest.raises(NotCommitted) as caught:  # noqa: PT012 - the commit that fails is the last of many
        while True:
            outbox.commit(
                Batch(rows=rows(outbox, range(counter, counter + 64)), sessions={SID: a_session(last=counter + 63)})
            )
            counter += 64
    assert caught.value.full
    assert counters_in(outbox) == list(range(counter))
    assert outbox.sessions()[0].last_counter == counter - 1

    outbox.commit(Batch(freed=[(SID, 0, counter // 2)]))
    outbox.commit(Batch(rows=rows(outbox, range(counter, counter + 64)), sessions={SID: a_session(last=counter + 63)}))

    assert counters_in(outbox)[-1] == counter + 63


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from edge.errors import NotCommitted
from edge.outbox import Batch, Outbox, Sealed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
outbox = Outbox.open(Path(sys.argv[1]), budget_bytes=64 * 2**20, now_ms=0)
make = lambda n: Batch(rows=[Sealed(outbox.new_id(), 1, 0, b"s" * 16, n + i, 0, bytes(2000)) for i in range(16)])
outbox.commit(make(0))
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, resource.RLIM_INFINITY))
n = 16
try:
    while True:
        outbox.commit(make(n)); n += 16
except NotCommitted as error:
    print("refused", n, len(outbox.page(b"s" * 16, 0, 10**6)))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
outbox.commit(make(n))
print("recovered", len(outbox.page(b"s" * 16, 0, 10**6)))
"""


@pytest.mark.services
def test_a_disk_that_takes_no_more_is_a_typed_error_and_recovers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path / "outbox.sqlite")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert done.returncode == 0, done.stderr
    refused, recovered = (line.split() for line in done.stdout.splitlines())
    assert refused[1] == refused[2]  # nothing of the refused batch is in
    assert int(recovered[1]) == int(refused[1]) + 16


def test_what_a_reading_costs_on_disk_is_counted(tmp_path: Path) -> None:
    outbox = an_outbox(tmp_path)
    for start in range(0, 640, 64):
        outbox.commit(Batch(rows=rows(outbox, range(start, start + 64)), sessions={SID: a_session(last=start + 63)}))

    per_reading = outbox.bytes_written / outbox.rows_written

    assert 208 < per_reading < 3_000
