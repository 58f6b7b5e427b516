"""GET /models, POST /models/load and /models/unload: which models are loaded."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from . import faults
from .models import Models
from .wire import Body

router = APIRouter(tags=["Server"])


class Named(Body):
    """A model by its name."""

    model: Annotated[str, Field(min_length=1, max_length=256)]


@router.get("/models")
async def states(request: Request) -> dict[str, Any]:
    """All models: which are loaded, since when, their memory and how many answers they make."""
    return {"object": "list", "data": request.app.state.models.states()}


@router.post("/models/load", responses=faults.documented({409: {"description": "It answers."}}))
async def load(request: Request, asked: Named) -> JSONResponse:
    """Load a model; the answer comes when it is ready."""
    models: Models = request.app.state.models
    await models.ready(asked.model)
    return JSONResponse({"success": True})


@router.post("/models/unload", responses=faults.documented({409: {"description": "It answers."}}))
async def unload(request: Request, asked: Named) -> JSONResponse:
    """Free the memory of a model; it is loaded again when somebody asks it something."""
    models: Models = request.app.state.models
    await models.unload(asked.model)
    return JSONResponse({"success": True})
