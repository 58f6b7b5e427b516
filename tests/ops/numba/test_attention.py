"""Attention over pages against a dense softmax in float64: windows, page borders, shared heads, pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gemmary.ops.contract import PAGE, Attention, LayerPages, Step, pack
from gemmary.ops.numba.table import NumbaOps

WINDOWS = (1, 2, 63, 64, 65, 100, 128, None)
OPS = NumbaOps()


class Texts:
    """Random queries, keys and values of a few texts, and pages that hold what came before the step.

    Every slot that nothing was written to is NaN, and so is every page that no text owns: what is read
    without right shows.
    """

    def __init__(self, past: list[int], new: list[int], heads: int, shared: int, head_dim: int) -> None:
        rng = np.random.default_rng(sum(past) + 7 * sum(new))
        self.heads, self.shared, self.head_dim = heads, shared, head_dim
        lengths = [p + n for p, n in zip(past, new, strict=True)]
        self.k, self.v = ([rng.normal(size=(n, shared, head_dim)) for n in lengths] for _ in range(2))
        self.q = rng.normal(size=(sum(new), heads * head_dim)).astype(np.float32)
        counts = [-(-n // PAGE) for n in lengths]
        order = rng.permutation(sum(counts) + 3).astype(np.int32)
        self.table = np.full((len(past), 2, max(counts)), -1, np.int32)
        at = 0
        for s, count in enumerate(counts):
            self.table[s, :, :count] = order[at : at + count]
            at += count
        pages = len(order)
        self.kv = LayerPages(
            np.full((pages, shared, head_dim, PAGE), np.nan, np.float32),
            np.full((pages, shared, PAGE, head_dim), np.nan, np.float32),
        )
        for s, count in enumerate(past):
            for j in range(count):
                self.kv.keys[self.table[s, 0, j // PAGE], :, :, j % PAGE] = self.k[s][j]
                self.kv.values[self.table[s, 0, j // PAGE], :, j % PAGE] = self.v[s][j]
        self.step = replace(pack([[0] * n for n in new], past), pages=self.table)

    def attend(self, attention: Attention, block: np.ndarray | None = None) -> np.ndarray:
        """The kernel's answer [T, N, H]."""
        step = self.step if block is None else replace(self.step, block=block)
        new = [
            np.concatenate(
                [part[s][step.past[s] :].reshape(-1, self.shared * self.head_dim) for s in self.all]
            )
            for part in (self.k, self.v)
        ]
        k, v = (np.ascontiguousarray(x, np.float32) for x in new)
        out = OPS.attend(self.q, k, v, self.kv, OPS.stage(step), attention)
        return out.reshape(-1, self.heads, self.head_dim)

    @property
    def all(self) -> range:
        return range(len(self.k))

    def dense(self, attention: Attention, block: np.ndarray | None = None) -> np.ndarray:
        """Softmax over a dense mask, in float64."""
        step: Step = self.step
        block = step.block if block is None else block
        out = np.empty((len(step.ids), self.heads, self.head_dim))
        for t in range(len(step.ids)):
            s, pos = step.seq[t], step.pos[t]
            j = np.arange(len(self.k[s]))
            picture = np.full(len(j), -1)
            picture[step.past[s] :] = block[step.starts[s] : step.starts[s + 1]]
            seen = (j <= pos) | ((picture == block[t]) & (block[t] >= 0))
            if attention.window is not None:
                seen &= j > pos - attention.window
            for n in range(self.heads):
                group = n // (self.heads // self.shared)
                q = self.q[t, n * self.head_dim : (n + 1) * self.head_dim].astype(np.float64)
                k, v = (x[s][:, group].astype(np.float32).astype(np.float64) for x in (self.k, self.v))
                score = np.where(seen, k @ q * attention.scale, -np.inf)
                weight = np.exp(score - score.max())
                out[t, n] = weight @ v / weight.sum()
        return out


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("past", [0, 1, 63, 64, 65, 127, 130])
def test_one_text(past: int, window: int | None) -> None:
    attention = Attention(window, 0.4, 12)
    for new in (1, 2, 64, 70):
        texts = Texts([past], [new], 4, 2, 12)
        np.testing.assert_allclose(texts.attend(attention), texts.dense(attention), atol=2e-6)


@pytest.mark.parametrize(("heads", "shared", "head_dim"), [(1, 1, 2), (3, 3, 10), (8, 1, 16), (6, 2, 128)])
def test_heads(heads: int, shared: int, head_dim: int) -> None:
    texts = Texts([70, 0, 10], [3, 66, 1], heads, shared, head_dim)
    for window in (20, None):
        attention = Attention(window, head_dim**-0.5, head_dim)
        np.testing.assert_allclose(texts.attend(attention), texts.dense(attention), atol=2e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_pictures(window: int | None) -> None:
    """Tokens of a picture see to its end; the window still holds."""
    texts = Texts([60, 0], [90, 75], 2, 1, 8)
    block = np.full(165, -1, np.int32)
    block[2:72], block[80:90], block[90:160] = 0, 1, 2
    attention = Attention(window, 0.5, 8)
    np.testing.assert_allclose(texts.attend(attention, block), texts.dense(attention, block), atol=2e-6)


def test_dropped_pages_are_not_read() -> None:
    texts = Texts([200], [10], 2, 1, 8)
    gone = texts.table[0, 0, :2].copy()  # the window of 65 begins at position 136
    texts.kv.keys[gone] = texts.kv.values[gone] = np.nan
    texts.table[0, :, :2] = -1
    attention = Attention(65, 0.5, 8)
    np.testing.assert_allclose(texts.attend(attention), texts.dense(attention), atol=2e-6)


def test_scores_too_large_for_exp() -> None:
    texts = Texts([70], [5], 2, 1, 8)
    texts.q *= 300
    attention = Attention(None, 1.0, 8)
    np.testing.assert_allclose(texts.attend(attention), texts.dense(attention), atol=1e-4)


def test_a_token_depends_on_what_it_sees_only() -> None:
    """Bit for bit: alone, in a step with others, and after other cuts."""
    attention = Attention(40, 0.5, 8)
    whole = Texts([0], [150], 4, 2, 8)
    want = whole.attend(attention)
    for start in (0, 1, 63, 64, 100, 149):
        part = Texts([0], [150], 4, 2, 8)
        part.step = replace(pack([[0] * (150 - start)], [start]), pages=part.table)
        part.kv.keys[:], part.kv.values[:] = whole.kv.keys, whole.kv.values
        part.q = whole.q[start:]
        np.testing.assert_array_equal(part.attend(attention), want[start:])


def test_nan_is_not_lost() -> None:
    texts = Texts([3], [2], 1, 1, 8)
    texts.q[1, 0] = np.nan
    got = texts.attend(Attention(None, 1.0, 8))
    assert np.isfinite(got[0]).all()
    assert np.isnan(got[1]).all()


def test_pages_are_needed() -> None:
    texts = Texts([0], [2], 1, 1, 8)
    with pytest.raises(ValueError, match="over pages"):
        OPS.attend(texts.q, texts.q, texts.q, None, OPS.stage(texts.step), Attention(None, 1.0, 8))
