"""Modules of recipes are where training computes. No GPU is needed to see that: "meta" stands for one.

Tensors of that device have no numbers, but an operation on one of them and one of the CPU's is an error, as
it is on a GPU: a forward pass finds every array that was not handed over.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from gemmary.model.vision_modules import ProjectorModule
from gemmary.recipes import network
from gemmary.train.packing import pack_rows
from gemmary.train.sight_task import SightTask
from gemmary.train.sigmoid_task import SigmoidTask
from gemmary.train.task import Lesson
from gemmary.train.text_task import TextTask
from tests.train import shapes

PARTS = {"Trainable", "TextModule", "TowerModule", "SigmoidModel", "TextEncoder", "module_text"}
PLAN = shapes.plan(1)
ROWS = pack_rows([shapes.conversation(0, 0)], shapes.ROW)
PICTURES, _ = shapes.pictures(2, 0)


def test_only_one_file_makes_modules() -> None:
    folder = Path(network.__file__).parent
    makers = {
        path.name
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in PARTS
    }
    assert makers == {"network.py"}


def text() -> Lesson:
    return TextTask(network.new_decoder(shapes.TEXT, 0, shapes.ROW), ROWS, PLAN).loss(ROWS)


def copied() -> Lesson:
    held = network.decoder(shapes.TEXT, shapes.text().arrays(), shapes.ROW)
    return TextTask(held, ROWS, PLAN).loss(ROWS)


def pairs() -> Lesson:
    tower = network.new_tower(shapes.EYES, shapes.TEXT.width, 0)
    model = network.new_pairing(tower, shapes.READER, 4, 24, -2.0, 0)
    task = SigmoidTask(model, shapes.pairs, "shapes", PLAN)
    return task.loss(task.parts(0)[0])


def sight() -> Lesson:
    decoder = network.new_decoder(shapes.TEXT, 0, shapes.ROW)
    tower = network.new_tower(shapes.EYES, shapes.TEXT.width, 0)
    return SightTask(decoder, tower, ROWS, PICTURES, PLAN).loss(ROWS)


class Features:
    """Pooled features of no pictures in particular."""

    digest = "features"

    def __len__(self) -> int:
        return 2

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """float16 [n, tokens, D], as the cache has them."""
        return np.zeros((len(numbers), shapes.EYES.tokens, shapes.EYES.width), np.float16)


def frozen() -> Lesson:
    decoder = network.new_decoder(shapes.TEXT, 0, shapes.ROW)
    eyes = ProjectorModule(network.new_tower(shapes.EYES, shapes.TEXT.width, 0))
    return SightTask(decoder, eyes, ROWS, Features(), PLAN).loss(ROWS)


@pytest.mark.parametrize("learn", [text, copied, pairs, sight, frozen])
def test_a_step_computes_on_the_device_alone(
    monkeypatch: pytest.MonkeyPatch, learn: Callable[[], Lesson]
) -> None:
    monkeypatch.setattr(network, "device", lambda: "meta")
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which "meta" does not have
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    assert learn().loss.device.type == "meta"


def test_first_weights_are_the_same_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn before they move: a GPU has another generator."""
    drawn: list[str] = []
    honest = network.initialise

    def initialise(model: torch.nn.Module, seed: int) -> None:
        drawn.append(next(model.parameters()).device.type)
        honest(model, seed)

    monkeypatch.setattr(network, "device", lambda: "meta")
    monkeypatch.setattr(network, "initialise", initialise)
    model = network.new_decoder(shapes.TEXT, 0, shapes.ROW)
    assert drawn == ["cpu"] and next(model.parameters()).device.type == "meta"
