"""What tokens of packed rows see, against a mask that is spelled out pair by pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn.attention import flex_attention

from gemmary.ops.banded import Banded
from gemmary.ops.contract import Step, pack
from gemmary.ops.flex import Flex, block_mask
from gemmary.ops.intervals import intervals

ROW = 32
WINDOWS = (None, 1, 4, 8, 16, 7, 40)


def random_step(seed: int) -> Step:
    """Two rows of documents, borders often at multiples of 8, with pictures, some of them neighbours."""
    dice = np.random.default_rng(seed)
    lengths: list[int] = []
    block: list[int] = []
    for row in (1, 2):
        while room := row * ROW - sum(lengths):
            length = min(room, int(dice.choice([1, 3, 7, 8, 9, 16, 24, 32])))
            part = [-1] * length
            at = int(dice.integers(0, 4))
            while at < length:
                size = int(dice.choice([0, 1, 3, 5, 8, 12, 20]))
                if at + size <= length:
                    part[at : at + size] = [max([*block, *part]) + 1] * size
                    at += size
                at += int(dice.choice([0, 1, 5])) + (size == 0)
            lengths.append(length)
            block += part
    return replace(pack([[1] * length for length in lengths]), block=np.array(block, np.int32))


CASES = [(random_step(seed), WINDOWS[seed % len(WINDOWS)]) for seed in range(21)]


def spelled_out(step: Step, window: int | None) -> np.ndarray:
    """Bool [B, row, row]."""
    count = len(step.ids) // ROW
    seen = np.zeros((count, ROW, ROW), bool)
    for row in range(count):
        for q in range(ROW):
            for k in range(ROW):
                i, j = row * ROW + q, row * ROW + k
                picture = step.block[i] >= 0 and step.block[i] == step.block[j]
                near = window is None or abs(int(step.pos[i]) - int(step.pos[j])) < window
                seen[row, q, k] = (
                    step.seq[i] == step.seq[j] and (step.pos[j] <= step.pos[i] or picture) and near
                )
    return seen


def attended(
    way: Banded | Flex, step: Step, window: int | None, numbers: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Output [T, N, H] and the gradients by q, k, v."""
    q, k, v = (x.clone().requires_grad_() for x in numbers)
    seen = way.stage(intervals(step, ROW, window), window, "cpu")
    o = way.attend(q, k, v, seen, 0.5).reshape(-1, *q.shape[2:])
    return [o, *torch.autograd.grad((o * torch.linspace(0.5, 1.5, o.numel()).view_as(o)).sum(), (q, k, v))]


def truth(step: Step, window: int | None, numbers: list[torch.Tensor]) -> list[torch.Tensor]:
    q, k, v = (x.clone().requires_grad_() for x in numbers)
    share = q.shape[2] // k.shape[2]
    keys, values = (x.repeat_interleave(share, 2) for x in (k, v))
    scores = torch.einsum("bqnh,bknh->bnqk", q, keys) * 0.5
    scores = scores.masked_fill(~torch.from_numpy(spelled_out(step, window))[:, None], -torch.inf)
    o = torch.einsum("bnqk,bknh->bqnh", scores.softmax(-1), values).flatten(0, 1)
    return [o, *torch.autograd.grad((o * torch.linspace(0.5, 1.5, o.numel()).view_as(o)).sum(), (q, k, v))]


def random_numbers(step: Step) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(0)
    return [torch.randn(len(step.ids) // ROW, ROW, n, 8, generator=dice) for n in (4, 2, 2)]


@pytest.mark.parametrize(("step", "window"), CASES)
def test_intervals_are_the_mask(step: Step, window: int | None) -> None:
    seen, column = intervals(step, ROW, window), np.arange(ROW)
    got = (seen.first[:, :, None] <= column) & (column <= seen.last[:, :, None])
    np.testing.assert_array_equal(got, spelled_out(step, window))


@pytest.mark.parametrize("plainly", [True, False], ids=["plainly", "sdpa"])
@pytest.mark.parametrize(("step", "window"), CASES)
def test_bands_are_the_mask_in_value_and_gradient(
    step: Step, window: int | None, plainly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = random_numbers(step)
    if not plainly:
        monkeypatch.setattr("gemmary.ops.banded.SCORES", 0)
    for got, want in zip(
        attended(Banded(), step, window, numbers), truth(step, window, numbers), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("block", [8, 12])
@pytest.mark.parametrize(("step", "window"), CASES)
def test_blocks_are_the_mask(step: Step, window: int | None, block: int) -> None:
    """A block is as a whole, in part or not seen just where the mask is so."""
    mask = block_mask(intervals(step, ROW, window), "cpu", block)
    rows, edge = len(step.ids) // ROW, -(-ROW // block) * block
    want = np.zeros((rows, edge, edge), bool)
    want[:, :ROW, :ROW] = spelled_out(step, window)
    want[:, ROW:] = want[:, ROW - 1 : ROW]  # rows beyond the end decide nothing
    tiles = want.reshape(rows, edge // block, block, edge // block, block)
    some, full = tiles.any((2, 4)), tiles.all((2, 4))
    for numbers, indices, chosen in (
        (mask.kv_num_blocks, mask.kv_indices, some & ~full),
        (mask.full_kv_num_blocks, mask.full_kv_indices, full),
    ):
        assert numbers is not None and indices is not None
        for place in np.ndindex(chosen.shape[:2]):
            b, q = place
            listed = indices[b, 0, q, : int(numbers[b, 0, q])].tolist()
            assert listed == np.flatnonzero(chosen[place]).tolist()
    at = torch.arange(ROW)
    got = mask.mask_mod(torch.arange(rows)[:, None, None], torch.tensor(0), at[:, None], at)
    np.testing.assert_array_equal(got.numpy(), spelled_out(step, window))


def two_pictures() -> Step:
    """A document with a picture longer than the window, then one right behind it; another; padding."""
    step = pack([[1] * 40, [1] * 24])
    block = np.full(64, -1, np.int32)
    block[3:15], block[15:20], block[44:52] = 0, 1, 2
    return replace(pack([[1] * 32, [1] * 8, [1] * 24]), ids=step.ids, block=block)


@pytest.mark.parametrize("window", [None, 8])
def test_flex_attention_is_the_mask_in_value_and_gradient(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eagerly: on a CPU torch refuses a backward pass that its eager form has."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    step = two_pictures()
    numbers = random_numbers(step)
    got = attended(Flex(fuse=False), step, window, numbers)
    for mine, theirs in zip(got, truth(step, window, numbers), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-5)


@pytest.mark.long
def test_other_documents_compile_nothing_new() -> None:
    way, compiled = Flex(fuse=False), CompileCounter()

    @torch.compile(backend=compiled, dynamic=False, fullgraph=True)
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: object) -> torch.Tensor:
        return way.attend(q, k, v, seen, 0.5)

    for lengths in ([32, 8, 24], [5, 27, 32], [1, 1, 30, 16, 16]):
        step = pack([[1] * length for length in lengths])
        numbers = random_numbers(step)
        got = attend(*numbers, way.stage(intervals(step, ROW, 8), 8, "cpu"))
        torch.testing.assert_close(
            got.reshape(-1, 4, 8), truth(step, 8, numbers)[0].detach(), rtol=0, atol=2e-5
        )
    assert compiled.frame_count == 1


def test_patches_that_see_all_of_their_picture_need_no_mask() -> None:
    step = pack([[1] * ROW, [1] * ROW])
    patches = replace(step, block=step.seq)
    for way in (Banded(), Flex(fuse=False)):
        assert way.stage(intervals(patches, ROW, None), None, "cpu") is None
        assert way.stage(intervals(step, ROW, None), None, "cpu") is not None


def test_a_sequence_that_crosses_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="crosses"):
        intervals(pack([[1] * 40, [1] * 24]), ROW, None)
