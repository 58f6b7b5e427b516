"""An application without a socket, and what to ask it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.models import Models
from gemmary.serve.settings import Settings

KEY, OTHER = "sk-canary-key-0001", "sk-canary-key-0002"
JSON = {"content-type": "application/json"}
BEARER = {"authorization": f"Bearer {KEY}"}


@cache
def application(model: gemmary.Model, **settings: Any) -> FastAPI:
    """The application with these settings; made once."""
    return create_app(Models({"test": model}), Settings(**settings))


def client(app: FastAPI, host: str = "localhost:8000", address: str = "127.0.0.1") -> httpx.AsyncClient:
    """Asks `app` as if by HTTP."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 50000))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path) of every route, with something in the place of parameters."""
    parts = [getattr(route, "original_router", None) for route in app.routes]
    found = [route for part in parts if part is not None for route in part.routes]
    found += [route for route, part in zip(app.routes, parts, strict=True) if part is None]
    return [
        (method, re.sub(r"{(\w+)(:\w+)?}", "x", route.path))
        for route in found
        for method in sorted(route.methods or ())
    ]
