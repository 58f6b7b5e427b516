"""What a file stores: `TensorInfo` under the file's own name, `Tensor` under ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..errors import UnsupportedModelError
from ..formats import FORMATS, Format, decode, encode
from .fields import shown
from .mapped import Bytes, MappedFile

FLOATS = ("F32", "F16", "BF16")  # formats that a norm, or a safetensors file, may be in
PIECE = 16 << 20  # bytes
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One entry of a file's table: `shape` is row-major ([out, in]), `offset` counts from the file's start.

    `format` is None for a number format that Gemmary does not run; `kind` is the file's word for it.
    """

    name: str
    shape: tuple[int, ...]
    format: Format | None
    kind: str
    offset: int
    nbytes: int
    file: MappedFile

    def raw(self) -> Bytes:
        """The stored bytes, a read-only view [nbytes] of the memory map."""
        return self.file.view(self.offset, self.nbytes)

    def known_format(self) -> Format:
        """The number format; UnsupportedModelError when Gemmary does not run it."""
        if self.format is None:
            raise UnsupportedModelError(
                f"{self.file.path}: tensor {shown(self.name)} is {self.kind}, which Gemmary does not run; "
                "take a file in one of: " + ", ".join(FORMATS)
            )
        return self.format


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the network under its canonical name (names.py), still packed.

    `raw` is uint8 [nbytes]. `gain_offset` matters for norms only: what must be added to the stored values to
    get the multiplier. Hugging Face stores w and multiplies by 1 + w, so 1; GGUF stores 1 + w, so 0
    (llama.cpp, convert_hf_to_gguf.py).
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    raw: Bytes
    gain_offset: float = 0.0

    @classmethod
    def pack(cls, name: str, values: Floats, format: Format, gain_offset: float = 0.0) -> Tensor:
        """Encode float32 values [rows, columns] or [columns] in `format`."""
        rows = np.ascontiguousarray(values, np.float32).reshape(-1, values.shape[-1])
        return cls(name, values.shape, format, encode(format, rows).reshape(-1), gain_offset)

    @property
    def nbytes(self) -> int:
        """Bytes as stored."""
        return len(self.raw)

    @property
    def rows(self) -> int:
        """Rows of a matrix; 1 for a vector."""
        return self.shape[0] if len(self.shape) == 2 else 1

    @property
    def columns(self) -> int:
        """Numbers in a row."""
        return self.shape[-1]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return self.rows * self.shape[-1]

    def part(self, start: int, stop: int) -> Tensor:
        """Rows start .. stop - 1 of a matrix."""
        width = self.format.row_bytes(self.shape[1])
        kept = self.raw[start * width : stop * width]
        return replace(self, shape=(len(kept) // width, self.shape[1]), raw=kept)

    def pieces(self) -> Iterator[Bytes]:
        """The stored bytes, a few million at a time."""
        for start in range(0, len(self.raw), PIECE):
            yield self.raw[start : start + PIECE]

    def values(self) -> Floats:
        """All values as a new float32 array of `shape`: 4 bytes an element, so mind the embedding."""
        return decode(self.format, self.raw, self.rows, self.shape[-1]).reshape(self.shape)

    def gain(self) -> Floats:
        """The multiplier of a norm, float32 [width]: 1 + w in either convention."""
        return self.values() + np.float32(self.gain_offset)
