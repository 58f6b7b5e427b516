"""A server in this process, on a free port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.models import Models
from gemmary.serve.protocol import protocol
from gemmary.serve.settings import Settings


@contextlib.contextmanager
def running(model: gemmary.Model, **settings: Any) -> Iterator[str]:
    """Serve `model` (loaded with `streams`) under the name "test"; gives http://127.0.0.1:<port>."""
    given = Settings(**settings)
    with serving(create_app(Models({"test": model}), given), protocol(given)) as url:
        yield url


@contextlib.contextmanager
def serving(app: Any, http: Any = "auto") -> Iterator[str]:
    """Serve an application, with uvicorn's protocol if none is said; gives http://127.0.0.1:<port>."""
    # With the protocol named, or asyncio does not set TCP_NODELAY, and every answer takes 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http=http, log_level="warning", access_log=False, lifespan="on")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
