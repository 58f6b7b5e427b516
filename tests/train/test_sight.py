"""From pixels to a model that sees, in seconds: a tower from pairs, its features on disk, a decoder that
reads them, files, and an answer. Wrong pictures give wrong answers, and cut runs go on exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gemmary
from gemmary.formats import FORMATS
from gemmary.inputs.prompt import Prompt, brightness
from gemmary.inputs.vocabulary import Kind
from gemmary.model.vision_modules import ProjectorModule, TowerModule
from gemmary.ops.contract import Ints
from gemmary.train.feature_cache import CachedFeatures, write_features
from gemmary.train.loop import Plan, Trainer
from gemmary.train.packing import Document, pack_rows
from gemmary.train.pictures import PictureArray
from gemmary.train.sight_task import Sight, SightTask
from gemmary.train.sigmoid_task import SigmoidModel, SigmoidTask
from gemmary.train.task import Task
from gemmary.train.zeroshot import labels, probabilities
from gemmary.weights.save import write_gguf
from gemmary.weights.savevision import pack_tower, write_mmproj
from gemmary.weights.tensor import Tensor
from tests.parity.ggufs import vocabulary
from tests.train import shapes

STEPS = 40
HELD = 48


@dataclass
class World:
    """What training left, and pictures that it never saw with the numbers of their names."""

    eyes: TowerModule
    pairing: SigmoidModel
    sight: Sight
    log: list[float]  # losses on pairs
    held: PictureArray
    names: Ints


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("sight")
    eyes = shapes.tower()
    pairing = shapes.seeing(folder / "pairs", eyes, STEPS)
    pictures, names = shapes.pictures(200, 1)
    write_features(folder / "features", eyes, pictures)
    cached = CachedFeatures(folder / "features", eyes, pictures.digest)
    rows = pack_rows(map(shapes.conversation, names, range(len(names))), shapes.ROW)
    how = shapes.plan(STEPS)
    task = SightTask(shapes.text(), ProjectorModule(eyes), rows, cached, how)
    assert Trainer(task, how, folder / "sight").run()
    lines = (folder / "pairs" / "log.jsonl").read_text().splitlines()
    held = shapes.pictures(HELD, 2)
    return World(eyes, pairing, task.model, [json.loads(line)["loss"] for line in lines], *held)


def test_pairs_teach_the_tower(world: World) -> None:
    assert world.log[-1] < world.log[0] / 4


def test_labels_of_pictures_never_seen(world: World) -> None:
    likely = probabilities(world.pairing, world.held.pixels, shapes.NAMES)
    assert likely.shape == (HELD, 9) and likely.min() >= 0 and likely.max() <= 1
    assert (likely.argmax(1) == world.names).mean() > 0.9  # chance is 0.11
    only = [found == [name] for found, name in zip(labels(likely), world.names, strict=True)]
    assert np.mean(only) > 0.5
    alone = np.concatenate([probabilities(world.pairing, world.held.pixels, [n]) for n in shapes.NAMES], 1)
    np.testing.assert_allclose(alone, likely, atol=1e-4)  # no label depends on the others that are asked for


def right(world: World, shown: Ints) -> float:
    """How many answers name `world.names` where these pictures are shown."""
    model = Sight(world.sight.text, world.eyes)
    rows = pack_rows(map(shapes.conversation, world.names, shown), shapes.ROW)
    step, targets, _ = rows.step()
    with torch.no_grad():
        soft = model.soft(world.held.read(rows.shown))
        h = model.text(replace(step, soft=soft))
        best = (h @ model.text.table.weight.T).argmax(-1).numpy()
    return float((best == targets).reshape(-1, 3).all(1).mean())


def test_it_names_what_it_sees_and_not_what_it_does_not_see(world: World) -> None:
    others = np.array([next(j for j in range(HELD) if world.names[j] != name) for name in world.names])
    assert right(world, np.arange(HELD, dtype=np.int32)) > 0.9
    assert right(world, others.astype(np.int32)) < 0.05


# ---- files


@pytest.fixture(scope="module")
def exported(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gemmary.Model]:
    folder = tmp_path_factory.mktemp("exported")
    pieces = vocabulary(shapes.TEXT.vocab)
    for token, name in ((shapes.END, "<end_of_image>"), (shapes.BEGIN, "<start_of_image>"),
                        (shapes.SOFT, "<image_soft_token>")):  # fmt: skip
        pieces.tokens[token] = name
        pieces.types[token] = Kind.CONTROL
    tensors = {
        name: Tensor.pack(
            name, values, FORMATS["Q8_0" if values.ndim == 2 else "F32"], float(values.ndim == 1)
        )
        for name, values in world.sight.text.arrays().items()
    }
    write_gguf(folder / "toy.gguf", shapes.TEXT, tensors, pieces)
    write_mmproj(folder / "mmproj-toy.gguf", shapes.EYES, pack_tower(world.eyes.arrays(), FORMATS["F16"]))
    with gemmary.load(folder / "toy.gguf", context=128, threads=1) as model:
        yield model


def asked(pixels: np.ndarray) -> Prompt:
    """The toy's question about a picture uint8 [3, S, S]."""
    document = shapes.conversation(0, 0)
    return Prompt(list(document.ids[:-3]), brightness(pixels[None]))


@torch.no_grad()
def answer(world: World, pixels: np.ndarray) -> list[int]:
    """torch's, one id after the other."""
    ids = list(shapes.conversation(0, 0).ids[:-3])
    soft = world.eyes(brightness(pixels[None]))
    for _ in range(3):
        shown = [0 if token == shapes.SOFT else -1 for token in ids]
        row = pack_rows([Document(ids, [0.0] * len(ids), shown)], shapes.ROW)
        step = replace(row.step()[0], rows=np.array([len(ids) - 1], np.int32), soft=soft)
        ids.append(int((world.sight.text(step) @ world.sight.text.table.weight.T).argmax()))
    return ids[-3:]


def test_exported_it_answers_as_it_did_in_training(world: World, exported: gemmary.Model) -> None:
    found, wanted = [], []
    for pixels in world.held.pixels[:12]:
        reply = exported.generate(asked(pixels), temperature=0.0, max_tokens=3)
        found.append([*reply.ids][:2])
        wanted.append(answer(world, pixels)[:2])
    assert found == wanted
    named = [shapes.NAMES[name] for name in world.names[:12]]
    assert sum(one == other for one, other in zip(named, wanted, strict=True)) >= 10


# ---- resuming


def pairs_task(plan: Plan) -> Task:
    return SigmoidTask(shapes.sigmoid(shapes.tower()), shapes.pairs, "shapes", plan)


def sight_task(plan: Plan) -> Task:
    pictures, names = shapes.pictures(20, 3)
    rows = pack_rows(map(shapes.conversation, names, range(20)), shapes.ROW)
    return SightTask(shapes.text(), shapes.tower(), rows, pictures, plan)


@pytest.mark.parametrize("made", [pairs_task, sight_task])
def test_a_cut_run_goes_on_exactly(made: type[Task], tmp_path: Path) -> None:
    left = {}
    for name, cuts in (("whole", [4]), ("cut", [1, 2, 4])):
        for steps in cuts:
            how = shapes.plan(steps, learning=replace(shapes.plan(1).learning, cooldown=0))
            task = made(how)
            assert Trainer(task, how, tmp_path / name).run()
        left[name] = [p.detach().numpy().tobytes() for p in task.module.parameters()]
    assert left["whole"] == left["cut"]


@pytest.mark.long
@pytest.mark.parametrize("made", [pairs_task, sight_task])
def test_compiled_and_in_bfloat16_it_learns_too(made: type[Task], tmp_path: Path) -> None:
    how = shapes.plan(6, low=True, fuse=True)
    assert Trainer(made(how), how, tmp_path).run()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
