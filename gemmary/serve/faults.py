"""Exceptions -> errors in the shape of OpenAI's API, or of Anthropic's below /v1/messages.

Sentences are fixed, or tell numbers and names of fields: none quotes what a client sent as its prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..engine.line import QueueFullError
from ..engine.sampling import NotFiniteError
from ..engine.schema import SchemaError
from ..errors import ContextFullError, GemmaryError, ImageError, MemoryBudgetError, PromptError
from .accounts import HungError, TooLongError
from .answering import EndedError
from .failure import INVALID, Kind, body
from .models import BusyError, UnavailableError, UnknownModelError
from .presence import InternalError, report
from .shapes import Faulty

RETRY_AFTER = "1"  # seconds
BAD_JSON = "the body is not JSON that can be read"
SENTENCES = {
    404: "nothing is here: GET /docs lists what is",
    405: "this address does not take this method: GET /docs lists what it takes",
}


class RefusedError(PromptError):
    """A request that is refused for one of its fields."""

    def __init__(self, message: str, param: str, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code


# The first that fits counts.
KINDS: Sequence[tuple[type[Exception], Kind]] = (
    (UnknownModelError, Kind(404, INVALID, "model_not_found", "model")),
    (QueueFullError, Kind(429, "rate_limit_error", "queue_full")),
    (ContextFullError, Kind(400, INVALID, "context_length_exceeded", "messages")),
    (SchemaError, Kind(422, INVALID, "invalid_schema")),
    (ImageError, Kind(422, INVALID, "invalid_image")),
    (PromptError, Kind(400)),
    (MemoryBudgetError, Kind(503, "server_error", "out_of_memory")),
    (EndedError, Kind(503, "server_error", "ended")),
    (UnavailableError, Kind(503, "server_error", "unavailable")),
    (HungError, Kind(503, "server_error", "hung")),
    (TooLongError, Kind(408, INVALID, "answer_time")),
    (BusyError, Kind(409, INVALID, "busy")),
    (NotFiniteError, Kind(500, "server_error", "not_finite")),
    (GemmaryError, Kind(500, "server_error")),
)


def kind_of(fault: Exception) -> Kind:
    """How `fault` is told."""
    if isinstance(fault, RefusedError):
        return Kind(400, INVALID, fault.code, fault.param)
    return next((kind for known, kind in KINDS if isinstance(fault, known)), Kind(500, "server_error"))


def told(fault: Exception) -> tuple[str, Kind]:
    """Sentence and kind of what went wrong in a stream that has begun."""
    if isinstance(fault, GemmaryError):
        return str(fault), kind_of(fault)
    report(fault)
    return str(InternalError()), kind_of(fault)


def answer(path: str, message: str, kind: Kind, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as the clients of `path` read it."""
    more = {"Retry-After": RETRY_AFTER} if kind.status in (429, 503) else {}
    return JSONResponse(body(path, message, kind), kind.status, {**more, **(headers or {})})


async def _ours(request: Request, fault: Exception) -> JSONResponse:
    return answer(request.url.path, str(fault), kind_of(fault))


async def _http(request: Request, fault: Exception) -> JSONResponse:
    if not isinstance(fault, HTTPException):
        raise fault
    status = fault.status_code
    sentence = BAD_JSON if status == 400 else SENTENCES.get(status, HTTPStatus(status).phrase.lower())
    return answer(request.url.path, sentence, Kind(status), fault.headers)


async def _invalid(request: Request, fault: Exception) -> JSONResponse:
    if not isinstance(fault, RequestValidationError):
        raise fault
    message, param = sentence(fault.errors(), fault.body)
    return answer(request.url.path, message, Kind(400, param=param or None))


def sentence(errors: Sequence[Mapping[str, Any]], sent: Any) -> tuple[str, str]:
    """What is wrong with a body, and at which field: of several faults the first."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return BAD_JSON, ""
    place = _place(first, sent)
    wrong = dict.fromkeys(_wrong(error) for error in errors if _place(error, sent) == place)
    name = ".".join(place)[:100].encode("utf-8", "replace").decode()
    return f"{name or 'the body'}: {', or '.join(wrong)}", name


def _place(error: Mapping[str, Any], sent: Any) -> list[str]:
    """The keys that lead to a fault: pydantic names the branches of unions between them."""
    place, location = [], error["loc"][1:]
    for number, key in enumerate(location, 1):
        if _has(sent, key):
            sent = sent[key]
        elif error["type"] != "missing" or number < len(location):
            continue
        place.append(str(key))
    return place


def _has(value: Any, key: Any) -> bool:
    if isinstance(value, list):
        return isinstance(key, int) and key < len(value)
    return isinstance(value, dict) and key in value


def _wrong(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "this server knows no such field: leave it out"
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        known = error["ctx"].get("expected_tags", "those in /docs")
        return f"{error['ctx']['discriminator']} must be one of {known}"
    if error["type"] == "missing":
        return "is missing"
    return str(error["msg"]).replace("Input should be", "should be").removeprefix("Value error, ")


def documented(
    more: Mapping[int | str, Any] | None = None, shape: type = Faulty
) -> dict[int | str, dict[str, Any]]:
    """What the routes that answer may say, for /openapi.json; `shape`: of an error."""
    said = {400: "A field is wrong.", 401: "No key, or a wrong one.", 403: "Another page or name.",
            404: "No such model.", 408: "Too slow, or too long.", 413: "The body is too large.",
            415: "The body is not JSON.", 422: "A picture or a schema cannot be used.",
            429: "Too many wait.", 500: "A fault of the server.", 503: "No memory, or it stops."}  # fmt: skip
    known: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "model": shape} for status, text in said.items()
    }
    return {**known, **(more or {})}


def install(app: FastAPI) -> None:
    """Have every error answered in the shape that its reader expects."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(GemmaryError, _ours)
