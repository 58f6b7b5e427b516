"""Products over packed weights: every format, odd shapes, with one thread and many."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from gemmary.formats import FORMATS, Format, encode
from gemmary.ops.numba.activation import BLOCK, quantize
from gemmary.ops.numba.linear import PackedLinear, fetch, multiply
from gemmary.ops.numba.machine import prepare
from tests.formats.oracle import QUANTIZED, by_name, decoded
from tests.parity.ggufs import K_SPREAD, random_k_blocks

EPS = 2.0**-24
FLOATS = [form for form in FORMATS.values() if not form.group]
# tokens, rows, blocks: GEMV and GEMM, below and above the size that is worth waking threads for
SHAPES = [(1, 1, 1), (1, 17, 3), (2, 5, 1), (5, 3, 2), (9, 33, 1), (3, 700, 4)]


def packed(form: Format, rows: int, columns: int, seed: int = 0) -> PackedLinear:
    """Random weights around 0, read-only as from a file."""
    if form.name in K_SPREAD:
        raw = random_k_blocks(form, rows * columns, 0.1, seed)
    else:
        values = np.random.default_rng(seed).normal(0, 0.1, (rows, columns)).astype(np.float32)
        raw = encode(form, values).reshape(-1)
    raw.flags.writeable = False
    return PackedLinear(form, raw, rows, columns)


def weights(linear: PackedLinear) -> np.ndarray:
    """float64 [rows, columns], as the gguf package reads them."""
    return decoded(linear.format, linear.raw.reshape(linear.rows, -1)).astype(np.float64)


def activations(tokens: int, columns: int, seed: int = 1) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(tokens, columns))
    return (x * 10.0 ** np.arange(-2, tokens - 2)[:, None]).astype(np.float32)


@pytest.mark.parametrize(("tokens", "rows", "blocks"), SHAPES)
@pytest.mark.parametrize("form", QUANTIZED, ids=by_name)
def test_integer_products(form: Format, tokens: int, rows: int, blocks: int) -> None:
    """Equal to float64 of dequantised weight times rounded activation, but for float32 sums."""
    linear = packed(form, rows, blocks * form.block)
    x = activations(tokens, linear.columns)
    codes = quantize(x)
    rounded = codes.codes * np.repeat(codes.scales, BLOCK, -1).astype(np.float64)
    w = weights(linear)
    got = multiply(linear, x, codes)
    # Formats with an offset add two large halves that cancel: bound by what is added, not by the answer.
    groups = linear.columns // form.group
    added = np.abs(rounded) @ np.abs(w).T + np.abs(rounded).max(-1)[:, None] * np.abs(w).max() * form.group
    assert got.dtype == np.float32
    assert (np.abs(got - rounded @ w.T) <= (2 * groups + 4) * EPS * added * 4).all()


@pytest.mark.parametrize(
    ("tokens", "rows", "columns"), [(1, 1, 1), (1, 7, 15), (3, 2, 17), (4, 33, 100), (5, 300, 257)]
)
@pytest.mark.parametrize("form", FLOATS, ids=by_name)
def test_float_products(form: Format, tokens: int, rows: int, columns: int) -> None:
    linear = packed(form, rows, columns)
    x = activations(tokens, columns)
    w, wide = weights(linear), x.astype(np.float64)
    got = multiply(linear, x, None)
    assert (np.abs(got - wide @ w.T) <= (columns / 16 + 6) * EPS * (np.abs(wide) @ np.abs(w).T)).all()


@pytest.fixture
def one_thread() -> Iterator[None]:
    prepare(1)
    yield
    prepare()


@pytest.mark.parametrize("form", FORMATS.values(), ids=by_name)
def test_a_product_depends_on_its_row_and_token_only(form: Format, one_thread: None) -> None:
    """Bit for bit: alone = in company, one thread = many, a slice of rows = all of them."""
    linear = packed(form, 600, 256)
    x = activations(5, 256)
    alone = np.concatenate([multiply(linear, x[t : t + 1], quantize(x[t : t + 1])) for t in range(5)])
    prepare()
    np.testing.assert_array_equal(multiply(linear, x, quantize(x)), alone)
    size = form.row_bytes(256)
    some = PackedLinear(form, linear.raw[17 * size : 30 * size], 13, 256)
    np.testing.assert_array_equal(multiply(some, x, quantize(x)), alone[:, 17:30])


@pytest.mark.parametrize("form", FORMATS.values(), ids=by_name)
def test_fetched_rows_are_the_weights(form: Format) -> None:
    linear = packed(form, 9, 256)
    ids = np.array([8, 0, 3, 3], np.int32)
    np.testing.assert_array_equal(fetch(linear, ids), weights(linear)[ids])


def test_quantized_weights_want_rounded_activations() -> None:
    with pytest.raises(ValueError, match="Q8_0 weights multiply rounded activations"):
        multiply(packed(FORMATS["Q8_0"], 2, 32), activations(1, 32), None)


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "F16"])
def test_nan_is_not_lost(name: str) -> None:
    linear = packed(FORMATS[name], 4, 256)
    x = activations(2, 256)
    x[1, 40] = np.nan
    got = multiply(linear, x, quantize(x))
    assert np.isfinite(got[0]).all()
    assert np.isnan(got[1]).all()
