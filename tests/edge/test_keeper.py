"""The keeper: what waits for a commit is handed back only after it, and once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import OutboxConfig
from edge.counts import AgentCounts
from edge.errors import NotCommitted
from edge.keeper import RETRY_COMMIT_MS, Changes, Committed, Keeper
from edge.outbox import Keep, Outbox
from edge.sealing import Sealer
from runtime.clock import ManualClock
from simulators.made_up import demo_site
from wire.envelope import FrameClass
from wire.mqtt import Inbound
from wire.sending.rows import Refused

NOW = 1_767_600_000_000
NO_CHANGES = Changes((), {}, {}, ())
MESSAGE = Inbound("topic", b"payload", 1, 7)
BINDING = bytes(range(16))


class KeeperBench:
    """A keeper on a real outbox, whose disk may be full."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        edge = demo_site(wearables=1, edges=1, now_ms=NOW).edges[0]
        assert edge.recipient is not None
        self.clock = ManualClock(NOW, mono_ms=1_000_000)
        self.counts = AgentCounts()
        self.is_full = False
        outbox = Outbox.open(folder / "outbox.sqlite", budget_bytes=64 << 20, now_ms=NOW)
        config = OutboxConfig(commit_ms=200, commit_rows=3)
        self.keeper = Keeper(outbox, Sealer(edge.me, edge.recipient), config, self.clock, self.counts)
        commit = Outbox.commit

        def maybe(outbox: Outbox, batch: Any) -> None:
            if self.is_full and batch.rows:
                raise NotCommitted("database or disk is full", full=True)
            commit(outbox, batch)

        monkeypatch.setattr(Outbox, "commit", maybe)

    def keep(self, keep: Keep = Keep.ORDINARY) -> None:
        self.keeper.keep(BINDING, FrameClass.VITALS, b"payload", keep, NOW)

    def due_in_ms(self) -> int | None:
        due_ms = self.keeper.commit_due_ms
        return None if due_ms is None else due_ms - self.clock.mono_ms()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeeperBench]:
    bench = KeeperBench(tmp_path, monkeypatch)
    yield bench
    bench.keeper.close()


def test_what_waited_for_a_commit_is_handed_back_after_it_and_once(bench: KeeperBench) -> None:
    bench.keep()
    bench.keep()
    bench.keeper.acknowledge_later(MESSAGE)

    committed = bench.keeper.commit(NO_CHANGES)

    assert [row.counter for row in committed.rows] == [0, 1]
    assert [one.session_id for one in committed.sessions] == [committed.rows[0].session_id]
    assert committed.messages == [MESSAGE]
    assert bench.keeper.outbox.depth == 2
    assert bench.due_in_ms() is None
    again = bench.keeper.commit(NO_CHANGES)
    assert not any(again)


def test_a_full_disk_hands_back_only_the_messages_and_keeps_the_rest_for_the_next_commit(bench: KeeperBench) -> None:
    bench.keep()
    bench.keeper.acknowledge_later(MESSAGE)
    bench.is_full = True

    failed = bench.keeper.commit(Changes((), {BINDING: b"state"}, {}, ()))

    assert failed == Committed(messages=[MESSAGE])
    assert bench.keeper.is_stuck
    assert bench.due_in_ms() == RETRY_COMMIT_MS
    assert bench.keeper.make_room() == []

    bench.is_full = False
    committed = bench.keeper.commit(NO_CHANGES)
    assert [row.counter for row in committed.rows] == [0]
    assert committed.messages == []
    assert not bench.keeper.is_stuck
    assert bench.keeper.outbox.patients() == {BINDING: b"state"}
    assert (bench.counts.commits, bench.counts.failed_commits) == (1, 1)


def test_a_full_batch_is_due_at_once_and_a_message_after_the_configured_time(bench: KeeperBench) -> None:
    assert bench.due_in_ms() is None
    bench.keeper.acknowledge_later(MESSAGE)
    assert bench.due_in_ms() == 200

    for _ in range(3):
        bench.keep()

    assert bench.due_in_ms() == 0


def test_only_counters_on_the_disk_are_reported(bench: KeeperBench) -> None:
    bench.keep()
    assert bench.keeper.committed_counters() == []

    (row,) = bench.keeper.commit(NO_CHANGES).rows
    bench.keep()

    assert bench.keeper.committed_counters() == [(row.session_id, FrameClass.VITALS, 0)]


def test_rows_of_a_refused_session_are_deleted_and_the_gap_is_recorded(bench: KeeperBench) -> None:
    bench.keep()
    bench.keep()
    session_id = bench.keeper.commit(NO_CHANGES).rows[0].session_id

    ranges = bench.keeper.give_up(Refused(session_id, (BINDING, int(FrameClass.VITALS)), NOW + 5))
    bench.keeper.commit(NO_CHANGES)

    assert ranges == [(0, 1)]
    assert bench.keeper.outbox.depth == 0
    assert bench.counts.given_up == 2
    (gap,) = bench.keeper.outbox.gaps()
    assert (gap.binding_id, gap.rows, gap.reason) == (BINDING, 2, "session refused")
    bench.keep()
    (session,) = bench.keeper.commit(NO_CHANGES).sessions
    assert session.number == NOW + 6  # above the number that the cloud knows
