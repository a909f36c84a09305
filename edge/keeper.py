"""Keeps readings and alarms: seals them for the cloud and commits them to the outbox, one batch at a time.

The keeper holds the batch that the next transaction writes, and everything that must wait for that transaction: new
sessions and rows for the senders, frames to sign for, MQTT messages to acknowledge. `commit` hands those back only when
they are on disk. After a failure the batch stays and is tried again.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from edge.config import OutboxConfig
from edge.counts import AgentCounts
from edge.errors import NotCommitted
from edge.outbox import FILLING, Batch, Gap, Keep, Outbox, Sealed
from edge.sealing import Sealer
from edge.wall import Wall
from runtime import logs
from runtime.clock import Clock
from wire.mqtt import Inbound
from wire.receiver import Opened, SessionRow
from wire.sending.rows import Refused, Row, SendingSession
from wire.sessions import Recipient

RETRY_COMMIT_MS: Final = 1_000
STUCK_LOG_MS: Final = 60_000

_FREED_LATER_ROWS: Final = 256  # ranges to delete; more than this are committed without waiting

_log = logs.get(__name__)


class Changes(NamedTuple):
    """What changed since the last commit and belongs into the same transaction as the readings."""

    received: Sequence[SessionRow]
    patients: Mapping[bytes, bytes]  # stay id -> state, locked
    memories: Mapping[bytes, bytes]  # stay id -> what models remember, locked
    retired: Sequence[bytes]  # sessions of ours without rows
    dismissed: Sequence[bytes] = ()  # stays that are no longer watched here; forgotten before the others are kept


class Committed(NamedTuple):
    """What may happen now that a transaction is on disk. After a failure only `messages` is not empty."""

    sessions: Sequence[SendingSession] = ()  # to begin
    rows: Sequence[Row] = ()  # to send
    opened: Sequence[Opened] = ()  # to sign for as durable
    messages: Sequence[Inbound] = ()  # to acknowledge to the broker


class Keeper:
    """One outbox and the batch that is written to it next.

    Args:
        outbox: open; the keeper closes it.
        sealer: seals towards the cloud, and knows every session that is in the outbox.
        clock: wall for what is stamped, monotonic for timers.
        clock_can_be_set: as of `Wall`.
    """

    def __init__(
        self,
        outbox: Outbox,
        sealer: Sealer,
        config: OutboxConfig,
        clock: Clock,
        counts: AgentCounts,
        *,
        clock_can_be_set: bool = True,
    ) -> None:
        self.outbox = outbox
        self.commit_due_ms: int | None = None  # monotonic; None: there is nothing to commit
        self.stuck_since_ms: int | None = None  # monotonic: the first of the commits that have been failing
        self._sealer = sealer
        self._config = config
        self._clock = clock
        self._counts = counts
        self._wall = Wall(clock, outbox.latest_ms(), can_be_set=clock_can_be_set)
        self._batch = Batch()
        self._sessions: list[SendingSession] = []
        self._rows: list[Row] = []
        self._opened: list[Opened] = []
        self._messages: list[Inbound] = []
        self._stuck_logged_ms: int | None = None

    def close(self) -> None:
        """Close the outbox."""
        self.outbox.close()

    def now_ms(self) -> int:
        """The wall clock; it starts at or after the latest moment that this edge has put on disk."""
        return self._wall.now_ms()

    def follow_clock(self) -> int:
        """By how much the wall clock was set since the last call, milliseconds; see `Wall.follow`."""
        return self._wall.follow()

    @property
    def is_stuck(self) -> bool:
        """Whether the last commit failed."""
        return self.stuck_since_ms is not None

    # What joins the batch

    def keep(self, binding_id: bytes, frame_class: int, payload: bytes, keep: Keep, now_ms: int) -> tuple[bytes, int]:
        """Seal a payload for the cloud and put it into the batch; the session and counter of its frame."""
        stream = (binding_id, int(frame_class))
        counter, frame, session, begun, closed = self._sealer.seal(
            stream, payload, now_ms=now_ms, mono_ms=self._clock.mono_ms()
        )
        if closed is not None:
            self._batch.sessions[closed.session_id] = closed
        if begun:
            self._sessions.append(SendingSession(session.session_id, stream, session.number, session.frame))
        row_id = self.outbox.new_id()
        self._batch.rows.append(Sealed(row_id, stream[1], int(keep), session.session_id, counter, now_ms, frame))
        self._batch.sessions[session.session_id] = session
        self._rows.append(Row(row_id, session.session_id, counter, binding_id, frame))
        if len(self._batch.rows) >= self._config.commit_rows:
            self.want_commit(0)
        return session.session_id, counter

    def acknowledge_later(self, message: Inbound) -> None:
        """Acknowledge a message to the broker after the next commit, which becomes due."""
        self._messages.append(message)
        self.want_commit(self._config.commit_ms)

    def sign_later(self, opened: Opened) -> None:
        """Sign to the sender of a frame that it is durable, after the next commit."""
        self._opened.append(opened)

    def drop_messages(self) -> None:
        """The connection is lost: the broker, or the wearable, sends what was not acknowledged again."""
        self._messages.clear()

    def forget_received(self, session_ids: Sequence[bytes]) -> None:
        """Delete received sessions that are too old to matter."""
        self._batch.forgotten += session_ids

    def free(self, ranges: Sequence[tuple[bytes, int, int]]) -> None:
        """Delete rows that the cloud has stored: session, first and last counter."""
        self._batch.freed += ranges
        self.want_commit(0 if len(self._batch.freed) > _FREED_LATER_ROWS else self._config.commit_ms)

    def give_up(self, refused: Refused) -> Sequence[tuple[int, int]]:
        """Delete the rows of a session that the cloud refuses for good, and record the gap; the ranges of counters.

        The cloud knows a younger session of this stream, so these rows can never be opened.
        """
        session_id, stream, last_number = refused
        waiting = self.outbox.waiting().get(session_id)
        ranges = [] if waiting is None else waiting[1]
        rows = sum(high - low + 1 for low, high in ranges)
        _log.error(
            "the data centre refuses a session as older than the last one; was the SD card copied or restored?",
            rows=rows,
        )
        now_ms = self.now_ms()
        self._batch.freed += [(session_id, low, high) for low, high in ranges]
        if rows:
            oldest_ms = self.outbox.oldest_ms() or now_ms
            self._batch.gaps.append(Gap(stream[0], stream[1], oldest_ms, now_ms, rows, "session refused"))
        self._counts.given_up += rows
        self._sealer.refused(stream, session_id, last_number)
        self.want_commit(0)
        return ranges

    def write_to(self, recipient: Recipient) -> None:
        """Sessions that begin from now on are sealed to this key."""
        self._sealer.write_to(recipient)

    # Commit

    def want_commit(self, within_ms: int) -> None:
        """Commit in so many milliseconds at the latest."""
        due_ms = self._clock.mono_ms() + within_ms
        if self.commit_due_ms is None or due_ms < self.commit_due_ms:
            self.commit_due_ms = due_ms

    def commit(self, changes: Changes) -> Committed:
        """Write the batch and these changes durably, and hand back what was waiting for that.

        On a full disk nothing is written; `changes` stay in the batch and the next commit is due in a second.

        Raises:
            OutboxDamaged: the file turned out to be damaged.
        """
        self._batch.received += changes.received
        for stay_id in changes.dismissed:
            self._batch.patients.pop(stay_id, None)
            self._batch.memories.pop(stay_id, None)
        self._batch.dismissed += changes.dismissed
        self._batch.patients.update(changes.patients)
        self._batch.memories.update(changes.memories)
        self._batch.retired += changes.retired
        mono_ms = self._clock.mono_ms()
        try:
            if self._batch:
                self.outbox.commit(self._batch)
                self._counts.commits += 1
        except NotCommitted as error:
            self._on_failure(error, mono_ms)
            # The wearables have not been answered and keep these. The broker need not, and its answers bring relief.
            messages, self._messages = self._messages, []
            return Committed(messages=messages)
        self.stuck_since_ms = self.commit_due_ms = None
        committed = Committed(self._sessions, self._rows, self._opened, self._messages)
        self._batch = Batch()
        self._sessions, self._rows, self._opened, self._messages = [], [], [], []
        return committed

    def make_room(self) -> Sequence[tuple[bytes, int, int]]:
        """Call after every commit: shed rows if the budget runs out; session, first and last counter of each range.

        After a failed commit, first delete what the cloud has stored.

        Raises:
            OutboxDamaged: the file turned out to be damaged.
        """
        shed: list[tuple[bytes, int, int]] = []
        with contextlib.suppress(NotCommitted):
            if self.is_stuck:
                self.outbox.commit(Batch(freed=self._batch.freed))
                self._batch.freed = []
            if self.outbox.used() >= FILLING:
                shed = self.outbox.shed(self.now_ms())
        self._counts.given_up += sum(high - low + 1 for _, low, high in shed)
        return shed

    def committed_counters(self) -> list[tuple[bytes, int, int]]:
        """Session id, class and last counter that is on disk, for every open session.

        The cloud may expect the frames up to there, whatever happens here.
        """
        waiting: dict[bytes, int] = {}
        for row in self._batch.rows:
            waiting[row.session_id] = min(row.counter, waiting.get(row.session_id, row.counter))
        counters = (
            (session_id, frame_class, waiting.get(session_id, last + 1) - 1)
            for session_id, frame_class, last in self._sealer.last_counters()
        )
        return [one for one in counters if one[2] >= 0]

    def _on_failure(self, error: NotCommitted, mono_ms: int) -> None:
        self._counts.failed_commits += 1
        if self.stuck_since_ms is None:
            self.stuck_since_ms = mono_ms
        if self._stuck_logged_ms is None or mono_ms - self._stuck_logged_ms >= STUCK_LOG_MS:
            self._stuck_logged_ms = mono_ms
            _log.error(
                "cannot save readings on disk; trying again; wearables keep theirs until then", problem=str(error)
            )
        self.commit_due_ms = mono_ms + RETRY_COMMIT_MS
