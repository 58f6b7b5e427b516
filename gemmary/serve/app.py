"""The application: routes put together."""

from __future__ import annotations

from fastapi import FastAPI

from .. import __version__
from . import chat, completions, conversations, faults, listing, messages, page, reference, tokenizing
from .history import History
from .historyfile import HistoryError
from .models import Models
from .pictures import Pictures
from .settings import Settings

PARTS = (listing, chat, completions, tokenizing, messages, reference, conversations, page)


def create_app(models: Models, settings: Settings | None = None, history: History | None = None) -> FastAPI:
    """An ASGI application that answers with these models. history: keeps the web chat's conversations."""
    settings = settings or Settings()
    app = FastAPI(title="Gemmary", version=__version__, docs_url=None, redoc_url=None)
    app.state.models = models
    app.state.settings = settings
    app.state.history = history
    app.state.pictures = Pictures(settings.remote_pictures, settings.remote_hosts)
    faults.install(app)
    app.add_exception_handler(HistoryError, conversations.refused)
    for part in PARTS:
        app.include_router(part.router)
    return app
