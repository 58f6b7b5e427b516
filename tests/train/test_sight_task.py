"""A decoder that reads pictures learns what it should, through the splice, whatever is packed beside it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gemmary.errors import GemmaryError
from gemmary.model.modules import TextModule
from gemmary.model.vision_modules import ProjectorModule, TowerModule
from gemmary.ops.reference import Reference
from gemmary.train.feature_cache import CachedFeatures, write_features
from gemmary.train.loop import Trainer
from gemmary.train.packing import Document, Rows, pack_rows
from gemmary.train.sight_task import Sight, SightTask, mean_sight_loss
from tests.train import shapes

PICTURES, NAMES = shapes.pictures(6, 0)


def two_pictures(first: int, second: int) -> Document:
    """One document with two pictures and an answer of each."""
    one, other = (shapes.conversation(int(NAMES[n]), n) for n in (first, second))
    return Document(
        [*one.ids[:-1], *other.ids[1:]],
        [*one.weights[:-1], *other.weights[1:]],
        [*(one.pictures or ())[:-1], *(other.pictures or ())[1:]],
    )


DOCUMENTS = [
    *(shapes.conversation(int(name), number) for number, name in enumerate(NAMES)),
    two_pictures(3, 0),
    Document([2, 40, 41, 42, 43], [1.0] * 5),
    Document([2, 50, 51, 52], [0.5] * 4),
]


def reference(model: Sight) -> Sight:
    """The same weights over the reference table: dense masks, document by document."""
    made = copy.deepcopy(model)
    for module in made.modules():
        if hasattr(module, "ops"):
            module.ops = Reference()
    return made


def summed(model: Sight, rows: Rows) -> torch.Tensor:
    loss: torch.Tensor = model(*rows.step(), PICTURES.read(rows.shown))
    return loss


@pytest.fixture
def model() -> Sight:
    """With gains and biases that are not at rest."""
    made, dice = Sight(shapes.text(), shapes.tower()), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=dice))
    return made


def test_packed_documents_have_the_loss_and_gradients_that_they_have_alone(model: Sight) -> None:
    packed = pack_rows(DOCUMENTS, shapes.ROW)
    assert len(packed) < len(DOCUMENTS) and len(packed.shown) == 8
    loss = summed(model, packed)
    found = torch.autograd.grad(loss, list(model.parameters()))
    alone = reference(model)
    rows = [pack_rows([document], len(document.ids)) for document in DOCUMENTS]
    losses = torch.stack([summed(alone, row) for row in rows])
    wanted = torch.autograd.grad(losses.sum(), list(alone.parameters()))
    torch.testing.assert_close(loss, losses.sum(), rtol=1e-5, atol=1e-5)
    for (name, _), got, want in zip(model.named_parameters(), found, wanted, strict=True):
        gap = float((got - want).norm() / (want.norm() + 0.01))  # softmax does not feel the bias of keys
        assert gap < 1e-4, (name, gap)


@pytest.mark.parametrize(
    "name",
    ["eyes.patch.weight", "eyes.positions", "eyes.layers.0.q.weight", "eyes.layers.1.fc2.bias",
     "eyes.soft_norm.weight", "eyes.projection.weight", "text.layers.0.k.weight", "text.table.weight"],
)  # fmt: skip
def test_gradients_are_slopes(model: Sight, name: str) -> None:
    """Along the gradient the loss rises by its length; an error in the splice would change that."""
    rows = pack_rows(DOCUMENTS[:3], shapes.ROW)
    parameter = dict(model.named_parameters())[name]
    (slope,) = torch.autograd.grad(summed(model, rows), [parameter])
    length = float(slope.norm())
    reach = 2e-3 * float(parameter.detach().norm())
    with torch.no_grad():
        losses = []
        for side in (1.0, -1.0):
            kept = parameter.clone()
            parameter.add_(slope, alpha=side * reach / length)
            losses.append(float(summed(model, rows)))
            parameter.copy_(kept)
    assert (losses[0] - losses[1]) / (2 * reach) == pytest.approx(length, rel=0.02)


def test_rows_without_pictures_leave_the_eyes_alone(model: Sight) -> None:
    task = SightTask(model.text, model.eyes, pack_rows(DOCUMENTS, shapes.ROW), PICTURES, shapes.plan(1))
    lesson = task.loss(pack_rows(DOCUMENTS[-2:], shapes.ROW))
    slopes = torch.autograd.grad(lesson.loss, list(task.module.parameters()), materialize_grads=True)
    assert (lesson.weight, lesson.tokens) == (5.5, 9)  # nobody predicts a document's first token
    for (name, _), slope in zip(task.module.named_parameters(), slopes, strict=True):
        assert not slope.any() if name.startswith("eyes.") else slope.any(), name


def test_features_teach_what_pixels_teach_where_the_tower_rests(tmp_path: Path, model: Sight) -> None:
    eyes = model.eyes
    assert isinstance(eyes, TowerModule)
    write_features(tmp_path, eyes, PICTURES)
    cached = CachedFeatures(tmp_path, eyes, PICTURES.digest)
    rows = pack_rows(DOCUMENTS, shapes.ROW)
    frozen = SightTask(model.text, ProjectorModule(eyes), rows, cached, shapes.plan(1))
    learnt = ["eyes.projection.weight", "eyes.soft_norm.weight"]
    names = [name for name, _ in frozen.module.named_parameters()]
    assert [name for name in names if name.startswith("eyes.")] == learnt[::-1]
    both = (SightTask(model.text, eyes, rows, PICTURES, shapes.plan(1)), frozen)
    losses = [task.loss(rows).loss for task in both]
    slopes = [
        torch.autograd.grad(loss, [dict(task.module.named_parameters())[n] for n in learnt])
        for loss, task in zip(losses, both, strict=True)
    ]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=0)
    for got, want in zip(*slopes[::-1], strict=True):
        assert float((got - want).norm() / want.norm()) < 1e-2
    mean = float(losses[1].detach()) / float(rows.weights.sum())
    assert mean_sight_loss(frozen.model, rows, cached, 2) == pytest.approx(mean, rel=1e-5)


def test_bfloat16_learns_about_the_same(model: Sight) -> None:
    rows = pack_rows(DOCUMENTS, shapes.ROW)
    exact, low = (
        SightTask(model.text, model.eyes, rows, PICTURES, shapes.plan(1, low=low)).loss(rows).loss.detach()
        for low in (False, True)
    )
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(exact), rel=0.02) and float(low) != float(exact)


def test_a_checkpoint_of_another_config_with_the_same_shapes_is_refused(tmp_path: Path) -> None:
    how, rows = shapes.plan(1), pack_rows(DOCUMENTS, shapes.ROW)

    def train(text: TextModule, eyes: TowerModule) -> bool:
        return Trainer(SightTask(text, eyes, rows, PICTURES, how), how, tmp_path).run()

    assert train(shapes.text(), shapes.tower())
    text, eyes = shapes.text(), shapes.tower()
    text.config = replace(shapes.TEXT, context=4096)
    with pytest.raises(GemmaryError, match=r"another model \(context\); use another folder"):
        train(text, shapes.tower())
    eyes.config = replace(shapes.EYES, norm_eps=1e-5)
    with pytest.raises(GemmaryError, match=r"another eyes \(norm_eps\); use another folder"):
        train(shapes.text(), eyes)
    shapes.forget(tmp_path, "model", "eyes")  # as before they were recorded
    assert train(shapes.text(), shapes.tower())


def test_what_a_run_learns_from_is_part_of_it(model: Sight) -> None:
    rows = pack_rows(DOCUMENTS, shapes.ROW)
    others = shapes.pictures(6, 1)[0]
    one, other = (
        SightTask(model.text, model.eyes, rows, seen, shapes.plan(1)).identity for seen in (PICTURES, others)
    )
    assert one["data"] == other["data"] and one["pictures"] != other["pictures"]
    assert one["data"] == rows.digest
