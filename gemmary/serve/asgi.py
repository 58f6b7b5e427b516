"""The names of what an ASGI server and an application hand to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def values(scope: Scope, name: bytes) -> list[str]:
    """All values of a header."""
    return [value.decode("latin-1") for known, value in scope["headers"] if known == name]


def has_body(scope: Scope) -> bool:
    """Whether a request announces a body."""
    return any(known in (b"content-length", b"transfer-encoding") for known, _ in scope["headers"])
