"""Models of true shapes with random weights: speed depends on shapes and formats, not on values.

Nothing is downloaded, and nothing touches the disk unless `write_random` is asked to. A tensor is made when
it is looked up, the same bytes each time, so that a model never exists twice in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import Config
from ..formats import FORMATS, Format
from .canonical import Tensors
from .checkpoint import Checkpoint
from .mapped import Bytes
from .names import expected_shapes, is_norm
from .save import write_gguf
from .tensor import Tensor
from .vocabulary import TokenizerFiles, Vocabulary

TEXT_ROWS = 262_144  # what a GGUF file of a real size keeps of the table (pieces of the vocabulary)

# Where a block keeps its 16-bit scales, counted in halves (-1: the last), and what is put there:
# about 0.02 for a typical weight, so that no sum overflows.
_SCALES: dict[str, dict[int, float]] = {
    "Q4_0": {0: 0.004},
    "Q5_0": {0: 0.002},
    "Q8_0": {0: 0.0003},
    "Q4_K": {0: 0.00015, 1: 0.0011},
    "Q6_K": {-1: 0.0001},
}
# Rows that do not divide into blocks of 256 take these instead, as in llama.cpp's own files.
_INSTEAD = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}


@dataclass(frozen=True)
class Layout:
    """Number formats of a model file. body: "Q4_0", "Q8_0" or "Q4_K_M"; table: "Q8_0", "F16" or "Q6_K"."""

    body: str
    table: str

    def __str__(self) -> str:
        return self.body if self.body == self.table else f"{self.body}, table {self.table}"

    def formats(self, config: Config) -> dict[str, Format]:
        """The format of every tensor, in the order of the forward pass."""
        return {
            name: FORMATS[self._format(name, shape[-1], config.layers)]
            for name, shape in expected_shapes(config).items()
        }

    def table_bytes(self, config: Config) -> int:
        """Bytes of the table, the largest tensor."""
        return config.vocab * self.formats(config)["embed"].row_bytes(config.width)

    def _format(self, name: str, columns: int, layers: int) -> str:
        if is_norm(name):
            return "F32"
        wanted = self.table if name == "embed" else self.body
        if wanted == "Q4_K_M":
            wanted = "Q6_K" if _gets_more_bits(name, layers) else "Q4_K"
        return wanted if columns % FORMATS[wanted].block == 0 else _INSTEAD[wanted]


def _gets_more_bits(name: str, layers: int) -> bool:
    """llama.cpp's rule for Q4_K_M: values and down projections, in the outer layers and in each third."""
    _, number, part = name.split(".")
    first, last, layer = layers // 8, 7 * layers // 8, int(number)
    return part in ("v", "down") and (layer < first or layer >= last or (layer - first) % 3 == 2)


class RandomTensors(Tensors):
    """Random tensors by our names. `seconds`: time spent on making them so far."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self._shapes = expected_shapes(config)
        self._formats = layout.formats(config)
        self.seconds = 0.0

    def __getitem__(self, name: str) -> Tensor:
        started = time.perf_counter()
        shape, form = self._shapes[name], self._formats[name]
        seed = list(self._shapes).index(name)
        raw = _norm(shape) if is_norm(name) else _matrix(shape, form, np.random.default_rng(seed))
        raw.flags.writeable = False
        self.seconds += time.perf_counter() - started
        return Tensor(name, shape, form, raw)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    @property
    def nbytes(self) -> int:
        return sum(
            math.prod(shape[:-1]) * self._formats[name].row_bytes(shape[-1])
            for name, shape in self._shapes.items()
        )


def random_checkpoint(config: Config, layout: Layout) -> Checkpoint:
    """A model without a tokenizer, of random weights."""
    tensors = RandomTensors(config, layout)
    return Checkpoint(
        path=Path(f"random {config.name}"),
        config=config,
        tensors=tensors,
        vocabulary=TokenizerFiles(None, None),
        metadata={},
        embed_scale=math.sqrt(config.width),
        file_bytes=tensors.nbytes,
        set_aside=(),
    )


def write_random(path: Path, config: Config, layout: Layout) -> None:
    """The same weights as a GGUF file, with a vocabulary of words that no text contains."""
    tensors = RandomTensors(config, layout)
    write_gguf(path, config, tensors, random_vocabulary(min(config.vocab, TEXT_ROWS)))


def random_vocabulary(size: int) -> Vocabulary:
    """Gemma's control tokens at their places, all bytes, and words `▁t0`, `▁t1`, ..."""
    tokens = [f"▁t{i}" for i in range(size)]
    types = np.ones(size, np.int32)
    for i, name in enumerate(("<pad>", "<eos>", "<bos>", "<unk>")):
        tokens[i], types[i] = name, 2 if name == "<unk>" else 3
    pictures = ((255_999, "<start_of_image>"), (256_000, "<end_of_image>"))
    for i, name in ((105, "<start_of_turn>"), (106, "<end_of_turn>"), *(pictures if size > 256_000 else ())):
        tokens[i], types[i] = name, 3
    for byte in range(256):
        tokens[238 + byte], types[238 + byte] = f"<0x{byte:02X}>", 6
    return Vocabulary(tokens, -np.arange(size, dtype=np.float32), types, bos=2, eos=1, unknown=3, padding=0)


def _norm(shape: tuple[int, ...]) -> Bytes:
    return np.ones(shape, np.float32).view(np.uint8).reshape(-1)


def _matrix(shape: tuple[int, ...], form: Format, rng: np.random.Generator) -> Bytes:
    """Random codes under scales that differ by up to an eighth; in F16, either sign times 2^-7 to 2^-5."""
    count = shape[0] * form.row_bytes(shape[1])
    words = rng.integers(0, 1 << 64, -(-count // 8), np.uint64)
    raw = words.view(np.uint8)[:count]
    halves = raw.view(np.uint16)
    if form.name == "F16":
        halves &= np.uint16(0x87FF)
        halves |= np.uint16(0x2000)
        return raw
    blocks = halves.reshape(-1, form.nbytes // 2)
    for place, scale in _SCALES[form.name].items():
        # Scales that are all alike would be packed smaller than a real file's.
        blocks[:, place] = np.float16(scale).view(np.uint16) + (blocks[:, place] & np.uint16(127))
    return raw
