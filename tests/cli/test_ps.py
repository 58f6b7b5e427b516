"""`gemmary ps` shows what a server says of its models, and says what to do where there is none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from gemmary.cli import app
from gemmary.cli.ps import ServerError, fetch

STATES: list[dict[str, Any]] = [
    {"id": "4b", "default": True, "status": {"value": "loaded"}, "since": 0, "idle_seconds": 1.0,
     "context": 8192,
     "memory": {"weights": 2_500_000_000, "pages_used": 5_000_000, "pages_total": 1_073_000_000},
     "pages": {"used": 1, "total": 9}, "running": 3, "waiting": 2, "streams": 8},
    {"id": "evil\x1b[31m", "default": False, "status": {"value": "unloaded"}},
]  # fmt: skip


class Answers(BaseHTTPRequestHandler):
    status, body = 200, json.dumps({"object": "list", "data": STATES})

    def do_GET(self) -> None:
        allowed = self.headers.get("Authorization") == "Bearer sk-test-key"
        self.send_response(self.status if allowed else 401)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_table(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMMARY_PORT", url.rsplit(":", 1)[1])
    monkeypatch.setenv("GEMMARY_API_KEY", "sk-test-key,other")
    lines = CliRunner().invoke(app, ["ps"]).stdout.splitlines()
    assert lines[0].split() == [
        "MODEL",
        "STATE",
        "SINCE",
        "CONTEXT",
        "STREAMS",
        "WAITING",
        "WEIGHTS",
        "PAGES",
    ]
    assert lines[1].startswith("4b *") and lines[1].endswith(
        "8,192     3 of 8    2         2.5 GB    5 MB of 1.1 GB"
    )
    assert lines[2].split() == ["evil[31m", "unloaded"]


def test_json(url: str) -> None:
    done = CliRunner().invoke(app, ["ps", "--url", url, "--api-key", "sk-test-key", "--json"])
    assert json.loads(done.stdout) == STATES


def test_without_a_key(url: str) -> None:
    with pytest.raises(ServerError, match="--api-key"):
        fetch(url, "")


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"data": 1}'])
def test_another_program_answers(url: str, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "body", body)
    with pytest.raises(ServerError, match="not gemmary serve"):
        fetch(url, "sk-test-key")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "ftp://x", "file:///etc/passwd"])
def test_nobody_answers(url: str) -> None:
    with pytest.raises(ServerError, match=r"gemmary serve|no address"):
        fetch(url, "")
