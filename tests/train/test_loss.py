"""The chunked loss is plain cross entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gemmary.train.loss import cross_entropy, mean_loss
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


def test_mean_loss_of_untrained_weights_is_that_of_guessing() -> None:
    loss = mean_loss(toys.model(), toys.rows())
    assert abs(loss - math.log(toys.TOY.vocab) - 0.5) < 0.35


def test_mean_loss_does_not_depend_on_how_rows_are_grouped() -> None:
    data, model = toys.rows(), toys.model()
    assert np.isclose(mean_loss(model, data, rows=1), mean_loss(model, data, rows=7), rtol=1e-6)
