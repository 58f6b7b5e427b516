"""A toy world to see: a coloured shape somewhere in a small picture, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gemmary.config import Config, VisionConfig
from gemmary.model.modules import TextModule
from gemmary.model.vision_modules import TowerModule
from gemmary.ops.contract import Ints
from gemmary.ops.trainable import Trainable
from gemmary.train.checkpoint import load_latest, save
from gemmary.train.initial import initialise, initialise_sigmoid, initialise_tower
from gemmary.train.loop import Plan, Trainer
from gemmary.train.optimizer import Learning
from gemmary.train.packing import Document
from gemmary.train.pictures import PictureArray
from gemmary.train.sigmoid_task import Pairs, SigmoidModel, SigmoidTask, TextEncoder

EYES = VisionConfig(width=64, layers=2, heads=2, ffn=96, image=24, patch=4, tokens=9)
TEXT = Config(
    name="toy", vocab=512, width=64, layers=3, heads=2, kv_heads=1, head_dim=32, ffn=96, window=16,
    context=256, query_scalar=32, global_layers=(2,), vision=EYES,
)  # fmt: skip
READER = replace(TEXT, width=32, layers=1, head_dim=16, ffn=48, global_layers=(0,), vision=None)
ROW = 64
SOFT, BEGIN, END = 511, 510, 509  # ids of a soft token, and of the marks around a picture
BOS, EOS, ASKED = 2, 1, 300
COLOURS = {301: (255, 0, 0), 302: (0, 255, 0), 303: (0, 0, 255)}
SHAPES = {  # pixels of 3 x 3, each drawn 4 wide
    311: ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    312: ((0, 1, 0), (1, 1, 1), (0, 1, 0)),
    313: ((0, 0, 0), (1, 1, 1), (0, 0, 0)),
}
NAMES = [[colour, shape] for colour in COLOURS for shape in SHAPES]


def picture(name: int, dice: np.random.Generator) -> np.ndarray:
    """uint8 [3, S, S]: what `NAMES[name]` says, on grey of any brightness."""
    colour, shape = NAMES[name]
    side = EYES.image
    pixels = np.full((3, side, side), dice.integers(60, 180), np.uint8)
    drawn = np.kron(SHAPES[shape], np.ones((4, 4))).astype(bool)
    top, left = dice.integers(0, side - 12, 2)
    pixels[:, top : top + 12, left : left + 12][:, drawn] = np.array(COLOURS[colour])[:, None]
    return pixels


def pictures(count: int, seed: int) -> tuple[PictureArray, Ints]:
    """Pictures, and the number of each one's name."""
    dice = np.random.default_rng(seed)
    names = dice.integers(0, len(NAMES), count).astype(np.int32)
    return PictureArray(np.stack([picture(name, dice) for name in names])), names


def pairs(step: int) -> Pairs:
    """Two times eight pictures; no two of the same name within eight."""
    dice = np.random.default_rng((7, step))
    names = [name for _ in range(2) for name in dice.permutation(len(NAMES))[:8]]
    return Pairs(np.stack([picture(name, dice) for name in names]), [NAMES[name] for name in names])


def tower(seed: int = 0) -> TowerModule:
    """With its first weights."""
    made = TowerModule(EYES, TEXT.width, Trainable(EYES.patches, (None,)))
    initialise_tower(made, seed)
    return made


def text(seed: int = 0) -> TextModule:
    """A decoder with its first weights."""
    made = TextModule(TEXT, Trainable(ROW, (None, TEXT.window)))
    initialise(made, seed)
    return made


def sigmoid(eyes: TowerModule, seed: int = 0) -> SigmoidModel:
    """A tower beside a reader with its first weights."""
    made = SigmoidModel(eyes, TextEncoder(READER, 4, 24), bias=-2.0)
    initialise_sigmoid(made, seed)
    return made


def plan(steps: int, **changes: Any) -> Plan:
    """A short run in float32 without a compiler."""
    usual = Plan(
        steps=steps, rows=4, parts=2, low=False, fuse=False, checkpoint_every=10_000,
        learning=Learning(peak=4e-3, warmup=4, cooldown=20),
    )  # fmt: skip
    return replace(usual, **changes)


def seeing(folder: Path, eyes: TowerModule, steps: int, **changes: Any) -> SigmoidModel:
    """Train a tower in `folder` on pairs."""
    model, how = sigmoid(eyes), plan(steps, **changes)
    assert Trainer(SigmoidTask(model, pairs, "shapes", how), how, folder).run()
    return model


def forget(folder: Path, *names: str) -> None:
    """Take these out of what the last checkpoint knows, which then is one of older code."""
    found = load_latest(folder)
    assert found is not None
    state = {name: value for name, value in found.state.items() if name not in names}
    assert len(state) == len(found.state) - len(names)
    save(folder, replace(found, state=state))


def conversation(name: int, picture: int) -> Document:
    """Asked what is in a picture, the model answers with its colour and its shape."""
    before, answer = [BOS, BEGIN], [*NAMES[name], EOS]
    ids = [*before, *[SOFT] * EYES.tokens, END, ASKED, *answer]
    shown = [-1] * len(before) + [picture] * EYES.tokens + [-1] * (2 + len(answer))
    return Document(ids, [0.0] * (len(ids) - len(answer)) + [1.0] * len(answer), shown)
