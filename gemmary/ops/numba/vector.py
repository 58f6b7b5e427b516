"""Dot products of float rows in arrays, for norms and for single rows of the table: a tile of `floatrows`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from .emit import Emitter, Value, inline
from .floatrows import emit_dots
from .instructions import chosen

Whole = int | np.int64


def _dot(form: str) -> Any:
    @inline(types.float32, types.intp, types.intp, types.intp)
    def dot(e: Emitter, w: Value, x: Value, n: Value) -> Value:
        return emit_dots(e, chosen, form, (1, 1), w, x, n)[0, 0]

    return dot


_f32, _f16, _bf16 = _dot("F32"), _dot("F16"), _dot("BF16")


@register_jitable(forceinline=True)
def dot_f32(w: np.ndarray, w_at: Whole, x: np.ndarray, x_at: Whole, n: int) -> np.float32:
    """w[w_at : w_at + n] . x[x_at : x_at + n], both float32."""
    return _f32(w.ctypes.data + 4 * w_at, x.ctypes.data + 4 * x_at, n)


@register_jitable(forceinline=True)
def dot_f16(w: np.ndarray, w_at: Whole, x: np.ndarray, x_at: Whole, n: int) -> np.float32:
    """The same for w as the bits of IEEE halves, uint16."""
    return _f16(w.ctypes.data + 2 * w_at, x.ctypes.data + 4 * x_at, n)


@register_jitable(forceinline=True)
def dot_bf16(w: np.ndarray, w_at: Whole, x: np.ndarray, x_at: Whole, n: int) -> np.float32:
    """The same for w as the bits of bf16."""
    return _bf16(w.ctypes.data + 2 * w_at, x.ctypes.data + 4 * x_at, n)
