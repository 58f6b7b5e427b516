"""Which models are here, and whether the server is well."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from . import faults
from .shapes import Entries, Entry

router = APIRouter()
STARTED = datetime.now(UTC).replace(microsecond=0)


@router.get("/health", tags=["Server"], responses={503: {"description": "It loads, stops, or hangs."}})
async def health(request: Request) -> JSONResponse:
    """Whether the server is well: ok; or, with 503, loading, stopping, hung."""
    state = request.app.state.health.state
    return JSONResponse({"status": state}, 200 if state == "ok" else 503)


@router.get("/v1/models", response_model=Entries, tags=["OpenAI"])
async def models(request: Request) -> Any:
    """The models that are here, the default first."""
    data = [_entry(request, name) for name in request.app.state.models.names]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "has_more": False, "first_id": first, "last_id": last}


@router.get(
    "/v1/models/{name:path}",
    response_model=Entry,
    tags=["OpenAI"],
    responses={404: faults.documented()[404]},
)
async def one_model(request: Request, name: str) -> Any:
    """One of them."""
    return _entry(request, name)


def _entry(request: Request, name: str) -> Entry:
    models = request.app.state.models
    model = models.known(name)
    return {
        "id": name,
        "object": "model",
        "created": int(STARTED.timestamp()),
        "owned_by": "gemmary",
        "type": "model",
        "display_name": name,
        "created_at": STARTED.isoformat(),
        "context_length": None if model is None else model.context,
        "vision": None if model is None else model.config.vision is not None,
        "default": name == models.default,
    }
