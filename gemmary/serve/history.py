"""Conversations: trees of messages, their pictures, and what is found in them.

A conversation is a tree: an edited question or another answer is a sibling of the first. `leaf` is the last
message of the branch that is shown. Who asks is `owner`; nobody sees what another owner has.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import finding
from .finding import SUMMARY, Row
from .historyfile import HistoryError, HistoryFile

UNTITLED = "New chat"
TITLE = 60


def title_of(text: str) -> str:
    """A title from a question: its first line, cut between words."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = re.sub(r"\s+", " ", line)
    if len(line) <= TITLE:
        return line or UNTITLED
    cut = line[:TITLE].rsplit(" ", 1)[0] if " " in line[TITLE // 2 : TITLE] else line[:TITLE]
    return f"{cut.rstrip(' ,.;:')}…"


class History:
    """The conversations in a file; thread-safe."""

    def __init__(self, path: Path) -> None:
        """HistoryError says why the file cannot be used."""
        self._file = HistoryFile(path)

    @property
    def notice(self) -> str | None:
        """What people should know about the file."""
        return self._file.notice

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def now(self) -> int:
        """A number that grows with every change."""
        with self._file.reading() as db:
            return int(db.execute("SELECT now FROM clock").fetchone()[0])

    def recent(self, owner: str, limit: int = 100, offset: int = 0) -> list[Row]:
        """Summaries, the latest first."""
        with self._file.reading() as db:
            rows = db.execute(
                f"SELECT {SUMMARY} FROM conversation WHERE owner = ? "
                "ORDER BY updated DESC, id LIMIT ? OFFSET ?",
                (owner, limit, offset),
            )
            return [dict(row) for row in rows]

    def search(self, owner: str, query: str) -> list[Row]:
        """Summaries of conversations with every word of `query` in the title or in one message.

        "found" has the message and the text around: {"message", "before", "match", "after"}; None for titles.
        """
        words = query.split()[:16]
        if not words:
            return []
        with self._file.reading() as db:
            return finding.found(db, owner, words)

    def get(self, owner: str, id: str) -> Row:
        """A conversation with all its messages, older ones first."""
        with self._file.reading() as db:
            conversation = _conversation(db, owner, id)
            rows = db.execute(
                "SELECT id, parent, role, content, meta, created FROM message "
                "WHERE conversation = ? ORDER BY number",
                (id,),
            )
            return {**_opened(conversation), "messages": [_message(row) for row in rows]}

    def create(
        self, owner: str, title: str = "", system: str = "", settings: Mapping[str, Any] | None = None
    ) -> Row:
        """A new conversation."""
        id, now = secrets.token_hex(12), time.time()
        with self._file.writing() as db:
            db.execute(
                "INSERT INTO conversation VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?)",
                (id, owner, title or UNTITLED, system, _json(settings or {}), now, now, _tick(db)),
            )
            return _opened(_conversation(db, owner, id))

    def revise(self, owner: str, id: str, changes: Mapping[str, Any]) -> Row:
        """Change the title, system, settings or leaf."""
        with self._file.writing() as db:
            _conversation(db, owner, id)
            if changes.get("leaf") is not None:
                _of(db, id, changes["leaf"])
            for name in ("title", "system", "settings", "leaf"):
                if name in changes:
                    value = _json(changes[name]) if name == "settings" else changes[name]
                    db.execute(f"UPDATE conversation SET {name} = ? WHERE id = ?", (value, id))
            _touch(db, id, recent=False)
            return _opened(_conversation(db, owner, id))

    def delete(self, owner: str, id: str) -> None:
        """Forget a conversation."""
        with self._file.writing() as db:
            _conversation(db, owner, id)
            db.execute("DELETE FROM conversation WHERE id = ?", (id,))
            _tick(db)

    def put(self, owner: str, id: str, message: Mapping[str, Any]) -> Row:
        """Add a message, or change the content and meta of one that is there; it becomes the leaf.

        message: id, parent (None for a first one), role, content (parts), meta. Sent twice it does no harm.
        """
        with self._file.writing() as db:
            conversation = _conversation(db, owner, id)
            known = db.execute(
                "SELECT parent, role FROM message WHERE conversation = ? AND id = ?", (id, message["id"])
            ).fetchone()
            if known is None:
                _insert(db, id, message, time.time())
                first = conversation["title"] == UNTITLED and message["role"] == "user"
                title = title_of(_words(message["content"])) if first else conversation["title"]
                change = "UPDATE conversation SET leaf = ?, title = ? WHERE id = ?"
                db.execute(change, (message["id"], title, id))
            elif (known["parent"], known["role"]) != (message["parent"], message["role"]):
                raise HistoryError("another message has this id: choose a new one", 409)
            else:
                _update(db, id, message)
            _touch(db, id)
            return dict(_summary(db, id))

    def remove(self, owner: str, id: str, message: str) -> Row:
        """Delete a message and all that follow it. The leaf moves to the one before, if it is among them."""
        with self._file.writing() as db:
            leaf = _conversation(db, owner, id)["leaf"]
            parent = _of(db, id, message)["parent"]
            gone = _below(db, id, message)
            delete = "DELETE FROM message WHERE conversation = ? AND id = ?"
            db.executemany(delete, ((id, one) for one in gone))
            if leaf in gone:
                db.execute("UPDATE conversation SET leaf = ? WHERE id = ?", (parent, id))
            _touch(db, id)
            return dict(_summary(db, id))

    def branch(self, owner: str, id: str, message: str) -> Row:
        """A new conversation with the messages from the first one to `message`."""
        whole = self.get(owner, id)
        by_id = {one["id"]: one for one in whole["messages"]}
        if message not in by_id:
            raise HistoryError("there is no such message", 404)
        path = [by_id[message]]
        while (parent := path[-1]["parent"]) is not None:
            path.append(by_id[parent])
        pictures = {one["id"]: self.picture(owner, id, one["id"]) for one in _pictures(path)}
        return self.take(owner, {**whole, "leaf": message, "messages": path[::-1]}, pictures)

    def take(self, owner: str, whole: Mapping[str, Any], pictures: Mapping[str, tuple[str, bytes]]) -> Row:
        """Add a conversation that comes whole, under a new id: all of it, or nothing."""
        id, now = secrets.token_hex(12), time.time()
        with self._file.writing() as db:
            settings, created = _json(whole["settings"]), whole["created"]
            db.execute(
                "INSERT INTO conversation VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?)",
                (id, owner, whole["title"], whole["system"], settings, created, now, _tick(db)),
            )
            for message in whole["messages"]:
                _insert(db, id, message, message["created"])
            if whole["leaf"] is not None:
                _of(db, id, whole["leaf"])
            db.execute("UPDATE conversation SET leaf = ? WHERE id = ?", (whole["leaf"], id))
            for name, (kind, data) in pictures.items():
                db.execute("INSERT INTO picture VALUES (?, ?, ?, ?)", (id, name, kind, data))
            return _opened(_conversation(db, owner, id))

    def add_picture(self, owner: str, id: str, kind: str, data: bytes) -> str:
        """Keep a picture of media type `kind`; its name is the SHA-256 of its bytes."""
        name = hashlib.sha256(data).hexdigest()
        with self._file.writing() as db:
            _conversation(db, owner, id)
            db.execute("INSERT OR IGNORE INTO picture VALUES (?, ?, ?, ?)", (id, name, kind, data))
        return name

    def picture(self, owner: str, id: str, name: str) -> tuple[str, bytes]:
        """Media type and bytes."""
        with self._file.reading() as db:
            _conversation(db, owner, id)
            row = db.execute(
                "SELECT kind, data FROM picture WHERE conversation = ? AND id = ?", (id, name)
            ).fetchone()
        if row is None:
            raise HistoryError("there is no such picture", 404)
        return row["kind"], row["data"]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _words(content: Iterable[Mapping[str, Any]]) -> str:
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _pictures(messages: Iterable[Mapping[str, Any]]) -> list[Row]:
    return [part for message in messages for part in message["content"] if part["type"] == "picture"]


def _conversation(db: sqlite3.Connection, owner: str, id: str) -> sqlite3.Row:
    row = db.execute("SELECT * FROM conversation WHERE id = ? AND owner = ?", (id, owner)).fetchone()
    if row is None:
        raise HistoryError("there is no such conversation", 404)
    found: sqlite3.Row = row
    return found


def _opened(row: sqlite3.Row) -> Row:
    found = {name: value for name, value in dict(row).items() if name != "owner"}
    return {**found, "settings": json.loads(row["settings"])}


def _summary(db: sqlite3.Connection, id: str) -> sqlite3.Row:
    row: sqlite3.Row = db.execute(f"SELECT {SUMMARY} FROM conversation WHERE id = ?", (id,)).fetchone()
    return row


def _message(row: sqlite3.Row) -> Row:
    return {**dict(row), "content": json.loads(row["content"]), "meta": json.loads(row["meta"])}


def _of(db: sqlite3.Connection, id: str, message: str) -> sqlite3.Row:
    """A message of a conversation."""
    row = db.execute("SELECT * FROM message WHERE conversation = ? AND id = ?", (id, message)).fetchone()
    if row is None:
        raise HistoryError("there is no such message", 404)
    found: sqlite3.Row = row
    return found


def _insert(db: sqlite3.Connection, id: str, message: Mapping[str, Any], created: float) -> None:
    if message["parent"] is not None:
        _of(db, id, message["parent"])
    content = message["content"]
    values = (message["id"], id, message["parent"], message["role"], _json(content), _words(content))
    try:
        db.execute(
            "INSERT INTO message (id, conversation, parent, role, content, text, meta, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, _json(message["meta"]), created),
        )
    except sqlite3.IntegrityError:
        raise HistoryError("two messages have the same id", 409) from None


def _update(db: sqlite3.Connection, id: str, message: Mapping[str, Any]) -> None:
    content = message["content"]
    db.execute(
        "UPDATE message SET content = ?, text = ?, meta = ? WHERE conversation = ? AND id = ?",
        (_json(content), _words(content), _json(message["meta"]), id, message["id"]),
    )


def _below(db: sqlite3.Connection, id: str, message: str) -> set[str]:
    """A message and all that follow it."""
    rows = db.execute(
        "WITH RECURSIVE below (id) AS (VALUES (:message) UNION SELECT message.id FROM message, below "
        "WHERE message.conversation = :id AND message.parent = below.id) SELECT id FROM below",
        {"id": id, "message": message},
    )
    return {row[0] for row in rows}


def _tick(db: sqlite3.Connection) -> int:
    return int(db.execute("UPDATE clock SET now = now + 1 RETURNING now").fetchone()[0])


def _touch(db: sqlite3.Connection, id: str, recent: bool = True) -> None:
    """Note that a conversation has changed."""
    db.execute("UPDATE conversation SET changed = ? WHERE id = ?", (_tick(db), id))
    if recent:
        db.execute("UPDATE conversation SET updated = ? WHERE id = ?", (time.time(), id))
