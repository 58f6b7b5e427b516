"""Products over packed weights: every format, odd shapes, with one thread and many."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.formats import FORMATS, Format, encode
from gemmary.ops.numba.linear import PackedLinear, fetch
from gemmary.ops.numba.team import Team
from tests.formats.oracle import QUANTIZED, by_name, decoded
from tests.ops.numba.played import linear, product, rounded, values_of
from tests.parity.ggufs import K_SPREAD, random_k_blocks

EPS = 2.0**-24
FLOATS = [form for form in FORMATS.values() if not form.group]
# tokens, rows, blocks: every size of tile, and strips that are full, single and short
SHAPES = [(1, 1, 1), (1, 17, 3), (2, 5, 1), (5, 3, 2), (9, 33, 1), (15, 16, 1), (3, 700, 4)]


def packed(form: Format, rows: int, columns: int, seed: int = 0) -> PackedLinear:
    """Random weights around 0, read-only as from a file."""
    if form.name in K_SPREAD:
        raw = random_k_blocks(form, rows * columns, 0.1, seed)
    else:
        values = np.random.default_rng(seed).normal(0, 0.1, (rows, columns)).astype(np.float32)
        raw = encode(form, values).reshape(-1)
    raw.flags.writeable = False
    return linear(form, raw, rows, columns)


def weights(weight: PackedLinear) -> np.ndarray:
    """float64 [rows, columns], as the gguf package reads them."""
    return decoded(weight.format, weight.raw.reshape(weight.rows, -1)).astype(np.float64)


def activations(tokens: int, columns: int, seed: int = 1) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(tokens, columns))
    return (x * 10.0 ** np.arange(-2, tokens - 2)[:, None]).astype(np.float32)


@pytest.mark.parametrize(("tokens", "rows", "blocks"), SHAPES)
@pytest.mark.parametrize("form", QUANTIZED, ids=by_name)
def test_integer_products(form: Format, tokens: int, rows: int, blocks: int) -> None:
    """Equal to float64 of dequantised weight times rounded activation, but for float32 sums."""
    weight = packed(form, rows, blocks * form.block)
    x = activations(tokens, weight.columns)
    exact = values_of(rounded(x), *x.shape)
    w = weights(weight)
    got = product(weight, x)
    # Formats with an offset add two large halves that cancel: bound by what is added, not by the answer.
    groups = weight.columns // form.group
    added = np.abs(exact) @ np.abs(w).T + np.abs(exact).max(-1)[:, None] * np.abs(w).max() * form.group
    assert got.dtype == np.float32
    assert (np.abs(got - exact @ w.T) <= (2 * groups + 4) * EPS * added * 4).all()


@pytest.mark.parametrize(
    ("tokens", "rows", "columns"), [(1, 1, 1), (1, 7, 15), (3, 2, 17), (4, 33, 100), (5, 300, 257)]
)
@pytest.mark.parametrize("form", FLOATS, ids=by_name)
def test_float_products(form: Format, tokens: int, rows: int, columns: int) -> None:
    weight = packed(form, rows, columns)
    x = activations(tokens, columns)
    w, wide = weights(weight), x.astype(np.float64)
    got = product(weight, x)
    assert (np.abs(got - wide @ w.T) <= (columns / 16 + 6) * EPS * (np.abs(wide) @ np.abs(w).T)).all()


def test_floats_may_lie_at_odd_addresses() -> None:
    for form in FLOATS:
        raw = packed(form, 5, 33).raw
        shifted = np.empty(len(raw) + 1, np.uint8)[1:]
        shifted[:] = raw
        x = activations(3, 33)
        np.testing.assert_array_equal(
            product(linear(form, shifted, 5, 33), x), product(packed(form, 5, 33), x)
        )


@pytest.mark.parametrize("form", FORMATS.values(), ids=by_name)
def test_a_product_depends_on_its_row_and_token_only(form: Format) -> None:
    """Bit for bit: alone = in company, one thread = many, a slice of rows = all of them."""
    weight = packed(form, 600, 256)
    x = activations(13, 256)
    alone = np.concatenate([product(weight, x[t : t + 1], Team(1)) for t in range(len(x))])
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(product(weight, x, Team(threads)), alone)
    size = form.row_bytes(256)
    some = linear(form, weight.raw[17 * size : 30 * size], 13, 256)
    np.testing.assert_array_equal(product(some, x), alone[:, 17:30])


@pytest.mark.parametrize("form", FORMATS.values(), ids=by_name)
def test_fetched_rows_are_the_weights(form: Format) -> None:
    weight = packed(form, 9, 256)
    ids = np.array([8, 0, 3, 3], np.int32)
    np.testing.assert_array_equal(fetch(weight, ids), weights(weight)[ids])


@pytest.mark.parametrize("form", FORMATS.values(), ids=by_name)
def test_nan_is_not_lost(form: Format) -> None:
    weight = packed(form, 4, 256)
    x = activations(3, 256)
    x[1, 40] = np.nan
    got = product(weight, x)
    assert np.isfinite(got[[0, 2]]).all()
    assert np.isnan(got[1]).all()


@pytest.mark.parametrize("form", QUANTIZED, ids=by_name)
def test_a_damaged_scale_is_not_lost(form: Format) -> None:
    """NaN in one row's scale is NaN in that row, in no other row of its strip."""
    weight = packed(form, 20, 512)
    raw = weight.raw.copy()
    place = 5 * form.row_bytes(512) + (208 if form.name == "Q6_K" else 0)
    raw[place : place + 2] = np.array([np.nan], "<f2").view(np.uint8)
    got = product(linear(form, raw, 20, 512), activations(2, 512))
    assert np.isnan(got[:, 5]).all()
    assert np.isfinite(np.delete(got, 5, 1)).all()


@pytest.mark.parametrize("form", QUANTIZED, ids=by_name)
def test_the_largest_codes_there_are(form: Format) -> None:
    """Integer sums at their ends: every code and every activation as large as it gets, in either sign."""
    size, exact = form.row_bytes(256), None
    for byte in (0x00, 0x7F, 0x80, 0xFF):
        raw = np.full((3, size // form.nbytes, form.nbytes), byte, np.uint8)
        halves = 2 if form.name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else 1
        start = 208 if form.name == "Q6_K" else 0
        raw[..., start : start + 2 * halves] = np.array([1.0] * halves, "<f2").view(np.uint8)
        weight = linear(form, raw.reshape(-1), 3, 256)
        for sign in (1, -1):
            x = np.full((2, 256), sign * 127, np.float32)
            exact = x.astype(np.float64) @ weights(weight).T
            bound = 256 * 127 * np.abs(weights(weight)).max() * 32 * EPS
            assert (np.abs(product(weight, x) - exact) <= bound).all()
