"""Weights and the products over them.

A quantized matrix is packed into strips at load and meets int8 activations; a float matrix is read as it lies
in the file and meets float32. GEMV and GEMM, one thread and many, give the same bits (docs/ops.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from ...formats import Format, decode
from ..contract import Floats
from .activation import tile_of
from .emit import LANES
from .floatrows import BYTES, ROWS, float_tile
from .kernel import ADDRESS, COUNT, Kernel, floats_at, kernel, record
from .memory import WeightMemory
from .packing import pack
from .plane import Plane
from .strips import LAYOUTS
from .tape import Tape
from .team import Team
from .tile import TOKEN_BYTES, tile

_PIECES = 8  # most pieces of work a thread: enough to even out
_PIECE = 1 << 20  # least bytes of a piece: each costs about a microsecond, until memory streams again
_CACHED = 1 << 17  # bytes of strips that meet a tile of tokens before the next tile is read: they stay in L2


@dataclass(frozen=True)
class PackedLinear:
    """A weight [rows, columns]. `raw` are the file's bytes, maybe a memory map; `strips` what products read.

    `layout` names how strips lie; both are None for floats. Of a quantized matrix `raw` is only needed to
    `fetch` rows; `intact` then tells, by an error, where they cannot be read any more. `plane` is an 8-bit
    picture of a 16-bit table (`with_plane`).
    """

    format: Format
    raw: npt.NDArray[np.uint8]
    rows: int
    columns: int
    layout: str | None = None
    strips: npt.NDArray[np.uint8] | None = None
    plane: Plane | None = None
    intact: Callable[[], object] = lambda: None

    @classmethod
    def pack(
        cls,
        team: Team,
        memory: WeightMemory,
        form: Format,
        raw: npt.NDArray[np.uint8],
        rows: int,
        columns: int,
        packed_part: Callable[[npt.NDArray[np.uint8]], object] = lambda part: None,
    ) -> PackedLinear:
        """Packed on all threads where it is quantized; `packed_part` is told parts of `raw` that are done."""
        if form.name not in BYTES:
            return cls(form, raw, rows, columns, *pack(team, memory, form, raw, rows, columns, packed_part))
        # A file may place floats at odd addresses; words must be aligned.
        return cls(form, raw.copy() if raw.ctypes.data % 4 else raw, rows, columns)

    def with_plane(
        self, team: Team, packed_part: Callable[[npt.NDArray[np.uint8]], object] = lambda part: None
    ) -> PackedLinear:
        """The same weight with a 6-bit plane, where its format and shape allow one."""
        if not Plane.fits(self.format.name, self.rows, self.columns):
            return self
        plane = Plane(self.format.name, self.raw, self.rows, self.columns, team)
        packed_part(self.raw)
        return replace(self, plane=plane)

    @property
    def quantized(self) -> bool:
        """Whether it takes int8 activations."""
        return self.format.name not in BYTES

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads."""
        return (self.raw if self.strips is None else self.strips).nbytes


def multiply(
    tape: Tape, team: Team, weight: PackedLinear, x: np.ndarray, tokens: int, out: Floats, waits: bool
) -> None:
    """Put out [tokens, rows] = x W^T on a tape. x are codes for a quantized weight, else float32."""
    if weight.layout is not None:
        layout = LAYOUTS[weight.layout]
        strip_bytes, strips = layout.strip_bytes(weight.columns), -(-weight.rows // LANES)
        tape.add(
            _STRIPS[weight.layout], min(strips, _pieces(weight, tokens, team)), waits,
            strips=weight.strips, x=x, out=out, rows=weight.rows, tokens=tokens,
            blocks=weight.columns // layout.columns, strip_bytes=strip_bytes,
            token_bytes=weight.columns // 32 * TOKEN_BYTES, together=max(1, _CACHED // strip_bytes),
        )  # fmt: skip
    else:
        tape.add(
            _FLOATS[weight.format.name], min(-(-weight.rows // ROWS), _pieces(weight, tokens, team)), waits,
            weight=weight.raw, x=x, out=out, rows=weight.rows, tokens=tokens, columns=weight.columns,
            together=max(ROWS, _CACHED // (weight.columns * BYTES[weight.format.name]) // ROWS * ROWS),
        )  # fmt: skip


def _pieces(weight: PackedLinear, tokens: int, team: Team) -> int:
    """How many pieces share a product well: by bytes, or, with many tokens, by work."""
    by_size = weight.nbytes * max(1, tokens // 8) // _PIECE
    return max(team.threads, min(by_size, _PIECES * team.threads))


def fetch(weight: PackedLinear, ids: np.ndarray) -> Floats:
    """Rows of a weight as float32 [len(ids), columns]."""
    weight.intact()
    raw = weight.raw.reshape(weight.rows, -1)[ids]
    return decode(weight.format, np.ascontiguousarray(raw).reshape(-1), len(ids), weight.columns)


def _strips_kernel(form: str) -> Kernel:
    def strips(args: Any, piece: int) -> None:
        """A run of strips times all tokens, so many strips at a time that they stay near."""
        a = record(args)
        count = (a.rows + 15) // 16
        begin, end = piece * count // a.pieces, (piece + 1) * count // a.pieces
        rest = np.empty(16 * 8, np.float32)  # what the last strip gives when it has fewer than sixteen rows
        row = 4 * a.rows
        for start in range(begin, end, a.together):
            token = 0
            while token < a.tokens:
                size = tile_of(token, a.tokens)[1]
                x = a.x + token * a.token_bytes
                for strip in range(start, min(start + a.together, end)):
                    w, out, stride = a.strips + strip * a.strip_bytes, a.out + token * row + strip * 64, row
                    lacking = (strip + 1) * 16 > a.rows
                    if lacking:
                        out, stride = rest.ctypes.data, 64
                    if size == 8:
                        tile(form, 8, w, x, out, a.blocks, stride)
                    elif size == 4:
                        tile(form, 4, w, x, out, a.blocks, stride)
                    elif size == 2:
                        tile(form, 2, w, x, out, a.blocks, stride)
                    else:
                        tile(form, 1, w, x, out, a.blocks, stride)
                    if lacking:
                        _copy_rest(rest, size, a.rows - strip * 16, a.out + token * row + strip * 64, row)
                token += size

    fields = {
        "strips": ADDRESS,
        "x": ADDRESS,
        "out": ADDRESS,
        "rows": COUNT,
        "tokens": COUNT,
        "blocks": COUNT,
    }
    return kernel(**fields, strip_bytes=COUNT, token_bytes=COUNT, together=COUNT, pieces=COUNT)(strips)


@register_jitable
def _copy_rest(rest: np.ndarray, size: int, rows: int, out: int, row: int) -> None:
    """The rows that there are of a last strip."""
    for m in range(size):
        to = floats_at(out + m * row, rows)
        for r in range(rows):
            to[r] = rest[16 * m + r]


def _float_kernel(form: str) -> Kernel:
    size_of = BYTES[form]

    def rows(args: Any, piece: int) -> None:
        """A run of rows times all tokens, so many rows at a time that they stay near."""
        a = record(args)
        w_row, x_row, row = size_of * a.columns, 4 * a.columns, 4 * a.rows
        begin, end = piece * a.rows // a.pieces, (piece + 1) * a.rows // a.pieces
        for start in range(begin, end, a.together):
            stop = min(start + a.together, end)
            token = 0
            while token < a.tokens:
                several = token + 4 <= a.tokens
                x = a.x + token * x_row
                r = start
                while r < stop:
                    w, out = a.weight + r * w_row, a.out + token * row + 4 * r
                    if r + 4 <= stop:
                        if several:
                            float_tile(form, 4, 4, w, x, out, a.columns, row)
                        else:
                            float_tile(form, 4, 1, w, x, out, a.columns, row)
                        r += 4
                    else:
                        if several:
                            float_tile(form, 1, 4, w, x, out, a.columns, row)
                        else:
                            float_tile(form, 1, 1, w, x, out, a.columns, row)
                        r += 1
                token += 4 if several else 1

    fields = {"weight": ADDRESS, "x": ADDRESS, "out": ADDRESS, "rows": COUNT, "tokens": COUNT}
    return kernel(**fields, columns=COUNT, together=COUNT, pieces=COUNT)(rows)


_STRIPS = {form: _strips_kernel(form) for form in LAYOUTS}
_FLOATS = {form: _float_kernel(form) for form in BYTES}
