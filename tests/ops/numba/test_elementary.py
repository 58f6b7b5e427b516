"""Sixteen lanes of exp and GELU give the bits of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit, types

from gemmary.ops.numba import scalar
from gemmary.ops.numba.elementary import emit_exp, emit_gelu
from gemmary.ops.numba.emit import VF, Emitter, Value, inline
from gemmary.ops.numba.kernel import ADDRESS, Kernel, kernel, record
from tests.ops.numba.played import played


def lanes(emit: Any) -> Kernel:
    """A kernel of one piece for each sixteen numbers."""

    def apply(e: Emitter, x: Value, out: Value) -> None:
        e.store(emit(e, e.load(VF, x)), out)

    apply.__name__ = emit.__name__
    sixteen = inline(types.void, types.intp, types.intp)(apply)

    def run(args: Any, piece: int) -> None:
        a = record(args)
        sixteen(a.x + 64 * piece, a.out + 64 * piece)

    run.__qualname__ += emit.__name__
    return kernel(x=ADDRESS, out=ADDRESS)(run)


@njit
def exps(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = scalar.exp(x[i])


@njit
def gelus(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(x)):
        out[i] = scalar.gelu(x[i])


def numbers() -> np.ndarray:
    """Every exponent in both signs, the range that matters densely, and the ends."""
    rng = np.random.default_rng(0)
    every = rng.integers(0, 2**32, 200_000, np.uint64).astype(np.uint32).view(np.float32)
    ends = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 88, -87, 1e-45, -1e-45, 3e38, -3e38], np.float32)
    around = [np.nextafter(ends, np.float32(way)) for way in (-np.inf, np.inf)]
    x = np.concatenate([every, np.linspace(-90, 90, 300_001, dtype=np.float32), ends, *around])
    return np.resize(x, -(-len(x) // 16) * 16)


@pytest.mark.parametrize(("emit", "one"), [(emit_exp, exps), (emit_gelu, gelus)], ids=["exp", "gelu"])
def test_the_bits_of_the_scalar_function(emit: Any, one: Any) -> None:
    x = numbers()
    found, want = np.empty_like(x), np.empty_like(x)
    played(lanes(emit), len(x) // 16, x=x, out=found)
    one(x, want)
    same = (found.view(np.int32) == want.view(np.int32)) | (np.isnan(found) & np.isnan(want))
    assert same.all(), x[~same][:10]
    np.testing.assert_array_equal(np.isnan(want), np.isnan(x) | (np.isnan(want) & np.isinf(x)))
