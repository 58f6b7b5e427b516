"""Servers as users run them: with their own protocol in a thread, or as a process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.models import Models
from gemmary.serve.server import Server, listen
from gemmary.serve.settings import Settings

RUN = "import sys; sys.argv[0] = 'gemmary'; from gemmary.cli import main; main()"
ROOT = Path(__file__).parents[2]
HTTP = httpx.Client(timeout=60)  # one for all: to make one takes longer than to ask
PATIENCE = 90.0  # seconds for a start on a machine that does other things


@contextlib.contextmanager
def served(models: gemmary.Model | Models, **settings: Any) -> Iterator[tuple[str, Server]]:
    """The server in a thread of this process: its URL, and itself."""
    given = Settings(**{"port": 0} | settings)
    held = Models({"test": models}) if isinstance(models, gemmary.Model) else models
    listening = listen(given)
    port = listening.getsockname()[1]
    server = Server(create_app(held, given), given)
    thread = threading.Thread(target=server.answer, args=[listening], daemon=True)
    thread.start()
    try:
        wait_for(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.handle_exit(signal.SIGTERM, None)
        thread.join(60)


def wait_for(url: str, status: int = 200) -> None:
    """Return when /health says `status`."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").status_code == status:
                return
        time.sleep(0.02)
    raise TimeoutError(f"{url}/health never said {status}")


class Process:
    """`gemmary serve` in a process of its own."""

    def __init__(self, *flags: str, **environment: str) -> None:
        given = {key: value for key, value in os.environ.items() if not key.startswith("GEMMARY_PORT")}
        kept = () if "--history" in flags else ("--no-history",)
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN, "serve", "--threads", "1", *kept, *flags],
            cwd=ROOT, env=given | environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        """What it has written so far."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self) -> str:
        """Where it is, once it is ready."""
        return self.said(r"ready on (http://\S+?);")

    def said(self, pattern: str) -> str:
        """What the log says, once it does."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            if found := re.search(pattern, self.log):
                return found[1] if found.groups() else found[0]
            time.sleep(0.02)
        raise TimeoutError(f"the log never said {pattern}:\n{self.log}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Its exit status, once it has one."""
        status = self._process.wait(PATIENCE)
        self._reader.join(10)
        return status

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.end()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
