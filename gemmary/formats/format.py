"""What a number format is: how many values a block holds, in how many bytes (ggml-common.h).

Pure facts: nothing here decodes anything, and nothing here imports Numba.
"""

from __future__ import annotations

from dataclasses import dataclass

from gemmary.errors import GemmaryError, UnsupportedModelError


class FormatError(GemmaryError, ValueError):
    """Values, bytes or a shape that a number format cannot hold."""


@dataclass(frozen=True)
class Format:
    """One number format of a GGUF file.

    `block` values lie in `nbytes` bytes; `group` of them share one scale (0: a float has none).
    `ggml_id` is the number that a GGUF file names the format by.
    """

    name: str
    ggml_id: int
    block: int
    nbytes: int
    group: int

    def row_bytes(self, n: int) -> int:
        """Bytes of a row of `n` values. FormatError if the row is no whole number of blocks."""
        if n < 0 or n % self.block:
            raise FormatError(
                f"a row of {n} values does not divide into {self.name} blocks of {self.block}: "
                "store this tensor as F16 instead"
            )
        return n // self.block * self.nbytes


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("F32", 0, 1, 4, 0),
        Format("F16", 1, 1, 2, 0),
        Format("Q4_0", 2, 32, 18, 32),
        Format("Q4_1", 3, 32, 20, 32),
        Format("Q5_0", 6, 32, 22, 32),
        Format("Q5_1", 7, 32, 24, 32),
        Format("Q8_0", 8, 32, 34, 32),
        Format("Q4_K", 12, 256, 144, 32),
        Format("Q5_K", 13, 256, 176, 32),
        Format("Q6_K", 14, 256, 210, 16),
        Format("BF16", 30, 1, 2, 0),
    )
}

_BY_ID = {f.ggml_id: f for f in FORMATS.values()}


def from_ggml_id(ggml_id: int) -> Format:
    """The format that a GGUF file calls `ggml_id`. UnsupportedModelError if Gemmary does not read it."""
    if ggml_id not in _BY_ID:
        raise UnsupportedModelError(
            f"tensors of ggml type {ggml_id} cannot be read: use a file whose tensors are among "
            + ", ".join(FORMATS)
        )
    return _BY_ID[ggml_id]
