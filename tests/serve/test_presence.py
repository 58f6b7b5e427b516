"""Clients that go are left within a step; those that stay hear of what goes wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

import gemmary
from gemmary.engine.sampling import NotFiniteError, Sampler
from gemmary.serve.sse import STILL_HERE, EventStream
from tests.serve.asked import application
from tests.serve.server import running

ASK = [{"role": "user", "content": "Tell me a long story about a dog, a road and the sea."}]
PATH = "/v1/chat/completions"


def endless(model: gemmary.Model, **more: Any) -> dict[str, Any]:
    """A request whose answer ends at the end of the context only."""
    bias = {str(token): -100 for token in model.tokenizer.stops}
    return {"messages": ASK, "logit_bias": bias, "seed": 1, **more}


def until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within 12 seconds")


def sent(url: str, body: dict[str, Any]) -> socket.socket:
    """A connection with a request on it, not answered yet."""
    place, data = urlsplit(url), json.dumps(body).encode()
    connection = socket.create_connection((place.hostname, place.port or 80))
    lines = (
        f"POST {PATH} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
    )
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)
    return connection


@pytest.fixture
def counts(bundled: gemmary.Model) -> Iterator[Callable[[], tuple[int, int]]]:
    scheduler = bundled.scheduler
    assert scheduler is not None
    yield lambda: (scheduler.running, scheduler.waiting)
    until(lambda: (scheduler.running, scheduler.waiting) == (0, 0))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_is_left(
    url: str, bundled: gemmary.Model, counts: Callable[[], tuple[int, int]], stream: bool
) -> None:
    written = bundled.scheduler.tokens_written  # type: ignore[union-attr]
    connection = sent(url, endless(bundled, stream=stream))
    until(lambda: bundled.scheduler.tokens_written > written)  # type: ignore[union-attr]
    connection.close()
    until(lambda: counts() == (0, 0))
    assert bundled.scheduler.tokens_written - written < 700, "it was written to its end"  # type: ignore[union-attr]


def test_who_goes_while_waiting_is_left(
    url: str, bundled: gemmary.Model, counts: Callable[[], tuple[int, int]]
) -> None:
    connections = [sent(url, endless(bundled)) for _ in range(6)]
    until(lambda: counts()[1] > 0)
    for connection in connections:
        connection.close()
    until(lambda: counts() == (0, 0))


def test_who_goes_while_the_prompt_is_made_is_never_begun(
    url: str, bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch, counts: Callable[[], tuple[int, int]]
) -> None:
    begun, on, made = threading.Event(), threading.Event(), bundled.prompt
    opened: list[object] = []

    def slow(*args: Any, **options: Any) -> Any:
        begun.set()
        on.wait(10)
        return made(*args, **options)

    monkeypatch.setattr(bundled, "prompt", slow)
    monkeypatch.setattr(bundled, "open", lambda *args: opened.append(args))
    connection = sent(url, endless(bundled))
    begun.wait(10)
    connection.close()
    time.sleep(0.1)
    on.set()
    time.sleep(0.1)
    assert opened == []


def test_comments_while_nothing_comes(bundled: gemmary.Model) -> None:
    with running(bundled, keep_alive=0.05) as url:
        lines, heard = list[str](), threading.Event()
        bundled._thread.later(lambda: heard.wait(20))  # a long prompt of somebody else
        body = {
            "messages": ASK,
            "max_tokens": 2,
            "stream": True,
            "return_progress": True,
            "cache_salt": "new",
        }
        with httpx.stream("POST", f"{url}{PATH}", json=body, timeout=60) as answer:
            for line in filter(None, answer.iter_lines()):
                lines.append(line)
                if sum(told.startswith(":") for told in lines) == 3:
                    heard.set()
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        bundled._thread.later(lambda: time.sleep(0.2))
        stream = client.chat.completions.create(model="test", messages=ASK, max_tokens=2, stream=True)  # type: ignore[arg-type]  # fmt: skip
        assert any(chunk.choices[0].finish_reason for chunk in stream)
    assert heard.is_set()
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    (progress, *_) = [chunk["prompt_progress"] for chunk in told if "prompt_progress" in chunk]
    assert 0 < progress["processed"] <= progress["total"]
    assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [(NotFiniteError(), "not finite"), (RuntimeError("a secret in a prompt"), "something went wrong")],
    ids=["ours", "unforeseen"],
)
def test_a_fault_ends_one_answer(
    url: str,
    bundled: gemmary.Model,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Exception,
    sentence: str,
) -> None:
    draw = Sampler.draw

    def failing(self: Sampler, found: Any, position: int, row: int = 0) -> Any:
        if self.sampling.seed == 666 and position > 40:
            raise fault
        return draw(self, found, position, row)

    expected = bundled.chat(ASK, seed=2, max_tokens=30).text
    monkeypatch.setattr(Sampler, "draw", failing)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    options: Any = {"model": "test", "messages": ASK, "max_tokens": 30}
    good = client.chat.completions.create(**options, seed=2, stream=True)
    with caplog.at_level(logging.ERROR), pytest.raises(openai.APIError, match=sentence) as streamed:
        list(client.chat.completions.create(**{**options, "max_tokens": 90}, seed=666, stream=True))
    with pytest.raises(openai.InternalServerError, match=sentence):
        client.chat.completions.create(**{**options, "max_tokens": 90}, seed=666)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in good) == expected
    assert "secret" not in str(streamed.value) + caplog.text
    body = {"messages": ASK, "seed": 666, "max_tokens": 90, "stream": True}
    events = httpx.post(f"{url}{PATH}", json=body, timeout=60).text.split("\n\n")
    assert json.loads(events[-3].removeprefix("data: "))["error"]["type"] == "server_error"
    assert events[-2] == "data: [DONE]"
    body["model"] = "test"
    told = httpx.post(f"{url}/v1/messages", json={**body, "max_tokens": 90}, timeout=60).text
    assert told.rstrip().split("\n\n")[-1].startswith("event: error\n")


def test_a_full_queue_says_when_to_come_again(
    url: str, bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = bundled.scheduler
    assert scheduler is not None
    monkeypatch.setattr(scheduler._line, "_limit", -scheduler.streams)  # no place is left either
    answer = httpx.post(f"{url}{PATH}", json={"messages": ASK, "stream": True}, timeout=60)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["error"]["code"] == "queue_full"
    other = httpx.post(f"{url}/v1/messages", json={"messages": ASK, "max_tokens": 3}, timeout=60)
    assert (other.status_code, other.json()["error"]["type"]) == (429, "rate_limit_error")


def test_further_answers_are_promised(
    url: str, bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that fills up behind the first of n answers is no fault in the middle of a stream."""
    line = bundled.scheduler._line  # type: ignore[union-attr]
    begun = bundled.open

    def filling(*args: Any) -> Any:
        opened = begun(*args)
        monkeypatch.setattr(line, "_limit", 0)
        return opened

    monkeypatch.setattr(bundled, "open", filling)
    body = {"messages": ASK, "max_tokens": 3, "n": 3, "stream": True}
    told = httpx.post(f"{url}{PATH}", json=body, timeout=60).text
    assert told.count('finish_reason":"') == 3, told


def test_a_model_that_is_closed_ends_its_answers(url: str, bundled: gemmary.Model) -> None:
    with httpx.stream("POST", f"{url}{PATH}", json=endless(bundled, stream=True), timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        for request in list(bundled._requests):  # as `close` does
            request.cancel.set()
        last = [line for line in lines if line]
    assert json.loads(last[-2].removeprefix("data: "))["error"]["code"] == "ended"
    assert last[-1] == "data: [DONE]"


def test_what_is_remembered_is_apart_for_each_salt(url: str, bundled: gemmary.Model) -> None:
    long = [{"role": "user", "content": "A sentence that nobody else has sent. " * 12}]
    cached = []
    for salt in ("red", "blue", "red", None):
        body = {"messages": long, "max_tokens": 1, "cache_salt": salt}
        used = httpx.post(f"{url}{PATH}", json=body, timeout=60).json()["usage"]
        cached.append(used["prompt_tokens_details"]["cached_tokens"])
    assert cached[0] == cached[1] == 0
    assert cached[2] > 100
    assert cached[3] < 10, "only what begins every prompt"


BEGUN: dict[str, dict[str, Any]] = {
    PATH: {"messages": ASK},
    "/v1/completions": {"prompt": "A dog", "n": 2, "max_tokens": 900},
    "/v1/messages": {"model": "test", "messages": ASK, "max_tokens": 900},
}


@pytest.mark.parametrize("stuck", [False, True], ids=["as it begins", "before it begins"])
@pytest.mark.parametrize("path", BEGUN)
def test_who_goes_as_a_stream_begins_is_left(
    bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch, path: str, stuck: bool
) -> None:
    """The head is on its way, and nothing was asked of the events yet, or the first one only."""
    opened, begun = [], bundled.open

    def opening(*args: Any) -> Any:
        opened.append(begun(*args))
        return opened[-1]

    monkeypatch.setattr(bundled, "open", opening)
    asyncio.run(asyncio.wait_for(_left_at_the_head(application(bundled), path, stuck), 20))
    assert opened
    assert all(transcript.request.cancel.is_set() for transcript in opened), "it is computed unheard"


async def _left_at_the_head(app: Any, path: str, stuck: bool) -> None:
    """Ask for a stream, and go when its head comes; `stuck`: the head is not even taken."""
    head, body = asyncio.Event(), json.dumps({**BEGUN[path], "stream": True}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await head.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        head.set()
        if stuck:
            await asyncio.sleep(60)

    headers = [(b"host", b"localhost:8000"), (b"content-type", b"application/json")]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip
    await app(scope, receive, send)


def test_who_takes_nothing_is_left() -> None:
    """The writing waits for the client, and not for ever; then the source of events is closed."""
    closed, taken = [], []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append(True)

    async def send(message: Any) -> None:
        taken.append(message)
        if len(taken) > 3:
            await asyncio.sleep(60)

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def serve() -> None:
        stream = EventStream(events(), lambda: closed.append(True), 1.0, 0.05)
        await asyncio.wait_for(stream({}, receive, send), 10)

    asyncio.run(serve())
    assert closed == [True, True], "the source was not closed, or its end not told"
    assert len(taken) == 4


def test_a_comment_is_no_event() -> None:
    assert STILL_HERE.startswith(b":")
    assert STILL_HERE.endswith(b"\n\n")
