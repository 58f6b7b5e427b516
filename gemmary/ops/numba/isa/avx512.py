"""AVX-512 with VNNI: one instruction multiplies 64 unsigned by 64 signed bytes and adds fours."""

from __future__ import annotations

from ..emit import F16, I8, I16, VB, VF, VI, Emitter, Value, ir

NAME = "avx512-vnni"
TARGET: tuple[str, str] | None = None  # the machine's own
NEEDS = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni")
SIGNED_BIAS = 128  # signed codes become unsigned by adding 128


def dot_unsigned(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """total + the four products of each lane; codes are bytes 0 .. 255, x int8."""
    # Until LLVM 21 its byte operands were declared as int32 lanes; newer versions translate that.
    return e.call("llvm.x86.avx512.vpdpbusd.512", VI, total, e.cast(codes, VI), e.cast(x, VI))


def dot_signed(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """The same for codes from -128 to 127, each 128 too large."""
    return dot_unsigned(
        e, total, e.b.xor(e.cast(codes, VB), ir.Constant(VB, [ir.Constant(I8, -128)] * 64)), x
    )


def half(e: Emitter, bits: Value) -> Value:
    """Sixteen IEEE halves as floats."""
    return e.b.fpext(e.cast(bits, ir.VectorType(F16, 16)), VF)


def narrow(e: Emitter, values: Value) -> Value:
    """Sixteen floats of at most 65504 as IEEE halves, rounded to nearest, ties to even; NaN stays NaN."""
    return e.cast(e.b.fptrunc(values, ir.VectorType(F16, 16)), ir.VectorType(I16, 16))


def pause(e: Emitter) -> None:
    """Tell the core that this thread is waiting."""
    e.call("llvm.x86.sse2.pause", ir.VoidType())
