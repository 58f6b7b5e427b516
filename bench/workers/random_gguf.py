"""A GGUF file of true shapes with random weights: speed depends on shapes and formats, not on values."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from gemmary.config import SIZES
from gemmary.formats import FORMATS, Format
from gemmary.weights.names import expected_shapes, is_norm
from gemmary.weights.save import write_gguf
from gemmary.weights.tensor import Tensor
from gemmary.weights.vocabulary import Vocabulary


def random_tensor(name: str, shape: tuple[int, ...], form: Format, rng: np.random.Generator) -> Tensor:
    """Random codes under small constant scales; floats near zero; norms of 1."""
    if is_norm(name):
        return Tensor(name, shape, FORMATS["F32"], np.ones(shape, np.float32).view(np.uint8))
    if not form.group:
        values = rng.standard_normal(shape, np.float32) * np.float32(0.02)
        return Tensor.pack(name, values, form)
    raw = rng.integers(0, 256, (shape[0] * shape[1] // form.block, form.nbytes), np.uint8)
    raw[:, :2] = np.array([0.002], np.float16).view(np.uint8)
    return Tensor(name, shape, form, raw.reshape(-1))


def vocabulary(size: int) -> Vocabulary:
    """Gemma's control tokens at their places, bytes, and words that no text contains."""
    tokens = [f"▁t{i}" for i in range(size)]
    types = np.ones(size, np.int32)
    for i, name in enumerate(("<pad>", "<eos>", "<bos>", "<unk>")):
        tokens[i], types[i] = name, 2 if name == "<unk>" else 3
    for i, name in ((105, "<start_of_turn>"), (106, "<end_of_turn>")):
        tokens[i], types[i] = name, 3
    for byte in range(256):
        tokens[238 + byte], types[238 + byte] = f"<0x{byte:02X}>", 6
    return Vocabulary(tokens, -np.arange(size, dtype=np.float32), types, bos=2, eos=1, unknown=3, padding=0)


def write(path: Path, size: str, body: str, table: str) -> None:
    """Write the file unless it is there."""
    if path.exists():
        return
    rng = np.random.default_rng(0)
    config = SIZES[size]
    tensors = {
        name: random_tensor(name, shape, FORMATS[table if name == "embed" else body], rng)
        for name, shape in expected_shapes(config).items()
    }
    write_gguf(path, config, tensors, vocabulary(config.vocab))


if __name__ == "__main__":
    write(Path(sys.argv[1]), *sys.argv[2:5])
