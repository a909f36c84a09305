"""Rows that wait to leave: the newest of each patient, and a backlog, oldest first, that is read in pages."""

from collections import OrderedDict, deque
from heapq import heappop, heappush
from typing import Final

from wire.sending.rows import Backlog, Row
from wire.sending.sessions import SessionState

_PAGE: Final = 32  # rows of one session that are held while the backlog drains


class NewestRows:
    """The newest rows of each patient, in the order in which they were made; patients take turns.

    Args:
        most: rows that are held for a patient.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_patient: OrderedDict[bytes, deque[Row]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._by_patient)

    def push(self, row: Row) -> Row | None:
        """Add a row; the row that is now too old to be among the newest of its patient."""
        rows = self._by_patient.setdefault(row.patient, deque())
        rows.append(row)
        return rows.popleft() if len(rows) > self._most else None

    def first(self) -> Row | None:
        """The row that is next."""
        for rows in self._by_patient.values():
            return rows[0]
        return None

    def drop(self, patient: bytes) -> None:
        """The first row of a patient is done with; the next patient's turn."""
        rows = self._by_patient[patient]
        rows.popleft()
        if rows:
            self._by_patient.move_to_end(patient)
        else:
            del self._by_patient[patient]

    def drop_if_first(self, row: Row) -> bool:
        """Drop a row that is the first of its patient; whether it was."""
        rows = self._by_patient.get(row.patient)
        if rows is None or rows[0].session_id != row.session_id or rows[0].counter != row.counter:
            return False
        self.drop(row.patient)
        return True

    def remove(self, patient: bytes, session_id: bytes, ranges: list[tuple[int, int]]) -> None:
        """Remove every row of a session whose counter is in a range."""
        rows = self._by_patient.get(patient)
        if rows is None:
            return
        for low, high in ranges:
            kept = [row for row in rows if row.session_id != session_id or not low <= row.counter <= high]
            if len(kept) < len(rows):
                rows.clear()
                rows.extend(kept)
        if not rows:
            del self._by_patient[patient]


class BacklogQueue:
    """Rows of one lane, oldest first over all its sessions. Rows themselves are read from the backlog when needed."""

    def __init__(self, source: Backlog) -> None:
        self._source = source
        self._heap: list[tuple[int, bytes, SessionState]] = []  # oldest row id of a session, its id, the session

    def __bool__(self) -> bool:
        return bool(self._heap)

    def add(self, session: SessionState, row_id: int) -> None:
        """A session has rows that wait, the oldest of which is this one."""
        if not session.queued and not session.refused:
            session.queued = True
            heappush(self._heap, (row_id, session.session_id, session))

    def put_back(self, session: SessionState, row: Row) -> None:
        """A row that does not leave at once joins the backlog; the next in line need not be read again for that."""
        if session.holds_all_before(row.counter) and len(session.buffer) < _PAGE:
            session.buffer.append(row)
        self.add(session, row.row_id)

    def add_unblocked(self, session: SessionState) -> None:
        """A session that was blocked may begin: queue its oldest row, if it has one."""
        if session.cursor <= session.last and (head := self._head(session)) is not None:
            self.add(session, head.row_id)

    def oldest(self) -> tuple[SessionState, Row] | None:
        """The oldest row that may leave, and its session."""
        heap = self._heap
        while heap:
            row_id, session_id, session = heap[0]
            row = None if session.retired or session.blocked or session.refused else self._head(session)
            if row is None:
                heappop(heap)
                session.queued = False
                continue
            if row.row_id <= row_id:
                return session, row
            heappop(heap)
            heappush(heap, (row.row_id, session_id, session))
        return None

    def _head(self, session: SessionState) -> Row | None:
        """The oldest row of a session that has not left yet; None when there is none."""
        while True:
            while session.buffer:
                row = session.buffer[0]
                if row.counter not in session.in_flight and row.counter not in session.done:
                    return row
                session.buffer.popleft()
                session.cursor = max(session.cursor, row.counter + 1)
            if session.cursor > session.last:
                return None
            session.buffer.extend(self._source.page(session.session_id, session.cursor, _PAGE))
            if not session.buffer:
                session.cursor = session.last + 1
