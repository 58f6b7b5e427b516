"""A 6-bit plane of a 16-bit table, with what is needed to bound its error.

The plane has strips of its own (`strips`): for each row and 32 columns one half-precision scale and codes of
6 bits, 32 more than -31 .. 31. Beside it, for each row w with plane row q, two float32 that are never too
small: the lengths |w - q| and |w|, and for each block of 64 rows the largest of both.

A row that is not finite, or so large that its length overflows, has codes 0 and length infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types

from ...formats.halves import float_to_half, half_to_float
from ..contract import Floats
from .emit import I8, I16, LANES, VF, VI, Emitter, Value, floats, inline, ints
from .isa import generic
from .kernel import ADDRESS, COUNT, floats_at, kernel, record
from .selection import BLOCK
from .strips import HALVES, LAYOUTS
from .tape import Tape
from .team import Team

BITS = ("F16", "BF16")  # formats that have a plane
GROUP = 32  # columns
STRIP = LAYOUTS["PLANE"].nbytes  # bytes for 32 columns of sixteen rows
_PIECE = 16 * LANES  # rows that one piece of the work packs
_LARGEST_CODE = 31.0
_ZERO = 32
_LARGEST_SCALE = np.float32(65504.0)
# Lengths are sums of n / 16 + 5 squares in float32, each rounded: by less than 2^-12 for n <= 2^15.
# Squares below the smallest normal float32 may be lost: 2^-126 each.
_WIDEST = 1 << 15
_WIDEN = 1.0 + 2.0**-12
_LOST = 2.0**-126


def _widened(e: Emitter, bits: Value, kind: str) -> Value:
    """Sixteen stored numbers as float32."""
    if kind == "F16":
        return generic.half(e, bits)
    return e.cast(e.b.shl(e.b.zext(bits, VI), ints(16)), VF)


def _magnitude(e: Emitter, value: Value) -> Value:
    """Bits without sign: in the order of magnitudes, NaN above all."""
    return e.b.and_(e.cast(value, VI), ints(0x7FFFFFFF))


def _peak(kind: str) -> Any:
    """Compiled code (source) -> bits of the largest magnitude of 32 stored numbers, as int32."""

    def body(e: Emitter, source: Value) -> Value:
        a, b = (_magnitude(e, _widened(e, e.load(_STORED, source, at, 2), kind)) for at in (0, 32))
        lanes = e.b.select(e.b.icmp_signed(">", a, b), a, b)
        while lanes.type.count > 1:
            a, b = e.parts(lanes, lanes.type.count // 2)
            lanes = e.b.select(e.b.icmp_signed(">", a, b), a, b)
        return e.b.extract_element(lanes, ir.Constant(lanes.type.element, 0))

    body.__name__ = f"peak_{kind.lower()}"
    return inline(types.int32, types.intp)(body)


def _codes(kind: str) -> Any:
    """Compiled code (source, target, scale, inverse, sums): code 32 numbers of one row of a strip.

    Adds the squares of what the codes miss, and of the numbers, to sixteen lanes each at `sums`.
    """

    def body(e: Emitter, source: Value, target: Value, scale: Value, inverse: Value, sums: Value) -> None:
        missed, length = (e.load(VF, sums, at) for at in (0, 4 * LANES))
        words = []
        for half in (0, 1):
            w = _widened(e, e.load(_STORED, source, 32 * half, 2), kind)
            code = _rounded(e, e.b.fmul(w, e.splat(inverse)))
            rest = e.fma(e.b.fsub(floats(0.0), code), e.splat(scale), w)
            missed, length = e.fma(rest, rest, missed), e.fma(w, w, length)
            raised = e.b.add(e.b.fptosi(code, VI), ints(_ZERO))
            words.append(e.cast(e.b.trunc(raised, ir.VectorType(I8, LANES)), _WORDS))
        _store_codes(e, words, target)
        e.store(missed, sums)
        e.store(length, sums, 4 * LANES)

    body.__name__ = f"codes_{kind.lower()}"
    return inline(types.void, types.intp, types.intp, types.float32, types.float32, types.intp)(body)


_STORED = ir.VectorType(I16, LANES)
_WORDS = ir.VectorType(VI.element, 4)


def _store_codes(e: Emitter, words: list[Value], target: Value) -> None:
    """Two times 16 codes, four to a word, into one lane: four words of nibbles, then two of upper pairs."""

    def same(number: int) -> Value:
        return ir.Constant(_WORDS, [number] * 4)

    low = [e.b.and_(word, same(0x0F0F0F0F)) for word in words]
    nibbles = e.b.or_(low[0], e.b.shl(low[1], same(4)))
    for j in range(4):
        e.store(e.b.extract_element(nibbles, ir.Constant(VI.element, j)), target, 64 * j)
    for half, word in enumerate(words):
        pairs = e.b.and_(e.b.lshr(word, same(4)), same(0x03030303))
        pairs = e.b.shl(pairs, ir.Constant(_WORDS, [0, 2, 4, 6]))
        joined = e.b.extract_element(pairs, ir.Constant(VI.element, 0))
        for j in range(1, 4):
            joined = e.b.or_(joined, e.b.extract_element(pairs, ir.Constant(VI.element, j)))
        e.store(joined, target, 256 + 64 * half)


def _rounded(e: Emitter, x: Value) -> Value:
    """The nearest integer from -31 to 31, as a float."""
    low, high, ruler = floats(-_LARGEST_CODE), floats(_LARGEST_CODE), floats(12582912.0)
    x = e.b.select(e.b.fcmp_ordered("<", x, low), low, x)
    x = e.b.select(e.b.fcmp_ordered(">", x, high), high, x)
    return e.b.fsub(e.b.fadd(x, ruler), ruler)


# Numba removes a write to an array that was made in the same function and is not read there. So addresses are
# written by emitted stores.


@inline(types.void, types.intp, types.uint16)
def _put_half(e: Emitter, address: Value, bits: Value) -> None:
    """Write 16 bits."""
    e.store(bits, address, align=2)


@inline(types.void, types.intp, types.int32)
def _put_word(e: Emitter, address: Value, bits: Value) -> None:
    """Write 32 bits."""
    e.store(bits, address)


_peak_f16, _peak_bf16 = _peak("F16"), _peak("BF16")
_codes_f16, _codes_bf16 = _codes("F16"), _codes("BF16")


@njit(error_model="numpy")
def _pack_row(half: bool, source: int, strip: int, lane: int, blocks: int, sums: np.ndarray) -> None:
    """One row into its lane of a strip. sums float32 [32]: squares of what is missed, and of it, in lanes."""
    sums[:] = np.float32(0)
    for block in range(blocks):
        at, to = source + 2 * GROUP * block, strip + STRIP * block
        peak = np.int32(_peak_f16(at) if half else _peak_bf16(at)).view(np.float32)
        bits = float_to_half(np.float32(peak / np.float32(_LARGEST_CODE)))
        scale = half_to_float(bits)
        if not scale <= _LARGEST_SCALE:
            bits, scale = np.uint16(0), np.float32(0)
            sums[LANES] = np.float32(np.inf)
        inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
        _put_half(to + 2 * lane, bits)
        if half:
            _codes_f16(at, to + HALVES + 4 * lane, scale, inverse, sums.ctypes.data)
        else:
            _codes_bf16(at, to + HALVES + 4 * lane, scale, inverse, sums.ctypes.data)


@njit(error_model="numpy")
def _upper_length(squares: np.ndarray, count: int) -> np.float32:
    """A float32 that is not below the root of a rounded sum of `count` squares."""
    total = 0.0
    for x in squares:
        total += np.float64(x)
    return np.float32(np.sqrt(total * _WIDEN + count * _LOST) * (1.0 + 2.0**-22))


@njit(error_model="numpy")
def _pack_strip(
    half: bool, source: int, strip: int, blocks: int, missed: np.ndarray, length: np.ndarray
) -> None:
    """Sixteen rows, and both lengths [16] of each."""
    lanes = np.zeros(2 * LANES, np.float32)
    for lane in range(LANES):
        _pack_row(half, source + lane * blocks * 2 * GROUP, strip, lane, blocks, lanes)
        missed[lane] = _upper_length(lanes[:LANES], blocks * GROUP)
        length[lane] = _upper_length(lanes[LANES:], blocks * GROUP)
        if not length[lane] < np.inf:
            missed[lane], length[lane] = np.float32(np.inf), np.float32(np.inf)
            _clear(strip, lane, blocks)


@njit(error_model="numpy")
def _clear(strip: int, lane: int, blocks: int) -> None:
    """Codes and scales 0 for one row."""
    for block in range(blocks):
        _put_half(strip + STRIP * block + 2 * lane, np.uint16(0))
        for j in range(6):
            _put_word(strip + STRIP * block + HALVES + 64 * j + 4 * lane, np.int32(0))


@kernel(half=COUNT, source=ADDRESS, strips=ADDRESS, missed=ADDRESS, length=ADDRESS, rows=COUNT, blocks=COUNT)
def _pack(pointer: Any, piece: int) -> None:
    a = record(pointer)
    for row in range(piece * _PIECE, min((piece + 1) * _PIECE, a.rows), LANES):
        _pack_strip(
            a.half != 0,
            a.source + row * a.blocks * 2 * GROUP,
            a.strips + row // LANES * a.blocks * STRIP,
            a.blocks,
            floats_at(a.missed + 4 * row, LANES),
            floats_at(a.length + 4 * row, LANES),
        )


class Plane:
    """strips uint8 [rows / 16 * columns / 32 * 544]; `missed` |w - q| and `length` |w| by row and block."""

    def __init__(self, format: str, raw: npt.NDArray[np.uint8], rows: int, columns: int, team: Team) -> None:
        """From the file's bytes [rows, columns] of F16 or BF16. `fits` must hold."""
        blocks = columns // GROUP
        self.rows, self.columns = rows, columns
        self.strips = np.empty(rows // LANES * blocks * STRIP, np.uint8)
        self.missed, self.length = np.empty(rows, np.float32), np.empty(rows, np.float32)
        tape = Tape()
        tape.add(
            _pack, -(-rows // _PIECE), half=format == "F16", source=raw, strips=self.strips,
            missed=self.missed, length=self.length, rows=rows, blocks=blocks,
        )  # fmt: skip
        team.play(tape)
        self.block_missed, self.block_length = _largest(self.missed), _largest(self.length)
        finite = self.length[np.isfinite(self.length)]
        self.longest = float(finite.max(initial=0.0))

    @staticmethod
    def fits(format: str, rows: int, columns: int) -> bool:
        """Whether such a table can have a plane; if not, the full product is used."""
        return format in BITS and rows % LANES == 0 and columns % GROUP == 0 and columns <= _WIDEST

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.strips.nbytes + self.missed.nbytes + self.length.nbytes


def _largest(rows: Floats) -> Floats:
    """The largest of each block of rows."""
    return np.maximum.reduceat(rows, np.arange(0, len(rows), BLOCK))
