"""Exceptions -> errors in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse

from ..engine.line import QueueFullError
from ..errors import ContextFullError, GemmaryError, ImageError, MemoryBudgetError, PromptError
from .models import UnknownModelError

INTERNAL = "something went wrong in the server: its log says more"


def body(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's API writes it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status(fault: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body for what went wrong."""
    if isinstance(fault, UnknownModelError):
        return 404, body(str(fault), "invalid_request_error", "model_not_found", "model")
    if isinstance(fault, QueueFullError):
        return 429, body(str(fault), "rate_limit_error", "queue_full")
    if isinstance(fault, ContextFullError):
        return 400, body(str(fault), "invalid_request_error", "context_length_exceeded")
    if isinstance(fault, PromptError | ImageError):
        return 400, body(str(fault), "invalid_request_error")
    if isinstance(fault, MemoryBudgetError):
        return 503, body(str(fault), "server_error", "out_of_memory")
    if isinstance(fault, GemmaryError):
        return 500, body(str(fault), "server_error")
    return 500, body(INTERNAL, "server_error")


async def _answer(request: Request, fault: Exception) -> JSONResponse:
    code, content = status(fault)
    return JSONResponse(content, code, {"Retry-After": "1"} if code in (429, 503) else None)


async def _http(request: Request, fault: HTTPException) -> JSONResponse:
    return JSONResponse(body(str(fault.detail), "invalid_request_error"), fault.status_code, fault.headers)


async def _invalid(request: Request, fault: RequestValidationError) -> JSONResponse:
    first = fault.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse(body(f"{place}: {first['msg']}", "invalid_request_error", None, place), 400)


def install(app: FastAPI) -> None:
    """Have every error answered in OpenAI's shape."""
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http)  # type: ignore[arg-type]
    app.add_exception_handler(GemmaryError, _answer)
    app.add_exception_handler(Exception, _answer)
