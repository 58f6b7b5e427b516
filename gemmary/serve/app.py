"""The application: routes put together."""

from __future__ import annotations

from fastapi import FastAPI

from .. import __version__
from . import chat, faults, listing
from .models import Models
from .settings import Settings


def create_app(models: Models, settings: Settings | None = None) -> FastAPI:
    """An ASGI application that answers with these models."""
    app = FastAPI(title="Gemmary", version=__version__, docs_url=None, redoc_url=None)
    app.state.models = models
    app.state.settings = settings or Settings()
    faults.install(app)
    for part in (listing, chat):
        app.include_router(part.router)
    return app
