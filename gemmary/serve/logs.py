"""The log: lines for people or for programs. Prompts, answers, pictures and keys never come in.

Callers log numbers, names of ours and fixed sentences; an exception is told by its kind and place, for its
text may quote what a client sent. Control characters are escaped: a line is a line.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Literal

log = logging.getLogger("gemmary.serve")
_BASE = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime"}


class Plain(logging.Formatter):
    """2026-11-21T10:00:00Z info request id=... status=200"""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        details = "".join(f" {name}={_short(value)}" for name, value in _details(record).items())
        return f"{_moment(record)} {record.levelname.lower()} {escaped(record.getMessage())}{details}"


class Json(logging.Formatter):
    """{"time": ..., "level": ..., "message": ..., ...}"""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        head = {"time": _moment(record), "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps({**head, **_details(record)}, default=str)  # ASCII: control characters are escaped


def start(kind: Literal["plain", "json"], access: bool) -> None:
    """Write the log to stderr; the journal or the container keeps it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if kind == "json" else Plain())
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    logging.getLogger("gemmary.serve.access").setLevel(logging.INFO if access else logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # what it says may quote a request
        logging.getLogger(name).handlers = []
        logging.getLogger(name).setLevel(logging.CRITICAL)


def escaped(text: str) -> str:
    """`text` in printable ASCII, all else as escapes."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else escaped(str(value))
    return json.dumps(text) if " " in text or '"' in text else text


def _details(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _BASE}


def _moment(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
