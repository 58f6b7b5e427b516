"""Leaving at every stage of a request's life frees all that it has, within a step; its faults are its own."""

from __future__ import annotations

import base64
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import gemmary
from gemmary.engine.eyes import Eyes
from gemmary.engine.schema import Schemas
from gemmary.engine.transcript import Transcript
from gemmary.inputs import decoderprocess
from tests.engine import seeing
from tests.serve.server import running

from .wire import CHAT, connected, endless, idle, pages, request, until

# What goes wrong in a client's thread is a failure too.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
SCHEMA = {"type": "json_schema", "json_schema": {"name": "w", "schema": {"type": "string", "minLength": 500}}}


@pytest.fixture(scope="module")
def sighted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, gemmary.Model]]:
    """A model that sees, served."""
    folder = tmp_path_factory.mktemp("seeing")
    seeing.build(folder)
    with gemmary.load(folder, context=1024, threads=1, streams=2, queue=8) as model, running(model) as url:
        yield url, model


def shown(seed: int, size: tuple[int, int] = (40, 60)) -> dict[str, Any]:
    """A message with a picture that nobody has shown yet."""
    file = io.BytesIO()
    Image.fromarray(seeing.picture(seed, size)).save(file, "PNG")
    link = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": link}},
            {"type": "text", "text": "what is it"},
        ],
    }


def slowed(
    patch: pytest.MonkeyPatch, owner: Any, name: str, reached: threading.Event, seconds: float
) -> None:
    """A method that says when it is reached, and takes its time."""
    original = getattr(owner, name)

    def slow(*args: Any, **options: Any) -> Any:
        reached.set()
        time.sleep(seconds)
        return original(*args, **options)

    patch.setattr(owner, name, slow)


Stage = Callable[[pytest.MonkeyPatch, gemmary.Model, threading.Event], dict[str, Any]]


def queued(patch: pytest.MonkeyPatch, model: gemmary.Model, reached: threading.Event) -> dict[str, Any]:
    model._thread.later(lambda: (reached.set(), time.sleep(0.3)))
    return endless(model)


def decoding_a_picture(
    patch: pytest.MonkeyPatch, model: gemmary.Model, reached: threading.Event
) -> dict[str, Any]:
    slowed(patch, decoderprocess.DECODER, "decode", reached, 0.3)
    return {"messages": [shown(1)]}


def in_the_tower(patch: pytest.MonkeyPatch, model: gemmary.Model, reached: threading.Event) -> dict[str, Any]:
    slowed(patch, Eyes, "_advance", reached, 0.1)
    return {"messages": [shown(2)]}


def reading(patch: pytest.MonkeyPatch, model: gemmary.Model, reached: threading.Event) -> dict[str, Any]:
    slowed(patch, model._runner, "together", reached, 0.1)
    return endless(model, messages=[{"role": "user", "content": "a long text " * 50}])


def writing(patch: pytest.MonkeyPatch, model: gemmary.Model, reached: threading.Event) -> dict[str, Any]:
    slowed(patch, model._runner, "head", reached, 0.02)
    return endless(model)


def compiling(patch: pytest.MonkeyPatch, model: gemmary.Model, reached: threading.Event) -> dict[str, Any]:
    slowed(patch, Schemas, "constraint", reached, 0.3)
    return endless(model, response_format=SCHEMA)


STAGES: dict[str, Stage] = {
    stage.__name__: stage for stage in (queued, decoding_a_picture, in_the_tower, reading, writing, compiling)
}


def left(sighted: tuple[str, gemmary.Model], patch: pytest.MonkeyPatch, stage: Stage, stream: bool) -> None:
    url, model = sighted
    reached = threading.Event()
    assert model._runner is not None
    eyes = model._runner.eyes
    assert eyes is not None
    with patch.context() as patched:
        body = stage(patched, model, reached)
        written = model.scheduler.tokens_written  # type: ignore[union-attr]
        with connected(url) as connection:
            connection.sendall(request({**body, "stream": stream}))
            assert reached.wait(60)
        until(lambda: idle(model) and not eyes._held, 20)
        time.sleep(0.05)
        until(lambda: idle(model) and not eyes._held, 20)
    assert pages(model) == 0
    assert model.scheduler.tokens_written - written < 200  # type: ignore[union-attr]
    assert eyes._running is None


@pytest.mark.long
@pytest.mark.parametrize("name", STAGES)
def test_leaving(sighted: tuple[str, gemmary.Model], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for number in range(50):
        left(sighted, monkeypatch, STAGES[name], bool(number % 2))


@pytest.mark.long
def test_an_image_worker_that_is_killed(
    sighted: tuple[str, gemmary.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 in the middle of a picture: that request is told, its neighbour says what it says alone."""
    url, model = sighted
    asked = endless(model, max_tokens=60)
    with httpx.Client(base_url=url, timeout=120) as client:
        alone = client.post(CHAT, json=asked).json()["choices"][0]["message"]["content"]
        exchange = decoderprocess._exchange

        def killed(process: Any, data: bytes) -> Any:
            os.kill(process.pid, signal.SIGKILL)
            return exchange(process, data)

        texts = []
        beside = threading.Thread(target=lambda: texts.append(client.post(CHAT, json=asked).json()))
        beside.start()
        for number in range(10):
            with monkeypatch.context() as patch:
                patch.setattr(decoderprocess, "_exchange", killed)
                answer = client.post(
                    CHAT, json={"messages": [shown(100 + number, (400, 600))], "max_tokens": 2}
                )
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_image")
            good = client.post(CHAT, json={"messages": [shown(100 + number, (400, 600))], "max_tokens": 2})
            assert good.status_code == 200, good.text
        beside.join()
    assert texts[0]["choices"][0]["message"]["content"] == alone
    until(lambda: idle(model))
    assert pages(model) == 0


@pytest.mark.long
def test_pictures_that_are_bombs(sighted: tuple[str, gemmary.Model]) -> None:
    """Refused with a fixed sentence. More of them are in tests/inputs/test_hostile_pictures.py."""
    url, _ = sighted
    huge = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(huge, "PNG")
    line = io.BytesIO()
    Image.new("L", (60_000, 1)).save(line, "PNG")
    whole = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(whole, "JPEG")
    bombs = [
        huge.getvalue(),
        line.getvalue(),
        whole.getvalue()[:300],
        b"GIF89a" + b"\xff" * 99,
        b"\x89PNG\r\n\x1a\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"",
        b"\x00" * 1_000_000,
    ]
    links = ["data:image/png;base64," + base64.b64encode(bomb).decode() for bomb in bombs]
    links += [
        "data:image/png;base64,%%%",
        "data:,",
        "data:image/png;base64",
        "file:///etc/passwd",
        "/etc/passwd",
    ]
    with httpx.Client(base_url=url, timeout=120) as client:
        for link in links:
            part = {"type": "image_url", "image_url": {"url": link}}
            started = time.process_time()
            answer = client.post(
                CHAT, json={"messages": [{"role": "user", "content": [part]}], "max_tokens": 1}
            )
            assert answer.status_code in (400, 422), link[:80]
            assert len(answer.json()["error"]["message"]) < 300
            assert time.process_time() - started < 1
        tiny = io.BytesIO()
        Image.new("RGB", (1, 1)).save(tiny, "PNG")
        one = {
            "type": "image_url",
            "image_url": {"url": "data:;base64," + base64.b64encode(tiny.getvalue()).decode()},
        }
        answer = client.post(CHAT, json={"messages": [{"role": "user", "content": [one]}], "max_tokens": 1})
        assert answer.status_code in (200, 422)


def test_a_detokeniser_that_fails(url: str, bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the event loop, for one request: the others read on."""
    push, asked = Transcript.push, {**endless(bundled, max_tokens=30), "seed": 5}
    with httpx.Client(base_url=url, timeout=120) as client:
        alone = client.post(CHAT, json=asked).json()["choices"][0]["message"]["content"]

        def failing(self: Transcript, draw: Any) -> Any:
            if self.request.sampler.sampling.seed == 666 and len(self._ids) > 3:
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "hook")
            return push(self, draw)

        monkeypatch.setattr(Transcript, "push", failing)
        texts = []
        beside = threading.Thread(target=lambda: texts.append(client.post(CHAT, json=asked).json()))
        beside.start()
        for stream in (False, True):
            answer = client.post(CHAT, json={**asked, "seed": 666, "stream": stream})
            assert (answer.status_code == 500) is not stream
            assert "something went wrong in the server" in answer.text
            assert "hook" not in answer.text
        beside.join()
    assert texts[0]["choices"][0]["message"]["content"] == alone
    until(lambda: idle(bundled))
    assert pages(bundled) == 0
