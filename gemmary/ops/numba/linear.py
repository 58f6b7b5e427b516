"""Weights as they lie in the file, and the products over them.

A quantized row meets int8 activations: integer sums inside a group are exact, groups are added in order with
fused multiply-adds, so GEMV and GEMM, one thread and many, give the same bits. A float row meets float32.
Nothing is expanded: one block is unpacked at a time, into a few hundred bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import get_num_threads, njit, prange

from ...formats import Format
from ...formats.blocks import unpack_block
from ..contract import Floats
from .activation import BLOCK, SUM, Quantized
from .scalar import fma
from .vector import dot16, dot32, dot_bf16, dot_f16, dot_f32

_FLOAT_BITS = {"F32": np.float32, "F16": np.uint16, "BF16": np.uint16}
_SLICES = 8  # pieces of work a thread: enough to even out, few enough to stay cheap
_WORTH_A_LAUNCH = 1 << 18  # multiplications: below this, waking the other threads costs more than it saves
_ZERO = np.float32(0)


@dataclass(frozen=True)
class PackedLinear:
    """A weight [rows, columns] in its file format; `raw` may be a read-only memory map."""

    format: Format
    raw: npt.NDArray[np.uint8]
    rows: int
    columns: int

    @property
    def quantized(self) -> bool:
        """Whether it takes int8 activations."""
        return self.format.name not in _FLOAT_BITS

    @property
    def elements(self) -> np.ndarray:
        """The raw bytes as 16- or 32-bit words, for float formats."""
        return self.raw.view(_FLOAT_BITS[self.format.name])


def multiply(weight: PackedLinear, x: Floats, codes: Quantized | None) -> Floats:
    """x [T, columns] W^T -> [T, rows]. `codes` are x rounded, needed for a quantized weight."""
    out = np.empty((len(x), weight.rows), np.float32)
    small = len(x) * weight.rows * weight.columns < _WORTH_A_LAUNCH
    pieces = 1 if small else min(weight.rows, get_num_threads() * _SLICES)
    if weight.quantized:
        if codes is None:
            raise ValueError(f"{weight.format.name} weights multiply rounded activations")
        form = weight.format
        work: tuple[Any, ...] = (form.ggml_id, weight.raw, form.block, form.nbytes, form.group)
        work += (codes.codes, codes.scales, codes.sums)
        kernels: tuple[Any, Any] = _integer_rows, _integer
    else:
        work = (weight.elements, x.reshape(-1), weight.columns)
        kernels = _FLOAT_KERNELS[weight.format.name]
    if small:
        kernels[0](*work, 0, weight.rows, out)
    else:
        kernels[1](*work, pieces, out)
    return out


def fetch(weight: PackedLinear, ids: np.ndarray) -> Floats:
    """Rows of a weight as float32 [len(ids), columns]."""
    from ...formats import decode

    size = weight.format.row_bytes(weight.columns)
    chosen = weight.raw.reshape(weight.rows, size)[ids]
    return decode(weight.format, chosen.reshape(-1), len(ids), weight.columns)


@njit(cache=True, nogil=True, error_model="numpy")
def _integer_rows(
    kind: int, raw: np.ndarray, block: int, nbytes: int, group: int,
    codes: np.ndarray, scales: np.ndarray, sums: np.ndarray, begin: int, end: int, out: np.ndarray,
) -> None:  # fmt: skip
    """Rows begin..end of the product, one unpacked block at a time."""
    tokens, columns = codes.shape
    flat = codes.reshape(-1)
    per_row = columns // block
    q = np.empty(256, np.int8)
    scale = np.empty(16, np.float32)
    add = np.empty(16, np.float32)
    total = np.empty(tokens, np.float32)
    for row in range(begin, end):
        total[:] = _ZERO
        for b in range(per_row):
            unpack_block(kind, raw, (row * per_row + b) * nbytes, q, scale, add)
            start = b * block
            for t in range(tokens):
                at = t * columns + start
                total[t] = _block(
                    q, scale, add, block // group, group, flat, at, scales, sums, t, start, total[t]
                )
        for t in range(tokens):
            out[t, row] = total[t]


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _integer(
    kind: int, raw: np.ndarray, block: int, nbytes: int, group: int,
    codes: np.ndarray, scales: np.ndarray, sums: np.ndarray, pieces: int, out: np.ndarray,
) -> None:  # fmt: skip
    rows = out.shape[1]
    for piece in prange(pieces):
        begin, end = piece * rows // pieces, (piece + 1) * rows // pieces
        _integer_rows(kind, raw, block, nbytes, group, codes, scales, sums, begin, end, out)


@njit(inline="always", error_model="numpy")
def _block(
    q: np.ndarray, scale: np.ndarray, add: np.ndarray, groups: int, group: int,
    flat: np.ndarray, at: int, scales: np.ndarray, sums: np.ndarray, t: int, start: int, total: np.float32,
) -> np.float32:  # fmt: skip
    """total + one block of a row times the same stretch of token t."""
    for g in range(groups):
        begin = g * group
        if group == BLOCK:
            whole = dot32(q, begin, flat, at + begin)
        else:
            whole = dot16(q, begin, flat, at + begin)
        step = scales[t, (start + begin) // BLOCK]
        total = fma(np.float32(whole), np.float32(scale[g] * step), total)
        if add[g] != _ZERO:
            first = (start + begin) // SUM
            count = sums[t, first]
            if group == BLOCK:
                count += sums[t, first + 1]
            total = fma(np.float32(count), np.float32(add[g] * step), total)
    return total


# The three float kernels differ in the dot product only: Numba caches named functions, not closures over one.


@njit(cache=True, nogil=True)
def _float32_rows(w: np.ndarray, x: np.ndarray, columns: int, begin: int, end: int, out: np.ndarray) -> None:
    for row in range(begin, end):
        for t in range(out.shape[0]):
            out[t, row] = dot_f32(w, row * columns, x, t * columns, columns)


@njit(parallel=True, cache=True, nogil=True)
def _float32(w: np.ndarray, x: np.ndarray, columns: int, pieces: int, out: np.ndarray) -> None:
    rows = out.shape[1]
    for piece in prange(pieces):
        _float32_rows(w, x, columns, piece * rows // pieces, (piece + 1) * rows // pieces, out)


@njit(cache=True, nogil=True)
def _float16_rows(w: np.ndarray, x: np.ndarray, columns: int, begin: int, end: int, out: np.ndarray) -> None:
    for row in range(begin, end):
        for t in range(out.shape[0]):
            out[t, row] = dot_f16(w, row * columns, x, t * columns, columns)


@njit(parallel=True, cache=True, nogil=True)
def _float16(w: np.ndarray, x: np.ndarray, columns: int, pieces: int, out: np.ndarray) -> None:
    rows = out.shape[1]
    for piece in prange(pieces):
        _float16_rows(w, x, columns, piece * rows // pieces, (piece + 1) * rows // pieces, out)


@njit(cache=True, nogil=True)
def _bfloat16_rows(w: np.ndarray, x: np.ndarray, columns: int, begin: int, end: int, out: np.ndarray) -> None:
    for row in range(begin, end):
        for t in range(out.shape[0]):
            out[t, row] = dot_bf16(w, row * columns, x, t * columns, columns)


@njit(parallel=True, cache=True, nogil=True)
def _bfloat16(w: np.ndarray, x: np.ndarray, columns: int, pieces: int, out: np.ndarray) -> None:
    rows = out.shape[1]
    for piece in prange(pieces):
        _bfloat16_rows(w, x, columns, piece * rows // pieces, (piece + 1) * rows // pieces, out)


_FLOAT_KERNELS = {
    "F32": (_float32_rows, _float32),
    "F16": (_float16_rows, _float16),
    "BF16": (_bfloat16_rows, _bfloat16),
}
