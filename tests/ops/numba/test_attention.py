"""Attention over pages: against a dense softmax in float64; and bit for bit, whatever must not matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numba import njit, types

from gemmary.errors import UnsupportedModelError
from gemmary.ops.contract import GLOBAL, PAGE, LayerPages
from gemmary.ops.numba.attention import append, attend
from gemmary.ops.numba.elementary import emit_exp
from gemmary.ops.numba.emit import VF, Emitter, Value, inline
from gemmary.ops.numba.kernel import address_of
from gemmary.ops.numba.pagestore import ELEMENTS, pages
from gemmary.ops.numba.scalar import exp
from gemmary.ops.numba.sight import RUN, Sight
from gemmary.ops.numba.tape import Tape
from gemmary.ops.numba.team import Team

from .exact import fused

WINDOWS = (1, 2, 63, 64, 65, 100, 128, None)
Part = tuple[np.float32, np.float32, np.ndarray]
TEAMS = {threads: Team(threads) for threads in (1, 3)}
CUTS = pytest.mark.parametrize("cut", [False, True])


def bf16(x: np.ndarray) -> np.ndarray:
    """Rounded to eight bits, ties to even."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    nearest: np.ndarray = np.ldexp(np.rint(mantissa * 256) / 256, exponent)
    return nearest.astype(np.float32)


def damage(store: LayerPages) -> None:
    """Every slot NaN: what is read without right shows."""
    for part in (store.keys, store.values):
        two = part.dtype.itemsize == 2
        part.view(np.uint16 if two else np.uint32)[:] = 0x7FC0 if two else 0x7FC00000


class Texts:
    """Random queries, keys and values of a few texts, and pages for them among pages of nobody."""

    def __init__(
        self,
        lengths: Sequence[int],
        heads: int = 2,
        shared: int = 1,
        head_dim: int = 16,
        element: str = "F16",
    ) -> None:
        rng = np.random.default_rng([*lengths, heads, head_dim])
        self.lengths, self.heads, self.shared, self.head_dim = lengths, heads, shared, head_dim
        self.q = [rng.normal(size=(n, heads * head_dim)).astype(np.float32) for n in lengths]
        self.k, self.v = ([bf16(rng.normal(size=(n, shared * head_dim))) for n in lengths] for _ in range(2))
        counts = [-(-n // PAGE) for n in lengths]
        order = rng.permutation(sum(counts) + 3).astype(np.int32)
        self.tables = np.full((len(lengths), 2, max(counts)), -1, np.int32)
        at = 0
        for s, count in enumerate(counts):
            self.tables[s, GLOBAL, :count] = order[at : at + count]
            at += count
        self.store = pages(len(order), shared, head_dim, element)
        damage(self.store)
        self.picture = [np.arange(n) for n in lengths]  # the last position that each token sees

    def step(
        self,
        past: Sequence[int],
        new: Sequence[int],
        window: int | None = None,
        threads: int = 1,
        cut: bool | None = None,
        scale: float = 0.4,
    ) -> np.ndarray:
        """Append `new` tokens of each text that has `past`, and attend: float32 [T, N * H]."""
        spans = [slice(p, p + n) for p, n in zip(past, new, strict=True)]
        pos = np.concatenate([np.arange(s.start, s.stop) for s in spans]).astype(np.int32)
        last = np.concatenate([x[s] for x, s in zip(self.picture, spans, strict=True)]).astype(np.int32)
        q, k, v = (
            np.concatenate([x[s] for x, s in zip(all_, spans, strict=True)])
            for all_ in (self.q, self.k, self.v)
        )
        seq = np.repeat(np.arange(len(new)), new).astype(np.int32)
        room = len(seq) * self.tables.shape[2]
        sight = Sight(window, (self.heads, self.shared, self.head_dim), threads, len(seq), room)
        out, tape = np.full_like(q, np.nan), Tape()
        append(tape, sight, k, v, self.store, self.tables, GLOBAL)
        attend(tape, sight, q, self.store, self.tables, GLOBAL, scale, out)
        sight.look(seq, pos, last, cut)
        TEAMS[threads].play(tape)
        return out

    def all(self, window: int | None = None, threads: int = 1, cut: bool | None = None) -> np.ndarray:
        """All tokens of all texts in one step."""
        return self.step([0] * len(self.lengths), self.lengths, window, threads, cut)

    def dense(self, s: int, window: int | None = None, scale: float = 0.4) -> np.ndarray:
        """Softmax over a dense mask in float64, of all tokens of a text [n, N * H]."""
        n, group = self.lengths[s], self.heads // self.shared
        j, t = np.arange(n)[None], np.arange(n)[:, None]
        seen = j <= self.picture[s][:, None]
        if window is not None:
            seen &= np.abs(j - t) < window
        q, k, v = (x[s].astype(np.float64).reshape(n, -1, self.head_dim) for x in (self.q, self.k, self.v))
        out = np.empty_like(q)
        for head in range(self.heads):
            score = np.where(seen, q[:, head] @ k[:, head // group].T * scale, -np.inf)
            weight = np.exp(score - score.max(-1, keepdims=True))
            out[:, head] = weight @ v[:, head // group] / weight.sum(-1, keepdims=True)
        return out.reshape(n, -1)


@CUTS
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("window", WINDOWS)
def test_one_text(window: int | None, element: str, cut: bool) -> None:
    for past, new in ((0, 1), (0, 70), (1, 63), (63, 2), (64, 1), (127, 64), (300, 21)):
        texts = Texts([past + new], element=element)
        if past:
            texts.step([0], [past], window)
        got = texts.step([past], [new], window, cut=cut)
        np.testing.assert_allclose(got, texts.dense(0, window)[past:], atol=2e-6)


SHAPES = [(4, 1, h) for h in (16, 32, 48, 64, 80, 128, 256)]
SHAPES += [
    (1, 1, 64),
    (2, 2, 16),
    (5, 1, 48),
    (6, 2, 128),
    (7, 1, 32),
    (16, 1, 256),
    (32, 1, 64),
    (48, 1, 16),
]


@CUTS
@pytest.mark.parametrize(("heads", "shared", "head_dim"), SHAPES)
def test_heads(heads: int, shared: int, head_dim: int, cut: bool) -> None:
    texts = Texts([70, 9], heads, shared, head_dim)
    got = texts.step([0, 0], [70, 9], 40, cut=cut, scale=head_dim**-0.5)
    want = np.concatenate([texts.dense(s, 40, head_dim**-0.5) for s in (0, 1)])
    np.testing.assert_allclose(got, want, atol=3e-6)


@CUTS
@pytest.mark.parametrize("window", WINDOWS)
def test_pictures(window: int | None, cut: bool) -> None:
    """Tokens of a picture see to its end; the window still holds."""
    texts = Texts([150, 75])
    for s, first, end in ((0, 62, 132), (0, 140, 150), (1, 0, 70)):
        texts.picture[s][first:end] = end - 1
    want = np.concatenate([texts.dense(s, window) for s in (0, 1)])
    np.testing.assert_allclose(texts.all(window, cut=cut), want, atol=2e-6)


@CUTS
def test_dropped_pages_are_not_read(cut: bool) -> None:
    texts = Texts([210])
    texts.step([0], [200], 65)
    gone = texts.tables[0, GLOBAL, :2].copy()  # the window of 65 begins at position 136
    for part in (texts.store.keys, texts.store.values):
        part[gone] = 0x7FC0
    texts.tables[0, :, :2] = -1
    np.testing.assert_allclose(texts.step([200], [10], 65, cut=cut), texts.dense(0, 65)[200:], atol=2e-6)


def test_scores_too_large_for_exp() -> None:
    texts = Texts([75])
    texts.q[0] *= 300
    np.testing.assert_allclose(texts.all(), texts.dense(0), atol=1e-4)


@pytest.mark.parametrize(("heads", "shared", "head_dim"), [(4, 1, 64), (2, 2, 80), (8, 4, 16), (16, 1, 32)])
@pytest.mark.parametrize("window", [20, 100, 64 * RUN, None])
def test_a_token_depends_on_what_it_sees_only(
    window: int | None, heads: int, shared: int, head_dim: int
) -> None:
    """Bit for bit: in one step or many, with other texts, cut into runs of pages or not, on any threads."""
    lengths = [64 * RUN + 90, 66, 1]

    def texts() -> Texts:
        made = Texts(lengths, heads, shared, head_dim)
        made.picture[0][100:140] = 139
        return made

    want = np.split(texts().all(window, cut=False), np.cumsum(lengths)[:-1])
    for threads, cut in ((1, True), (3, False), (3, True), (3, None)):
        np.testing.assert_array_equal(texts().all(window, threads, cut), np.concatenate(want))
    alone = texts()
    past = 0
    for end in (1, 2, 64, 65, 100, 140, 141, 257, 300, 345, 346):
        for cut in (True, False):
            got = alone.step([past, 0, 0], [end - past, 0, 0], window, cut=cut)
            np.testing.assert_array_equal(got, want[0][past:end])
        past = end
    mixed = texts()
    mixed.step([0, 0, 0], [300, 60, 0], window)
    got = mixed.step([300, 60, 0], [3, 1, 1], window, threads=3)
    np.testing.assert_array_equal(got, np.concatenate([want[0][300:303], want[1][60:61], want[2]]))


def test_zeros_have_one_sign() -> None:
    """The sum of a run's last token is -0, until a run is folded in that only its neighbours see."""
    end = 2 * RUN * PAGE
    texts = Texts([end + 3], 1, 1, 16, "F32")
    texts.q[0][:], texts.k[0][:], texts.v[0][:] = 1, 0, 0
    texts.k[0][0] = 1  # weighs 600 times more than any other, so what the last one adds is nearest to -0
    texts.v[0][end - 1] = -1e-45
    together = texts.all(cut=False)[end - 1].view(np.int32)
    alone = texts.step([end - 1], [1])[0].view(np.int32)
    np.testing.assert_array_equal(alone, together)


def test_one_token_at_a_time() -> None:
    texts = Texts([200], 4)
    want = Texts([200], 4).all(50)
    for t in range(200):
        np.testing.assert_array_equal(texts.step([t], [1], 50)[0], want[t])


@pytest.mark.parametrize("window", [300, None])
def test_the_bit_rule(window: int | None) -> None:
    """As docs/ops.md says it, one rounding after the other, of the last token of a text."""
    length = PAGE * RUN * 2 + 5
    texts = Texts([length], 1, 1, 16, "F32")
    first = 0 if window is None else length - window
    total: Part = np.finfo(np.float32).min, np.float32(0), np.zeros(16, np.float32)
    pages_seen = range(first // PAGE, (length - 1) // PAGE + 1)
    for run in sorted({page // RUN for page in pages_seen}):
        part: Part = np.finfo(np.float32).min, np.float32(0), np.zeros(16, np.float32)
        for page in (page for page in pages_seen if page // RUN == run):
            part = _folded(part, _page(texts, max(first, page * PAGE), min(length, (page + 1) * PAGE)))
        total = _folded(total, part)
    want = total[2] / total[1]
    np.testing.assert_array_equal(texts.all(window)[-1], want)


def _page(texts: Texts, begin: int, end: int) -> Part:
    """Largest score, sum of exponentials, and sum of values over some keys of a page, for the last token."""
    q, k, v = texts.q[0][-1], texts.k[0][begin:end], texts.v[0][begin:end]
    scores = np.zeros(len(k), np.float32)
    for h in range(16):
        scores = _fused(np.full_like(scores, q[h]), k[:, h], scores)
    scores *= np.float32(0.4)
    peak = scores.max()
    powers = np.array([exp(np.float32(s - peak)) for s in scores], np.float32)
    lanes = np.zeros(PAGE, np.float32)
    lanes[begin % PAGE : begin % PAGE + len(k)] = powers
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    total = np.zeros(16, np.float32)
    for p, row in zip(powers, v, strict=True):
        total = _fused(np.full_like(total, p), row, total)
    return peak, lanes[0], total


def _folded(old: Part, new: Part) -> Part:
    top = max(old[0], new[0])
    a, b = (exp(np.float32(x - np.float64(top))) for x in (old[0], new[0]))
    total = fused(new[1], b, np.float32(old[1] * a))
    return top, total, _fused(new[2], np.full_like(new[2], b), old[2] * a)


def _fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.array([fused(*x) for x in zip(a, b, c, strict=True)], np.float32)


@CUTS
@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_nan_is_not_lost(part: str, cut: bool) -> None:
    """Where a damaged number is seen, the whole result is damaged, and nowhere else."""
    texts = Texts([300], 2, 1, 32)
    numbers: np.ndarray = getattr(texts, part)[0]
    numbers.view(np.uint32)[70, :] = 0x7F800001  # NaN only in the bits that bf16 has no room for
    texts.step([0], [70])
    got = np.isnan(np.concatenate([texts.step([t], [n], 100, cut=cut) for t, n in ((70, 1), (71, 229))]))
    seen = 1 if part == "q" else 100
    assert got[:seen].all()
    assert not got[seen + 3 :].any()  # in a product of rows a masked value still counts, as 0 times itself


def test_masked_damage_in_keys_is_not_seen() -> None:
    texts = Texts([70])
    want = Texts([70]).all()
    texts.k[0][40:] = np.nan
    np.testing.assert_array_equal(texts.all()[:40], want[:40])


@CUTS
def test_one_visible_key_gives_its_value(cut: bool) -> None:
    """So this is what a page keeps of a value: the nearest bf16, ties to even."""
    texts = Texts([130], 2, 2, 80, "BF16")
    texts.v[0][:] = np.random.default_rng(0).normal(size=texts.v[0].shape)
    np.testing.assert_array_equal(texts.all(1, cut=cut), bf16(texts.v[0]))


@pytest.mark.parametrize(
    ("value", "kept"),
    [(1 + 2**-8, 1), (1 + 3 * 2**-8, 1 + 2**-6), (-1 - 2**-8, -1), (2 - 2**-8, 2), (3.4e38, np.inf), (0, 0)],
)
def test_rounding_of_values(value: float, kept: float) -> None:
    texts = Texts([1], 1, 1, 80, "BF16")
    texts.v[0][:] = value
    np.testing.assert_array_equal(texts.all(), np.full((1, 80), kept, np.float32))


def test_values_are_kept_as_halves() -> None:
    """As NumPy rounds them, subnormal ones too; what is too large is kept as the largest."""
    rng = np.random.default_rng(0)
    texts = Texts([130], 1, 1, 80)
    texts.v[0][:] = (rng.normal(size=(130, 80)) * 10.0 ** rng.integers(-9, 6, (130, 80))).astype(np.float32)
    assert (np.abs(texts.v[0]) > 65504).any()
    want = np.clip(texts.v[0], -65504, 65504).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(texts.all(1), want + np.float32(0))


def test_exp_in_lanes_has_the_bits_of_the_scalar_one() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-95, 90, 500_000), rng.normal(size=500_000) ** 3]).astype(np.float32)
    x[:7] = [np.nan, np.inf, -np.inf, 0.0, -0.0, -87.0, 88.0]
    got, want = np.empty_like(x), np.empty_like(x)
    _exps(address_of(x), address_of(got), len(x) // 16)
    _scalar_exps(x, want)
    assert np.isnan(got[0])
    assert np.isnan(want[0])
    np.testing.assert_array_equal(got[1:].view(np.int32), want[1:].view(np.int32))


@inline(types.void, types.intp, types.intp, types.intp)
def _exp_vectors(e: Emitter, source: Value, target: Value, count: Value) -> None:
    with e.loop(count) as i:
        e.store(emit_exp(e, e.load(VF, e.step(source, i, 64))), e.step(target, i, 64))


@njit
def _exps(source: int, target: int, count: int) -> None:
    _exp_vectors(source, target, count)


@njit
def _scalar_exps(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = exp(x[i])


def test_few_tokens_late_in_a_text_are_cut() -> None:
    """Into runs of pages, where there are too few blocks for the threads and room for partial results."""
    one, many = np.zeros(1, np.int32), np.arange(200, dtype=np.int32)
    sight = Sight(None, (4, 1, 16), 2, 200, 30)
    sight.look(one, one + 64 * RUN * 30 - 1, one + 64 * RUN * 30 - 1)
    assert (sight.cut[0], sight.pieces[0], sight.fold_pieces[0]) == (1, 30, 4)
    sight.look(one, one + 64 * RUN * 30, one + 64 * RUN * 30)
    assert (sight.cut[0], sight.pieces[0], sight.fold_pieces[0]) == (0, 1, 0)
    sight.look(0 * many, many, many)
    assert (sight.cut[0], sight.fold_pieces[0]) == (0, 0)
    with pytest.raises(ValueError, match="room for 30"):
        sight.look(one, one + 64 * RUN * 30, one + 64 * RUN * 30, cut=True)


@pytest.mark.parametrize(("heads", "shared", "head_dim"), [(2, 1, 24), (3, 2, 16), (64, 1, 16)])
def test_shapes_that_do_not_work(heads: int, shared: int, head_dim: int) -> None:
    with pytest.raises(UnsupportedModelError, match="heads"):
        Sight(None, (heads, shared, head_dim), 1, 1, 0)
