"""GGUF copies of a Hugging Face folder, with a small SentencePiece-like vocabulary that llama.cpp accepts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gemmary.formats import Format
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.save import write_gguf
from gemmary.weights.tensor import Tensor
from gemmary.weights.vocabulary import Vocabulary


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
    """Every matrix in `form`, norms in F32."""
    checkpoint = open_checkpoint(folder)
    tensors = {}
    for name in checkpoint.tensors:
        tensor = checkpoint.tensors[name]
        matrix = len(tensor.shape) == 2
        tensors[name] = Tensor.pack(name, tensor.values(), form) if matrix else tensor
    write_gguf(path, checkpoint.config, tensors, vocabulary(checkpoint.config.vocab))
