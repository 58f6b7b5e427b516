"""Memory for pictures is bounded for all requests together, and given back when nobody has it any more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

import gemmary
from gemmary.config import VisionConfig
from gemmary.errors import MemoryBudgetError
from gemmary.inputs.prompt import Prompt
from gemmary.serve.app import create_app
from gemmary.serve.models import Models
from gemmary.serve.settings import Settings
from gemmary.serve.squares import Squares, room
from tests.engine import seeing
from tests.serve.server import serving

from .faults.test_stages import shown, slowed
from .faults.wire import CHAT, endless, until

ONE = 3 * seeing.EYES.image**2  # bytes of a square


def looked(count: int) -> Prompt:
    """A prompt with so many squares of 3 x 4 x 4."""
    return Prompt([0] * count, np.zeros((count, 3, 4, 4), np.uint8))


def test_squares_count_until_nobody_has_them() -> None:
    squares = Squares(100)
    first = squares.made(96, lambda: looked(1))
    assert squares.held == 48
    part = first.pixels[0]  # type: ignore[index]
    del first
    assert squares.held == 48, "a part keeps the whole"
    with pytest.raises(MemoryBudgetError, match="ask again"):
        squares.made(96, lambda: pytest.fail("made, though there is no room"))
    del part
    assert squares.held == 0
    assert len(squares.made(1000, lambda: looked(3)).ids) == 3, "who is alone may"
    assert squares.held == 0


def test_what_fails_is_given_back() -> None:
    squares = Squares(100)
    with pytest.raises(ZeroDivisionError):
        squares.made(96, lambda: looked(1 // 0))
    assert squares.held == 0


@pytest.mark.parametrize(
    ("more", "cut", "views"),
    [({}, False, 1), ({}, True, 5), ({"pan_and_scan": False}, True, 1), ({"tiles": 2}, False, 5),
     ({"tiles": 8}, False, 16)],
)  # fmt: skip
def test_room_is_for_all_crops_that_the_context_takes(more: dict[str, Any], cut: bool, views: int) -> None:
    vision = VisionConfig(width=8, layers=1, heads=1, ffn=8, image=56, patch=14, tokens=4)
    parts = [{"type": "text", "text": "x"}, {"type": "image_url", **more}]
    assert room(parts, vision, cut, 64) == views * 3 * 56 * 56
    assert room(parts, None, cut, 64) == 0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, FastAPI, gemmary.Model]]:
    """A model that sees; a server with room for one square and a half."""
    folder: Path = tmp_path_factory.mktemp("seeing")
    seeing.build(folder)
    with gemmary.load(folder, context=1024, threads=1, streams=2, queue=8) as model:
        app = create_app(Models({"test": model}), Settings(picture_memory=ONE + ONE // 2))
        with serving(app) as url:
            yield url, app, model


def test_beyond_the_room_is_asked_to_come_again(
    served: tuple[str, FastAPI, gemmary.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, app, model = served
    slowed(monkeypatch, model._runner, "head", threading.Event(), 0.05)  # or it is over before we have looked
    squares: Squares = app.state.pictures.squares
    with httpx.Client(base_url=url, timeout=60) as client, contextlib.ExitStack() as open_:
        body = {**endless(model), "messages": [shown(1)], "stream": True}
        first = open_.enter_context(client.stream("POST", CHAT, json=body))
        lines = first.iter_lines()  # kept: who drops it closes the connection
        assert first.status_code == 200 and next(lines)
        assert squares.held == ONE
        asked = {"messages": [shown(2)], "max_tokens": 1}
        refused = client.post(CHAT, json=asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "out_of_memory")
        assert refused.headers["retry-after"] == "1"
        text = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        assert client.post(CHAT, json=text).status_code == 200, "texts need no room for pictures"
        open_.close()
        until(lambda: squares.held == 0)
        assert client.post(CHAT, json=asked).status_code == 200
        until(lambda: squares.held == 0)
