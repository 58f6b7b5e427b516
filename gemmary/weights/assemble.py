"""A checkpoint -> a decoder or a tower that runs: on the CPU engine, or as torch modules."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats import FORMATS
from ..model import vision as eyes
from ..model.text import Gain, Layer, Text, attention_of
from .checkpoint import Checkpoint
from .mapped import check_whole, release
from .names import is_norm
from .tensor import FLOATS, Floats, Tensor
from .vision import SOFT_NORM, VisionCheckpoint

if TYPE_CHECKING:
    from ..model.modules import TextModule
    from ..model.vision_modules import TowerModule

NORMS = ("attn_norm", "q_norm", "k_norm", "attn_post_norm", "ffn_norm", "ffn_post_norm")
LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
EYE_NORMS = ("attn_norm", "ffn_norm")
EYE_LINEARS = ("q", "k", "v", "o", "fc1", "fc2")


def packed_text(
    checkpoint: Checkpoint, expand: bool = False, pages: str | None = None, own: bool = False
) -> Text:
    """The decoder on the CPU engine. Quantized matrices are packed, and their mapped pages given back; floats
    stay where the file has them, or are copied (`own`), so that a file that is cut short kills nobody.

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
        return _packed(checkpoint.tensors[name], expand, memory, own)

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


def _packed(tensor: Tensor, expand: bool, memory: Any, own: bool) -> Any:
    from ..ops.numba.linear import PackedLinear
    from ..ops.numba.machine import team

    rows, columns = tensor.shape
    if expand:
        return PackedLinear(FORMATS["F32"], tensor.values().reshape(-1).view(np.uint8), rows, columns)
    if own and tensor.format.name in FLOATS:
        tensor = _copied(tensor, memory)
    packed = PackedLinear.pack(team(), memory, tensor.format, tensor.raw, rows, columns, release)
    return replace(packed, intact=partial(check_whole, tensor.raw))


def _copied(tensor: Tensor, memory: Any) -> Tensor:
    kept, start = memory.take(tensor.nbytes), 0
    for piece in tensor.pieces():
        kept[start : start + len(piece)] = piece
        start += len(piece)
        release(piece)
    return replace(tensor, raw=kept)


def module_text(checkpoint: Checkpoint, ops: Any) -> TextModule:
    """The decoder as torch modules in float32, for the reference path and for training."""
    from ..model.modules import TextModule

    model = TextModule(checkpoint.config, ops, checkpoint.embed_scale)
    model.load_arrays({name: stored_text(checkpoint, name) for name in checkpoint.tensors})
    return model


def packed_tower(vision: VisionCheckpoint, element: str = "INT8") -> eyes.Tower:
    """Tower and projector on the CPU engine. `element`: what weights become, INT8, or F32 to be exact."""
    from ..ops.numba.machine import team
    from ..ops.numba.memory import WeightMemory
    from ..ops.numba.table import NumbaOps
    from ..ops.numba.tower import pack_linear

    ops, memory = NumbaOps("F32" if element == "F32" else "F16"), WeightMemory()
    config, tensors = vision.config, vision.tensors

    def linear(name: str, bias: Floats | None) -> Any:
        tensor = tensors[name]
        parts = tensor.format, tensor.raw, tensor.rows, tensor.columns
        packed = pack_linear(team(), memory, *parts, bias, element)
        release(tensor.raw)
        return packed

    def biased(name: str) -> Any:
        return linear(name, tensors[f"{name}.bias"].values())

    def layer_norm(name: str) -> Gain:
        return Gain(tensors[name].values(), config.norm_eps, tensors[f"{name}.bias"].values())

    def layer(index: int) -> eyes.Layer:
        prefix = f"layers.{index}."
        parts: dict[str, Any] = {name: layer_norm(prefix + name) for name in EYE_NORMS}
        parts |= {name: biased(prefix + name) for name in EYE_LINEARS}
        return eyes.Layer(ops=ops, attention=eyes.attention_of(config), **parts)

    return eyes.Tower(
        config=config,
        ops=ops,
        patch=biased("patch"),
        positions=tensors["positions"].values(),
        layers=tuple(layer(i) for i in range(config.layers)),
        norm=layer_norm("norm"),
        soft_norm=Gain(tensors[SOFT_NORM].gain(), config.norm_eps),
        projection=linear("projection", None),
    )


def module_tower(vision: VisionCheckpoint, ops: Any) -> TowerModule:
    """Tower and projector as torch modules in float32, for the reference path and for training."""
    from ..model.vision_modules import TowerModule

    tower = TowerModule(vision.config, vision.text_width, ops)
    arrays = {name: np.array(tensor.values(), np.float32) for name, tensor in vision.tensors.items()}
    arrays[SOFT_NORM] = vision.tensors[SOFT_NORM].gain() - np.float32(1.0)
    tower.load_arrays(arrays)
    return tower


def stored_text(checkpoint: Checkpoint, name: str) -> np.ndarray:
    """Values as a module stores them: norms without their 1."""
    tensor = checkpoint.tensors[name]
    values = np.array(tensor.values(), np.float32)
    return values + np.float32(tensor.gain_offset - 1.0) if is_norm(name) else values
