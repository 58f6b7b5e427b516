"""The vision tower as torch modules, for training and for the reference. The arithmetic is `vision.block`.

Imported only where torch is meant: the CPU engine never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..config import VisionConfig
from ..ops.contract import Floats, Ops
from .modules import Norm
from .vision import attention_of, block, features, patches, pooled, projected


class LayerNorm(nn.Module):
    """LayerNorm parameters. The multiplier is the stored weight itself."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps

    @property
    def gain(self) -> torch.Tensor:
        """The weight, float32."""
        return self.weight.float()


class Layer(nn.Module):
    """One encoder layer; parameter names are the house's canonical tensor names."""

    def __init__(self, config: VisionConfig, ops: Ops) -> None:
        super().__init__()
        width = config.width
        self.attn_norm = LayerNorm(width, config.norm_eps)
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.o = nn.Linear(width, width)
        self.ffn_norm = LayerNorm(width, config.norm_eps)
        self.fc1 = nn.Linear(width, config.ffn)
        self.fc2 = nn.Linear(config.ffn, width)
        self.ops = ops
        self.attention = attention_of(config)

    def forward(self, x: torch.Tensor, step: Any) -> torch.Tensor:
        """`block` with these weights: [T, D] -> [T, D]."""
        result: torch.Tensor = block(self.ops, x, self, step)
        return result


class TowerModule(nn.Module):
    """Encoder and projector. `text_width` is the width of the text model that reads the soft tokens."""

    def __init__(self, config: VisionConfig, text_width: int, ops: Ops) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.config = config
        self.ops = ops
        self.patch = nn.Linear(3 * config.patch**2, width)
        self.positions = nn.Parameter(torch.zeros(config.patches, width))
        self.layers = nn.ModuleList(Layer(config, ops) for _ in range(config.layers))
        self.norm = LayerNorm(width, eps)
        self.soft_norm = Norm(width, eps)
        self.projection = nn.Linear(width, text_width, bias=False)

    def load_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take float32 arrays by canonical name; `soft_norm` without its 1. Strict: all and no others."""
        state = {_parameter(name): torch.from_numpy(array) for name, array in arrays.items()}
        self.load_state_dict(state, strict=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters as `load_arrays` takes them."""
        return {
            name.removesuffix(".weight"): values.numpy(force=True)
            for name, values in self.state_dict().items()
        }

    def forward(self, pixels: Floats) -> torch.Tensor:
        """Soft tokens of pictures: float32 [n, 3, S, S] in -1..1 -> [n * tokens, text_width]."""
        result: torch.Tensor = features(self, pixels)
        return result


class TrunkModule(nn.Module):
    """A tower without its projector: the same parameters, by the same names."""

    def __init__(self, tower: TowerModule) -> None:
        super().__init__()
        self.config, self.ops = tower.config, tower.ops
        self.patch, self.positions = tower.patch, tower.positions
        self.layers, self.norm = tower.layers, tower.norm

    def forward(self, pixels: Floats) -> torch.Tensor:
        """Patches behind the last layer, not normed: float32 [n, 3, S, S] in -1..1 -> [n * P, D]."""
        result: torch.Tensor = patches(self, pixels)
        return result

    def pooled(self, pixels: Floats) -> torch.Tensor:
        """What a projector reads: float32 [n, 3, S, S] in -1..1 -> [n * tokens, D]."""
        result: torch.Tensor = pooled(self, pixels)
        return result


class ProjectorModule(nn.Module):
    """The projector of a tower: the same parameters, by the same names."""

    def __init__(self, tower: TowerModule) -> None:
        super().__init__()
        self.config, self.ops = tower.config, tower.ops
        self.soft_norm, self.projection = tower.soft_norm, tower.projection

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Soft tokens: [n, tokens, D] -> [n * tokens, text_width]."""
        result: torch.Tensor = projected(self, self.ops, pooled.flatten(0, 1))
        return result


def _parameter(name: str) -> str:
    """torch's name for one of ours."""
    return name if name.endswith(".bias") or name == "positions" else f"{name}.weight"
