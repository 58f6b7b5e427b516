"""`gemmary serve`: an OpenAI-compatible server. Its flags are the settings of serve/settings.py."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
import typer.main
from typer.core import TyperCommand

from ..errors import GemmaryError
from . import flags
from .terminal import note

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from ..serve.models import Source
    from ..serve.settings import Settings

NAMELESS = "gemmary-nano"  # the bundled model
LEAST = 8192  # tokens of context that others are unloaded for, where none is said and the model has so many
GIGABYTE = 1e9
HELP = """Answer over HTTP, many at once, as OpenAI's API does.

Each setting can also stand in the environment, as GEMMARY_PORT=9000, or in a TOML file that --config names;
flags come before the environment, and that before the file.

\b
gemmary serve                                  the bundled model on http://127.0.0.1:8000
gemmary serve google/gemma-3-4b-it             another one
gemmary serve 4b 1b --default 1b --memory 6    several; loaded when asked
gemmary serve --host 0.0.0.0 --api-key-file keys.txt
"""


def serve(context: typer.Context) -> None:
    """Answer over HTTP, many at once, as OpenAI's API does."""
    try:
        app = flagged()
    except ImportError:
        raise GemmaryError("serving needs more packages: pip install 'gemmary[serve]'") from None
    app(args=context.args, prog_name="gemmary serve")


def flagged() -> typer.Typer:
    """The command line that has the settings as flags. ImportError where their packages are not installed."""
    from ..serve.settings import Settings

    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False,
                      context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
    app.command(help=HELP)(command(Settings.model_fields))
    return app


class Serve(TyperCommand):
    """`serve` hands on what it is given; a shell that completes a line is shown the flags behind it."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The flags, while a line is completed. Without the packages of the server there are none."""
        if ctx.resilient_parsing:
            with suppress(ImportError):
                return list(typer.main.get_command(flagged()).params)
        return super().get_params(ctx)


def command(fields: Mapping[str, FieldInfo]) -> Any:
    """A function for typer with a flag for each field; those that are not said are None."""

    def run(**given: Any) -> None:
        said = {name: value for name, value in given.items() if value not in (None, [])}
        sys.exit(answer(said))

    parameters = [_parameter(name, field) for name, field in fields.items()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def answer(said: Mapping[str, Any]) -> int:
    """Serve until a signal comes; the exit status."""
    from ..serve import logs
    from ..serve.app import create_app
    from ..serve.history import History
    from ..serve.historyfile import default_path
    from ..serve.models import Models
    from ..serve.server import Server, listen
    from ..serve.settings import read

    settings = read(said)
    listening = listen(settings)
    logs.start(settings.log, settings.access_log)
    if not settings.loopback and not settings.keys:
        note(f"Anybody who reaches {settings.host} can ask: there is no key.")
    memory = None if settings.memory is None else int(settings.memory * GIGABYTE)
    history = None if settings.no_history else History(settings.history or default_path())
    models = Models(default=settings.default, sources=sources(settings), memory=memory)
    status = Server(create_app(models, settings, history), settings).answer(listening)
    leave(models, status)
    if history is not None:
        history.close()
    return status


def sources(settings: Settings) -> dict[str, Source]:
    """The models that are to be served, by name. What is not on this machine is offered for download."""
    from ..serve.models import named
    from .opening import find

    paths = {name: find(source) for name, source in named(settings.models).items()}
    return {name: source(path, settings) for name, path in (paths or {NAMELESS: find(None)}).items()}


def source(path: Path, settings: Settings) -> Source:
    """How the model of a path is loaded, and how much it will take."""
    from ..engine.load import estimate, load
    from ..serve.models import Source
    from ..weights.checkpoint import open_checkpoint
    from .preparing import preparing
    from .terminal import Waiting

    def loading(memory: int) -> Any:
        with Waiting("Loading the model") as wait, preparing(wait):
            return load(path, mmproj=settings.mmproj, context=settings.context, threads=settings.threads,
                        streams=settings.streams, queue=settings.queue, memory=memory)  # fmt: skip

    def estimating() -> Any:
        return estimate(path, settings.context or min(LEAST, open_checkpoint(path).config.context))

    return Source(loading, estimating)


def leave(models: Any, status: int) -> None:
    """Unload. A step that hangs must not keep the process: after some seconds it ends as it is."""
    import threading

    closing = threading.Thread(target=models.close, daemon=True)
    closing.start()
    closing.join(5)
    if closing.is_alive() or models.loading:
        sys.stderr.flush()
        os._exit(status)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """A setting as a flag; `models` are arguments."""
    kind, several = _kind(field.annotation)
    said: Any = list[str] if several else kind
    low, high = _bounds(field)
    names = (f"--{name.replace('_', '-')}",) if field.get_default() is False else ()
    options = {"metavar": _metavar(kind), "min": low, "max": high, "show_default": False}
    if name == "context":
        options = {"metavar": "TOKENS", "parser": flags.tokens, "show_default": False}
    if name == "models":
        wanted: Any = typer.Argument(
            metavar="MODEL", show_default=False, help=field.description, autocompletion=flags.names
        )
    else:
        wanted = typer.Option(*names, help=f"{field.description}{_default(field)}", **options)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[said | None, wanted]
    )


def _default(field: FieldInfo) -> str:
    """What holds where nothing is said, as help pages show it."""
    default = field.get_default()
    if default in (None, (), frozenset(), True, False):
        return ""
    return f"  [default: {default:g}]" if isinstance(default, float) else f"  [default: {default}]"


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type of a flag's value, and whether it may be repeated."""
    from pydantic import SecretStr

    options = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) in (tuple, frozenset):
        return str, True
    if get_origin(annotation) is not Literal and options:
        annotation = options[0]
    return (str if annotation is SecretStr else annotation), False


def _bounds(field: FieldInfo) -> tuple[Any, Any]:
    """Least and greatest value; bounds that are not included are the settings' own to check."""
    low = [part.ge for part in field.metadata if hasattr(part, "ge")]
    high = [part.le for part in field.metadata if hasattr(part, "le")]
    return (low or [None])[0], (high or [None])[0]


def _metavar(kind: Any) -> str | None:
    return {int: "N", float: "X", str: "TEXT", Path: "FILE"}.get(kind)
