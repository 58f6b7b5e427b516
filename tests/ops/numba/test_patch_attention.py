"""Attention within pictures in int8, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.ops.numba.arena import Arena
from gemmary.ops.numba.machine import team
from gemmary.ops.numba.patch_attention import attend_patches
from gemmary.ops.numba.tape import Tape

SHAPES = [(1, 1, 1, 8), (1, 4, 2, 16), (2, 100, 2, 72), (1, 129, 3, 10), (3, 256, 1, 64), (1, 333, 2, 80)]


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, patches: int, head: int) -> np.ndarray:
    tape, arena = Tape(), Arena()
    out = attend_patches(tape, arena, q, k, v, patches, head, head**-0.5)
    team().play(tape)
    return out.copy()


def truth(q: np.ndarray, k: np.ndarray, v: np.ndarray, patches: int, head: int) -> np.ndarray:
    q, k, v = (x.astype(np.float64).reshape(-1, patches, x.shape[1] // head, head) for x in (q, k, v))
    scores = np.einsum("pqnh,pknh->pnqk", q, k) * head**-0.5
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    out = np.einsum("pnqk,pknh->pqnh", powers / powers.sum(-1, keepdims=True), v)
    return out.reshape(len(out) * patches, -1)


def inputs(pictures: int, patches: int, heads: int, head: int, sharp: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng([pictures, patches, heads, head])
    drawn = [rng.standard_normal((pictures * patches, heads * head), np.float32) for _ in range(3)]
    drawn[0] *= np.float32(sharp)
    return drawn


def error(got: np.ndarray, want: np.ndarray, v: np.ndarray) -> float:
    """Root mean square, beside that of the values."""
    return float(np.sqrt(((got - want) ** 2).mean() / (v.astype(np.float64) ** 2).mean()))


@pytest.mark.parametrize("sharp", [0.0, 1.0, 6.0])
@pytest.mark.parametrize(("pictures", "patches", "heads", "head"), SHAPES)
def test_softmax_attention(pictures: int, patches: int, heads: int, head: int, sharp: float) -> None:
    q, k, v = inputs(pictures, patches, heads, head, sharp)
    want = truth(q, k, v, patches, head)
    assert error(attended(q, k, v, patches, head), want, v) <= 0.004 * (1 + sharp)


def test_offsets_of_keys_and_values_cost_nothing() -> None:
    """What all patches share is taken off before rounding."""
    q, k, v = inputs(1, 200, 2, 72)
    rng = np.random.default_rng(5)
    k, v = (x + rng.standard_normal(x.shape[1]).astype(np.float32) * 100 for x in (k, v))
    want = truth(q, k, v, 200, 72)
    assert error(attended(q, k, v, 200, 72), want, v - v.mean(0)) <= 0.01


def test_a_loud_column_of_values_keeps_to_itself() -> None:
    q, k, v = inputs(1, 200, 1, 72)
    quiet = attended(q, k, v, 200, 72)
    v[:, 7] *= 1000
    loud = attended(q, k, v, 200, 72)
    np.testing.assert_array_equal(np.delete(loud, 7, 1), np.delete(quiet, 7, 1))


def test_far_scores_do_not_vanish_in_the_sum() -> None:
    """One key of 512 has half of the weight, and the other half is spread over all others.

    Those in its own block are each less than half a code beside it; those of the other blocks are not lost.
    """
    q, k, v = inputs(1, 512, 1, 16, 0.0)
    q[:, 0], k[:] = 4.0, 0
    k[100, 0] = np.log(511)
    want = truth(q, k, v, 512, 16)
    assert error(attended(q, k, v, 512, 16), want, v) <= 0.1 < 0.4 * error(want, v[100], v)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_nan_is_not_lost(which: int) -> None:
    given = inputs(2, 40, 2, 16)
    given[which][3, 2] = np.nan  # of the first picture and the first head
    out = attended(*given, 40, 16)
    hit = [out[3, :16], out[:40, :16], out[:40, 2]][which]
    assert np.isnan(hit).all()
    assert np.isfinite(out[40:]).all() and np.isfinite(out[:40, 16:]).all()


def test_company_changes_no_bit() -> None:
    q, k, v = inputs(3, 100, 2, 24)
    alone = [
        attended(q[part], k[part], v[part], 100, 24)
        for part in (slice(100), slice(100, 200), slice(200, 300))
    ]
    np.testing.assert_array_equal(attended(q, k, v, 100, 24), np.concatenate(alone))
