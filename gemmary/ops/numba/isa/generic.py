"""Any machine: portable vectors that LLVM turns into whatever it has."""

from __future__ import annotations

from ..emit import I16, I32, VF, VI, Emitter, Value, ir

NAME = "generic"
TARGET: tuple[str, str] | None = ("generic", "")  # LLVM's processor and features when this path is forced
SIGNED_BIAS = 0  # what `dot_signed` adds to each code: see avx512

_PAIRS = ir.VectorType(I16, 32)
_WIDE = ir.VectorType(I32, 32)


def dot_unsigned(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """total + the four products of each lane; codes are bytes 0 .. 127, x int8. VI, VB, VB -> VI."""
    return dot_signed(e, total, codes, x)


def dot_signed(e: Emitter, total: Value, codes: Value, x: Value) -> Value:
    """The same for codes from -128 to 127."""
    for shift in (8, 0):  # even bytes of each pair, then odd ones
        products = e.b.mul(_widened(e, codes, shift), _widened(e, x, shift))
        total = e.b.add(total, _pair_sums(e, products))
    return total


def half(e: Emitter, bits: Value) -> Value:
    """Sixteen IEEE halves as floats, in integers: exponents move by 112, subnormals scale exactly."""
    wide = e.b.zext(bits, VI)

    def constant(number: int) -> Value:
        return ir.Constant(VI, [number] * 16)

    magnitude = e.b.shl(e.b.and_(wide, constant(0x7FFF)), constant(13))
    sign = e.b.shl(e.b.and_(wide, constant(0x8000)), constant(16))
    scaled = e.b.fmul(e.cast(magnitude, VF), ir.Constant(VF, [2.0**112] * 16))
    special = e.b.or_(magnitude, constant(0x7F800000))
    is_special = e.b.icmp_unsigned(">=", magnitude, constant(0x7C00 << 13))
    return e.cast(e.b.or_(e.b.select(is_special, special, e.cast(scaled, VI)), sign), VF)


def narrow(e: Emitter, values: Value) -> Value:
    """Sixteen floats of at most 65504 as IEEE halves, rounded to nearest, ties to even; NaN stays NaN."""

    def constant(number: int) -> Value:
        return ir.Constant(VI, [number] * 16)

    bits = e.cast(values, VI)
    magnitude = e.b.and_(bits, constant(0x7FFFFFFF))
    # Normal halves: exponents move by 112; half a unit is added, less a bit where the last kept one is even.
    odd = e.b.and_(e.b.lshr(magnitude, constant(13)), constant(1))
    moved = e.b.add(magnitude, constant(0xFFF - (112 << 23)))
    normal = e.b.lshr(e.b.add(moved, odd), constant(13))
    # Small ones: adding 1/2 leaves their bits at the end, rounded.
    half_ = ir.Constant(VF, [0.5] * 16)
    small = e.b.sub(e.cast(e.b.fadd(e.cast(magnitude, VF), half_), VI), constant(0x3F000000))
    found = e.b.select(e.b.icmp_unsigned("<", magnitude, constant(113 << 23)), small, normal)
    found = e.b.select(e.b.icmp_unsigned(">", magnitude, constant(0x7F800000)), constant(0x7E00), found)
    sign = e.b.and_(e.b.lshr(bits, constant(16)), constant(0x8000))
    return e.b.trunc(e.b.or_(found, sign), ir.VectorType(I16, 16))


def pause(e: Emitter) -> None:
    """A hint that this thread is waiting: none that every machine knows."""


def _widened(e: Emitter, codes: Value, shift: int) -> Value:
    """One byte of each pair, sign-extended."""
    pairs = e.cast(codes, _PAIRS)
    if shift:
        pairs = e.b.shl(pairs, ir.Constant(_PAIRS, [8] * 32))
    return e.b.sext(e.b.ashr(pairs, ir.Constant(_PAIRS, [8] * 32)), _WIDE)


def _pair_sums(e: Emitter, products: Value) -> Value:
    undefined = ir.Constant(_WIDE, ir.Undefined)
    even, odd = (
        e.b.shuffle_vector(products, undefined, ir.Constant(VI, list(range(start, 32, 2))))
        for start in (0, 1)
    )
    return e.b.add(even, odd)
