"""The log tells who asked what kind of thing and how long it took; never what."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

import gemmary
from gemmary.serve import logs
from tests.serve.asked import KEY, OTHER
from tests.serve.whole import HTTP, served

CANARY = "canary-4711"
CHAT = "/v1/chat/completions"
PICTURE = "data:image/png;base64,Y2FuYXJ5LTQ3MTE="


@pytest.fixture
def loggers() -> Iterator[None]:
    """As they were, afterwards."""
    names = ("gemmary.serve", "gemmary.serve.access", "uvicorn", "uvicorn.error", "uvicorn.access")
    kept = [
        (logger := logging.getLogger(name), logger.handlers, logger.level, logger.propagate) for name in names
    ]
    yield
    for logger, handlers, level, propagate in kept:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def ask_all(url: str) -> None:
    """Good and bad requests with canaries in every place."""
    text = {"messages": [{"role": "user", "content": CANARY}], "max_tokens": 2}
    seen = {"type": "image_url", "image_url": {"url": PICTURE}}
    key = {"authorization": f"Bearer {KEY}"}
    changes: list[dict[str, Any]] = [
        {}, {CANARY: 1}, {"stop": CANARY}, {"user": CANARY}, {"model": CANARY}, {"stream": True},
        {"messages": [{"role": "user", "content": [seen]}]}, {"response_format": {"type": CANARY}},
    ]  # fmt: skip
    for change in changes:
        HTTP.post(url + CHAT, json=text | change, headers=key)
    broken = {**key, "content-type": "application/json"}
    HTTP.post(url + CHAT, content=f"{{{CANARY}".encode(), headers=broken)
    HTTP.get(f"{url}/{CANARY}?q={CANARY}", headers=key)
    HTTP.get(f"{url}/v1/models/{CANARY}?q={CANARY}", headers=key)
    HTTP.get(f"{url}/v1/models", headers={"authorization": f"Bearer {OTHER}"})
    HTTP.get(
        f"{url}/v1/models", headers={**key, "user-agent": f"{CANARY}\x1b[31m", "origin": f"http://{CANARY}"}
    )


@pytest.mark.parametrize("kind", [pytest.param("plain", marks=pytest.mark.long), "json"])
def test_nothing_that_was_sent(
    bundled: gemmary.Model, kind: Any, capfd: pytest.CaptureFixture[str], loggers: None
) -> None:
    logs.start(kind, access=True)
    with served(bundled, api_key=(KEY,)) as (url, _):
        ask_all(url)
    said = capfd.readouterr().err
    lines = [line for line in said.splitlines() if "request" in line]
    assert len(lines) in (13, 14)  # and one of a server that is just ending, maybe
    for secret in (CANARY, KEY, OTHER, "Y2FuYXJ5", "\x1b", "\r"):
        assert secret not in said
    if kind == "json":
        entries = [json.loads(line) for line in said.splitlines()]
        request = next(entry for entry in entries if entry["message"] == "request")
        assert request["status"] == 200 and request["path"] == CHAT and request["tokens"] == 2
        assert {"id", "client", "owner", "seconds", "prompt_tokens", "first_token", "time"} <= set(request)
    else:
        assert "status=200" in lines[0] and "tokens=2" in lines[0] and f"path={CHAT}" in lines[0]


def test_a_fault_of_ours_is_told_by_its_place(
    bundled: gemmary.Model, capfd: pytest.CaptureFixture[str], loggers: None
) -> None:
    logs.start("plain", access=True)
    with served(bundled) as (url, server):

        async def fail() -> None:
            raise RuntimeError(CANARY)

        server._app.add_api_route("/fail", fail)
        answer = HTTP.get(f"{url}/fail")
    said = capfd.readouterr().err
    assert answer.status_code == 500 and CANARY not in answer.text + said
    assert "RuntimeError at" in said and "test_logs.py" in said


@pytest.mark.parametrize("text", ["a\nb", "\x1b[2J", "\x00", "\x9b31m", "\u2028", "ü"])
def test_control_characters_are_escaped(text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, text, (), None)
    record.name_of_model = text
    for formatter in (logs.Plain(), logs.Json()):
        line = formatter.format(record)
        assert line.isascii() and line.isprintable()


def test_no_access_log(bundled: gemmary.Model, capfd: pytest.CaptureFixture[str], loggers: None) -> None:
    logs.start("plain", access=False)
    with served(bundled) as (url, _):
        HTTP.get(f"{url}/v1/models")
    assert "request" not in capfd.readouterr().err
