"""exp and the gated GELU in sixteen lanes: bit for bit what `scalar` computes for one number."""

from __future__ import annotations

from .emit import VF, VI, Emitter, Value, floats, ints

_CUBE, _SLOPE = 0.044715, 0.7978845608  # sqrt(2 / pi)


def emit_exp(e: Emitter, x: Value) -> Value:
    """`scalar.exp` of each lane."""
    x = e.b.select(e.b.fcmp_ordered("<", x, floats(-87.0)), floats(-87.0), x)
    x = e.b.select(e.b.fcmp_ordered(">", x, floats(88.0)), floats(88.0), x)
    shifted = e.fma(x, floats(1.4426950408889634), floats(12582912.0))
    n = e.b.fsub(shifted, floats(12582912.0))
    r = e.fma(n, floats(2.12194440e-4), e.fma(n, floats(-0.693359375), x))
    p = floats(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
        p = e.fma(p, r, floats(c))
    p = e.fma(p, e.b.fmul(r, r), e.b.fadd(r, floats(1.0)))
    # n is in the low bits of `shifted`; the shift leaves nothing else of it.
    power = e.b.add(e.b.shl(e.cast(shifted, VI), ints(23)), ints(127 << 23))
    return e.b.fmul(p, e.cast(power, VF))


def emit_gelu(e: Emitter, z: Value) -> Value:
    """`scalar.gelu` of each lane."""
    cube = e.b.fmul(e.b.fmul(z, z), z)
    y = e.b.fmul(floats(_SLOPE), e.fma(floats(_CUBE), cube, z))
    power = e.b.fadd(emit_exp(e, e.b.fmul(floats(2.0), y)), floats(1.0))
    tanh = e.b.fsub(floats(1.0), e.b.fdiv(floats(2.0), power))
    return e.b.fmul(e.b.fmul(floats(0.5), z), e.b.fadd(floats(1.0), tanh))
