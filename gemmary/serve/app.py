"""The application: routes put together."""

from __future__ import annotations

from fastapi import FastAPI

from .. import __version__
from . import chat, conversations, faults, listing, page
from .history import History
from .historyfile import HistoryError
from .models import Models
from .settings import Settings


def create_app(models: Models, settings: Settings | None = None, history: History | None = None) -> FastAPI:
    """An ASGI application that answers with these models. history: keeps conversations of the web chat."""
    app = FastAPI(title="Gemmary", version=__version__, docs_url=None, redoc_url=None)
    app.state.models = models
    app.state.settings = settings or Settings()
    app.state.history = history
    faults.install(app)
    app.add_exception_handler(HistoryError, conversations.refused)
    for part in (listing, chat, conversations, page):
        app.include_router(part.router)
    return app
