"""The tower's operations of the torch tables against torch's own layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gemmary.config import VisionConfig
from gemmary.model.text import Gain
from gemmary.model.vision import features, picture_step
from gemmary.model.vision_modules import LayerNorm, TowerModule
from gemmary.ops.contract import Attention
from gemmary.ops.reference import Reference
from gemmary.ops.trainable import Trainable

OPS = Reference()
EYES = VisionConfig(width=24, layers=2, heads=3, ffn=40, image=12, patch=2, tokens=4)


def test_patchify_is_a_convolution() -> None:
    torch.manual_seed(0)
    convolution, linear = nn.Conv2d(3, 24, 2, 2), nn.Linear(12, 24)
    linear.load_state_dict({"weight": convolution.weight.flatten(1), "bias": convolution.bias})
    pixels, positions = torch.randn(2, 3, 12, 12), torch.randn(36, 24)
    want = (convolution(pixels).flatten(2).transpose(1, 2) + positions).flatten(0, 1)
    torch.testing.assert_close(OPS.patchify(pixels.numpy(), linear, positions, 2), want)


def test_pool_is_an_average_over_squares() -> None:
    torch.manual_seed(1)
    x = torch.randn(2 * 36, 24)
    norm = Gain(torch.randn(24), 1e-3, torch.randn(24))
    normed = nn.functional.layer_norm(x, (24,), norm.gain, norm.bias, norm.eps)
    squares = normed.view(2, 6, 6, 24).permute(0, 3, 1, 2)
    want = nn.functional.avg_pool2d(squares, 3).flatten(2).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(OPS.pool(x, norm, 6, 2), want)


def test_a_norm_with_a_bias_is_a_layer_norm() -> None:
    torch.manual_seed(2)
    ours, theirs, linear = LayerNorm(24, 1e-6), nn.LayerNorm(24, 1e-6), nn.Linear(24, 5)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    x = 3 + torch.randn(9, 24)
    torch.testing.assert_close(OPS.project(x, ours, (linear,))[0], linear(theirs(x)))


def test_merge_without_a_norm_adds() -> None:
    x, o, linear = torch.randn(4, 6), torch.randn(4, 8), nn.Linear(8, 6)
    assert torch.equal(OPS.merge(x, o, linear, None), x + linear(o))


@pytest.mark.parametrize("ops", [OPS, Trainable(20, (None,))], ids=["reference", "trainable"])
@pytest.mark.parametrize("pictures", [1, 3])
def test_every_patch_sees_its_picture_and_no_other(ops: Reference, pictures: int) -> None:
    torch.manual_seed(3)
    q, k, v = (torch.randn(pictures * 20, 16) for _ in range(3))
    step = ops.stage(picture_step(pictures, 20))
    got = ops.attend(q, k, v, None, step, Attention(window=None, scale=0.3, head_dim=8))
    parts = (x.view(pictures, 20, 2, 8).transpose(1, 2) for x in (q, k, v))
    want = nn.functional.scaled_dot_product_attention(*parts, scale=0.3).transpose(1, 2)
    torch.testing.assert_close(got, want.flatten(2).flatten(0, 1))


def test_gradients_are_those_of_the_reference() -> None:
    """Training the tower later: every parameter, both tables."""
    torch.manual_seed(4)
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 3, 12, 12)).astype(np.float32)
    truth = TowerModule(EYES, 10, OPS)
    for parameter in truth.parameters():
        nn.init.normal_(parameter, 0.3, 0.3)
    ours = TowerModule(EYES, 10, Trainable(36, (None,)))
    ours.load_arrays(truth.arrays())
    grads = [
        torch.autograd.grad(features(tower, pixels).sin().sum(), list(tower.parameters()))
        for tower in (truth, ours)
    ]
    for (name, _), want, got in zip(truth.named_parameters(), *grads, strict=True):
        assert want.abs().max() > 0 or name.endswith(".k.bias"), name  # softmax undoes what keys share
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5, msg=name)
