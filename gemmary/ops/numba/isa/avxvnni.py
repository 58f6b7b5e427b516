"""AVX-VNNI: the 64-byte dot product of AVX-512 on 32-byte registers (laptops since 2021)."""

from __future__ import annotations

from ..emit import I8, I32, VB, VI, Emitter, Value, ir
from .avx2 import half as half
from .avx2 import narrow as narrow
from .avx2 import pause as pause

NAME = "avx-vnni"
# A machine that has only the AVX-512 form of the instruction runs this path with that encoding, on 256 bits.
TARGET: tuple[str, str] | None = ("haswell", "+avxvnni")
TARGET_EVEX: tuple[str, str] = ("skylake-avx512", "+avx512vnni,+prefer-256-bit")
NEEDS = ("avxvnni", "avx2", "fma", "f16c")
SIGNED_BIAS = 128

_HALF = ir.VectorType(I32, 8)


def dot_unsigned(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """total + the four products of each lane; codes are bytes 0 .. 255, x int8."""
    operands = (e.parts(e.cast(value, VI), 8) for value in (total, codes, x))
    sums = [e.call("llvm.x86.avx512.vpdpbusd.256", _HALF, *lanes) for lanes in zip(*operands, strict=True)]
    return e.join(*sums)


def dot_signed(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """The same for codes from -128 to 127, each 128 too large."""
    return dot_unsigned(
        e, total, e.b.xor(e.cast(codes, VB), ir.Constant(VB, [ir.Constant(I8, -128)] * 64)), x
    )
