"""A desk's book as an earlier version made it."""

import sqlite3
from pathlib import Path
from typing import Final

TABLES_2: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE place (                     -- reading positions
    topic TEXT NOT NULL, part INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (topic, part)) STRICT, WITHOUT ROWID;
CREATE TABLE alarm (
    alarm_id BLOB PRIMARY KEY, binding_id TEXT NOT NULL, rule_id TEXT NOT NULL, key TEXT NOT NULL,
    active INTEGER NOT NULL, listed INTEGER NOT NULL, heard_ms INTEGER NOT NULL,
    body BLOB NOT NULL                   -- stream.desk.decisions.Kept
    ) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_alarm ON alarm (binding_id, rule_id, key) WHERE active;
CREATE INDEX alarm_listed ON alarm (alarm_id) WHERE listed;
CREATE TABLE delivery (
    key TEXT NOT NULL, person TEXT NOT NULL, channel TEXT NOT NULL, who TEXT NOT NULL, alarm_id BLOB NOT NULL,
    priority INTEGER NOT NULL, due_ms INTEGER NOT NULL, fate TEXT NOT NULL, tries INTEGER NOT NULL, begun_ms INTEGER,
    again_ms INTEGER NOT NULL, done_ms INTEGER, leads INTEGER NOT NULL,
    PRIMARY KEY (key, person)) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_of ON delivery (alarm_id);
CREATE INDEX delivery_open ON delivery (again_ms) WHERE fate IN ('waiting', 'failed');
CREATE INDEX delivery_begun ON delivery (begun_ms, person);
CREATE TABLE attempt (
    alarm_id BLOB NOT NULL, key TEXT NOT NULL, outcome TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (alarm_id, key, outcome)) STRICT, WITHOUT ROWID;
CREATE TABLE hush (
    binding_id TEXT NOT NULL, rule_id TEXT NOT NULL, until_ms INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (binding_id, rule_id)) STRICT, WITHOUT ROWID;
CREATE TABLE wish (                      -- orders of people that are not confirmed
    wish_id INTEGER PRIMARY KEY, alarm_id BLOB NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL,
    sent_ms INTEGER, done INTEGER NOT NULL) STRICT;
CREATE INDEX wish_open ON wish (wish_id) WHERE NOT done;
CREATE TABLE session (
    digest BLOB PRIMARY KEY, user TEXT NOT NULL, until_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE outages (       -- vitals.outages.SiteOutages, one row
    only INTEGER PRIMARY KEY CHECK (only = 1), body BLOB NOT NULL) STRICT;
INSERT INTO meta VALUES ('desk', '2');
"""
_KEPT_2: Final = {
    "place": "topic, part, next",
    "alarm": "*",
    "delivery": "key, person, channel, who, alarm_id, priority, due_ms, fate, tries, begun_ms, again_ms, done_ms, "
    "leads",
    "attempt": "*",
    "hush": "binding_id, rule_id, until_ms, body",
    "wish": "*",
    "session": "*",
    "outages": "*",
}


def make_earlier(path: Path) -> None:
    """Write a book again as one of schema 2."""
    later = path.with_name("later.sqlite")
    path.rename(later)
    for name in ("-wal", "-shm"):
        path.with_name(f"{path.name}{name}").unlink(missing_ok=True)
    with sqlite3.connect(path) as book:
        book.executescript(TABLES_2)
        book.execute("ATTACH ? AS later", (str(later),))
        for table, columns in _KEPT_2.items():
            book.execute(f"INSERT INTO {table} SELECT {columns} FROM later.{table}")
    book.close()
