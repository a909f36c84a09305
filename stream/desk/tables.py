"""The tables of the desk's book. Each class holds one and makes no decisions."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from stream.desk.decisions import ActiveSilence, Delivery, DeliveryStatus, Kept
from stream.desk.ports import LogPosition
from stream.records import AnswerRecord, EntryRecord, ObservationRecord
from vitals.escalation import Attempt, Due, Outcome
from vitals.messages import Acknowledge, Observation, Priority

KEPT: Final = msgspec.msgpack.Decoder(Kept)
_SILENCE: Final = msgspec.msgpack.Decoder(ActiveSilence)
_ENTRY: Final[msgspec.msgpack.Decoder[EntryRecord]] = msgspec.msgpack.Decoder(EntryRecord)
_OBSERVATION: Final = msgspec.msgpack.Decoder(Observation)
_PACK: Final = msgspec.msgpack.Encoder()
_DELIVERY: Final = (
    "key", "person", "recipient", "channel", "who", "alarm_id", "priority", "due_ms", "fate", "tries", "begun_ms",
    "again_ms", "done_ms", "leads",
)  # fmt: skip
_PUT_DELIVERY: Final = f"({', '.join(_DELIVERY)}) VALUES ({', '.join('?' * len(_DELIVERY))})"
_GET_DELIVERY: Final = f"SELECT {', '.join(_DELIVERY)} FROM delivery"  # noqa: S608 - names from our own table

POSITIONS: Final = """CREATE TABLE place (  -- reading positions
    topic TEXT NOT NULL, part INTEGER NOT NULL, next INTEGER NOT NULL,
    mark BLOB,                           -- identity of the last record that was read; NULL: not known
    PRIMARY KEY (topic, part)) STRICT, WITHOUT ROWID;"""
ALARMS: Final = """CREATE TABLE alarm (
    alarm_id BLOB PRIMARY KEY, binding_id TEXT NOT NULL, rule_id TEXT NOT NULL, key TEXT NOT NULL,
    active INTEGER NOT NULL, listed INTEGER NOT NULL, heard_ms INTEGER NOT NULL,
    body BLOB NOT NULL                   -- stream.desk.decisions.Kept
    ) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_alarm ON alarm (binding_id, rule_id, key) WHERE active;
CREATE INDEX alarm_listed ON alarm (alarm_id) WHERE listed;"""
JOINED: Final = """CREATE TABLE joined (  -- alarms of a condition that was open already, and the alarm that they joined
    alarm_id BLOB PRIMARY KEY, lead BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX joined_of ON joined (lead);"""
DELIVERIES: Final = """CREATE TABLE delivery (
    key TEXT NOT NULL, person TEXT NOT NULL, recipient TEXT NOT NULL, channel TEXT NOT NULL, who TEXT NOT NULL,
    alarm_id BLOB NOT NULL, priority INTEGER NOT NULL, due_ms INTEGER NOT NULL, fate TEXT NOT NULL,
    tries INTEGER NOT NULL, begun_ms INTEGER, again_ms INTEGER NOT NULL, done_ms INTEGER, leads INTEGER NOT NULL,
    PRIMARY KEY (key, person, recipient)) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_of ON delivery (alarm_id);
CREATE INDEX delivery_open ON delivery (again_ms) WHERE fate IN ('waiting', 'failed');
CREATE INDEX delivery_begun ON delivery (begun_ms, person);"""
ATTEMPTS: Final = """CREATE TABLE attempt (
    alarm_id BLOB NOT NULL, key TEXT NOT NULL, outcome TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (alarm_id, key, outcome)) STRICT, WITHOUT ROWID;"""
SILENCES: Final = """CREATE TABLE hush (
    binding_id TEXT NOT NULL, rule_id TEXT NOT NULL, key TEXT NOT NULL, until_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (binding_id, rule_id, key)) STRICT, WITHOUT ROWID;"""
ORDERS: Final = """CREATE TABLE wish (   -- entries of people that are not confirmed
    wish_id INTEGER PRIMARY KEY,
    alarm_id BLOB NOT NULL,              -- or the id of the observation
    at_ms INTEGER NOT NULL, body BLOB NOT NULL,
    sent_ms INTEGER, done INTEGER NOT NULL) STRICT;
CREATE INDEX wish_open ON wish (wish_id) WHERE NOT done;"""
SESSIONS: Final = """CREATE TABLE session (
    digest BLOB PRIMARY KEY, user TEXT NOT NULL, until_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"""

ENDED: Final = """CREATE TABLE ended (   -- stays that have ended, and when the desk heard of it
    binding_id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"""
# Books of every schema get it when they are opened: earlier versions do not look at it.
OBSERVATIONS: Final = """CREATE TABLE IF NOT EXISTS observation (   -- what people entered at this desk, and who
    entry_no INTEGER PRIMARY KEY, observation_id BLOB NOT NULL UNIQUE, stay_id TEXT NOT NULL,
    entered_ms INTEGER NOT NULL,
    corrects BLOB NOT NULL,              -- the one that it replaces; empty: none
    body BLOB NOT NULL                   -- vitals.messages.Observation
    ) STRICT;
CREATE INDEX IF NOT EXISTS observation_of ON observation (stay_id, entry_no);
CREATE INDEX IF NOT EXISTS observation_corrects ON observation (corrects) WHERE corrects <> x'';"""


class Positions:
    """Where reading goes on in each log."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def of(self, log: str) -> dict[int, LogPosition]:
        """The position of each partition of a log."""
        rows = self._db.execute("SELECT part, next, mark FROM place WHERE topic = ?", (log,))
        return {part: LogPosition(offset, mark) for part, offset, mark in rows}

    def put(self, log: str, part: int, position: LogPosition) -> None:
        self._db.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?)", (log, part, position.next, position.mark))

    def are_of_other_logs(self, logs: Iterable[str]) -> bool:
        """Whether there are positions, and none of one of these logs."""
        known = {row[0] for row in self._db.execute("SELECT DISTINCT topic FROM place")}
        return bool(known) and not known >= set(logs)

    def clear(self) -> None:
        self._db.execute("DELETE FROM place")


class KeptAlarms:
    """Every alarm that the desk has heard of."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def put(self, kept: Kept) -> None:
        """Write an alarm. Only one of a condition may be active: write the one that it supersedes first."""
        alarm = kept.alarm
        self._db.execute(
            "INSERT INTO alarm VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (alarm_id) DO UPDATE SET "
            "active = excluded.active, listed = excluded.listed, heard_ms = excluded.heard_ms, body = excluded.body",
            (
                alarm.alarm_id,
                alarm.stay_id,
                alarm.rule_id,
                alarm.key,
                kept.is_active,
                kept.is_listed,
                kept.heard_ms,
                _PACK.encode(kept),
            ),
        )

    def get(self, alarm_id: bytes) -> Kept | None:
        row = self._db.execute("SELECT body FROM alarm WHERE alarm_id = ?", (alarm_id,)).fetchone()
        return None if row is None else KEPT.decode(row[0])

    def standing_for(self, alarm_id: bytes) -> Kept | None:
        """An alarm, or the one that it has joined; None if it is not known."""
        row = self._db.execute("SELECT lead FROM joined WHERE alarm_id = ?", (alarm_id,)).fetchone()
        return self.get(alarm_id if row is None else row[0])

    def join(self, alarm_id: bytes, lead: bytes) -> None:
        """From now on records of `alarm_id` are about the alarm `lead`."""
        self._db.execute("INSERT OR REPLACE INTO joined VALUES (?, ?)", (alarm_id, lead))

    def active(self, stay_id: str, rule_id: str, key: str) -> Kept | None:
        """The active alarm of a condition."""
        row = self._db.execute(
            "SELECT body FROM alarm WHERE binding_id = ? AND rule_id = ? AND key = ? AND active",
            (stay_id, rule_id, key),
        ).fetchone()
        return None if row is None else KEPT.decode(row[0])

    def of_rule(self, rule_id: str) -> list[Kept]:
        """Every alarm of a rule, also those that are over."""
        rows = self._db.execute("SELECT body FROM alarm WHERE rule_id = ?", (rule_id,))
        return [KEPT.decode(row[0]) for row in rows]

    def listed(self) -> list[Kept]:
        """Every alarm on the list."""
        return [KEPT.decode(row[0]) for row in self._db.execute("SELECT body FROM alarm WHERE listed")]


class Deliveries:
    """Notifications to each recipient, and the results of each notification to all of them together."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def put_new(self, deliveries: Iterable[Delivery]) -> None:
        """Insert new notifications; existing ones are not changed."""
        self._db.executemany(f"INSERT OR IGNORE INTO delivery {_PUT_DELIVERY}", map(_row, deliveries))

    def change(self, delivery: Delivery) -> None:
        self._db.execute(f"INSERT OR REPLACE INTO delivery {_PUT_DELIVERY}", _row(delivery))

    def get(self, key: str, person: str, recipient: str) -> Delivery | None:
        found = self._select("WHERE key = ? AND person = ? AND recipient = ?", (key, person, recipient))
        return found[0] if found else None

    def of(self, alarm_id: bytes) -> list[Delivery]:
        return self._select("WHERE alarm_id = ?", (alarm_id,))

    def together(self, key: str) -> list[Delivery]:
        """One notification, to each recipient of each person of its role."""
        return self._select("WHERE key = ?", (key,))

    def waiting(self) -> list[Delivery]:
        """Notifications to be sent, now or later."""
        return self._select("WHERE fate IN ('waiting', 'failed')", ())

    def stop(self, alarm_id: bytes, *, except_ladder: str | None = None) -> None:
        """Stop open notifications of an alarm that no longer notifies, or whose ladder has restarted.

        Args:
            except_ladder: beginning of the keys that go on; see `vitals.escalation.key_prefix`.
        """
        for one in self._select("WHERE alarm_id = ? AND fate IN ('waiting', 'failed')", (alarm_id,)):
            if except_ladder is None or not one.key.startswith(except_ladder):
                self.change(msgspec.structs.replace(one, fate=DeliveryStatus.STOPPED))

    def overtake(self, newer: Delivery) -> None:
        """Stop older failed notifications of the same alarm to the same recipient."""
        for one in self._select(
            "WHERE alarm_id = ? AND person = ? AND channel = ? AND recipient = ? AND fate = 'failed'",
            (newer.alarm_id, newer.person, newer.channel, newer.recipient),
        ):
            if one.key != newer.key:
                self.change(msgspec.structs.replace(one, fate=DeliveryStatus.STOPPED))

    def begun_since(self, from_ms: int) -> dict[str, list[int]]:
        """By person, the start times of notifications below high priority; several recipients of one count once."""
        found: dict[str, list[int]] = {}
        for person, begun_ms in self._db.execute(
            "SELECT person, max(begun_ms) FROM delivery WHERE begun_ms > ? AND priority < ? AND leads "
            "GROUP BY person, key",
            (from_ms, int(Priority.HIGH)),
        ):
            found.setdefault(person, []).append(begun_ms)
        return found

    def put_attempt(self, alarm_id: bytes, attempt: Attempt) -> None:
        """Insert the result of a notification; of equal results the first is kept."""
        self._db.execute(
            "INSERT OR IGNORE INTO attempt VALUES (?, ?, ?, ?)",
            (alarm_id, attempt.key, attempt.outcome.value, attempt.at_ms),
        )

    def put_passed(self, passed: Iterable[Due], now_ms: int) -> None:
        for one in passed:
            self.put_attempt(one.alarm_id, Attempt(key=one.key, at_ms=now_ms, outcome=Outcome.OVERTAKEN))

    def attempts(self, alarm_id: bytes, ladder: str) -> list[Attempt]:
        """The results of one ladder's notifications."""
        return [
            Attempt(key=key, at_ms=at_ms, outcome=Outcome(outcome))
            for key, outcome, at_ms in self._db.execute(
                "SELECT key, outcome, at_ms FROM attempt WHERE alarm_id = ?", (alarm_id,)
            )
            if key.startswith(ladder)
        ]

    def _select(self, where: str, parameters: Sequence[Any]) -> list[Delivery]:
        return [
            msgspec.convert(dict(zip(_DELIVERY, row, strict=True)), Delivery, strict=False)
            for row in self._db.execute(f"{_GET_DELIVERY} {where} ORDER BY due_ms, key, person, recipient", parameters)
        ]


class PendingEntry(NamedTuple):
    """What a person entered, and has to be sent to the patient's monitor."""

    entry_id: int
    alarm_id: bytes  # or the id of the observation
    at_ms: int
    entry: EntryRecord
    sent_ms: int | None


class PendingEntries:
    """Answers that the patient's record does not show yet, and observations that were not sent yet."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def put(self, alarm_id: bytes, answer: AnswerRecord, now_ms: int) -> None:
        """Insert an answer. An acknowledgement replaces an earlier one of the same alarm of the same finder."""
        message = answer.message
        if isinstance(message, Acknowledge):
            self._drop(one for one in self.all() if getattr(one.entry.message, "alarm_id", b"") == message.alarm_id)
        self._insert(alarm_id, answer, now_ms)

    def put_observation(self, observed: ObservationRecord, now_ms: int) -> None:
        """Insert an observation."""
        self._insert(observed.message.observation_id, observed, now_ms)

    def all(self) -> list[PendingEntry]:
        """Entries that are not confirmed, oldest first."""
        return [
            PendingEntry(entry_id, alarm_id, at_ms, _ENTRY.decode(body), sent_ms)
            for entry_id, alarm_id, at_ms, body, sent_ms in self._db.execute(
                "SELECT wish_id, alarm_id, at_ms, body, sent_ms FROM wish WHERE NOT done ORDER BY wish_id"
            )
        ]

    def sent(self, entry_id: int, now_ms: int) -> None:
        self._db.execute("UPDATE wish SET sent_ms = ? WHERE wish_id = ?", (now_ms, entry_id))

    def done(self, entry_id: int) -> None:
        self._db.execute("UPDATE wish SET done = 1 WHERE wish_id = ?", (entry_id,))

    def drop_acknowledgements(self) -> None:
        """Their revisions count in a log that is gone."""
        self._drop(self.all())

    def _insert(self, about: bytes, record: EntryRecord, now_ms: int) -> None:
        self._db.execute(
            "INSERT INTO wish (alarm_id, at_ms, body, sent_ms, done) VALUES (?, ?, ?, NULL, 0)",
            (about, now_ms, _PACK.encode(record)),
        )

    def _drop(self, entries: Iterable[PendingEntry]) -> None:
        for one in list(entries):
            if isinstance(one.entry.message, Acknowledge):
                self.done(one.entry_id)


class EnteredObservations:
    """Every observation that was entered at this desk, with its corrections: who entered what, and when."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def put(self, observation: Observation) -> None:
        self._db.execute(
            "INSERT INTO observation (observation_id, stay_id, entered_ms, corrects, body) VALUES (?, ?, ?, ?, ?)",
            (
                observation.observation_id,
                observation.stay_id,
                observation.entered_ms,
                observation.corrects,
                _PACK.encode(observation),
            ),
        )

    def get(self, observation_id: bytes) -> Observation | None:
        row = self._db.execute("SELECT body FROM observation WHERE observation_id = ?", (observation_id,)).fetchone()
        return None if row is None else _OBSERVATION.decode(row[0])

    def of(self, stay_id: str, most: int) -> list[Observation]:
        """The last observations of a stay, newest first by their entry."""
        rows = self._db.execute(
            "SELECT body FROM observation WHERE stay_id = ? ORDER BY entry_no DESC LIMIT ?",
            (stay_id, most),
        )
        return [_OBSERVATION.decode(row[0]) for row in rows]

    def correction_of(self, observation_id: bytes) -> Observation | None:
        """The observation that replaces this one."""
        row = self._db.execute(
            "SELECT body FROM observation WHERE corrects = ? AND corrects <> x''", (observation_id,)
        ).fetchone()
        return None if row is None else _OBSERVATION.decode(row[0])

    def forget(self, before_ms: int) -> None:
        """Delete what was entered before a moment, by the wall clock, and is sent."""
        self._db.execute(
            "DELETE FROM observation WHERE entered_ms < ? AND observation_id NOT IN "
            "(SELECT alarm_id FROM wish WHERE NOT done)",
            (before_ms,),
        )
        self._db.execute(
            "DELETE FROM wish WHERE done AND at_ms < ? AND alarm_id NOT IN (SELECT alarm_id FROM alarm)", (before_ms,)
        )


class Silences:
    """Silences that were set at this desk."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def put(self, silence: ActiveSilence) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO hush VALUES (?, ?, ?, ?, ?)",
            (silence.stay_id, silence.rule_id, silence.key, silence.until_ms, _PACK.encode(silence)),
        )

    def active(self, now_ms: int) -> Mapping[tuple[str, str, str], ActiveSilence]:
        """Silences in force, by binding, rule and key."""
        return {
            (one.stay_id, one.rule_id, one.key): one
            for one in (_SILENCE.decode(row[0]) for row in self._db.execute(_ACTIVE_SILENCES, (now_ms,)))
        }

    def of(self, binding_id: str, rule_id: str, key: str) -> ActiveSilence | None:
        """The newest silence of a condition, in force or over."""
        row = self._db.execute(
            "SELECT body FROM hush WHERE binding_id = ? AND rule_id = ? AND key = ?", (binding_id, rule_id, key)
        ).fetchone()
        return None if row is None else _SILENCE.decode(row[0])

    def forget(self, before_ms: int) -> None:
        """Delete silences that ended before a moment."""
        self._db.execute("DELETE FROM hush WHERE until_ms < ?", (before_ms,))


_ACTIVE_SILENCES: Final = "SELECT body FROM hush WHERE until_ms > ?"


class LoginSessions:
    """Digests of login tokens."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def put(self, digest: bytes, user: str, until_ms: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO session VALUES (?, ?, ?)", (digest, user, until_ms))

    def get(self, digest: bytes) -> tuple[str, int] | None:
        """User and expiry of a session."""
        row = self._db.execute("SELECT user, until_ms FROM session WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]))

    def end(self, digest: bytes) -> None:
        self._db.execute("DELETE FROM session WHERE digest = ?", (digest,))

    def forget(self, before_ms: int) -> None:
        self._db.execute("DELETE FROM session WHERE until_ms < ?", (before_ms,))


class EndedStays:
    """Stays that have ended: records of them that are still under way call nobody."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def put(self, stay_id: str, now_ms: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO ended VALUES (?, ?)", (stay_id, now_ms))

    def has(self, stay_id: str) -> bool:
        return self._db.execute("SELECT 1 FROM ended WHERE binding_id = ?", (stay_id,)).fetchone() is not None

    def forget(self, before_ms: int) -> None:
        """Delete stays of whose end the desk heard before a moment."""
        self._db.execute("DELETE FROM ended WHERE at_ms < ?", (before_ms,))


def _row(one: Delivery) -> tuple[Any, ...]:
    return (
        one.key, one.person, one.recipient, one.channel, one.who, one.alarm_id, int(one.priority), one.due_ms,
        one.fate.value, one.tries, one.begun_ms, one.again_ms, one.done_ms, one.leads,
    )  # fmt: skip
