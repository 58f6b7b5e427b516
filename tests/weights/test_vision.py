"""The picture half of a model, from every kind of file that has one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from gemmary.config import SIZES, VisionConfig
from gemmary.errors import ModelFileError
from gemmary.formats import FORMATS
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.huggingface import config_to_json
from gemmary.weights.tensor import Tensor
from gemmary.weights.vision import open_vision, turned
from gemmary.weights.visionnames import to_gguf, vision_shapes

from . import seeds
from .seeds import TINY
from .towers import (
    EYES,
    SEEING,
    both_halves,
    check_values,
    mmproj_file,
    seeing_folder,
    tower_values,
    written_by_gguf,
)  # fmt: skip


@pytest.mark.parametrize("format", ["F32", "F16", "BF16"])
def test_folder(tmp_path: Path, format: str) -> None:
    checkpoint = open_checkpoint(seeing_folder(tmp_path, format))
    check_values(checkpoint.vision, {"F32", format})
    assert checkpoint.config == SEEING


@pytest.mark.parametrize(
    "prefix", ["vision_tower.", "model.vision_tower.vision_model.", "model.vision_tower."]
)
def test_folders_with_other_prefixes(tmp_path: Path, prefix: str) -> None:
    path = seeing_folder(tmp_path) / "model.safetensors"
    stored = safetensors.torch.load_file(path)
    changed = {name.replace("vision_tower.vision_model.", prefix): t for name, t in stored.items()}
    if prefix.startswith("model."):
        changed = {name.replace("multi_modal", "model.multi_modal"): t for name, t in changed.items()}
    safetensors.torch.save_file(changed, path)
    check_values(open_checkpoint(tmp_path).vision, {"BF16", "F32"})


FORMATS_OF = {"F32": {"F32"}, "F16": {"F32", "F16"}, "BF16": {"F32", "BF16"}}


@pytest.mark.parametrize("format", FORMATS_OF)
def test_mmproj(tmp_path: Path, format: str) -> None:
    check_values(open_vision(mmproj_file(tmp_path / "a.gguf", format)), FORMATS_OF[format])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"ffn_up": "ffn_down", "ffn_down": "ffn_up"},  # as early converters wrote them
        {"attn_out": "attn_output"},
    ],
    ids=["plain", "swapped feed-forward", "ollama's output"],
)
def test_mmproj_of_other_writers(tmp_path: Path, change: dict[str, str]) -> None:
    def names(name: str) -> str:
        return ".".join(change.get(part, part) for part in name.split("."))

    path = written_by_gguf(tmp_path / "a.gguf", names)
    check_values(open_vision(path), {"F32"})


def ollama(name: str) -> str:
    """A name of llama.cpp's as Ollama's converter writes it."""
    pairs = {
        "patch_embd": "patch_embedding", "position_embd": "position_embedding", "post_ln": "post_layernorm",
        "ln1": "layer_norm1", "ln2": "layer_norm2", "attn_out": "attn_output", "ffn_up": "mlp.fc1",
        "ffn_down": "mlp.fc2", "input_projection": "mm_input_projection", "soft_emb_norm": "mm_soft_emb_norm",
    }  # fmt: skip
    return ".".join(pairs.get(part, part) for part in name.split("."))


@pytest.mark.parametrize("names", [ollama, str], ids=["old names", "new names"])
def test_both_halves_in_one_gguf_file(tmp_path: Path, names: Callable[[str], str]) -> None:
    """As Ollama stores them."""
    path = both_halves(tmp_path / "a.gguf", names)
    checkpoint = open_checkpoint(path)
    check_values(checkpoint.vision, {"F32"})
    assert checkpoint.config.vision == EYES
    assert len(checkpoint.set_aside) == len(tower_values())


@pytest.mark.parametrize("format", ["F32", "F16", "BF16", "Q8_0"])
def test_turning(format: str) -> None:
    values = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
    tensor = Tensor.pack("x", values, FORMATS[format])
    assert np.array_equal(turned(tensor).values(), tensor.values().T)
    assert turned(tensor).format.name == ("F32" if format == "Q8_0" else format)


def test_opening_reads_no_tensor(tmp_path: Path) -> None:
    """The true shape, as a file that takes no room on disk."""
    vision = SIZES["27b"].vision
    assert vision is not None
    entries = {}
    for name, shape in vision_shapes(vision, 5376).items():
        stored = (1152, 3, 14, 14) if name == "patch" else shape[::-1] if name == "projection" else shape
        plain = len(shape) == 1 or name in ("patch", "positions")
        entries[to_gguf(name)] = (stored, "F32" if plain else "F16")
    keys: dict[str, seeds.GGUFValue] = {
        "general.architecture": ("s", "clip"), "clip.projector_type": ("s", "gemma3"),
        "clip.vision.image_size": ("I", 896), "clip.vision.patch_size": ("I", 14),
        "clip.vision.embedding_length": ("I", 1152), "clip.vision.feed_forward_length": ("I", 4304),
        "clip.vision.block_count": ("I", 27), "clip.vision.projection_dim": ("I", 5376),
        "clip.vision.attention.head_count": ("I", 16),
        "clip.vision.attention.layer_norm_epsilon": ("f", 1e-6),
        "clip.vision.image_mean": ("[f", [0.5] * 3), "clip.vision.image_std": ("[f", [0.5] * 3),
    }  # fmt: skip
    header, size = seeds.gguf_header(keys, entries)
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(header)
    os.truncate(path, len(header) + size)
    found = open_vision(path)
    assert found.config == vision == VisionConfig()
    assert found.parameters == SIZES["27b"].vision_parameters


def test_a_folder_with_a_part_of_its_tower_is_told(tmp_path: Path) -> None:
    path = seeing_folder(tmp_path) / "model.safetensors"
    stored = safetensors.torch.load_file(path)
    del stored["vision_tower.vision_model.post_layernorm.bias"]
    safetensors.torch.save_file(stored, path)
    with pytest.raises(ModelFileError, match=r"lacks 1 of 39 tensors: 'norm.bias'"):
        open_checkpoint(tmp_path)
    stored["vision_tower.vision_model.post_layernorm.bias"] = torch.zeros(33)
    safetensors.torch.save_file(stored, path)
    with pytest.raises(ModelFileError, match=r"post_layernorm.bias' is \[33\], but must be \[32\]"):
        open_checkpoint(tmp_path)


def test_vision_tensors_without_a_config_are_told(tmp_path: Path) -> None:
    seeing_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config_to_json(TINY, "bfloat16")))
    with pytest.raises(ModelFileError, match=r"39 vision tensors, but config.json has no vision_config"):
        open_checkpoint(tmp_path)


def test_a_folder_without_its_vision_tensors_reads_text(tmp_path: Path) -> None:
    path = seeing_folder(tmp_path) / "model.safetensors"
    stored = safetensors.torch.load_file(path)
    text = {name: tensor for name, tensor in stored.items() if name.startswith("language_model.")}
    safetensors.torch.save_file(text, path)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.vision is None and checkpoint.config == TINY
