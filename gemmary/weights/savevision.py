"""Writing the picture half: an mmproj file, or the tensors that go into a Hugging Face folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..config import Config, VisionConfig
from ..errors import GemmaryError
from ..formats import FORMATS, Format
from .ggufwriter import Storable, checked, file_type, write_gguf_file
from .mmproj import mmproj_metadata
from .tensor import Floats, Tensor
from .vision import SOFT_NORM, as_stored
from .visionnames import to_gguf, to_huggingface, vision_shapes

EMBEDDINGS = ("patch", "positions")


def write_mmproj(
    path: str | os.PathLike[str],
    config: VisionConfig,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write tower and projector as an mmproj file, for llama.cpp too (convert_hf_to_gguf.py --mmproj).

    `tensors`: our names and shapes, exactly those of `config`. Matrices keep their formats but `patch`,
    `positions` and all vectors, which llama.cpp wants in F32. `metadata`: further keys, such as general.name.
    GemmaryError: it cannot be written.
    """
    path = Path(path)
    text_width = tensors["projection"].rows if "projection" in tensors else 1
    fitted = checked(tensors, vision_shapes(config, text_width), path)
    stored = {name: as_stored(_for_mmproj(tensors[name]), config) for name in fitted}
    keys = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.quantization_version": 2,
        "general.file_type": file_type(stored.values()),
        **mmproj_metadata(config, text_width),
    }
    keys |= {key: value for key, value in (metadata or {}).items() if key not in keys}
    write_gguf_file(path, keys, {to_gguf(name): tensor for name, tensor in stored.items()})


def pack_tower(arrays: Mapping[str, Floats], form: Format) -> dict[str, Tensor]:
    """float32 arrays as `TowerModule.arrays` gives them, packed: vectors in F32, matrices in `form`.

    Beside blocks, `patch` and `positions` stay F32, and F16 are the projection and what does not divide into
    blocks, such as fc2 of the real tower with rows of 4,304: as llama.cpp's converter has it.
    """
    return {name: _packed(name, values, form) for name, values in arrays.items()}


def vision_for_folder(config: Config, vision: Mapping[str, Tensor], path: Path) -> dict[str, Storable]:
    """Tower and projector under Hugging Face's names, as they lie in its files."""
    if config.vision is None:
        raise GemmaryError(f"{path}: there are tensors of a vision tower, but the config has none")
    fitted = checked(vision, vision_shapes(config.vision, config.width), path)
    if (soft := vision[SOFT_NORM]).gain_offset != 1:
        fitted[SOFT_NORM] = Tensor.pack(SOFT_NORM, soft.gain() - np.float32(1), FORMATS["F32"], 1.0)
    return {to_huggingface(name): as_stored(tensor, config.vision) for name, tensor in fitted.items()}


def _packed(name: str, values: Floats, form: Format) -> Tensor:
    if values.ndim == 1 or (form.group and name in EMBEDDINGS):
        form = FORMATS["F32"]
    elif values.shape[1] % form.block or (form.group and name == "projection"):
        form = FORMATS["F16"]
    return Tensor.pack(name, values, form, 1.0 if name == SOFT_NORM else 0.0)


def _for_mmproj(tensor: Tensor) -> Tensor:
    """llama.cpp adds and convolves in float32 only, and transposes the projection, which blocks forbid."""
    plain = tensor.name in EMBEDDINGS or len(tensor.shape) == 1
    if plain or (tensor.name == "projection" and tensor.format.name not in ("F32", "F16")):
        return Tensor.pack(tensor.name, tensor.gain(), FORMATS["F32"])
    return tensor
