"""Which models are here, and whether the server is well."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request

router = APIRouter()
STARTED = int(time.time())


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the server is well."""
    return {"status": "ok"}


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The models that are here."""
    return {"object": "list", "data": [_entry(request, name) for name in request.app.state.models.names]}


@router.get("/v1/models/{name:path}")
async def one_model(request: Request, name: str) -> dict[str, Any]:
    """One of them."""
    request.app.state.models.find(name)
    return _entry(request, name)


def _entry(request: Request, name: str) -> dict[str, Any]:
    model = request.app.state.models.find(name)
    return {
        "id": name,
        "object": "model",
        "created": STARTED,
        "owned_by": "gemmary",
        "context_length": model.context,
        "vision": model.config.vision is not None,
    }
