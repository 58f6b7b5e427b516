"""The picture half of a model on disk: the tower's VisionConfig and its tensors under our names.

As strict as checkpoint.py: every tensor once, in its exact shape, and no other. Opening reads headers only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import Config, VisionConfig
from ..errors import ModelFileError
from ..formats import FORMATS
from .canonical import Found, Tensors, canonical, strict
from .gguf import GGUFFile, read_gguf
from .mmproj import vision_from_mmproj, vision_from_text
from .tensor import FLOATS, Tensor, TensorInfo
from .visionnames import from_gguf, from_huggingface, stored_shape, vision_shapes

SOFT_NORM = "soft_norm"  # the one norm that is stored as w or as 1 + w; LayerNorms are what they are


class VisionTensors(Tensors):
    """Tensors of tower and projector, in our shapes: `patch` as a matrix, `projection` as [out, in]."""

    def __getitem__(self, name: str) -> Tensor:
        info = self._infos[name]
        offset = self._gain_offset if name == SOFT_NORM else 0.0
        tensor = Tensor(name, info.shape, info.known_format(), info.raw(), offset)
        if name == "patch":
            return replace(tensor, shape=(info.shape[0], math.prod(info.shape[1:])))
        return turned(tensor) if name == "projection" else tensor


@dataclass(frozen=True)
class VisionCheckpoint:
    """An opened tower with its projector. `text_width`: of the text model that it was made for."""

    path: Path
    config: VisionConfig
    tensors: Tensors
    text_width: int
    file_bytes: int

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return self.config.parameters() + self.config.width * (self.text_width + 1)


def open_vision(path: str | os.PathLike[str], text_width: int | None = None) -> VisionCheckpoint:
    """Open an mmproj GGUF file. `text_width`: the width of the text model that it shall serve.

    ModelFileError: damaged, incomplete, hostile, or made for another model. UnsupportedModelError: not the
    picture half of a Gemma 3.
    """
    path = Path(path)
    file = read_gguf(path)
    config, width = vision_from_mmproj(file)
    if text_width not in (None, width):
        raise ModelFileError(
            path,
            f"is the mmproj of another model: it is for one {width:,} wide, and this one is {text_width:,}; "
            "give the mmproj file that comes with the model",
        )
    return _checkpoint(path, config, width, _gguf_tensors(file.tensors, config, path), file.size, 0.0)


def vision_of_gguf(file: GGUFFile, tensors: Mapping[str, TensorInfo], text_width: int) -> VisionCheckpoint:
    """The picture half inside a text model's GGUF file, as Ollama writes it. Errors as for `open_vision`."""
    config = vision_from_text(file)
    found = _gguf_tensors(tensors, config, file.path)
    return _checkpoint(file.path, config, text_width, found, _bytes(tensors), 0.0)


def vision_of_folder(path: Path, config: Config, tensors: Mapping[str, TensorInfo]) -> VisionCheckpoint:
    """The picture half of a Hugging Face folder. Errors as for `open_vision`."""
    if config.vision is None:
        raise ModelFileError(
            path, f"holds {len(tensors)} vision tensors, but config.json has no vision_config"
        )
    found = canonical(tensors, from_huggingface, path)
    return _checkpoint(path, config.vision, config.width, found, _bytes(tensors), 1.0)


def turned(tensor: Tensor) -> Tensor:
    """The transpose [columns, rows], in the same format where it holds single numbers, else in F32."""
    rows, columns = tensor.shape
    if tensor.format.name not in FLOATS:
        return Tensor.pack(tensor.name, tensor.values().T, FORMATS["F32"])
    numbers = np.ascontiguousarray(tensor.raw).view(f"u{tensor.format.row_bytes(1)}").reshape(rows, columns)
    raw = np.ascontiguousarray(numbers.T).view(np.uint8).reshape(-1)
    return replace(tensor, shape=(columns, rows), raw=raw)


def as_stored(tensor: Tensor, config: VisionConfig) -> Tensor:
    """A tensor of ours as it lies in files."""
    if tensor.name == "projection":
        return turned(tensor)
    return replace(tensor, shape=stored_shape(tensor.name, tensor.shape, config))


def _checkpoint(
    path: Path, config: VisionConfig, text_width: int, found: Found, size: int, gain_offset: float
) -> VisionCheckpoint:
    ours = vision_shapes(config, text_width)
    shapes = {name: stored_shape(name, shape, config) for name, shape in ours.items()}
    infos = strict(found, shapes, config.layers, path)
    return VisionCheckpoint(path, config, VisionTensors(infos, gain_offset), text_width, size)


def _gguf_tensors(tensors: Mapping[str, TensorInfo], config: VisionConfig, path: Path) -> Found:
    """Under our names. Early converters took the feed-forward's two for each other: shapes tell."""
    found = canonical(tensors, from_gguf, path)
    for index in range(config.layers):
        first, second = f"layers.{index}.fc1", f"layers.{index}.fc2"
        if first in found and found[first].shape == (config.width, config.ffn) != (config.ffn, config.width):
            _exchange(found, first, second)
            _exchange(found, f"{first}.bias", f"{second}.bias")
    return found


def _exchange(found: Found, one: str, other: str) -> None:
    if one in found and other in found:
        found[one], found[other] = found[other], found[one]


def _bytes(tensors: Mapping[str, TensorInfo]) -> int:
    return sum(info.nbytes for info in tensors.values())
