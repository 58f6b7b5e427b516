"""A chat model of a few kilobytes: random weights, every byte as a token, Gemma's turn marks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gemmary.config import Config
from gemmary.formats import FORMATS
from gemmary.weights.names import expected_shapes, is_norm
from gemmary.weights.save import write_gguf
from gemmary.weights.tensor import Tensor
from gemmary.weights.vocabulary import Vocabulary

CONTEXT = 256
MARKS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
WORDS = ["▁alpha", "▁beta", "▁gamma", "▁delta", "\n", "▁", "user", "model", "a", "b", "c", "d", "e"]


def write_tiny(path: Path, seed: int = 0) -> Path:
    """Write the model as GGUF."""
    tokens = MARKS + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [3, 3, 3, 2, 3, 3] + [6] * 256
    tokens += WORDS + [f"▁w{i}" for i in range(320 - len(tokens) - len(WORDS))]
    types += [1] * (len(tokens) - len(types))
    scores = -np.arange(len(tokens), dtype=np.float32)
    vocabulary = Vocabulary(tokens, scores, np.array(types, np.int32), bos=2, eos=1, unknown=3, padding=0)
    config = Config(
        name="tiny", vocab=len(tokens), width=64, layers=6, heads=2, kv_heads=1, head_dim=32, ffn=64,
        window=32, context=CONTEXT, query_scalar=32,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        values = rng.normal(0, 0.2, shape).astype(np.float32)
        form, offset = (FORMATS["F32"], 0.0) if is_norm(name) else (FORMATS["Q8_0"], 0.0)
        tensors[name] = Tensor.pack(name, 1 + values if is_norm(name) else values, form, offset)
    write_gguf(path, config, tensors, vocabulary)
    return path
