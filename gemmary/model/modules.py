"""The decoder as torch modules, for training and for the reference. The arithmetic is `text.block`.

Imported only where torch is meant: the CPU engine never does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..config import Config
from ..ops.contract import LayerPages, Ops, Step
from .text import attention_of, block, hidden


class Norm(nn.Module):
    """RMSNorm parameters. The stored weight is zero-initialised; the multiplier is 1 + weight."""

    bias: None = None  # which would make it a LayerNorm

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    @property
    def gain(self) -> torch.Tensor:
        """1 + weight, float32."""
        return 1.0 + self.weight.float()


class Layer(nn.Module):
    """One decoder layer; parameter names are the house's canonical tensor names."""

    def __init__(self, config: Config, index: int, ops: Ops) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        heads, shared = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.attn_norm = Norm(width, eps)
        self.q = nn.Linear(width, heads, bias=False)
        self.k = nn.Linear(width, shared, bias=False)
        self.v = nn.Linear(width, shared, bias=False)
        self.q_norm = Norm(config.head_dim, eps)
        self.k_norm = Norm(config.head_dim, eps)
        self.o = nn.Linear(heads, width, bias=False)
        self.attn_post_norm = Norm(width, eps)
        self.ffn_norm = Norm(width, eps)
        self.gate = nn.Linear(width, config.ffn, bias=False)
        self.up = nn.Linear(width, config.ffn, bias=False)
        self.down = nn.Linear(config.ffn, width, bias=False)
        self.ffn_post_norm = Norm(width, eps)
        self.ops = ops
        self.rope = config.rope(index)
        self.attention = attention_of(config, index)

    def forward(self, x: torch.Tensor, kv: LayerPages | None, step: Any) -> torch.Tensor:
        """`block` with these weights: [T, D] -> [T, D]."""
        result: torch.Tensor = block(self.ops, x, self, kv, step)
        return result


class TextModule(nn.Module):
    """The whole decoder. `table` is embedding and head (tied)."""

    def __init__(self, config: Config, ops: Ops, embed_scale: float | None = None) -> None:
        super().__init__()
        self.config = config
        self.ops = ops
        self.embed_scale = config.width**0.5 if embed_scale is None else embed_scale
        self.table = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(Layer(config, i, ops) for i in range(config.layers))
        self.norm = Norm(config.width, config.norm_eps)

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take float32 arrays by canonical name; norms without their 1. Strict: all of them and no others."""
        names = {"embed": "table"}
        state = {f"{names.get(name, name)}.weight": torch.from_numpy(a) for name, a in arrays.items()}
        self.load_state_dict(state, strict=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters as `load_arrays` takes them."""
        names = {"table": "embed"}
        stems = {key: key.removesuffix(".weight") for key in self.state_dict()}
        return {
            names.get(stem, stem): self.state_dict()[key].numpy(force=True) for key, stem in stems.items()
        }

    def forward(self, step: Step, kvs: Iterable[LayerPages | None] | None = None) -> torch.Tensor:
        """Final hidden states [R, D] of the rows that want logits; no cache when `kvs` is None."""
        result: torch.Tensor = hidden(self, step, [None] * len(self.layers) if kvs is None else kvs)
        return result
