"""Pages of int8: where codes and scales lie, and writing new tokens.

A key, and a value, of one token and head is codes of -127 .. 127 times one float32 scale, its largest
magnitude / 127: a token's bytes depend on that token alone. One head's part of a page is strips of codes,
then 64 scales, one a position. A strip is vectors of sixteen lanes with four codes each, so that the products
of bytes add fours. In strip s of keys, lanes are positions 16 s .. 16 s + 15, and vector i has columns 4 i to
4 i + 3; in strip s of values, lanes are columns 16 s .. 16 s + 15, and vector i has positions 4 i to 4 i + 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from ..contract import PAGE
from .emit import I8, I32, LANES, VF, Emitter, Value, whole
from .rounding import inverse_of, largest, rounded, scale_of

LEVELS = 127
SCALE = 4  # bytes of a token's scale
VECTOR = 4 * LANES  # bytes
_BYTES, _WORDS = ir.VectorType(I8, LANES), ir.VectorType(I32, LANES // 4)


def scales_at(e: Emitter, part: Value, head_dim: Value) -> Value:
    """Where the 64 scales of a part are."""
    return e.step(part, head_dim, PAGE)


def key_strip(e: Emitter, part: Value, head_dim: Value, strip: Value) -> Value:
    """Where a strip of keys begins; it has head_dim / 4 vectors."""
    return e.b.add(part, e.b.mul(strip, e.b.mul(head_dim, whole(LANES))))


def value_strip(e: Emitter, part: Value, strip: Value) -> Value:
    """Where a strip of values begins; it has 16 vectors."""
    return e.step(part, strip, LANES * PAGE)


def store_codes(
    e: Emitter, k: Value, v: Value, keys: Value, values: Value, slot: Value, head_dim: Value
) -> None:
    """Write k and v, addresses of float32 [H], to position `slot` of the parts at `keys` and `values`."""
    lane, place = e.b.and_(slot, whole(LANES - 1)), e.b.and_(slot, whole(3))
    strip = key_strip(e, keys, head_dim, e.b.lshr(slot, whole(4)))
    with _codes(e, k, keys, slot, head_dim) as (i, codes):
        words, at = e.cast(codes, _WORDS), e.step(e.step(strip, lane, 4), i, 4 * VECTOR)
        for j in range(LANES // 4):
            e.store(e.b.extract_element(words, ir.Constant(I32, j)), at, VECTOR * j)
    vector = e.b.add(e.step(values, e.b.lshr(slot, whole(2)), VECTOR), place)
    with _codes(e, v, values, slot, head_dim) as (i, codes):
        at = value_strip(e, vector, i)
        for j in range(LANES):
            e.store(e.b.extract_element(codes, ir.Constant(I32, j)), at, 4 * j, align=1)


@contextmanager
def _codes(
    e: Emitter, source: Value, part: Value, slot: Value, head_dim: Value
) -> Iterator[tuple[Value, Value]]:
    """Store a token's scale, and go through its codes: (i, codes of columns 16 i to 16 i + 15)."""
    vectors = e.b.sdiv(head_dim, whole(LANES))
    peak = largest(e, source, vectors)
    e.store(scale_of(e, peak, LEVELS), e.step(scales_at(e, part, head_dim), slot, SCALE))
    inverse = inverse_of(e, peak, LEVELS)
    with e.loop(vectors) as i:
        yield i, e.b.trunc(rounded(e, e.load(VF, e.step(source, i, 4 * LANES)), inverse), _BYTES)
