"""16-bit floats: every pattern to float32, and back at and around every place where rounding turns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gguf.quants import BF16
from numpy.typing import NDArray

from gemmary.formats.halves import (
    float_to_bfloat,
    float_to_half,
    narrow_to_bfloats,
    widen_bfloats,
    widen_halves,
)
from gemmary.formats.jit import compiled
from tests.formats.oracle import same_bits

PATTERNS = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
BFLOATS = (PATTERNS.astype(np.uint32) << 16).view(np.float32)
HALVES = PATTERNS.view(np.float16).astype(np.float32)


@compiled
def narrow_to_halves(values: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
    for i in range(values.size):
        out[i] = float_to_half(values[i])


def around(exact: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each value, the midpoint to its neighbour, and the floats next to both."""
    exact = np.unique(exact[np.isfinite(exact)])
    midpoints = ((exact[1:].astype(np.float64) + exact[:-1]) / 2).astype(np.float32)
    turns = np.concatenate([exact, -exact[exact == 0], midpoints])
    far = np.array([65519, 65519.996, 65520, 65536, 1e9, 3.4028235e38, np.inf, 1e-45, 2.0**-25], np.float32)
    turns = np.concatenate([turns, far, -far])
    with np.errstate(over="ignore"):
        return np.concatenate([turns, np.nextafter(turns, np.inf), np.nextafter(turns, -np.inf)])


def test_every_half_has_its_value() -> None:
    out = np.empty(1 << 16, np.float32)
    widen_halves(PATTERNS, out)
    assert same_bits(out, HALVES)


def test_every_bfloat_has_its_value() -> None:
    out = np.empty(1 << 16, np.float32)
    widen_bfloats(PATTERNS, out)
    assert np.array_equal(out.view(np.uint32), BFLOATS.view(np.uint32))


def test_floats_round_to_the_nearest_half() -> None:
    values = around(HALVES)
    out = np.empty(values.size, np.uint16)
    narrow_to_halves(values, out)
    with np.errstate(over="ignore"):
        assert np.array_equal(out, values.astype(np.float16).view(np.uint16))


def test_floats_round_to_the_nearest_bfloat() -> None:
    values = np.concatenate([around(BFLOATS), BFLOATS[np.isnan(BFLOATS)]])
    out = np.empty(values.size, np.uint16)
    narrow_to_bfloats(values, out)
    assert np.array_equal(out, BF16.quantize_blocks(values.reshape(1, -1)).view(np.uint16).reshape(-1))


@pytest.mark.parametrize("narrow", [float_to_half, float_to_bfloat])
@pytest.mark.parametrize("bits", [0x7F80_0001, 0x7FC0_0000, 0x7FFF_FFFF, 0xFF80_0001, 0xFFFF_FFFF])
def test_nan_stays_nan(narrow: Callable[[np.float32], int], bits: int) -> None:
    value = np.array([bits], np.uint32).view(np.float32)[0]
    half = np.array([narrow(value)], np.uint32).astype(np.uint16)
    wide = (
        half.view(np.float16) if narrow is float_to_half else (half.astype(np.uint32) << 16).view(np.float32)
    )
    assert np.isnan(wide[0])
