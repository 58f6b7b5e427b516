"""Texts and pictures become vectors that depend on what they should; pairs are cut and counted rightly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.errors import GemmaryError
from gemmary.inputs.prompt import brightness
from gemmary.train.initial import initialise
from gemmary.train.loop import Trainer
from gemmary.train.sigmoid_task import Pairs, SigmoidTask, TextEncoder, text_step
from gemmary.train.zeroshot import labels
from tests.train import shapes


def reader(longest: int) -> TextEncoder:
    made = TextEncoder(shapes.READER, longest, 24)
    initialise(made.decoder, 0)
    torch.nn.init.normal_(made.out.weight, generator=torch.Generator().manual_seed(0))
    return made


@torch.no_grad()
def test_a_text_depends_on_all_of_itself_and_on_nothing_else() -> None:
    encoder = reader(6)
    texts = [[301, 311], [311, 301], [301, 311, 302, 312, 303, 313], [301, 312]]
    together = encoder(texts)
    for text, vector in zip(texts, together, strict=True):
        torch.testing.assert_close(encoder([text])[0], vector, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reader(9)(texts), together, rtol=1e-4, atol=1e-5)
    for one, other in ((0, 1), (0, 3)):
        assert (together[one] - together[other]).abs().max() > 0.1


@torch.no_grad()
def test_the_first_token_sees_the_last() -> None:
    decoder = reader(3).decoder
    one, other = (decoder(text_step([ids], 3)) for ids in ([5, 6, 7], [5, 6, 8]))
    assert (one[0] - other[0]).abs().max() > 1e-2


def test_texts_of_no_length_or_too_many_tokens_are_refused() -> None:
    for texts in ([[5], []], [[5] * 5]):
        with pytest.raises(ValueError, match="take 1 to 4"):
            reader(4)(texts)


def test_a_step_is_cut_into_micro_batches_that_are_their_own_wrong_answers() -> None:
    model = shapes.sigmoid(shapes.tower())
    task = SigmoidTask(model, shapes.pairs, "shapes", shapes.plan(1))
    both, whole = task.parts(3), shapes.pairs(3)
    assert np.array_equal(np.concatenate([part.pixels for part in both]), whole.pixels)
    assert [text for part in both for text in part.texts] == whole.texts
    for part in both:
        lesson = task.loss(part)
        x, y = model.pictures(part.pixels), model.texts(part.texts)
        x, y = (v / v.norm(dim=1, keepdim=True) for v in (x, y))
        z = (x @ y.T * 10.0 - 2.0) * (2 * torch.eye(8) - 1)
        torch.testing.assert_close(lesson.loss, -z.sigmoid().log().sum(), rtol=1e-4, atol=1e-4)
        assert (lesson.weight, lesson.tokens) == (8.0, 8)


def test_micro_batches_keep_the_texts_that_are_true_of_their_pictures() -> None:
    whole = shapes.pairs(0)
    true = np.zeros((16, 4), bool)
    true[:8, 1] = true[3, 0] = true[8:, 2] = True  # and text 3 is true of none
    data = Pairs(whole.pixels, [[301], [302], [303], [304]], true)
    task = SigmoidTask(shapes.sigmoid(shapes.tower()), lambda step: data, "phrases", shapes.plan(1))
    one, other = task.parts(0)
    assert (one.texts, other.texts) == ([[301], [302]], [[303]])
    assert one.true is not None and np.array_equal(one.true, true[:8, :2])
    assert task.loss(one).loss.isfinite()


def test_pairs_that_do_not_part_are_refused() -> None:
    def pairs(step: int) -> Pairs:
        whole = shapes.pairs(step)
        return Pairs(whole.pixels[:15], whole.texts[:15])

    task = SigmoidTask(shapes.sigmoid(shapes.tower()), pairs, "odd", shapes.plan(1))
    with pytest.raises(ValueError, match="15 pictures and 15 texts are no 2 equal parts"):
        task.parts(0)


def test_a_checkpoint_of_another_config_with_the_same_shapes_is_refused(tmp_path: Path) -> None:
    how = shapes.plan(1)

    def train(**changes: Any) -> bool:
        model = shapes.sigmoid(shapes.tower())
        for part, attribute, value in changes.values():
            setattr(part(model), attribute, value)
        return Trainer(SigmoidTask(model, shapes.pairs, "shapes", how), how, tmp_path).run()

    assert train()
    eyes = (lambda model: model.tower, "config", replace(shapes.EYES, norm_eps=1e-5))
    reader = (lambda model: model.texts.decoder, "config", replace(shapes.READER, window=8))
    longest = (lambda model: model.texts, "longest", 6)
    for change, said in (
        (eyes, r"another eyes \(norm_eps\)"),
        (reader, r"another reader \(window\)"),
        (longest, r"another reader \(longest\)"),
    ):
        with pytest.raises(GemmaryError, match=said + "; use another folder"):
            train(change=change)
    shapes.forget(tmp_path, "eyes", "reader")  # as before they were recorded
    assert train()


def test_a_picture_depends_on_where_its_patches_are() -> None:
    model = shapes.sigmoid(shapes.tower())
    pixels = shapes.pictures(1, 0)[0].pixels
    with torch.no_grad():
        one, other, floats = (model.pictures(p) for p in (pixels, np.roll(pixels, 4, 3), brightness(pixels)))
    assert (one - other).abs().max() > 1e-2
    assert torch.equal(one, floats)


def test_only_the_projector_does_not_learn_from_pairs() -> None:
    eyes = shapes.tower()
    names = {name for name, _ in shapes.sigmoid(eyes).tower.named_parameters()}
    assert {name for name, _ in eyes.named_parameters()} - names == {"soft_norm.weight", "projection.weight"}


def test_labels_are_those_above_the_threshold_by_falling_probability() -> None:
    likely = np.array([[0.6, 0.2, 0.9], [0.1, 0.2, 0.3], [0.5, 0.5, 0.0]], np.float32)
    assert labels(likely) == [[2, 0], [], [0, 1]]
    assert labels(likely, 0.15) == [[2, 0, 1], [2, 1], [0, 1]]
