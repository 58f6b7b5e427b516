"""File bytes -> strips (see `strips`): blocks of sixteen rows, their pieces of four columns side by side.

Nothing is decoded: packing moves bytes and bits. Rows that a last strip lacks are zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import register_jitable

from ...formats import Format
from .emit import I8, I16, I32, I64, LANES, Emitter, Value, inline
from .kernel import ADDRESS, COUNT, Kernel, kernel, record
from .memory import WeightMemory
from .strips import LAYOUTS
from .tape import Tape
from .team import Team

Bytes = npt.NDArray[np.uint8]

_SLICE = 1 << 25  # bytes that are packed before their mapped pages may go
_ONES, _THREES, _LOW = 0x01010101, 0x03030303, 0x0F0F0F0F


def _getter(size: Any) -> Any:
    """Unsigned bytes of the file, anywhere, as an integer."""

    def get(e: Emitter, address: Value) -> Value:
        return e.b.zext(e.load(size, address, 0, 1), I64)

    return inline(types.int64, types.intp)(get)


def _putter(size: Any) -> Any:
    """The lowest bytes of an integer into a strip."""

    def put(e: Emitter, address: Value, value: Value) -> None:
        e.store(e.b.trunc(value, size), address, 0, 1)

    return inline(types.void, types.intp, types.int64)(put)


_get8, _get16, _get = _getter(I8), _getter(I16), _getter(I32)
_put8, _put16, _put = _putter(I8), _putter(I16), _putter(I32)


@register_jitable
def _columns(source: int, target: int, count: int, row: int) -> None:
    """Pieces of four bytes of one row, each into its vector."""
    for i in range(count):
        _put(target + 64 * i + 4 * row, _get(source + 4 * i))


@register_jitable
def _every_fourth(bits: int) -> int:
    """Bits 0, 4, 8 .. 28 as one byte."""
    x = bits & 0x11111111
    x = (x | (x >> 3)) & 0x03030303
    x = (x | (x >> 6)) & 0x000F000F
    return (x | (x >> 12)) & 0xFF


@register_jitable
def _fifth_bits(source: int, target: int, row: int) -> None:
    """32 bits of a row, bit k of column k, into the plane of bits (bit j of byte c: column 4j + c)."""
    bits = _get(source)
    for c in range(4):
        _put8(target + 4 * row + c, _every_fourth(bits >> c))


@register_jitable
def _k_scale(source: int, g: int) -> int:
    """6-bit scale of group g from the 12 bytes of a K-format."""
    if g < 4:
        return _get8(source + g) & 63
    return (_get8(source + g + 4) & 15) | ((_get8(source + g - 4) >> 6) << 4)


@register_jitable
def _k_minimum(source: int, g: int) -> int:
    """6-bit minimum of group g."""
    if g < 4:
        return _get8(source + g + 4) & 63
    return (_get8(source + g + 4) >> 4) | ((_get8(source + g) >> 6) << 4)


@register_jitable
def _k_row(source: int, target: int, row: int, group_bytes: int, high: int, low: int) -> None:
    """A block of Q4_K or Q5_K: bytes `low` and, for Q5_K, `high` (else 0) are where its codes begin."""
    _put16(target + 2 * row, _get16(source))
    _put16(target + 32 + 2 * row, _get16(source + 2))
    for g in range(8):
        to = target + 64 + g * group_bytes
        _put8(to + row, _k_scale(source + 4, g))
        _put8(to + 16 + row, _k_minimum(source + 4, g))
        codes, shift = source + low + 32 * (g // 2), 4 * (g % 2)
        for i in range(4):
            first = (_get(codes + 4 * i) >> shift) & _LOW
            second = (_get(codes + 16 + 4 * i) >> shift) & _LOW
            _put(to + 32 + 64 * i + 4 * row, first | (second << 4))
        if high:
            plane = 0
            for j in range(8):
                bit = (_get(source + high + 4 * j) >> g) & _ONES
                plane |= bit << j
            _put(to + 32 + 256 + 4 * row, plane)


@register_jitable
def _q6_k_row(source: int, target: int, row: int) -> None:
    _put16(target + 2 * row, _get16(source + 208))
    for g in range(8):
        to = target + 32 + g * 416
        for part in range(2):
            _put8(to + 16 * part + row, _get8(source + 192 + 2 * g + part))
        half, turn = g // 4, g % 4
        codes, shift = source + 64 * half + 32 * (turn % 2), 4 * (turn // 2)
        for i in range(4):
            first = (_get(codes + 4 * i) >> shift) & _LOW
            second = (_get(codes + 16 + 4 * i) >> shift) & _LOW
            _put(to + 32 + 64 * i + 4 * row, first | (second << 4))
        for p in range(2):
            plane = 0
            for j in range(4):
                bits = _get(source + 128 + 32 * half + 16 * p + 4 * j) >> (2 * turn)
                plane |= (bits & _THREES) << 2 * j
            _put(to + 32 + 256 + 64 * p + 4 * row, plane)


@register_jitable
def _q4_0_row(source: int, target: int, row: int) -> None:
    _put16(target + 2 * row, _get16(source))
    _columns(source + 2, target + 32, 4, row)


@register_jitable
def _int4_row(source: int, target: int, row: int) -> None:
    _columns(source + 2, target, 4, row)


@register_jitable
def _two_halves(source: int, target: int, row: int) -> None:
    """Scale, and the offset with its sign turned."""
    _put16(target + 2 * row, _get16(source))
    _put16(target + 32 + 2 * row, _get16(source + 2) ^ 0x8000)


@register_jitable
def _q4_1_row(source: int, target: int, row: int) -> None:
    _two_halves(source, target, row)
    _columns(source + 4, target + 64, 4, row)


@register_jitable
def _q5_0_row(source: int, target: int, row: int) -> None:
    _put16(target + 2 * row, _get16(source))
    _columns(source + 6, target + 32, 4, row)
    _fifth_bits(source + 2, target + 32 + 256, row)


@register_jitable
def _q5_1_row(source: int, target: int, row: int) -> None:
    _two_halves(source, target, row)
    _columns(source + 8, target + 64, 4, row)
    _fifth_bits(source + 4, target + 64 + 256, row)


@register_jitable
def _q8_0_row(source: int, target: int, row: int) -> None:
    _put16(target + 2 * row, _get16(source))
    _columns(source + 2, target + 32, 8, row)


@register_jitable
def _q4_k_row(source: int, target: int, row: int) -> None:
    _k_row(source, target, row, 288, 0, 16)


@register_jitable
def _q5_k_row(source: int, target: int, row: int) -> None:
    _k_row(source, target, row, 352, 16, 48)


def _packer(pack_row: Any) -> Kernel:
    def pack(args: Any, piece: int) -> None:
        a = record(args)
        for strip in range(piece * a.strips // a.pieces, (piece + 1) * a.strips // a.pieces):
            for block in range(a.blocks):
                target = a.target + strip * a.strip_bytes + block * a.strip_block
                if a.rows < (strip + 1) * 16:
                    for at in range(0, a.strip_block, 4):
                        _put(target + at, 0)
                for row in range(min(16, a.rows - strip * 16)):
                    source = a.source + ((strip * 16 + row) * a.blocks + block) * a.file_block
                    pack_row(source, target, row)

    fields = {"source": ADDRESS, "target": ADDRESS, "strips": COUNT, "rows": COUNT, "blocks": COUNT}
    return kernel(**fields, file_block=COUNT, strip_block=COUNT, strip_bytes=COUNT, pieces=COUNT)(pack)


_ROWS = {
    "Q4_0": _q4_0_row,
    "INT4": _int4_row,
    "Q4_1": _q4_1_row,
    "Q5_0": _q5_0_row,
    "Q5_1": _q5_1_row,
    "Q8_0": _q8_0_row,
    "Q4_K": _q4_k_row,
    "Q5_K": _q5_k_row,
    "Q6_K": _q6_k_row,
}
_PACKERS = {form: _packer(pack_row) for form, pack_row in _ROWS.items()}


def layout_of(form: Format, raw: npt.NDArray[np.uint8], rows: int) -> str:
    """The name of the strip layout of a matrix: Q4_0 whose rows have one scale each keeps only that."""
    if form.name == "Q4_0":
        scales = raw.reshape(rows, -1, form.nbytes)[:, :, :2]
        if (scales[0] == scales[0, :1]).all() and (scales == scales[:, :1]).all():
            return "INT4"
    return form.name


def pack(
    team: Team,
    memory: WeightMemory,
    form: Format,
    raw: Bytes,
    rows: int,
    columns: int,
    packed_part: Callable[[Bytes], object] = lambda part: None,
) -> tuple[str, Bytes]:
    """Layout and strips uint8 of a matrix [rows, columns] in file bytes, packed on all threads of the team.

    `packed_part` is told each part of `raw` that packing is done with.
    """
    name = layout_of(form, raw, rows)
    layout, strips, row_bytes = LAYOUTS[name], -(-rows // LANES), form.row_bytes(columns)
    strip_bytes = layout.strip_bytes(columns)
    packed = memory.take(strips * strip_bytes)
    if layout.once:
        _set_scales(packed.reshape(strips, strip_bytes), raw.reshape(rows, -1), rows)
    a_slice, ahead = max(1, _SLICE // strip_bytes), layout.header if layout.once else 0
    for first in range(0, strips, a_slice):
        count = min(a_slice, strips - first)
        part = raw[first * LANES * row_bytes : (first + count) * LANES * row_bytes]
        tape = Tape()
        tape.add(
            _PACKERS[name], 4 * team.threads, source=part, target=packed[first * strip_bytes + ahead :],
            strips=count, rows=rows - first * LANES, blocks=columns // layout.columns,
            file_block=form.nbytes, strip_block=layout.nbytes, strip_bytes=strip_bytes,
        )  # fmt: skip
        team.play(tape)
        packed_part(part)
    return name, packed


def _set_scales(strips: Bytes, rows_of_raw: Bytes, rows: int) -> None:
    """The one scale of each row, sixteen side by side, at the head of each strip."""
    scales = np.zeros((len(strips) * LANES, 2), np.uint8)
    scales[:rows] = rows_of_raw[:, :2]
    strips[:, : 2 * LANES] = scales.reshape(len(strips), 2 * LANES)
