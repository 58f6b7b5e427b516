"""The SQLite file that holds conversations: how it is opened, brought up to date, and kept from harm.

Write-ahead log, so that readers never wait for a writer, and a sync at each commit: what was acknowledged is
there after `kill -9` and after a power cut. `user_version` counts MIGRATIONS that were done; each runs in one
transaction, behind a copy of the file. A damaged file is set aside, never overwritten.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import GemmaryError

BUSY_SECONDS = 30.0
KEPT_OPEN = 8  # idle connections
log = logging.getLogger("gemmary.serve")

# Statements that make version n of n - 1. Never edit one that was released: add another.
MIGRATIONS: list[Sequence[str]] = [
    (
        """CREATE TABLE conversation (
            id TEXT PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL, system TEXT NOT NULL,
            settings TEXT NOT NULL, leaf TEXT, created REAL NOT NULL, updated REAL NOT NULL,
            changed INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX recent ON conversation (owner, updated DESC)",
        """CREATE TABLE message (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL,
            conversation TEXT NOT NULL REFERENCES conversation ON DELETE CASCADE, parent TEXT,
            role TEXT NOT NULL, content TEXT NOT NULL, text TEXT NOT NULL, meta TEXT NOT NULL,
            created REAL NOT NULL, UNIQUE (conversation, id))""",
        "CREATE INDEX child ON message (conversation, parent)",
        """CREATE TABLE picture (
            conversation TEXT NOT NULL REFERENCES conversation ON DELETE CASCADE, id TEXT NOT NULL,
            kind TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (conversation, id))""",
        "CREATE TABLE clock (now INTEGER NOT NULL)",
        "INSERT INTO clock VALUES (0)",
        # Pieces of three letters: finds parts of words, in languages without spaces too.
        "CREATE VIRTUAL TABLE words USING fts5 (text, content='message', content_rowid='number', "
        "tokenize='trigram')",
        "CREATE TRIGGER message_added AFTER INSERT ON message BEGIN "
        "INSERT INTO words (rowid, text) VALUES (new.number, new.text); END",
        "CREATE TRIGGER message_gone AFTER DELETE ON message BEGIN "
        "INSERT INTO words (words, rowid, text) VALUES ('delete', old.number, old.text); END",
        "CREATE TRIGGER message_changed AFTER UPDATE OF text ON message BEGIN "
        "INSERT INTO words (words, rowid, text) VALUES ('delete', old.number, old.text); "
        "INSERT INTO words (rowid, text) VALUES (new.number, new.text); END",
    ),
]


class HistoryError(GemmaryError):
    """Conversations cannot be read or kept. `status`: what HTTP calls it."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


def default_path() -> Path:
    """Where conversations are kept unless told otherwise."""
    root = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(root) / "gemmary" / "history.db"


class HistoryFile:
    """An open file of conversations; any thread may use it, and other processes too."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. HistoryError says why that does not work."""
        self.path = path
        self.notice: str | None = None  # for people: what happened to an older file
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue(KEPT_OPEN)
        self._writing = threading.Lock()  # writers of this process take turns without asking the disk
        with _told(path):
            _make_folder(path)
            if not _sound(path):
                self.notice = _set_aside(path)
            connection = self._connect()
            _migrate(connection, path)
            self._idle.put(connection)

    def close(self) -> None:
        """Close what is idle. Later calls open the file again."""
        while not self._idle.empty():
            self._idle.get().close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction that sees one state of the file."""
        with _told(self.path), self._connection() as connection, _transaction(connection, "DEFERRED"):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction that is on the disk when the block ends, or undone if it raises."""
        with (
            _told(self.path),
            self._writing,
            self._connection() as connection,
            _transaction(connection, "IMMEDIATE"),
        ):
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._connect()
        try:
            yield connection
        finally:
            try:
                self._idle.put_nowait(connection)
            except queue.Full:
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make_folder(path: Path) -> None:
    if not path.parent.exists():
        path.parent.mkdir(parents=True, mode=0o700)
    path.touch(0o600)  # what people write is theirs


def _sound(path: Path) -> bool:
    """Whether SQLite finds its structure in order. An empty file is."""
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
        try:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        if _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return False
        raise


def _set_aside(path: Path) -> str:
    """Move a damaged file, and what belongs to it, out of the way."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    for ending in ("", "-wal", "-shm"):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(kept.with_name(kept.name + ending))
    log.error("the history was damaged; it is kept beside the new one as %s", kept.name)
    return (
        f"The history of conversations was damaged and a new one was begun. The old file is kept as "
        f"{kept.name}, beside {path.name}."
    )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the newest version; several processes may try at once."""
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise HistoryError(
            f"the history {path} was written by a newer Gemmary (version {version}, known here: "
            f"{len(MIGRATIONS)}): update Gemmary, or name another file"
        )
    if 0 < version < len(MIGRATIONS):
        _copy(connection, path.with_name(f"{path.name}.version-{version}"))
    for target in range(version + 1, len(MIGRATIONS) + 1):
        with _transaction(connection, "IMMEDIATE"):
            if _version(connection) < target:
                for statement in MIGRATIONS[target - 1]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {target}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    """A whole copy at `target`, or none."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    part.touch(0o600)
    copy = sqlite3.connect(part)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    part.replace(target)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


_DAMAGED = "the history is damaged: start the server again, which sets it aside"
_CLOSED = "the history cannot be opened: the server's log says where it is and why"
_REASONS = {
    sqlite3.SQLITE_FULL: (507, "the disk is full, and this was not kept: make room for the history"),
    sqlite3.SQLITE_READONLY: (503, "the history cannot be written: check who may write there"),
    sqlite3.SQLITE_CANTOPEN: (503, _CLOSED),
    sqlite3.SQLITE_BUSY: (503, "the history is busy: try again"),
    sqlite3.SQLITE_CORRUPT: (500, _DAMAGED),
    sqlite3.SQLITE_NOTADB: (500, _DAMAGED),
}


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the disk or SQLite refuses, as a HistoryError. Clients read it: path and cause go to the log."""
    try:
        yield
    except sqlite3.Error as error:
        # Not its text, which may quote what somebody looked for.
        log.error("the history %s: %s", path, getattr(error, "sqlite_errorname", type(error).__name__))
        status, reason = _REASONS.get(_code(error), (500, "the history cannot be read or written"))
        raise HistoryError(reason, status) from None
    except OSError as error:
        log.error("the history %s: %s", path, error.strerror)
        raise HistoryError(_CLOSED, 503) from None
