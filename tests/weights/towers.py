"""Small towers, and the files that hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from gemmary.config import VisionConfig
from gemmary.formats import FORMATS
from gemmary.weights.mmproj import mmproj_metadata
from gemmary.weights.names import to_gguf as text_name
from gemmary.weights.save import write_folder, write_gguf
from gemmary.weights.savevision import pack_tower, write_mmproj
from gemmary.weights.tensor import Tensor
from gemmary.weights.vision import VisionCheckpoint
from gemmary.weights.visionnames import stored_shape, to_gguf, vision_shapes

from . import seeds
from .seeds import TINY, random_tensors, vocabulary

EYES = VisionConfig(width=32, layers=2, heads=2, ffn=48, image=24, patch=4, tokens=9)
SEEING = replace(TINY, vision=EYES)


def tower_values(
    config: VisionConfig = EYES, text_width: int = TINY.width, seed: int = 0
) -> dict[str, np.ndarray]:
    """float32 by our names, as `TowerModule.arrays` gives them; numbers that 16 bits hold exactly."""
    rng = np.random.default_rng(seed)
    shapes = vision_shapes(config, text_width)
    return {name: rng.integers(-64, 65, shape).astype(np.float32) / 64 for name, shape in shapes.items()}


def tower_tensors(format: str = "F32") -> dict[str, Tensor]:
    return pack_tower(tower_values(), FORMATS[format])


def seeing_folder(path: Path, format: str = "BF16") -> Path:
    """A Hugging Face folder with both halves."""
    write_folder(path, SEEING, random_tensors(TINY, format), vision=tower_tensors(format))
    return path


def mmproj_file(path: Path, format: str = "F16", text_width: int = TINY.width) -> Path:
    write_mmproj(path, EYES, pack_tower(tower_values(text_width=text_width), FORMATS[format]))
    return path


def text_file(path: Path) -> Path:
    """A GGUF file with the text half only."""
    write_gguf(path, TINY, random_tensors(TINY), vocabulary(TINY.vocab))
    return path


def check_values(vision: VisionCheckpoint | None, formats: set[str]) -> None:
    """The tower is that of `tower_values`, in our shapes."""
    assert vision is not None
    want = tower_values()
    assert (vision.config, vision.text_width) == (EYES, TINY.width)
    assert list(vision.tensors) == list(want)
    for name, tensor in vision.tensors.items():
        got = tensor.gain() - 1 if name == "soft_norm" else tensor.values()
        assert np.array_equal(got, want[name]), name
    assert {tensor.format.name for tensor in vision.tensors.values()} == formats


U32, F, S, B = (
    gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.STRING, gguf.GGUFValueType.BOOL,
)  # fmt: skip
METADATA: dict[str, tuple[Any, Any]] = {
    "clip.has_vision_encoder": (True, B), "clip.projector_type": ("gemma3", S), "clip.use_gelu": (True, B),
    "clip.vision.image_size": (24, U32), "clip.vision.patch_size": (4, U32),
    "clip.vision.embedding_length": (32, U32), "clip.vision.feed_forward_length": (48, U32),
    "clip.vision.block_count": (2, U32), "clip.vision.projection_dim": (TINY.width, U32),
    "clip.vision.attention.head_count": (2, U32), "clip.vision.attention.layer_norm_epsilon": (1e-6, F),
    "clip.vision.projector.scale_factor": (2, U32),
}  # fmt: skip


def written_by_gguf(path: Path, names: Callable[[str], str]) -> Path:
    """The tower of `tower_values`, written by the gguf package."""
    writer = gguf.GGUFWriter(path, "clip")
    for key, value in METADATA.items():
        writer.add_key_value(key, *value)
    for name, values in tower_values().items():
        stored = values + 1 if name == "soft_norm" else values.T if name == "projection" else values
        if name == "patch":
            stored = stored.reshape(-1, 3, EYES.patch, EYES.patch)
        writer.add_tensor(names(to_gguf(name)), np.ascontiguousarray(stored))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def both_halves(path: Path, names: Callable[[str], str] = str, **changes: seeds.GGUFValue) -> Path:
    keys = seeds.smallest_metadata(TINY) | {
        "gemma3.mm.tokens_per_image": ("I", 9), "gemma3.vision.image_size": ("I", 24),
        "gemma3.vision.patch_size": ("I", 4), "gemma3.vision.embedding_length": ("I", 32),
        "gemma3.vision.feed_forward_length": ("I", 48), "gemma3.vision.block_count": ("I", 2),
        "gemma3.vision.attention.head_count": ("I", 2),
        "gemma3.vision.attention.layer_norm_epsilon": ("f", 1e-6),
    }  # fmt: skip
    text = {text_name(name): t for name, t in seeds.random_tensors(TINY, "F32").items()}
    entries: dict[str, tuple[tuple[int, ...], str]] = {name: (t.shape, "F32") for name, t in text.items()}
    data = [t.gain() if len(t.shape) == 1 else t.values() for t in text.values()]
    for name, values in tower_values().items():
        stored = values + 1 if name == "soft_norm" else values.T if name == "projection" else values
        shape = (32, 3, 4, 4) if name == "patch" else stored.shape
        entries[names(to_gguf(name))] = (shape, "F32")
        data.append(stored)
    header, _ = seeds.gguf_header(keys | changes, entries)
    blobs = [np.ascontiguousarray(values).tobytes() for values in data]
    path.write_bytes(header + b"".join(blob.ljust(-(-len(blob) // 32) * 32, b"\0") for blob in blobs))
    return path


def smallest_mmproj() -> tuple[dict[str, seeds.GGUFValue], dict[str, tuple[int, ...]]]:
    """Metadata, and shapes as files have them, of a tower of one layer."""
    config = VisionConfig(width=8, layers=1, heads=2, ffn=12, image=8, patch=2, tokens=1)
    keys: dict[str, seeds.GGUFValue] = {"general.architecture": ("s", "clip")}
    for key, value in mmproj_metadata(config, 16).items():
        code = {bool: "?", int: "I", float: "f", str: "s"}.get(type(value), "[f")
        keys[key] = (code, value.tolist() if isinstance(value, np.ndarray) else value)
    shapes = vision_shapes(config, 16)
    return keys, {to_gguf(name): stored_shape(name, shape, config) for name, shape in shapes.items()}


def mmproj_of(
    path: Path, keys: dict[str, seeds.GGUFValue | None], tensors: dict[str, Any] | None = None
) -> Path:
    """A sound mmproj file but for some keys and tensors (None: left out)."""
    codes = {U32: "I", F: "f", S: "s", B: "?"}
    metadata: dict[str, Any] = {"general.architecture": ("s", "clip")}
    metadata |= {key: (codes[kind], value) for key, (value, kind) in METADATA.items()}
    metadata |= keys
    entries: dict[str, Any] = {}
    for name, shape in vision_shapes(EYES, TINY.width).items():
        stored = (32, 3, 4, 4) if name == "patch" else shape[::-1] if name == "projection" else shape
        entries[to_gguf(name)] = (stored, "F32")
    entries |= tensors or {}
    header, size = seeds.gguf_header(
        {key: value for key, value in metadata.items() if value is not None},
        {name: entry for name, entry in entries.items() if entry is not None},
    )
    path.write_bytes(header + bytes(size))
    return path
