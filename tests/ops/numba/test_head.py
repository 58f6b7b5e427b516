"""`TopK` through the 6-bit plane: the bits of the full product, and a bound that nothing breaks."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numba import njit

from gemmary.formats import FORMATS, decode, encode
from gemmary.ops.candidates import candidates
from gemmary.ops.contract import Candidates, TopK
from gemmary.ops.numba.head import Head
from gemmary.ops.numba.plane import Plane
from gemmary.ops.numba.selection import Selection
from gemmary.ops.numba.team import Team
from gemmary.ops.numba.vector import dot_bf16, dot_f16

ALONE, TOGETHER = Team(1), Team(2)
ROWS, COLUMNS = 4112, 96  # a strip more than four runs of 1024
TABLES = ["normal", "tiny", "large", "mixed"]
ACTIVATIONS = ["normal", "outliers", "one", "tiny", "large", "zero", "sparse", "mean"]


@njit
def products(half: bool, table: np.ndarray, h: np.ndarray, out: np.ndarray) -> None:
    for r in range(len(h)):
        for i in range(out.shape[1]):
            at = i * h.shape[1]
            if half:
                out[r, i] = dot_f16(table, at, h[r], 0, h.shape[1])
            else:
                out[r, i] = dot_bf16(table, at, h[r], 0, h.shape[1])


def full(format: str, raw: np.ndarray, rows: int, h: np.ndarray) -> np.ndarray:
    """The full product [R, V]."""
    out = np.empty((len(h), rows), np.float32)
    products(format == "F16", raw.view(np.uint16), h, out)
    return out


def table_of(kind: str, format: str, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Bytes of a table; `mixed` has rows of very different lengths, some of them 0 or subnormal."""
    rng = np.random.default_rng(7)
    w = rng.normal(0, 0.05, (rows, columns))
    if kind == "tiny":
        w *= 1e-5 if format == "F16" else 1e-37
    if kind == "large":
        w = np.clip(w * 1e6, -65504, 65504)
    if kind == "mixed":
        w *= 10.0 ** rng.integers(-6, 5, (rows, 1))
        w[rng.integers(0, rows, 50)] = 0
        w[:, ::7] *= 100
    w = np.clip(w, -65504, 65504).astype(np.float32)
    raw = encode(FORMATS[format], w).reshape(-1)
    raw.flags.writeable = False
    return raw


def activations(kind: str, columns: int = COLUMNS, rows: int = 3) -> np.ndarray:
    rng = np.random.default_rng(8)
    h = rng.normal(size=(rows, columns))
    if kind == "outliers":
        h[:, rng.integers(0, columns, 4)] *= 60
    if kind == "one":
        h[:, 5] *= 1000
    if kind == "sparse":
        h[:, columns // 3 :] = 0
    if kind == "mean":
        h += 3
    return (h * {"tiny": 1e-36, "large": 1e25, "zero": 0.0}.get(kind, 1.0)).astype(np.float32)


def made(
    format: str, raw: np.ndarray, team: Team = TOGETHER, rows: int = ROWS, columns: int = COLUMNS
) -> Head:
    plane = Plane(format, raw, rows, columns, team)
    return Head(plane, format, raw, team, partial(full, format, raw, rows), Selection(rows, 3, team))


def assert_same(found: Candidates, logits: np.ndarray, want: TopK) -> None:
    right = candidates(logits, found.lse, want)
    np.testing.assert_array_equal(found.logits, right.logits)
    there = right.logits > -np.inf
    np.testing.assert_array_equal(found.ids[there], right.ids[there])


def unpacked(plane: Plane) -> np.ndarray:
    """The numbers of the plane, float64 [rows, columns], from what docs/kernels.md says of strips."""
    blocks = plane.strips.reshape(plane.rows // 16, plane.columns // 32, 416)
    scales = blocks[:, :, :32].copy().view(np.float16).astype(np.float64)
    nibbles = blocks[:, :, 32:288].reshape(*blocks.shape[:2], 4, 16, 4)
    pairs = blocks[:, :, 288:].reshape(*blocks.shape[:2], 2, 1, 16, 4) >> np.arange(0, 8, 2).reshape(4, 1, 1)
    low = np.concatenate([nibbles & 15, nibbles >> 4], 2)
    codes = (low | (pairs & 3).reshape(low.shape) << 4).astype(np.int8) - 32
    by_row = codes.transpose(0, 3, 1, 2, 4).reshape(len(blocks), 16, -1, 32)
    return (by_row * scales.transpose(0, 2, 1)[..., None]).reshape(plane.rows, plane.columns)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("format", ["F16", "BF16"])
def test_lengths_are_never_too_small(format: str, kind: str) -> None:
    raw = table_of(kind, format)
    w = decode(FORMATS[format], raw, ROWS, COLUMNS).astype(np.float64)
    plane = Plane(format, raw, ROWS, COLUMNS, TOGETHER)
    missed, length = np.sqrt(((w - unpacked(plane)) ** 2).sum(-1)), np.sqrt((w**2).sum(-1))
    for mine, right in ((plane.missed, missed), (plane.length, length)):
        assert (mine >= right).all()
        assert (mine <= right * 1.001 + 1e-15).all()
    if kind in ("normal", "large"):
        assert (missed < 0.04 * length).all()  # six bits
    np.testing.assert_array_equal(plane.block_missed[:-1], plane.missed[:4096].reshape(-1, 64).max(-1))


def test_rows_that_are_not_finite_have_no_codes() -> None:
    values = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
    values[3, 5], values[4, 63], values[5, 0], values[20] = np.nan, np.inf, -np.inf, 1e30
    plane = Plane("BF16", encode(FORMATS["BF16"], values).reshape(-1), 32, 64, ALONE)
    bad = [3, 4, 5, 20]  # the last is finite, but its squares are not
    assert np.isinf(plane.missed[bad]).all() and np.isinf(plane.length[bad]).all()
    assert not unpacked(plane)[bad].any()
    assert (
        np.isfinite(np.delete(plane.length, bad)).all()
        and plane.longest == np.delete(plane.length, bad).max()
    )


@pytest.mark.parametrize(
    ("format", "rows", "columns", "fits"),
    [("F16", 32, 64, True), ("BF16", 16, 32, True), ("F16", 24, 64, False), ("F16", 32, 48, False),
     ("Q8_0", 32, 64, False), ("F32", 32, 64, False), ("F16", 16, 1 << 16, False)],
)  # fmt: skip
def test_which_tables_have_a_plane(format: str, rows: int, columns: int, fits: bool) -> None:
    assert Plane.fits(format, rows, columns) == fits


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("format", ["F16", "BF16"])
def test_the_bound_holds(format: str, kind: str, activation: str) -> None:
    """One row has both parts, five rows have one part each."""
    raw = table_of(kind, format)
    head, h = made(format, raw), activations(activation, rows=5)
    logits = full(format, raw, ROWS, h).astype(np.float64)
    for rows, parts in ((1, 2), (5, 1)):
        head.top_k(h[:rows], TopK(1, lse=False))
        for r in range(rows):
            near = head._buffers["logits"][r * parts]
            off = (
                head._plane.missed * head._buffers["reach"][r, 0]
                + head._plane.length * head._buffers["reach"][r, 1]
            )
            assert (np.abs(near - logits[r]) <= off + 2.0**-100).all()
            if activation == "normal" and kind == "normal":
                assert off.max() < (0.6 if parts == 1 else 0.4) * logits[r].std()  # else it would be useless


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("format", ["F16", "BF16"])
def test_the_bound_is_nearly_reached(format: str, kind: str) -> None:
    """By activations along what the plane misses of a row: a bound that leaves something out would break."""
    raw = table_of(kind, format)
    head = made(format, raw)
    w = decode(FORMATS[format], raw, ROWS, COLUMNS).astype(np.float64)
    missed = w - unpacked(head._plane)
    ratios = []
    for row in np.argsort(-head._plane.missed)[:20]:
        h = (missed[row] / np.abs(missed[row]).max()).astype(np.float32)[None]
        s = full(format, raw, ROWS, h)[0, row]
        head.top_k(h, TopK(1, lse=False))
        reach = head._buffers["reach"][0]
        off = head._plane.missed[row] * reach[0] + head._plane.length[row] * reach[1] + 2.0**-100
        ratios.append(abs(float(head._buffers["logits"][0, row]) - float(s)) / off)
    assert max(ratios) <= 1
    if kind != "tiny":  # there the smallest numbers count
        assert min(ratios) > 0.9


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("format", ["F16", "BF16"])
def test_bits_of_the_full_product(format: str, kind: str, activation: str) -> None:
    raw = table_of(kind, format)
    head, h = made(format, raw), activations(activation)
    logits, rng = full(format, raw, ROWS, h), np.random.default_rng(1)
    few = np.zeros(ROWS, bool)
    few[rng.integers(0, ROWS, 5)] = True
    best = np.argsort(-logits[0], kind="stable")
    also = np.unique(np.concatenate([best[:2], best[-2:]])).astype(np.int32)
    for k in (1, 7, 17):
        for allowed in (None, rng.random(ROWS) < 0.5, few, np.zeros(ROWS, bool)):
            for extra in (None, also):
                want = TopK(k, allowed, extra, lse=False)
                assert head.takes(want)
                assert_same(head.top_k(h, want), logits, want)
                assert_same(head.top_k(h[1:2], want), logits[1:2], want)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 11])
def test_any_number_of_rows(rows: int) -> None:
    raw, want = table_of("normal", "F16"), TopK(9, lse=False)
    h = activations("outliers", rows=rows)
    alone, together = (made("F16", raw, team).top_k(h, want) for team in (ALONE, TOGETHER))
    assert_same(together, full("F16", raw, ROWS, h), want)
    np.testing.assert_array_equal(alone.logits.view(np.int32), together.logits.view(np.int32))
    np.testing.assert_array_equal(alone.ids, together.ids)


@pytest.mark.parametrize("kind", ["normal", "mixed"])
def test_every_row_may_have_its_own_allowed(kind: str) -> None:
    """Also where the full product has to decide some of the rows, and where a call takes several rounds."""
    raw, h = table_of(kind, "F16"), activations("outliers", rows=11)
    allowed = np.random.default_rng(5).random((11, ROWS)) < np.linspace(0.01, 1, 11)[:, None]
    want = TopK(9, allowed, lse=False)
    found = made("F16", raw, TOGETHER).top_k(h, want)
    logits = full("F16", raw, ROWS, h)
    for row in range(11):
        here = slice(row, row + 1)
        part = Candidates(found.ids[here], found.logits[here], found.lse[here])
        assert_same(part, logits[here], TopK(9, allowed[row], lse=False))


@pytest.mark.parametrize("columns", [32, 64, 1152])
@pytest.mark.parametrize("rows", [16, 64, 80, 1024, 1040])
def test_sizes(rows: int, columns: int) -> None:
    raw, h = table_of("normal", "BF16", rows, columns), activations("normal", columns)
    head = made("BF16", raw, TOGETHER, rows, columns)
    for k in (1, 2, 5):
        if head.takes(want := TopK(k, lse=False)):
            assert_same(head.top_k(h, want), full("BF16", raw, rows, h), want)


def test_rows_at_the_border() -> None:
    """Equal rows, and rows that differ in the last bit of one number, on both sides of the k-th."""
    w = decode(FORMATS["F16"], table_of("normal", "F16"), ROWS, COLUMNS)
    h = activations("outliers", rows=1)
    best = np.argsort(-(w @ h[0]))[:10]
    near = w[best[5]].astype(np.float16)
    for i in range(580):
        row = near.copy()
        if i % 3:
            row.view(np.int16)[i % COLUMNS] += 1 if i % 2 else -1
        w[7 * i] = row
    raw = encode(FORMATS["F16"], w).reshape(-1)
    head, logits = made("F16", raw), full("F16", raw, ROWS, h)
    assert len(np.unique(logits[0, : 580 * 7 : 7])) > 20
    for k in range(1, 18):
        want = TopK(k, lse=False)
        assert_same(head.top_k(h, want), logits, want)


def test_few_rows_survive() -> None:
    raw = table_of("normal", "F16", 16384, 512)
    head = made("F16", raw, TOGETHER, 16384, 512)
    for activation in ("normal", "outliers", "mean"):
        head.top_k(activations(activation, 512, 1), TopK(16, lse=False))
    assert head.queries == 3 and head.fallbacks == 0
    assert 3 * 16 <= head.survivors < 3 * 16384 * 0.03


def test_what_the_bound_cannot_tell_apart_is_left_to_the_full_product() -> None:
    raw = np.tile(table_of("normal", "F16", 16, COLUMNS), ROWS // 16)
    head, h, want = made("F16", raw), activations("normal", rows=2), TopK(5, lse=False)
    assert_same(head.top_k(h, want), full("F16", raw, ROWS, h), want)
    zero = activations("zero", rows=1)
    assert_same(head.top_k(zero, want), full("F16", raw, ROWS, zero), want)
    assert head.queries == 3 and head.fallbacks >= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_activations_that_are_not_finite(bad: float) -> None:
    raw, h = table_of("normal", "F16"), activations("normal")
    h[1, 40] = bad
    head, want = made("F16", raw), TopK(3, lse=False)
    found = head.top_k(h, want)
    assert head.fallbacks == 1
    logits = full("F16", raw, ROWS, h)
    assert_same(Candidates(found.ids[[0, 2]], found.logits[[0, 2]], found.lse[[0, 2]]), logits[[0, 2]], want)
    if np.isnan(bad):
        assert np.isnan(found.logits[1]).all()
    else:
        assert not np.isfinite(found.logits[1]).all() or bad == 3e38


def test_a_damaged_row_is_noticed() -> None:
    raw = table_of("normal", "BF16").copy()
    raw.view(np.uint16)[1234 * COLUMNS + 5] = 0x7FC0
    head = made("BF16", raw)
    assert np.isnan(head.top_k(activations("normal"), TopK(3, lse=False)).logits).all()


def test_what_it_does_not_take() -> None:
    head = made("F16", table_of("normal", "F16"))
    assert not head.takes(TopK(5))  # log sum exp needs every logit
    assert not head.takes(TopK(ROWS, lse=False))
