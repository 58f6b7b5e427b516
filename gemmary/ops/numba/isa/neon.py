"""ARM with dot products: four lanes of signed bytes an instruction."""

from __future__ import annotations

from ..emit import F16, I32, VB, VF, Emitter, Value, ir

NAME = "neon-dotprod"
TARGET: tuple[str, str] | None = None
NEEDS = ("dotprod",)
SIGNED_BIAS = 0

_QUARTER = ir.VectorType(I32, 4)


def dot_unsigned(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """total + the four products of each lane; codes are bytes 0 .. 127, which are signed bytes too."""
    return dot_signed(e, total, codes, x)


def dot_signed(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """The same for codes from -128 to 127."""
    operands = e.parts(total, 4), e.parts(e.cast(codes, VB), 16), e.parts(e.cast(x, VB), 16)
    name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
    return e.joined([e.call(name, _QUARTER, *lanes) for lanes in zip(*operands, strict=True)])


def half(e: Emitter, bits: Value) -> Value:
    """Sixteen IEEE halves as floats."""
    return e.b.fpext(e.cast(bits, ir.VectorType(F16, 16)), VF)


def pause(e: Emitter) -> None:
    """Tell the core that this thread is waiting."""
    e.call("llvm.aarch64.hint", ir.VoidType(), ir.Constant(I32, 1))
