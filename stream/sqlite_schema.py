"""The tables of the SQLite log, as text. Every change here raises `VERSION`."""

from __future__ import annotations

from stream.errors import LogError

APPLICATION_ID = 0x61666C67  # "aflg": tells our files from any other SQLite database
VERSION = 1

# `batch.body` comes last so that looking through a partition never touches the blobs' pages.
TABLES = (
    """CREATE TABLE topic (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL,
        retention_ms INTEGER NOT NULL, compact INTEGER NOT NULL) STRICT""",
    """CREATE TABLE part (
        topic INTEGER NOT NULL, partition INTEGER NOT NULL, first INTEGER NOT NULL, next INTEGER NOT NULL,
        PRIMARY KEY (topic, partition)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE batch (
        id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, partition INTEGER NOT NULL, base INTEGER NOT NULL,
        count INTEGER NOT NULL, newest_ms INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX batch_place ON batch (topic, partition, base)",
    """CREATE TABLE position (
        grp TEXT NOT NULL, topic INTEGER NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
        PRIMARY KEY (grp, topic, partition)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE state (
        grp TEXT NOT NULL, key TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (grp, key)) STRICT""",
)

ADD_TOPIC = """INSERT INTO topic (name, partitions, retention_ms, compact) VALUES (?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET retention_ms = excluded.retention_ms, compact = excluded.compact"""
ADD_PART = """INSERT INTO part (topic, partition, first, next) SELECT id, ?, 0, 0 FROM topic WHERE name = ?
    ON CONFLICT DO NOTHING"""
ADD_BATCH = "INSERT INTO batch (topic, partition, base, count, newest_ms, crc, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
SET_POSITION = """INSERT INTO position (grp, topic, partition, next) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET next = excluded.next"""
SET_STATE = """INSERT INTO state (grp, key, crc, value) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET crc = excluded.crc, value = excluded.value"""

# From the batch that holds the offset on; the first one there is when the offset lies before it.
FIND_BATCHES = """SELECT id, base, count, crc FROM batch WHERE topic = ?1 AND partition = ?2 AND base >= coalesce(
    (SELECT max(base) FROM batch WHERE topic = ?1 AND partition = ?2 AND base <= ?3), 0) ORDER BY base"""
BATCH_AGES = "SELECT base, count, newest_ms FROM batch WHERE topic = ? AND partition = ? ORDER BY base"
ALL_TOPICS = "SELECT id, name, partitions, retention_ms, compact FROM topic"
ONE_SPAN = "SELECT first, next FROM part WHERE topic = ? AND partition = ?"
ALL_SPANS = "SELECT first, next FROM part WHERE topic = ? ORDER BY partition"
POSITIONS = "SELECT partition, next FROM position WHERE grp = ? AND topic = ?"
STATE_FROM = "SELECT key, crc, value FROM state WHERE grp = ? AND key >= ? ORDER BY key"


def accept(path: str, application_id: int, version: int, tables: int) -> None:
    """Refuse a file that is not ours, or newer than we are; an empty one (no version, no tables) is fine.

    Raises:
        LogError: naming the file, what it is, and what to do.
    """
    if application_id != APPLICATION_ID and (tables or version):
        raise LogError(f"{path}: a SQLite database, but not an affectstream log; choose another path")
    if version > VERSION:
        raise LogError(
            f"{path}: written by a newer affectstream (schema {version}, this one reads up to {VERSION}); upgrade, or "
            f"choose another path"
        )
