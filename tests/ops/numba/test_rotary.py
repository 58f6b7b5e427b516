"""QK-norm and rotation: against transformers' frequencies, also at the end of the longest context."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding

from gemmary.config import GEMMA3_1B, GEMMA3_4B, GEMMA3_27B, Config, Rope
from gemmary.ops.numba.rotary import angles
from gemmary.ops.reference import rotary
from tests.ops.numba.played import turned
from tests.parity.sharp import KINDS, hf_config

POSITIONS = np.array([0, 1, 2, 63, 64, 1000, 1023, 1024, 32_767, 131_071], np.int32)


def their_angles(config: Config, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines [T, H/2] of transformers for a real size."""
    full = {"rope_type": "default", "rope_theta": config.rope_global.theta}
    if config.rope_global.factor != 1:
        full |= {"rope_type": "linear", "factor": config.rope_global.factor}
    local = {"rope_type": "default", "rope_theta": config.rope_local.theta}
    theirs: Gemma3TextConfig = hf_config(
        KINDS[0],
        head_dim=config.head_dim,
        rope_parameters={"full_attention": full, "sliding_attention": local},
    )
    cos, sin = Gemma3RotaryEmbedding(theirs)(torch.zeros(1), torch.from_numpy(POSITIONS)[None].long(), kind)
    half = config.head_dim // 2
    return cos[0, :, :half].numpy(), sin[0, :, :half].numpy()


@pytest.mark.parametrize("config", [GEMMA3_1B, GEMMA3_4B, GEMMA3_27B], ids=lambda config: config.name)
@pytest.mark.parametrize("kind", ["full_attention", "sliding_attention"])
def test_angles_are_those_of_transformers(config: Config, kind: str) -> None:
    """A last-bit difference of a frequency, times the position, is what may differ."""
    rope = config.rope_global if kind == "full_attention" else config.rope_local
    ours = angles(POSITIONS, rope, config.head_dim)
    for mine, other in zip(ours.swapaxes(0, 1), their_angles(config, kind), strict=True):
        gap = np.abs(mine - other).max(-1)
        print(np.array2string(gap, precision=1))
        assert (gap <= 1e-6 + POSITIONS * 2.0**-23).all()


def truth(x: np.ndarray, gain: np.ndarray, pos: np.ndarray, rope: Rope) -> tuple[np.ndarray, np.ndarray]:
    """Heads [T, N, H] after the norm, and after the rotation of the reference."""
    wide = x.reshape(len(x), -1, len(gain)).astype(np.float64)
    normed = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * gain
    return normed, rotary(torch.from_numpy(normed.astype(np.float32)), torch.from_numpy(pos), rope).numpy()


@pytest.mark.parametrize("head_dim", [2, 6, 64, 256])
@pytest.mark.parametrize("rope", [Rope(1e4), Rope(1e6, 8.0)], ids=str)
def test_rotate(head_dim: int, rope: Rope) -> None:
    """Norm, then half-split rotation of every head of q and k, each with its gain, as the reference does."""
    rng = np.random.default_rng(head_dim)
    q, k = (rng.normal(size=(5, heads * head_dim)).astype(np.float32) for heads in (3, 2))
    gains = tuple(rng.normal(2, 0.5, head_dim).astype(np.float32) for _ in range(2))
    pos = np.array([0, 1, 64, 500, 1000], np.int32)
    for x, gain, out in zip((q, k), gains, turned(q, k, gains, pos, rope), strict=True):
        normed, want = truth(x, gain, pos, rope)
        got = out.reshape(want.shape)
        np.testing.assert_allclose(got, want, atol=5e-4)
        np.testing.assert_allclose(got[0], normed[0], atol=2e-6)  # position 0 does not turn
        np.testing.assert_allclose(*(np.linalg.norm(y, axis=-1) for y in (got, normed)), rtol=1e-5)


def test_scores_depend_on_distance_only() -> None:
    rng = np.random.default_rng(0)
    q, k = (rng.normal(size=(1, 64)).astype(np.float32) for _ in range(2))
    gains, scores = (np.ones(64, np.float32), np.ones(64, np.float32)), []
    for shift in (0, 10, 900):
        at_q, at_k = (np.array([at + shift], np.int32) for at in (40, 7))
        turned_q = turned(q, k, gains, at_q, Rope(1e4))[0]
        turned_k = turned(q, k, gains, at_k, Rope(1e4))[1]
        scores.append(turned_q[0] @ turned_k[0])
    np.testing.assert_allclose(scores, scores[0], atol=1e-3)


def test_the_angles_of_one_token_are_those_among_others_and_the_callers_own() -> None:
    rope, head = Rope(1e4, 8.0), 32
    together = angles(np.arange(100, dtype=np.int32), rope, head)
    for position in (3, 40, 99, 3):
        alone = angles(np.array([position], np.int32), rope, head)
        np.testing.assert_array_equal(alone[0], together[position])
        alone[:] = 7  # recorded steps put the next token's angles in the place of these
