"""The training op table against the reference: packed rows are each document alone, in value and gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gemmary.config import Config
from gemmary.model.modules import TextModule
from gemmary.ops.contract import Step, pack
from gemmary.ops.reference import Reference
from gemmary.ops.trainable import Trainable
from tests.train import toys

WIDE = replace(toys.TOY, window=16)  # two bands: the dense path
BANDS = replace(toys.TOY, window=8)  # four bands
ODD = replace(toys.TOY, window=7)  # does not divide the row


def pair(config: Config, row: int = toys.ROW) -> tuple[TextModule, TextModule]:
    """The same weights over both tables."""
    ours = toys.model(config, row)
    truth = TextModule(config, Reference())
    truth.load_state_dict(ours.state_dict())
    return ours, truth


def with_picture(step: Step, first: int, length: int) -> Step:
    """`step` with a picture over some of its tokens."""
    block = step.block.copy()
    block[first : first + length] = 0
    soft = np.random.default_rng(5).normal(size=(length, toys.TOY.width)).astype(np.float32)
    return replace(step, block=block, soft=soft)


def answers(model: TextModule, step: Step) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Hidden states, and the gradients of a function of them that tells all entries apart."""
    h = model(step)
    scale = torch.linspace(0.5, 1.5, h.numel()).reshape(h.shape)
    return h.detach(), list(torch.autograd.grad((h * scale).sin().sum(), list(model.parameters())))


@pytest.mark.parametrize("config", [BANDS, WIDE, ODD], ids=["bands", "dense", "odd"])
@pytest.mark.parametrize("picture", [False, True], ids=["text", "picture"])
def test_equals_reference_in_value_and_gradient(config: Config, picture: bool) -> None:
    ours, truth = pair(config)
    step, _, _ = toys.rows(24).step()
    if picture:
        longest = int(np.argmax(np.diff(step.starts)))
        step = with_picture(step, int(step.starts[longest]) + 2, 12)
    got, got_grads = answers(ours, step)
    want, want_grads = answers(truth, step)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    for mine, theirs in zip(got_grads, want_grads, strict=True):
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_each_packed_document_is_as_if_alone() -> None:
    ours, truth = pair(BANDS)
    step, _, _ = toys.rows(24).step()
    with torch.no_grad():
        packed = ours(replace(step, rows=np.arange(len(step.ids), dtype=np.int32)))
        for first, end in zip(step.starts[:-1], step.starts[1:], strict=True):
            ids = step.ids[first:end].tolist()
            alone = truth(pack([ids], rows=range(len(ids))))
            torch.testing.assert_close(packed[first:end], alone, rtol=0, atol=1e-5)


def test_change_in_one_document_leaves_the_others_bitwise_alone() -> None:
    ours, _ = pair(BANDS)
    rows = toys.rows(24)
    step, _, _ = rows.step()
    changed = step.ids.copy()
    changed[step.seq == 1] = (changed[step.seq == 1] + 5) % toys.TOY.vocab
    with torch.no_grad():
        before, after = ours(step), ours(replace(step, ids=changed))
    same = torch.from_numpy(step.seq[step.rows] != 1)
    assert torch.equal(before[same], after[same])
    assert not torch.equal(before[~same], after[~same])


def test_a_key_just_outside_the_window_is_not_seen() -> None:
    local = replace(toys.TOY, layers=1, window=8)
    ours, _ = pair(local)
    ids = list(range(1, 33))
    step = pack([ids], rows=range(32))
    for last, seen in ((7, True), (8, False)):
        other = list(ids)
        other[0] = 40
        with torch.no_grad():
            difference = (ours(step) - ours(replace(step, ids=np.array(other, np.int32))))[last].abs().max()
        assert (difference > 0) == seen


def test_steps_that_are_not_whole_rows_are_refused() -> None:
    ours, _ = pair(BANDS)
    with pytest.raises(ValueError, match="not whole rows of 32"):
        ours(pack([[1, 2, 3]]))


def test_with_pages_it_is_the_reference() -> None:
    tables = Trainable(toys.ROW, (None, 8)), Reference()
    step = replace(pack([[1, 2, 3, 4]]), pages=np.zeros((1, 2, 1), np.int32))
    outputs = []
    for ops in tables:
        dice = torch.Generator().manual_seed(1)
        q, k, v = (torch.randn(4, n * 16, generator=dice) for n in (4, 2, 2))
        attention = toys.model().layers[0].attention
        outputs.append(ops.attend(q, k, v, ops.pages(1, 2, 16), ops.stage(step), attention))
    assert torch.equal(*outputs)
