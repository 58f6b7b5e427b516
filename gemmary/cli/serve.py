"""`gemmary serve`: an OpenAI-compatible server."""

from __future__ import annotations

from typing import Annotated

import typer

from . import flags
from .opening import find
from .preparing import preparing
from .terminal import Waiting, note

Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")]
Port = Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port to listen on.")]
Streams = Annotated[int, typer.Option(metavar="N", min=1, help="Answers that are written together.")]
Queue = Annotated[int, typer.Option(metavar="N", min=0, help="Requests that may wait.")]


def serve(
    model: flags.Model = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    streams: Streams = 8,
    queue: Queue = 64,
    context: flags.Context = None,
    mmproj: flags.Mmproj = None,
    threads: flags.Threads = None,
) -> None:
    """Answer over HTTP, many at once, as OpenAI's API does.

    \b
    gemmary serve                              the bundled model on http://127.0.0.1:8000
    gemmary serve google/gemma-3-4b-it         another one
    """
    import uvicorn

    from ..engine.load import load
    from ..serve.app import create_app
    from ..serve.models import Models
    from ..serve.settings import Settings

    path = find(model)
    with Waiting("Loading the model") as wait, preparing(wait):
        loaded = load(path, mmproj=mmproj, context=context, threads=threads, streams=streams, queue=queue)
    with loaded:
        name = model or "gemmary-nano"
        settings = Settings(host=host, port=port, streams=streams, queue=queue)
        app = create_app(Models({name: loaded}), settings)
        note(f"Listening on http://{host}:{port}; Ctrl-C ends.")
        uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)
