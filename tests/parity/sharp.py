"""Random Gemma 3 models of every structural kind, sharp enough that a small mistake shows.

Logits spread over several units (standard deviation >= 3), attention looks at few keys (entropy < 2 bits) and
several answers compete (entropy > 2 bits), so that a window off by one, a wrong rotary base or a missing
`1 + w` moves the answer far beyond rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

VOCAB = 512


@dataclass(frozen=True)
class Kind:
    """Sizes of one random model, in transformers' names."""

    name: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    window: int
    query_scalar: float
    factor: float
    width: int = 96
    ffn: int = 160


KINDS = (
    Kind("1b-like", layers=8, heads=4, kv_heads=1, head_dim=32, window=33, query_scalar=32, factor=1.0),
    Kind("4b-like", layers=10, heads=8, kv_heads=4, head_dim=32, window=64, query_scalar=32, factor=8.0),
    Kind("27b-like", layers=8, heads=8, kv_heads=4, head_dim=16, window=48, query_scalar=21, factor=8.0),
)


def hf_config(kind: Kind, **changes: Any) -> Any:
    """The model's configuration for transformers."""
    from transformers import Gemma3TextConfig

    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e6}
    if kind.factor != 1.0:
        rope = {"rope_type": "linear", "rope_theta": 1e6, "factor": kind.factor}
    values = {
        "vocab_size": VOCAB,
        "hidden_size": kind.width,
        "intermediate_size": kind.ffn,
        "num_hidden_layers": kind.layers,
        "num_attention_heads": kind.heads,
        "num_key_value_heads": kind.kv_heads,
        "head_dim": kind.head_dim,
        "query_pre_attn_scalar": kind.query_scalar,
        "sliding_window": kind.window,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "full_attention": rope,
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        "attn_implementation": "eager",
    }
    return Gemma3TextConfig(**{**values, **changes})


def hf_model(kind: Kind, seed: int = 0, **changes: Any) -> Any:
    """A transformers model with sharp random weights, float32."""
    from transformers import Gemma3ForCausalLM

    torch.manual_seed(seed)
    model = Gemma3ForCausalLM(hf_config(kind, **changes)).eval().float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_norm" in name or "k_norm" in name:
                parameter.normal_(1.5, 0.3)
            elif (
                name == "model.norm.weight"
            ):  # gains of both signs: else the tied head repeats the input token
                parameter.normal_(-1.0, 1.0)
            elif "norm" in name:
                parameter.normal_(0.0, 0.3)
            elif "embed" in name:
                parameter.normal_(0.0, 4.0 / kind.width**0.5)
            else:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5)
    return model


def saved(kind: Kind, folder: Path, seed: int = 0, **changes: Any) -> Any:
    """The model, written to `folder` as Hugging Face writes it."""
    model = hf_model(kind, seed, **changes)
    model.save_pretrained(folder)
    return model


def text_ids(count: int, seed: int = 1) -> list[int]:
    """Random ids with some repetition, so that far keys matter."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, VOCAB, count)
    repeats = rng.random(count) < 0.3
    base[repeats] = base[rng.integers(0, count, int(repeats.sum()))]
    return [int(i) for i in base]


def distance(ours: Any, theirs: Any) -> float:
    """Largest difference as a share of the logit range."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.abs(a - b).max() / (b.max() - b.min()))
