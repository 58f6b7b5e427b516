"""AVX2: products of bytes in 16 bits, then pairs of those in 32."""

from __future__ import annotations

from ..emit import F16, I8, I16, I32, VB, VF, Emitter, Value, ir
from .avx512 import pause as pause

NAME = "avx2"
TARGET: tuple[str, str] | None = ("haswell", "")
NEEDS = ("avx2", "fma", "f16c")
SIGNED_BIAS = 0

_HALF_BYTES, _HALF_PAIRS = ir.VectorType(I8, 32), ir.VectorType(I16, 16)
_HALF = ir.VectorType(I32, 8)


def dot_unsigned(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """total + the four products of each lane. Codes are bytes 0 .. 127: two products then fit 16 bits."""
    sums = [_fours(e, c, y) for c, y in _halves(e, codes, x)]
    return e.b.add(total, e.join(*sums))


def dot_signed(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """The same for codes from -128 to 127: the sign moves to the other factor."""
    sums = []
    for c, y in _halves(e, codes, x):
        moved = e.call("llvm.x86.avx2.psign.b", _HALF_BYTES, y, c)
        size = e.call("llvm.abs.v32i8", _HALF_BYTES, c, ir.Constant(ir.IntType(1), 0))
        sums.append(_fours(e, size, moved))
    return e.b.add(total, e.join(*sums))


def half(e: Emitter, bits: Value) -> Value:
    """Sixteen IEEE halves as floats (F16C)."""
    return e.b.fpext(e.cast(bits, ir.VectorType(F16, 16)), VF)


def narrow(e: Emitter, values: Value) -> Value:
    """Sixteen floats of at most 65504 as IEEE halves, rounded to nearest, ties to even; NaN stays NaN."""
    return e.cast(e.b.fptrunc(values, ir.VectorType(F16, 16)), ir.VectorType(I16, 16))


def _halves(e: Emitter, codes: Value, x: Value) -> list[tuple[Value, Value]]:
    return list(zip(e.parts(e.cast(codes, VB), 32), e.parts(e.cast(x, VB), 32), strict=True))


def _fours(e: Emitter, codes: Value, x: Value) -> Value:
    pairs = e.call("llvm.x86.avx2.pmadd.ub.sw", _HALF_PAIRS, codes, x)
    return e.call("llvm.x86.avx2.pmadd.wd", _HALF, pairs, ir.Constant(_HALF_PAIRS, [1] * 16))
