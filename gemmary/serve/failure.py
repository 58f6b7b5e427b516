"""An error as clients read it: in the shape of OpenAI's API, or of Anthropic's below /v1/messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .shapes import Faulty

ANTHROPIC = "/v1/messages"
INVALID = "invalid_request_error"
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


@dataclass(frozen=True)
class Kind:
    """How a fault is told."""

    status: int
    type: str = INVALID
    code: str | None = None
    param: str | None = None


def openai(message: str, kind: Kind) -> Faulty:
    """An error as OpenAI's API writes it."""
    return {"error": {"message": message, "type": kind.type, "param": kind.param, "code": kind.code}}


def anthropic(message: str, kind: Kind) -> dict[str, Any]:
    """An error as Anthropic's API writes it."""
    named = INVALID if kind.status < 500 else "api_error"
    return {"type": "error", "error": {"type": TYPES.get(kind.status, named), "message": message}}


def body(path: str, message: str, kind: Kind) -> Any:
    """An error as the clients of `path` read it."""
    return anthropic(message, kind) if path.startswith(ANTHROPIC) else openai(message, kind)
