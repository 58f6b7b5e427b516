from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.models import Models
from gemmary.serve.relay import Asked, Head, answer

CHAT = "/v1/chat/completions"


def asked(path: str, **body: Any) -> Asked:
    method = "POST" if body else "GET"
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    return Asked(method, path, b"", headers, json.dumps(body).encode() if body else b"")


async def whole(app: Any, request: Asked) -> tuple[Head, list[bytes]]:
    pieces = [piece async for piece in answer(app, request)]
    assert isinstance(pieces[0], Head)
    return pieces[0], [piece for piece in pieces[1:] if isinstance(piece, bytes)]


def test_an_answer_is_that_of_the_server(bundled: gemmary.Model) -> None:
    app = create_app(Models({"test": bundled}))
    messages = [{"role": "user", "content": "How do I list files?"}]
    head, body = asyncio.run(whole(app, asked(CHAT, messages=messages, seed=7, max_tokens=12)))
    assert head.status == 200
    text = json.loads(b"".join(body))["choices"][0]["message"]["content"]
    assert text == bundled.chat(messages, seed=7, max_tokens=12).text


def test_a_stream_comes_in_pieces(bundled: gemmary.Model) -> None:
    app = create_app(Models({"test": bundled}))
    messages = [{"role": "user", "content": "Count to nine."}]
    head, body = asyncio.run(whole(app, asked(CHAT, messages=messages, stream=True, max_tokens=8)))
    assert dict(head.headers)[b"content-type"].startswith(b"text/event-stream")
    assert len(body) > 4
    assert body[-1] == b"data: [DONE]\n\n"


def test_other_addresses_and_errors_pass_through(bundled: gemmary.Model) -> None:
    app = create_app(Models({"test": bundled}))
    head, body = asyncio.run(whole(app, asked("/v1/models")))
    assert (head.status, json.loads(body[0])["data"][0]["id"]) == (200, "test")
    assert asyncio.run(whole(app, asked(CHAT, messages=7)))[0].status == 400
    assert asyncio.run(whole(app, asked("/nothing")))[0].status == 404


def test_who_stops_reading_ends_the_work(bundled: gemmary.Model) -> None:
    app = create_app(Models({"test": bundled}))
    request = asked(
        CHAT, messages=[{"role": "user", "content": "hi"}], stream=True, logit_bias={"1": -100, "106": -100}
    )

    async def leave() -> None:
        async with aclosing(answer(app, request)) as pieces:
            for _ in range(4):
                await anext(pieces)
            assert bundled.scheduler.running == 1
        for _ in range(500):
            if bundled.scheduler.running == 0:
                return
            await asyncio.sleep(0.02)
        pytest.fail("the answer goes on though nobody reads it")

    asyncio.run(leave())


def test_a_fault_of_the_application_is_raised() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b""
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(whole(broken, asked("/")))


def test_a_slow_reader_holds_the_application_up() -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            sent += 1

    async def read() -> None:
        pieces = answer(app, asked("/"))
        await anext(pieces)
        await asyncio.sleep(0.05)
        assert sent < 20
        assert len([piece async for piece in pieces]) == 1000

    asyncio.run(read())
