"""Packed weights: strips of sixteen rows, one row a lane, four columns a 64-byte vector (docs/kernels.md).

A strip is a run of blocks; a block holds 32 or 256 columns of its sixteen rows: first what they share (scales
of the sixteen rows side by side), then codes. This file says how the codes and scales of 32 columns come out
of a block; `packing` writes blocks, `tile` multiplies them.

Codes of a group of 32 columns are eight vectors; vector j has columns 4j .. 4j + 3 of every row. Two vectors
of 4-bit codes share 64 bytes: j in the low nibbles, j + 4 in the high ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .emit import I8, I16, LANES, VB, VI, Emitter, Value, ir

HALVES = 2 * LANES  # bytes of sixteen 16-bit numbers


@dataclass(frozen=True)
class Group:
    """32 columns of sixteen rows in registers.

    `codes(j)` is a vector of bytes; `zero` is subtracted from each (signed codes: 0). scales has one VF for
    all 32 columns, or one for each 16. `negative_offset`, where there is one, times minus the sum of the
    activations is the second term.
    """

    codes: Callable[[int], Value]
    scales: tuple[Value, ...]
    zero: int = 0
    signed: bool = False
    negative_offset: Value | None = None


@dataclass(frozen=True)
class Layout:
    """How blocks of one format lie: `header` bytes, then columns / 32 groups of `group_bytes`.

    With `once` the header is not each block's but the strip's.
    """

    columns: int
    header: int
    group_bytes: int
    read_header: Callable[[Emitter, Any, Value], tuple[Value, ...]]
    read_group: Callable[[Emitter, Any, Value, tuple[Value, ...]], Group]
    once: bool = False

    @property
    def groups(self) -> int:
        """Groups of 32 columns in a block."""
        return self.columns // 32

    @property
    def nbytes(self) -> int:
        """Bytes of a block of sixteen rows."""
        return (0 if self.once else self.header) + self.groups * self.group_bytes

    def strip_bytes(self, columns: int) -> int:
        """Bytes of a strip."""
        return (self.header if self.once else 0) + columns // self.columns * self.nbytes


def _same(number: int) -> Value:
    return ir.Constant(VB, [ir.Constant(I8, number)] * 64)


def _field(e: Emitter, plane: Value, shift: int, mask: int) -> Value:
    """(plane >> shift) & mask in each byte; a negative shift moves left."""
    lanes = e.cast(plane, VI)
    if shift:
        move = e.b.lshr if shift > 0 else e.b.shl
        lanes = move(lanes, ir.Constant(VI, [abs(shift)] * LANES))
    return e.b.and_(e.cast(lanes, VB), _same(mask))


def _nibbles(e: Emitter, base: Value, offset: int) -> Callable[[int], Value]:
    """Eight vectors of 4-bit codes from 256 bytes."""
    read: dict[int, Value] = {}

    def code(j: int) -> Value:
        if j % 4 not in read:
            read[j % 4] = e.load(VB, base, offset + 64 * (j % 4), 16)
        return _field(e, read[j % 4], 0 if j < 4 else 4, 0x0F)

    return code


def _with_high_bit(e: Emitter, low: Callable[[int], Value], plane: Value) -> Callable[[int], Value]:
    """4-bit codes with bit 4 from a plane: bit j of a byte belongs to vector j."""
    return lambda j: e.b.or_(low(j), _field(e, plane, j - 4, 0x10))


def _halves(e: Emitter, isa: Any, base: Value, offset: int) -> Value:
    return isa.half(e, e.load(ir.VectorType(I16, LANES), base, offset, 16))


def _small(e: Emitter, base: Value, offset: int, signed: bool) -> Value:
    """Sixteen bytes as floats."""
    bytes_ = e.load(ir.VectorType(I8, LANES), base, offset, 16)
    return e.as_float(e.b.sext(bytes_, VI) if signed else e.b.zext(bytes_, VI))


def _nothing(e: Emitter, isa: Any, base: Value) -> tuple[Value, ...]:
    return ()


def _q4_0(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    return Group(_nibbles(e, base, HALVES), (_halves(e, isa, base, 0),), zero=8)


def _int4(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    return Group(_nibbles(e, base, 0), header, zero=8)


def _q4_1(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    scale, offset = (_halves(e, isa, base, HALVES * i) for i in (0, 1))
    return Group(_nibbles(e, base, 2 * HALVES), (scale,), negative_offset=offset)


def _q5_0(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    codes = _with_high_bit(e, _nibbles(e, base, HALVES), e.load(VB, base, HALVES + 256, 16))
    return Group(codes, (_halves(e, isa, base, 0),), zero=16)


def _q5_1(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    scale, offset = (_halves(e, isa, base, HALVES * i) for i in (0, 1))
    codes = _with_high_bit(e, _nibbles(e, base, 2 * HALVES), e.load(VB, base, 2 * HALVES + 256, 16))
    return Group(codes, (scale,), negative_offset=offset)


def _q8_0(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    return Group(lambda j: e.load(VB, base, HALVES + 64 * j, 16), (_halves(e, isa, base, 0),), signed=True)


def _k_header(e: Emitter, isa: Any, base: Value) -> tuple[Value, ...]:
    return tuple(_halves(e, isa, base, HALVES * i) for i in (0, 1))


def _k_scales(e: Emitter, base: Value, header: tuple[Value, ...]) -> tuple[Value, Value]:
    d, dmin = header
    return e.b.fmul(d, _small(e, base, 0, False)), e.b.fmul(dmin, _small(e, base, LANES, False))


def _q4_k(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    scale, offset = _k_scales(e, base, header)
    return Group(_nibbles(e, base, 2 * LANES), (scale,), negative_offset=offset)


def _q5_k(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    scale, offset = _k_scales(e, base, header)
    codes = _with_high_bit(e, _nibbles(e, base, 2 * LANES), e.load(VB, base, 2 * LANES + 256, 16))
    return Group(codes, (scale,), negative_offset=offset)


def _one_half(e: Emitter, isa: Any, base: Value) -> tuple[Value, ...]:
    return (_halves(e, isa, base, 0),)


def _six_bits(e: Emitter, base: Value, offset: int) -> Callable[[int], Value]:
    """Eight vectors of 6-bit codes from 384 bytes: nibbles, then upper pairs, 64 bytes for four vectors."""
    low = _nibbles(e, base, offset)
    planes = [e.load(VB, base, offset + 256 + 64 * i, 16) for i in (0, 1)]
    return lambda j: e.b.or_(low(j), _field(e, planes[j // 4], 2 * (j % 4) - 4, 0x30))


def _q6_k(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    scales = tuple(e.b.fmul(header[0], _small(e, base, LANES * i, True)) for i in (0, 1))
    return Group(_six_bits(e, base, 2 * LANES), scales, zero=32)


def _plane(e: Emitter, isa: Any, base: Value, header: tuple[Value, ...]) -> Group:
    return Group(_six_bits(e, base, HALVES), (_halves(e, isa, base, 0),), zero=32)


LAYOUTS = {
    "Q4_0": Layout(32, 0, HALVES + 256, _nothing, _q4_0),
    "INT4": Layout(32, HALVES, 256, _one_half, _int4, once=True),  # Q4_0 whose rows have one scale each
    "Q4_1": Layout(32, 0, 2 * HALVES + 256, _nothing, _q4_1),
    "Q5_0": Layout(32, 0, HALVES + 320, _nothing, _q5_0),
    "Q5_1": Layout(32, 0, 2 * HALVES + 320, _nothing, _q5_1),
    "Q8_0": Layout(32, 0, HALVES + 512, _nothing, _q8_0),
    "Q4_K": Layout(256, 2 * HALVES, 2 * LANES + 256, _k_header, _q4_k),
    "Q5_K": Layout(256, 2 * HALVES, 2 * LANES + 320, _k_header, _q5_k),
    "PLANE": Layout(32, 0, HALVES + 384, _nothing, _plane),  # of a 16-bit table; no file has it (`plane`)
    "Q6_K": Layout(256, HALVES, 2 * LANES + 384, _one_half, _q6_k),
}
