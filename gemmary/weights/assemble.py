"""A checkpoint -> a decoder that runs: on the CPU engine (packed bytes as they lie) or as torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats import FORMATS
from ..model.text import Gain, Layer, Text, attention_of
from .checkpoint import Checkpoint
from .mapped import release
from .names import is_norm
from .tensor import Tensor

if TYPE_CHECKING:
    from ..model.modules import TextModule

NORMS = ("attn_norm", "q_norm", "k_norm", "attn_post_norm", "ffn_norm", "ffn_post_norm")
LINEARS = ("q", "k", "v", "o", "gate", "up", "down")


def packed_text(checkpoint: Checkpoint, expand: bool = False, pages: str | None = None) -> Text:
    """The decoder on the CPU engine. Quantized matrices are packed, and their mapped pages given back; floats
    stay where the file has them.

    `expand` decodes every matrix to float32 instead, to measure what a format costs. `pages`: format of keys
    and values: F16, BF16, F32 or I8 (None: F16, or F32 when expanded).
    """
    from ..ops.numba.machine import team
    from ..ops.numba.memory import WeightMemory
    from ..ops.numba.table import NumbaOps

    ops, memory = NumbaOps(pages or ("F32" if expand else "F16")), WeightMemory()
    config = checkpoint.config

    def gain(name: str) -> Gain:
        return Gain(checkpoint.gain(name), config.norm_eps)

    def packed(name: str) -> Any:
        return _packed(checkpoint.tensors[name], expand, memory)

    def layer(index: int) -> Layer:
        prefix = f"layers.{index}."
        parts: dict[str, Any] = {name: gain(prefix + name) for name in NORMS}
        parts |= {name: packed(prefix + name) for name in LINEARS}
        return Layer(ops=ops, rope=config.rope(index), attention=attention_of(config, index), **parts)

    return Text(
        config=config,
        ops=ops,
        table=packed("embed").with_plane(team(), release),
        layers=tuple(layer(i) for i in range(config.layers)),
        norm=gain("norm"),
        embed_scale=checkpoint.embed_scale,
    )


def _packed(tensor: Tensor, expand: bool, memory: Any) -> Any:
    from ..ops.numba.linear import PackedLinear
    from ..ops.numba.machine import team

    rows, columns = tensor.shape
    if expand:
        return PackedLinear(FORMATS["F32"], tensor.values().reshape(-1).view(np.uint8), rows, columns)
    return PackedLinear.pack(team(), memory, tensor.format, tensor.raw, rows, columns, release)


def module_text(checkpoint: Checkpoint, ops: Any) -> TextModule:
    """The decoder as torch modules in float32, for the reference path and for training."""
    from ..model.modules import TextModule

    model = TextModule(checkpoint.config, ops, checkpoint.embed_scale)
    model.load_arrays({name: _stored(checkpoint, name) for name in checkpoint.tensors})
    return model


def _stored(checkpoint: Checkpoint, name: str) -> np.ndarray:
    """Values as a module stores them: norms without their 1."""
    tensor = checkpoint.tensors[name]
    values = np.array(tensor.values(), np.float32)
    return values + np.float32(tensor.gain_offset - 1.0) if is_norm(name) else values
