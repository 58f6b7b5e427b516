"""GGUF copies of a Hugging Face folder, with a small SentencePiece-like vocabulary that llama.cpp accepts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemmary.formats import Format
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.save import write_gguf
from gemmary.weights.tensor import Tensor
from gemmary.weights.vocabulary import Vocabulary

K_SPREAD = {"Q4_K": 270.0, "Q5_K": 570.0, "Q6_K": 1410.0}  # standard deviation of random blocks whose d is 1


def random_k_blocks(form: Format, count: int, spread: float, seed: int = 0) -> NDArray[np.uint8]:
    """Bytes of `count` values around 0 with the given standard deviation: random codes and inner scales."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (count // form.block, form.nbytes), dtype=np.uint8)
    d = rng.uniform(0.5, 1.5, len(raw)) * spread / K_SPREAD[form.name]
    places = {208: d} if form.name == "Q6_K" else {0: d, 2: d * {"Q4_K": 7.5, "Q5_K": 15.5}[form.name]}
    for place, scale in places.items():
        raw[:, place : place + 2] = scale.astype("<f2").view(np.uint8).reshape(-1, 2)
    return raw.reshape(-1)


def vocabulary(size: int) -> Vocabulary:
    """Control tokens, 256 bytes, then words that no text contains."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [3, 3, 3, 2] + [6] * 256
    tokens += ["<start_of_turn>", "<end_of_turn>", "▁", *"abcdefghijklmnopqrstuvwxyz", "\n"]
    types += [3, 3] + [1] * 28
    tokens += [f"▁word{i}" for i in range(size - len(tokens))]
    types += [1] * (size - len(types))
    scores = -np.arange(size, dtype=np.float32)
    return Vocabulary(tokens, scores, np.array(types, np.int32), bos=2, eos=1, unknown=3, padding=0)


def quantized_copy(folder: Path, path: Path, form: Format) -> None:
    """Every matrix in `form`, norms in F32. K-quants are not written: random blocks of the same spread."""
    checkpoint = open_checkpoint(folder)
    tensors = {}
    for number, name in enumerate(checkpoint.tensors):
        tensor = checkpoint.tensors[name]
        if len(tensor.shape) == 1:
            tensors[name] = tensor
        elif form.name in K_SPREAD:
            raw = random_k_blocks(form, tensor.elements, float(tensor.values().std()), number)
            tensors[name] = Tensor(name, tensor.shape, form, raw)
        else:
            tensors[name] = Tensor.pack(name, tensor.values(), form)
    write_gguf(path, checkpoint.config, tensors, vocabulary(checkpoint.config.vocab))
