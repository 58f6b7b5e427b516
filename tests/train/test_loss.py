"""The chunked loss is plain cross entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gemmary.train.loss import Target, chunked_cross_entropy, cross_entropy, mean_loss, next_token
from tests.train import toys


def case(tokens: int = 37, width: int = 24, vocab: int = 101) -> tuple[torch.Tensor, ...]:
    dice = torch.Generator().manual_seed(3)
    h = torch.randn(tokens, width, generator=dice, requires_grad=True)
    table = torch.randn(vocab, width, generator=dice, requires_grad=True)
    targets = torch.randint(vocab, (tokens,), generator=dice)
    weights = torch.rand(tokens, generator=dice)
    return h, table, targets, weights


def plain(h: torch.Tensor, table: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    losses = torch.nn.functional.cross_entropy(h @ table.T, targets, reduction="none")
    return (losses * weights).sum()


@pytest.mark.parametrize("chunk", [1, 5, 37, 512])
def test_equals_plain_cross_entropy_in_value_and_gradient(chunk: int) -> None:
    h, table, targets, weights = case()
    ours = cross_entropy(h, table, targets.numpy(), weights.numpy(), chunk) * 3.0
    truth = plain(h, table, targets, weights) * 3.0
    torch.testing.assert_close(ours, truth, rtol=1e-6, atol=0)
    for mine, theirs in zip(*(torch.autograd.grad(loss, (h, table)) for loss in (ours, truth)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=5e-6)


def test_bfloat16_matrices_keep_the_gradient_in_direction() -> None:
    h, table, targets, weights = case()
    with torch.autocast("cpu", torch.bfloat16):
        ours = cross_entropy(h, table, targets.numpy(), weights.numpy())
    truth = plain(h, table, targets, weights)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, truth, rtol=1e-2, atol=0)
    for mine, theirs in zip(*(torch.autograd.grad(loss, (h, table)) for loss in (ours, truth)), strict=True):
        assert torch.cosine_similarity(mine.flatten(), theirs.flatten(), dim=0) > 0.999


def test_logits_of_all_tokens_never_exist_at_once() -> None:
    h, table, targets, weights = case(tokens=64, vocab=1000)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            largest = max(largest, made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    with Sizes():
        cross_entropy(h, table, targets.numpy(), weights.numpy(), chunk=8).backward()
    assert largest == max(8 * 1000, table.numel())


def pulled(tokens: int = 37, vocab: int = 101, ids: int = 6, **how: float) -> Target:
    """A target of some distinct ids a token, float64."""
    dice = torch.Generator().manual_seed(5)
    chosen = torch.rand(tokens, vocab, generator=dice).topk(ids).indices
    return Target(chosen, torch.rand(tokens, ids, generator=dice).double().softmax(-1), **how)


def dense(h: torch.Tensor, table: torch.Tensor, target: Target, weights: torch.Tensor) -> torch.Tensor:
    """The definition, over the whole vocabulary and by autograd."""
    logits = h @ table.T / target.temperature
    q = torch.zeros_like(logits).scatter_add(1, target.ids, target.amounts)
    losses = -(q * logits.log_softmax(-1)).sum(-1)
    return (weights * (target.share * losses + target.z * logits.logsumexp(-1) ** 2)).sum()


SEVERAL = {
    "distribution": [pulled()],
    "z-loss": [pulled(z=0.1)],
    "z-loss alone": [pulled(share=0.0, z=1.0)],
    "temperature": [pulled(temperature=2.5, share=6.25)],
    "two temperatures and z": [pulled(ids=1, share=0.3, z=1e-2), pulled(temperature=0.7, share=0.34)],
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("chunk", [1, 10, None])
def test_targets_equal_the_dense_definition(name: str, chunk: int | None) -> None:
    h, table, _, weights = (x.detach().double() for x in case())
    h.requires_grad_(), table.requires_grad_()
    ours = chunked_cross_entropy(h, table, SEVERAL[name], weights, chunk) * 3.0
    truth = sum(dense(h, table, target, weights) for target in SEVERAL[name]) * 3.0
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=0)
    for mine, theirs in zip(*(torch.autograd.grad(loss, (h, table)) for loss in (ours, truth)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    h, table, _, weights = (x.detach().double()[:5] for x in case(width=3))
    targets = [pulled(5, 5, 2, z=0.1), pulled(5, 5, 3, temperature=2.0)]
    loss = chunked_cross_entropy(h.requires_grad_(), table.requires_grad_(), targets, weights, 2)
    for x, gradient in zip((h, table), torch.autograd.grad(loss, (h, table)), strict=True):
        for place in range(x.numel()):
            nudge = torch.zeros_like(x).flatten()
            nudge[place] = 1e-5
            ends = [
                chunked_cross_entropy(
                    *(y + way * nudge.view_as(x) if y is x else y for y in (h, table)), targets, weights
                )
                for way in (1.0, -1.0)
            ]
            slope = (ends[0] - ends[1]).item() / 2e-5
            assert slope == pytest.approx(float(gradient.flatten()[place]), rel=1e-6, abs=1e-8)


def test_next_tokens_are_the_target_of_one_id() -> None:
    h, table, targets, weights = case()
    plainly = cross_entropy(h, table, targets.numpy(), weights.numpy())
    as_target = chunked_cross_entropy(h, table, [next_token(targets, h)], weights)
    assert plainly.item() == as_target.item()


def test_a_large_vocabulary_makes_chunks_smaller_and_blocks_of_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    h, table, targets, weights = case(tokens=64, vocab=1000)
    whole = cross_entropy(h, table, targets.numpy(), weights.numpy())
    wanted = torch.autograd.grad(whole, (h, table))
    monkeypatch.setattr("gemmary.train.loss.LOGITS", 16_000)
    monkeypatch.setattr("gemmary.train.loss.BLOCK", 24 * 300)
    made: list[int] = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.mm.default:
                made.append(result.numel())
            return result

    with Sizes():
        small = cross_entropy(h, table, targets.numpy(), weights.numpy())
    assert set(made) == {16 * 1000, 16 * 24, 24 * 300, 24 * 100}
    torch.testing.assert_close(small, whole, rtol=1e-6, atol=0)
    for mine, theirs in zip(torch.autograd.grad(small, (h, table)), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=5e-6)


def test_a_second_backward_pass_is_refused_not_wrong() -> None:
    h, table, targets, weights = case()
    loss = cross_entropy(h, table, targets.numpy(), weights.numpy())
    torch.autograd.grad(loss, h, retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, h)


def test_mean_loss_of_untrained_weights_is_that_of_guessing() -> None:
    loss = mean_loss(toys.model(), toys.rows())
    assert abs(loss - math.log(toys.TOY.vocab) - 0.5) < 0.35


def test_mean_loss_does_not_depend_on_how_rows_are_grouped() -> None:
    data, model = toys.rows(), toys.model()
    assert np.isclose(mean_loss(model, data, rows=1), mean_loss(model, data, rows=7), rtol=1e-6)
