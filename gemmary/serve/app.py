"""The application: routes put together, and what stands in front of them."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp

from .. import __version__
from . import (
    chat,
    completions,
    conversations,
    faults,
    listing,
    loading,
    messages,
    metrics,
    page,
    reference,
    tokenizing,
)
from .accounts import Accounts
from .bodies import Bodies
from .guard import Guard
from .headers import secured
from .health import Health
from .history import History
from .historyfile import HistoryError
from .metrics import Metrics
from .models import Models
from .pictures import Pictures
from .settings import Settings

PARTS = (
    listing,
    chat,
    completions,
    tokenizing,
    messages,
    reference,
    loading,
    metrics,
    conversations,
    page,
)


class Application(FastAPI):
    """FastAPI behind the guard, its error pages too."""

    def build_middleware_stack(self) -> ASGIApp:
        """From the outside: headers, accounts, guard, bodies, FastAPI's own."""
        state, settings = self.state, self.state.settings
        bodies = Bodies(super().build_middleware_stack(), settings)
        guard = Guard(bodies, settings, lambda: state.health.state, open_paths())
        state.accounts = Accounts(guard, state.metrics, settings.answer_time)
        return secured(state.accounts)


def open_paths() -> frozenset[str]:
    """Paths of the page's files: they hold no data and need no key."""
    return frozenset(["/", *(f"/static/{name}" for name in page.assets())])


def create_app(models: Models, settings: Settings | None = None, history: History | None = None) -> FastAPI:
    """An ASGI application that answers with these models. history: keeps the web chat's conversations."""
    settings = settings or Settings()
    app = Application(title="Gemmary", version=__version__, docs_url=None, redoc_url=None)
    app.state.models = models
    app.state.settings = settings
    app.state.history = history
    app.state.pictures = Pictures(
        settings.remote_pictures,
        settings.remote_hosts,
        most=settings.max_pictures,
        memory=settings.picture_memory,
    )
    app.state.health = Health(models, settings.hang)
    app.state.metrics = Metrics(lambda: models.loaded)
    faults.install(app)
    app.add_exception_handler(HistoryError, conversations.refused)
    for part in PARTS:
        app.include_router(part.router)
    app.middleware_stack = app.build_middleware_stack()
    return app
