"""A matrix on its way into another number format, a slice of rows at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UnsupportedModelError
from ..formats import Format, FormatError, encode, encode_channels
from .mapped import Bytes
from .tensor import Floats, Tensor

SLICE = 1 << 20  # values that are float32 at a time, in each thread
THREADS = min(os.cpu_count() or 1, 8)


@dataclass(frozen=True, slots=True)
class Recoded:
    """`source`, a matrix, to be written in `format`; `channels`: int4 with one scale a row, as Q4_0.

    Holds nothing: values are read, and made anew, each time that `pieces` runs.
    """

    source: Tensor
    format: Format
    channels: bool = False

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The source's."""
        return self.source.shape

    @property
    def nbytes(self) -> int:
        """Bytes as it will be stored."""
        return self.source.rows * self.format.row_bytes(self.shape[1])

    def part(self, start: int, stop: int) -> Recoded:
        """Rows start .. stop - 1."""
        return replace(self, source=self.source.part(start, stop))

    def pieces(self) -> Iterator[Bytes]:
        """The bytes to store. FormatError and UnsupportedModelError: values that the format cannot hold."""
        rows = max(1, SLICE // self.shape[1])
        waiting: deque[Future[Bytes]] = deque()
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, self.source.rows, rows):
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(self._encoded, start, start + rows))
            while waiting:
                yield waiting.popleft().result()

    def _encoded(self, start: int, stop: int) -> Bytes:
        values = self.source.part(start, stop).values()
        try:
            raw = encode_channels(values) if self.channels else encode(self.format, values)
        except FormatError as error:
            raise FormatError(f"tensor {self.name!r}: {error}") from None
        if self.format.name == "F16":
            self._check_halves(values, raw)
        return raw.reshape(-1)

    def _check_halves(self, values: Floats, raw: Bytes) -> None:
        if (np.isfinite(values) & np.isinf(raw.view("<f2"))).any():
            raise UnsupportedModelError(
                f"tensor {self.name!r} holds values beyond 65,504, the largest of F16: take bf16"
            )
