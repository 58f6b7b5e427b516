"""Floats to whole codes with a common scale: x is about code * peak / levels, codes at most `levels`.

Who rounds keeps peak / levels as the scale. What is not larger than 1e-30 anywhere is rounded to zeros.
"""

from __future__ import annotations

import numpy as np

from .emit import F32, I32, VF, VI, Emitter, Value, floats, ints, ir

_SMALLEST = float(np.float32(1e-30))
_ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds to the nearest integer, ties to even


def larger_size(e: Emitter, sizes: Value, vector: Value) -> Value:
    """The larger magnitudes of `sizes`, magnitudes so far, and floats.

    They are int32 lanes. Without their sign bit, floats are in the order of their bits, and NaN is above all:
    it must get into the scale, or a damaged model would answer as if it were whole.
    """
    return e.call("llvm.smax.v16i32", VI, sizes, e.b.and_(e.cast(vector, VI), ints(0x7FFFFFFF)))


def peak_of(e: Emitter, sizes: Value) -> Value:
    """The largest of sixteen magnitudes, as a float."""
    return e.cast(e.call("llvm.vector.reduce.smax.v16i32", I32, sizes), F32)


def scale_of(e: Emitter, peak: Value, levels: int) -> Value:
    """What codes stand for: peak / levels."""
    return e.b.fdiv(peak, ir.Constant(F32, float(levels)))


def inverse_of(e: Emitter, peak: Value, levels: int) -> Value:
    """What floats are multiplied by before `rounded`, in each lane: levels / peak."""
    # Below this it would be infinite. NaN is not above it either, and its codes do not matter.
    some = e.b.fcmp_ordered(">", peak, ir.Constant(F32, _SMALLEST))
    inverse = e.b.fdiv(ir.Constant(F32, float(levels)), peak)
    return e.splat(e.b.select(some, inverse, ir.Constant(F32, 0.0)))


def rounded(e: Emitter, vector: Value, inverse: Value) -> Value:
    """Codes, int32 lanes: vector * inverse to the nearest integer, ties to even; of NaN, some number."""
    shifted = e.b.fadd(e.b.fmul(vector, inverse), floats(_ROUND))
    return e.b.fptosi(e.b.fsub(shifted, floats(_ROUND)), VI)


def largest(e: Emitter, source: Value, vectors: Value) -> Value:
    """The largest magnitude of so many times sixteen floats at an address."""
    sizes = e.variable(ints(0))
    with e.loop(vectors) as i:
        e.b.store(larger_size(e, e.b.load(sizes), e.load(VF, e.step(source, i, 64))), sizes)
    return peak_of(e, e.b.load(sizes))
