"""Servers in processes of their own, that are started, paused while another one is measured, and ended."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemmary.engine.peer import environment

RUN = "import sys; from gemmary.cli import main; sys.argv[0] = 'gemmary'; main()"
FOREVER = 600  # seconds that a server may take to load


@dataclass
class Server:
    """A server that runs."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, path: str, **body: Any) -> Any:
        """JSON of a route; POST where there is a body."""
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=FOREVER) as answer:
            return json.load(answer)

    def pause(self) -> None:
        """Take no processor until `go_on`."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def memory(self) -> int:
        """Bytes that its process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[1]) * 1024  # type: ignore[index]


def build_of(binary: str, file: Path) -> dict[str, str | None]:
    """Version and compiler of a llama-server, and the instructions that it was built with: it says these
    only when it is talkative and loads a model, so that is begun and given up. None: it did not say.
    """
    version = subprocess.run([binary, "--version"], capture_output=True, text=True)
    command = [binary, "-m", str(file), "-c", "256", "--port", "0", "-lv", "4"]
    talking = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert talking.stdout is not None
    info = None
    for line in talking.stdout:
        if "system_info" in line or "listening" in line:
            info = line.partition("system_info:")[2].strip() or None
            break
    talking.kill()
    talking.communicate()
    return {"version": " ".join((version.stdout + version.stderr).split()), "system_info": info}


@contextmanager
def ours(file: Path, context: int, streams: int) -> Iterator[Server]:
    """`gemmary serve FILE`."""
    flags = ["--streams", str(streams), "--context", str(context)]
    command = [sys.executable, "-c", RUN, "serve", str(file), *flags]
    with _running("gemmary", command) as server:
        yield server


@contextmanager
def peer(binary: str, file: Path, context: int, streams: int) -> Iterator[Server]:
    """`llama-server -m FILE -np 8 -cb`: `context` tokens for each stream."""
    flags = ["-np", str(streams), "-cb", "-c", str(context * streams), "-fa", "on"]
    threads = str(len(os.sched_getaffinity(0)))
    command = [binary, "-m", str(file), *flags, "-t", threads, "-tb", threads, "--no-webui"]
    with _running("llama.cpp", command) as server:
        yield server


def surroundings() -> dict[str, str]:
    """The environment of a server: names that begin with GEMMARY_ would be its settings."""
    return {name: value for name, value in environment().items() if not name.startswith("GEMMARY_")}


@contextmanager
def _running(name: str, command: list[str]) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--port", str(port)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=surroundings(), start_new_session=True,
            )  # fmt: skip
        server = Server(name, port, process, log)
        try:
            _wait(server)
            yield server
        finally:
            server.go_on()
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(server: Server) -> None:
    end = time.monotonic() + FOREVER
    while time.monotonic() < end:
        if server.process.poll() is not None:
            raise SystemExit(f"{server.name} ended: {server.log.read_text(errors='replace')[-2000:]}")
        try:
            server.ask("/health")
            return
        except OSError:  # nobody listens yet, or it says that it is loading
            time.sleep(0.2)
    raise SystemExit(f"{server.name} did not answer in {FOREVER} seconds")
