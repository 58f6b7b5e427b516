"""Whole tensors between bytes and float32. Numba is imported on first use, not on import."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gemmary.formats.format import FORMATS, Format, FormatError

Element = TypeVar("Element", np.uint8, np.float32)

# Where a block that is written keeps its halves: scale, and minimum where there is one.
HALVES = {
    "Q4_0": slice(2), "Q4_1": slice(4), "Q5_0": slice(2), "Q5_1": slice(4), "Q8_0": slice(2),
    "Q6_K": slice(208, 210),
}  # fmt: skip


def decode(fmt: Format, raw: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.float32]:
    """The values of a tensor as a new float32 [rows, columns].

    `raw` is its bytes, uint8 and contiguous, of any shape; a read-only memory map will do. FormatError if
    their number does not fit the shape. Infinite and NaN scales are no error: they give such values.
    """
    expected = rows * fmt.row_bytes(columns)
    if rows < 0 or raw.dtype != np.uint8 or raw.size != expected or not raw.flags.c_contiguous:
        raise FormatError(
            f"{rows} x {columns} values in {fmt.name} need {expected} contiguous bytes, not {raw.size} "
            f"{'' if raw.flags.c_contiguous else 'scattered '}elements of {raw.dtype}"
        )
    flat = _flat(raw)
    out = np.empty(rows * columns, np.float32)
    if fmt.name == "F32":
        out[:] = flat.view("<f4")
    elif fmt.group:
        from gemmary.formats.blocks import block_decoder

        block_decoder(fmt.name)(flat, out)
    else:
        from gemmary.formats.halves import widen_bfloats, widen_halves

        (widen_halves if fmt.name == "F16" else widen_bfloats)(flat.view("<u2"), out)
    return out.reshape(rows, columns)


def encode(fmt: Format, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """float32 [rows, columns] as uint8 [rows, row_bytes]; but for Q6_K bit for bit as ggml's quantizers.

    F16 and BF16 round to the nearest even; too large becomes infinite, and NaN stays NaN. Blocks hold finite
    values only. FormatError for other values, for rows that do not divide into blocks, for Q4_K and Q5_K.
    """
    rows, columns = _matrix(values)
    shape = (rows, fmt.row_bytes(columns))
    if fmt.name == "F32":
        return np.array(values, "<f4", order="C").view(np.uint8).reshape(shape)
    if fmt.name == "F16":
        with np.errstate(over="ignore"):
            return values.astype("<f2", order="C").view(np.uint8).reshape(shape)
    flat = _flat(values)
    if fmt.name == "BF16":
        from gemmary.formats.halves import narrow_to_bfloats

        bfloats = np.empty(flat.size, "<u2")
        narrow_to_bfloats(flat, bfloats)
        return bfloats.view(np.uint8).reshape(shape)
    return _encode_blocks(fmt, flat).reshape(shape)


def encode_channels(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """float32 [rows, columns] as int4 with one scale a row, in blocks of Q4_0: uint8 [rows, row_bytes].

    FormatError as for `encode`.
    """
    from gemmary.formats.channels import encode_rows

    fmt = FORMATS["Q4_0"]
    rows, columns = _matrix(values)
    raw = np.empty((rows, fmt.row_bytes(columns)), np.uint8)
    _check_finite(values, fmt)
    encode_rows(_flat(values).reshape(rows, columns), raw)
    _check_halves(raw, fmt)
    return raw


def _matrix(values: npt.NDArray[np.float32]) -> tuple[int, int]:
    if values.dtype != np.float32 or values.ndim != 2:
        raise FormatError(f"only a float32 matrix can be encoded, not {values.dtype} {list(values.shape)}")
    rows, columns = values.shape
    return rows, columns


def _flat(array: npt.NDArray[Element]) -> npt.NDArray[Element]:
    """A contiguous 1-D view, read-only: compiled code meets one type, whatever the caller has."""
    flat = np.ascontiguousarray(array).reshape(-1)
    flat.flags.writeable = False
    return flat


def _encode_blocks(fmt: Format, flat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """float32 [n] as uint8 [bytes]."""
    from gemmary.formats.blocks import block_encoder

    if fmt.name not in HALVES:
        raise FormatError(f"{fmt.name} is read, not written: encode to one of {', '.join(HALVES)}")
    _check_finite(flat, fmt)
    raw = np.empty(flat.size // fmt.block * fmt.nbytes, np.uint8)
    block_encoder(fmt.name)(flat, raw)
    _check_halves(raw, fmt)
    return raw


def _check_finite(values: npt.NDArray[np.float32], fmt: Format) -> None:
    if not np.isfinite(values).all():
        raise FormatError(f"{fmt.name} cannot hold infinity or NaN: the source tensor is damaged")


def _check_halves(raw: npt.NDArray[np.uint8], fmt: Format) -> None:
    halves = raw.reshape(-1, fmt.nbytes)[:, HALVES[fmt.name]]
    if not np.isfinite(np.ascontiguousarray(halves).view("<f2")).all():
        raise FormatError(f"values this large overflow the 16-bit scales of {fmt.name}: encode to BF16")
