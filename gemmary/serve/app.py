"""The application: routes put together."""

from __future__ import annotations

from fastapi import FastAPI

from .. import __version__
from . import chat, completions, faults, listing, messages, reference, tokenizing
from .models import Models
from .pictures import Pictures
from .settings import Settings

PARTS = (listing, chat, completions, tokenizing, messages, reference)


def create_app(models: Models, settings: Settings | None = None) -> FastAPI:
    """An ASGI application that answers with these models."""
    settings = settings or Settings()
    app = FastAPI(title="Gemmary", version=__version__, docs_url=None, redoc_url=None)
    app.state.models = models
    app.state.settings = settings
    app.state.pictures = Pictures(settings.remote_pictures, settings.remote_hosts)
    faults.install(app)
    for part in PARTS:
        app.include_router(part.router)
    return app
