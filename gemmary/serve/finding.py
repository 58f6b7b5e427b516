"""What is found in conversations: titles, and the text around the words in a message."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

MOST = 50
AROUND = 48  # letters before and behind what was found
SUMMARY = "id, title, created, updated, changed, leaf"

Row = dict[str, Any]


def found(db: sqlite3.Connection, owner: str, words: list[str]) -> list[Row]:
    """Summaries of conversations with every word in the title or in one message; see `History.search`."""
    titled = {row["id"]: dict(row, found=None) for row in _titled(db, owner, words)}
    said: dict[str, Row] = {}
    for row in _said(db, owner, words):
        said.setdefault(row["id"], _found(row, words))
    return list((titled | said).values())[:MOST]


def _like(word: str) -> str:
    escaped = re.sub(r"([\\%_])", r"\\\1", word)
    return f"%{escaped}%"


def _titled(db: sqlite3.Connection, owner: str, words: list[str]) -> list[sqlite3.Row]:
    having = " AND ".join(r"title LIKE ? ESCAPE '\'" for _ in words)
    return db.execute(
        f"SELECT {SUMMARY} FROM conversation WHERE owner = ? AND {having} ORDER BY updated DESC LIMIT ?",
        (owner, *map(_like, words), MOST),
    ).fetchall()


def _said(db: sqlite3.Connection, owner: str, words: list[str]) -> list[sqlite3.Row]:
    """Messages with all words. The index knows pieces of three letters; shorter words are looked for."""
    indexed = " ".join('"' + word.replace('"', '""') + '"' for word in words if len(word) >= 3)
    short = [_like(word) for word in words if len(word) < 3]
    where = ["conversation.owner = ?", *(r"message.text LIKE ? ESCAPE '\'" for _ in short)]
    if indexed:
        where.append("message.number IN (SELECT rowid FROM words WHERE words MATCH ?)")
    summary = ", ".join(f"conversation.{name.strip()}" for name in SUMMARY.split(","))
    return db.execute(
        f"SELECT {summary}, message.id AS message, message.text AS text FROM message "
        f"JOIN conversation ON conversation.id = message.conversation WHERE {' AND '.join(where)} "
        "ORDER BY conversation.updated DESC, message.number DESC LIMIT 500",
        (owner, *short, *([indexed] if indexed else [])),
    ).fetchall()


def _found(row: sqlite3.Row, words: list[str]) -> Row:
    summary = {name.strip(): row[name.strip()] for name in SUMMARY.split(",")}
    text = row["text"]
    hit = re.search("|".join(re.escape(word) for word in words), text, re.IGNORECASE)
    start, end = hit.span() if hit else (0, 0)
    around = {
        "before": ("…" if start > AROUND else "") + text[max(0, start - AROUND) : start],
        "match": text[start:end],
        "after": text[end : end + AROUND] + ("…" if len(text) > end + AROUND else ""),
    }
    return {**summary, "found": {"message": row["message"], **around}}
