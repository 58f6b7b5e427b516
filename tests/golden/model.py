"""A small model whose weights are arithmetic: the same bits on every machine, with every version of NumPy."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from gemmary.config import Config, Rope
from gemmary.formats import FORMATS, Format
from gemmary.weights.names import expected_shapes
from gemmary.weights.save import write_gguf
from gemmary.weights.tensor import Tensor
from tests.parity.decoding import cpu
from tests.parity.ggufs import K_SPREAD, vocabulary

CONFIG = Config(
    "golden", vocab=320, width=256, layers=7, heads=4, kv_heads=1, head_dim=64, ffn=256,
    window=20, context=512, query_scalar=64, rope_global=Rope(1e6, 8.0),
)  # fmt: skip
LENGTH = 100  # five windows, a page border
STEP, MIX = np.uint64(0x9E3779B97F4A7C15), (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def bits(count: int, seed: int) -> np.ndarray:
    """SplitMix64: uint64 [count]."""
    z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * STEP
    for shift, factor in zip((30, 27), MIX, strict=True):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))


def values(count: int, seed: int) -> np.ndarray:
    """float32 around 0 with standard deviation 1: sums of four uniform 16-bit numbers, nearly normal."""
    quarters = bits(count, seed).view(np.uint16).reshape(count, 4).astype(np.int64)
    centred = (quarters.sum(-1) - 131070).astype(np.float32)
    return centred * np.float32(2.0**-15 * 0.8660254)


def tensor(name: str, shape: tuple[int, ...], form: Format) -> Tensor:
    """A matrix in `form`, or a norm's gain around 2; the last norm's has both signs."""
    seed = zlib.crc32(name.encode()) >> 1
    count = int(np.prod(shape))
    if len(shape) == 1:
        centre, spread = (0, 1) if name == "norm" else (2, 0.25)
        return Tensor.pack(
            name, values(count, seed) * np.float32(spread) + np.float32(centre), FORMATS["F32"]
        )
    spread = 0.25 if name == "embed" else 2.0**-4
    if form.name in K_SPREAD:
        return Tensor(name, shape, form, k_blocks(form, count, spread, seed))
    return Tensor.pack(name, values(count, seed).reshape(shape) * np.float32(spread), form)


def k_blocks(form: Format, count: int, spread: float, seed: int) -> np.ndarray:
    """Arbitrary codes and inner scales, one outer scale for all blocks."""
    size = count // form.block * form.nbytes
    raw = bits(-(-size // 8), seed).view(np.uint8)[:size].reshape(-1, form.nbytes).copy()
    d = spread / K_SPREAD[form.name]
    places = {208: d} if form.name == "Q6_K" else {0: d, 2: d * {"Q4_K": 7.5, "Q5_K": 15.5}[form.name]}
    for place, scale in places.items():
        raw[:, place : place + 2] = np.array([scale], "<f2").view(np.uint8)
    return raw.reshape(-1)


def write(form: Format, folder: Path) -> Path:
    """The model as a file."""
    tensors = {name: tensor(name, shape, form) for name, shape in expected_shapes(CONFIG).items()}
    write_gguf(folder / "golden.gguf", CONFIG, tensors, vocabulary(CONFIG.vocab))
    return folder / "golden.gguf"


# Names of what is saved: weights in every format, and keys and values in int8.
CASES = {name: (form, "F16") for name, form in FORMATS.items()} | {"Q4_0, pages I8": (FORMATS["Q4_0"], "I8")}


def logits(case: str, folder: Path) -> np.ndarray:
    """float32 [T, V] of the CPU engine, through a file."""
    form, pages = CASES[case]
    ids = (bits(LENGTH, 7) % np.uint64(CONFIG.vocab)).tolist()
    return cpu(write(form, folder), pages=pages).run(ids, (LENGTH,))
