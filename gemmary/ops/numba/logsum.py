"""Log sum exp of logit rows, with bits that depend neither on threads nor on the machine.

A row is cut into spans of 4096 columns. Each span has its peak, and the sum of e^(x - peak) in sixteen lanes
(lane = column mod 16), halves added, then the columns left over in order.
Spans are folded in order in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types

from .elementary import emit_exp
from .emit import I32, LANES, VF, Emitter, Value, floats, inline
from .kernel import floats_at
from .scalar import exp

SPAN = 4096
_LN2 = 0.6931471805599453
_TERMS = 13  # of the series below: the next one is less than 2^-56 of the first


@inline(types.float32, types.intp, types.intp)
def _peak(e: Emitter, x: Value, vectors: Value) -> Value:
    """The largest of 16 * vectors float32 (NaN aside)."""
    top = e.variable(floats(-np.inf))
    with e.loop(vectors) as i:
        e.b.store(_larger(e, e.load(VF, e.step(x, i, 4 * LANES)), e.b.load(top)), top)
    return _halved(e, e.b.load(top), _larger)


@inline(types.float32, types.intp, types.intp, types.float32)
def _sum(e: Emitter, x: Value, vectors: Value, peak: Value) -> Value:
    """Sum of e^(x - peak) over 16 * vectors float32; NaN where one is NaN."""
    total, shift = e.variable(floats(0.0)), e.splat(peak)
    with e.loop(vectors) as i:
        value = e.load(VF, e.step(x, i, 4 * LANES))
        power = emit_exp(e, e.b.fsub(value, shift))
        power = e.b.select(e.b.fcmp_unordered("uno", value, value), value, power)
        e.b.store(e.b.fadd(e.b.load(total), power), total)
    return _halved(e, e.b.load(total), lambda e, a, b: e.b.fadd(a, b))


@inline(types.void, types.intp, types.float32)
def _put(e: Emitter, address: Value, number: Value) -> None:
    """Write a float32."""
    e.store(number, address)


def _larger(e: Emitter, a: Value, b: Value) -> Value:
    return e.b.select(e.b.fcmp_ordered(">", a, b), a, b)


def _halved(e: Emitter, lanes: Value, join: Any) -> Value:
    """One number from sixteen: the upper half joined to the lower until one is left."""
    while lanes.type.count > 1:
        half = lanes.type.count // 2
        lanes = join(e, e.part(lanes, 0, half), e.part(lanes, half, half))
    return e.b.extract_element(lanes, ir.Constant(I32, 0))


@njit(error_model="numpy")
def sum_span(x: int, columns: int, peak_at: int, sum_at: int) -> None:
    """Write the peak and the sum of e^(x - peak) of float32 x [columns] (addresses). NaN gets into sums."""
    whole = columns // LANES
    peak, rest = _peak(x, whole), floats_at(x, columns)[whole * LANES :]
    for value in rest:
        if value > peak:
            peak = value
    total = _sum(x, whole, peak)
    for value in rest:
        total += exp(np.float32(value - peak)) if value == value else value
    _put(peak_at, peak)
    _put(sum_at, total)


@njit(error_model="numpy")
def fold(peaks: np.ndarray, sums: np.ndarray, out: np.ndarray) -> None:
    """Write log sum exp [1] from the spans' peaks and sums; NaN where a logit was NaN or infinite."""
    peak = peaks[0]
    for other in peaks:
        if other > peak:
            peak = other
    total = 0.0
    for i in range(len(peaks)):
        total += np.float64(sums[i]) * np.float64(exp(np.float32(peaks[i] - peak)))
    out[0] = np.float64(peak) + log(total) if np.isfinite(peak) and np.isfinite(total) else np.nan


@njit(error_model="numpy")
def log(x: float) -> float:
    """Natural logarithm of a normal x >= 1: 2 atanh((m - 1) / (m + 1)), where x = m 2^e and 0.75 < m <= 1.5.

    Spelled out, because the C library's last bit differs between systems.
    """
    e = 0
    while x > 1.5:
        x *= 0.5
        e += 1
    s = (x - 1.0) / (x + 1.0)
    z = s * s
    series = 0.0
    for i in range(_TERMS - 1, -1, -1):
        series = series * z + 1.0 / (2 * i + 1)
    return e * _LN2 + 2.0 * s * series
