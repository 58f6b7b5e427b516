"""Random towers: always the same, sharp, and with outliers where they are asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.config import VisionConfig
from gemmary.ops.reference import Reference
from gemmary.weights.assemble import module_tower
from gemmary.weights.synthetictower import OUTLIERS, synthetic_tower
from gemmary.weights.visionnames import vision_shapes

EYES = VisionConfig(width=144, layers=3, heads=2, ffn=300, image=112, patch=14, tokens=16)


def test_the_same_seed_gives_the_same_tower() -> None:
    one, two, other = (synthetic_tower(EYES, seed) for seed in (1, 1, 2))
    for name, shape in vision_shapes(EYES, 2560).items():
        assert one.tensors[name].shape == shape
        assert np.array_equal(one.tensors[name].raw, two.tensors[name].raw), name
        assert not np.array_equal(one.tensors[name].raw, other.tensors[name].raw), name
    assert one.tensors.nbytes == sum(tensor.nbytes for tensor in one.tensors.values())


def test_all_tensors_differ() -> None:
    """Layers that are alike would hide one that is taken for another."""
    tensors = synthetic_tower(replace(EYES, layers=2)).tensors
    assert not np.array_equal(tensors["layers.0.q"].raw, tensors["layers.1.q"].raw)
    assert not np.array_equal(tensors["layers.0.q"].raw, tensors["layers.0.k"].raw)


@pytest.mark.parametrize("outliers", [False, True])
def test_outliers_are_behind_the_norms(outliers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 channels of what linears read stand out, and what they give stays about 1."""
    seen: list[torch.Tensor] = []
    right = Reference.project
    entropy: list[float] = []
    softmax = Reference._softmax

    def spy(ops: Reference, x: Any, norm: Any, linears: Any) -> Any:
        hooks = [linear.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for linear in linears]
        out = right(ops, x, norm, linears)
        for hook in hooks:
            hook.remove()
        return out

    def weights(q: Any, k: Any, v: Any, mask: Any, scale: float) -> Any:
        p = (torch.einsum("tnh,jnh->ntj", q, k) * scale).softmax(-1)
        entropy.append(float(-(p * p.clamp_min(1e-20).log2()).sum(-1).mean()))
        return softmax(q, k, v, mask, scale)

    monkeypatch.setattr(Reference, "project", spy)
    monkeypatch.setattr(Reference, "_softmax", staticmethod(weights))
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 3, 112, 112)).astype(np.float32)
    tower = module_tower(synthetic_tower(EYES, 3, outliers, text_width=96), Reference())
    with torch.no_grad():
        features = tower(pixels)
    assert 0.5 < features.std() < 2
    for x in seen:
        strength = x.pow(2).mean(0).sqrt().sort(descending=True).values
        middle = strength[strength.shape[0] // 2]
        assert (strength[OUTLIERS - 1] > 15 * middle) == outliers
        assert strength[OUTLIERS] < 5 * middle
    assert max(entropy) < 5.5  # of 6 bits: the attention looks at something
