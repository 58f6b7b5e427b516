"""Attention over pages of int8: against a dense softmax over the rounded numbers; and bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.ops.contract import GLOBAL, PAGE
from gemmary.ops.numba.pagestore import CODES, element_of, pages
from gemmary.ops.numba.scalar import exp
from gemmary.ops.numba.sight import RUN

from .test_attention import CUTS, SHAPES, WINDOWS, Part, Texts, _folded


def rounded(x: np.ndarray, levels: int = 127) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of rows, in float32, as docs/ops.md says."""
    peak = np.abs(x).max(-1, keepdims=True)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(peak > np.float32(1e-30), np.float32(levels) / peak, np.float32(0))
    return np.rint(x * inverse).astype(np.int64), peak / np.float32(levels)


def kept(x: np.ndarray, head_dim: int) -> np.ndarray:
    """What pages keep of keys or values [n, K * H]."""
    codes, scales = rounded(x.reshape(len(x), -1, head_dim))
    return (codes * scales.astype(np.float64)).reshape(x.shape)


class Coded(Texts):
    """Texts in pages of int8, whose keys and values are no friendly numbers."""

    def __init__(self, *shape: object) -> None:
        super().__init__(*shape, element=CODES)  # type: ignore[arg-type]
        rng = np.random.default_rng(1)
        for x in (*self.k, *self.v):
            x *= np.exp(rng.normal(size=x.shape)).astype(np.float32)

    def truth(self, window: int | None = None, scale: float = 0.4) -> np.ndarray:
        """Dense attention over what the pages keep."""
        whole = self.k, self.v
        self.k, self.v = ([kept(x, self.head_dim) for x in part] for part in whole)
        want = [self.dense(s, window, scale) for s in range(len(self.lengths))]
        self.k, self.v = whole
        return np.concatenate(want)


def close(got: np.ndarray, want: np.ndarray) -> None:
    """As near as queries of 15 bits and exponentials of 14 come."""
    np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())


@CUTS
@pytest.mark.parametrize("window", WINDOWS)
def test_one_text(window: int | None, cut: bool) -> None:
    for past, new in ((0, 1), (0, 70), (1, 63), (63, 2), (64, 1), (127, 64), (300, 21)):
        texts = Coded([past + new])
        if past:
            texts.step([0], [past], window)
        close(texts.step([past], [new], window, cut=cut), texts.truth(window)[past:])


@CUTS
@pytest.mark.parametrize(("heads", "shared", "head_dim"), SHAPES)
def test_heads(heads: int, shared: int, head_dim: int, cut: bool) -> None:
    texts = Coded([70, 9], heads, shared, head_dim)
    got = texts.step([0, 0], [70, 9], 40, cut=cut, scale=head_dim**-0.5)
    close(got, texts.truth(40, head_dim**-0.5))


@pytest.mark.parametrize(("heads", "shared", "head_dim"), [(4, 1, 64), (2, 2, 80), (16, 1, 32)])
@pytest.mark.parametrize("window", [20, 64 * RUN, None])
def test_a_token_depends_on_what_it_sees_only(
    window: int | None, heads: int, shared: int, head_dim: int
) -> None:
    """Bit for bit: in one step or many, with other texts, cut into runs of pages or not, on any threads."""
    lengths = [64 * RUN + 90, 66, 1]

    def texts() -> Coded:
        made = Coded(lengths, heads, shared, head_dim)
        made.picture[0][100:140] = 139
        return made

    want = np.split(texts().all(window, cut=False), np.cumsum(lengths)[:-1])
    for threads, cut in ((1, True), (3, False), (3, True), (3, None)):
        np.testing.assert_array_equal(texts().all(window, threads, cut), np.concatenate(want))
    alone = texts()
    past = 0
    for end in (1, 2, 64, 65, 100, 140, 141, 257, 300, 345, 346):
        got = alone.step([past, 0, 0], [end - past, 0, 0], window, cut=bool(end % 2))
        np.testing.assert_array_equal(got, want[0][past:end])
        past = end


def test_bytes_depend_on_the_token_alone() -> None:
    """In one step, token by token, and written again after others were there: the same pages."""
    whole, single, again = (Coded([150], 2, 2, 48) for _ in range(3))
    whole.all()
    for t in range(150):
        single.step([t], [1])
    right = again.k[0].copy(), again.v[0].copy()
    again.k[0][40:], again.v[0][40:] = 7, -3
    again.all()
    again.k[0], again.v[0] = right
    again.step([40], [110])
    for other in (single, again):
        for mine, its in ((whole.store.keys, other.store.keys), (whole.store.values, other.store.values)):
            np.testing.assert_array_equal(mine, its)


def test_the_bit_rule() -> None:
    """As docs/ops.md says it, one rounding after the other, of the last token of a text."""
    length = PAGE * RUN + 5
    texts = Coded([length], 1, 1, 48)
    total: Part = np.finfo(np.float32).min, np.float32(0), np.zeros(48, np.float32)
    for first in range(0, length, PAGE * RUN):
        part: Part = np.finfo(np.float32).min, np.float32(0), np.zeros(48, np.float32)
        for begin in range(first, min(length, first + PAGE * RUN), PAGE):
            part = _folded(part, _page(texts, begin, min(length, begin + PAGE)))
        total = _folded(total, part)
    np.testing.assert_array_equal(texts.all()[-1], total[2] / total[1])


def _page(texts: Texts, begin: int, end: int) -> Part:
    """Largest score, sum of exponentials, and sum of values over the keys of a page, for the last token."""
    (q, q_scale), (k, k_scales) = rounded(texts.q[0][-1], 127 * 128 + 63), rounded(texts.k[0][begin:end])
    scores = (k @ q).astype(np.float32) * (q_scale * np.float32(0.4)) * k_scales[:, 0]
    peak = scores.max()
    powers = np.zeros(PAGE, np.float32)
    powers[: end - begin] = [exp(np.float32(s - peak)) for s in scores]
    v, v_scales = rounded(texts.v[0][begin:end])
    weights, scale = rounded(powers[: end - begin] * v_scales[:, 0], 127 * 128 + 127)
    lanes = powers
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return peak, lanes[0], (weights @ v).astype(np.float32) * scale


@CUTS
@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf])
def test_damage_is_not_lost(part: str, number: float, cut: bool) -> None:
    """Where a damaged number is seen, the whole result is no number, and nowhere else."""
    texts = Coded([300], 2, 1, 32)
    numbers: np.ndarray = getattr(texts, part)[0]
    numbers[70, 3 if part == "k" else slice(None)] = number
    texts.step([0], [70])
    with np.errstate(all="ignore"):
        got = np.concatenate([texts.step([t], [n], 100, cut=cut) for t, n in ((70, 1), (71, 229))])
    finite = np.isfinite(got)
    seen = 1 if part == "q" else 100
    assert not finite[:seen].any()
    assert finite[seen:].all()


@CUTS
def test_one_visible_key_gives_its_value(cut: bool) -> None:
    """So this is what a page keeps of a value: 127 steps to the largest."""
    texts = Coded([130], 2, 2, 80)
    np.testing.assert_allclose(texts.all(1, cut=cut), kept(texts.v[0], 80), rtol=2e-7)


def test_zeros_and_numbers_of_every_size() -> None:
    texts = Coded([130], 1, 1, 16)
    texts.v[0][:] *= 10.0 ** np.random.default_rng(0).integers(-26, 37, (130, 1))
    texts.v[0][5], texts.v[0][6], texts.k[0][7:9], texts.q[0][100] = 0, 1e-38, 0, 0
    np.testing.assert_allclose(texts.all(1), kept(texts.v[0], 16), rtol=3e-7)
    assert not texts.all(1)[5:7].any()
    got = texts.all()
    assert np.isfinite(got).all()
    mean = kept(texts.v[0][:101], 16).mean(0)  # a query of zeros finds all keys alike
    np.testing.assert_allclose(got[100], mean, atol=1e-3 * np.abs(mean).max())


def test_pages_are_half_as_large() -> None:
    coded, halves = pages(3, 2, 256, CODES), pages(3, 2, 256)
    assert element_of(coded) == CODES and element_of(halves) == "F16"
    for x, y in ((coded.keys, halves.keys), (coded.values, halves.values)):
        assert len(x) == 3 and x.nbytes == y.nbytes // 2 + 3 * 2 * PAGE * 4


def test_unwritten_positions_are_not_read() -> None:
    texts = Coded([5])
    for part in (texts.store.keys, texts.store.values):
        part[texts.tables[0, GLOBAL, 0]] = 0x7F
    first = texts.all()
    for part in (texts.store.keys, texts.store.values):
        part[texts.tables[0, GLOBAL, 0]] = 0xFF
    np.testing.assert_array_equal(texts.all(), first)
