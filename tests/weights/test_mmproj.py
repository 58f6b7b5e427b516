"""Picture halves beside their models, and files that are not what they seem."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gemmary.errors import ModelFileError, UnsupportedModelError
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.vision import open_vision

from .seeds import TINY
from .towers import EYES, SEEING, both_halves, check_values, mmproj_file, mmproj_of, seeing_folder, text_file


def test_the_mmproj_beside_a_model_is_found(tmp_path: Path) -> None:
    model = text_file(tmp_path / "gemma-3-4b-it-Q4_0.gguf")
    assert open_checkpoint(model).vision is None
    assert open_checkpoint(model).config.vision is None
    mmproj_file(tmp_path / "mmproj-model-f16.gguf")
    assert open_checkpoint(model).config == SEEING
    check_values(open_checkpoint(model).vision, {"F32", "F16"})


def test_of_several_the_one_with_the_same_name_is_taken(tmp_path: Path) -> None:
    model = text_file(tmp_path / "gemma-3-4b-it-Q4_K_M.gguf")
    mine = mmproj_file(tmp_path / "mmproj-gemma-3-4b-it-f16.gguf")
    mmproj_file(tmp_path / "mmproj-other-4b-it-f16.gguf")
    vision = open_checkpoint(model).vision
    assert vision is not None and vision.path == mine


def test_several_that_could_be_meant_are_told(tmp_path: Path) -> None:
    model = text_file(tmp_path / "m.gguf")
    for name in ("a", "b"):
        mmproj_file(tmp_path / f"{name}-mmproj.gguf")
    with pytest.raises(ModelFileError, match=r"'a-mmproj.gguf', 'b-mmproj.gguf'. Name one of them: mmproj="):
        open_checkpoint(model)
    vision = open_checkpoint(model, mmproj=tmp_path / "b-mmproj.gguf").vision
    assert vision is not None and vision.path.name == "b-mmproj.gguf"


def test_an_mmproj_of_another_width_is_not_taken(tmp_path: Path) -> None:
    model = text_file(tmp_path / "m.gguf")
    other = mmproj_file(tmp_path / "mmproj.gguf", text_width=96)
    assert open_checkpoint(model).vision is None
    with pytest.raises(ModelFileError, match=r"mmproj.gguf: is the mmproj of another model.*96 wide.* is 64"):
        open_checkpoint(model, mmproj=other)


def test_a_damaged_mmproj_beside_a_model_is_told(tmp_path: Path) -> None:
    model = text_file(tmp_path / "m.gguf")
    path = mmproj_file(tmp_path / "mmproj.gguf")
    os.truncate(path, 5000)
    with pytest.raises(ModelFileError, match=r"mmproj.gguf: "):
        open_checkpoint(model)


def test_a_folder_can_be_given_another_picture_half(tmp_path: Path) -> None:
    folder = seeing_folder(tmp_path / "m")
    path = mmproj_file(tmp_path / "a.gguf")
    vision = open_checkpoint(folder, mmproj=path).vision
    assert vision is not None and vision.path == path


V = "clip.vision."
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no layers": ({V + "block_count": None}, {}, "clip.vision.block_count is missing"),
    "a layer less": ({V + "block_count": ("I", 1)}, {}, "16 tensors beyond its 1 layers: 'v.blk.1."),
    "a layer more": ({V + "block_count": ("I", 3)}, {}, "lacks 16 of 55 tensors: 'layers.2.attn_norm'"),
    "layers without end": ({V + "block_count": ("I", 1 << 31)}, {}, "block_count is 2147483648"),
    "no width": ({V + "embedding_length": ("I", 0)}, {}, "embedding_length is 0"),
    "a text for a width": ({V + "embedding_length": ("s", "32")}, {}, "embedding_length is '32'"),
    "heads": ({V + "attention.head_count": ("I", 3)}, {}, "cannot be shared by 3 heads"),
    "eps": ({V + "attention.layer_norm_epsilon": ("f", 7.0)}, {}, "layer_norm_epsilon is 7"),
    "patches": ({V + "patch_size": ("I", 5)}, {}, "image_size is 24, but must be a multiple of 2 patches"),
    "patches of nothing": ({V + "patch_size": ("I", 0)}, {}, "patch_size is 0"),
    "another text": ({V + "projection_dim": ("I", 65)}, {}, r"is \[32, 64\], but must be \[32, 65\]"),
    "missing": ({}, {"v.post_ln.bias": None}, "lacks 1 of 39 tensors: 'norm.bias'"),
    "unknown": ({}, {"v.class_embd": ((32,), "F32")}, "does not have: 'v.class_embd'"),
    "twice": ({}, {"v.patch_embedding.bias": ((32,), "F32")}, "'v.patch_embd.bias' are the same tensor"),
    "turned": ({}, {"mm.input_projection.weight": ((64, 32), "F32")}, r"is \[64, 32\], but must be"),
    "a flat patch": ({}, {"v.patch_embd.weight": ((32, 48), "F32")}, r"must be \[32, 3, 4, 4\]"),
    "half a swap": ({}, {"v.blk.0.ffn_up.weight": ((32, 48), "F32")}, r"but must be \[48, 32\]"),
    "text": ({}, {"blk.0.attn_q.weight": ((32, 32), "F32")}, "does not have: 'blk.0.attn_q.weight'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_opening_is_strict(name: str, tmp_path: Path) -> None:
    keys, tensors, sentence = WRONG[name]
    path = mmproj_of(tmp_path / "a.gguf", keys, tensors)
    with pytest.raises(ModelFileError, match=sentence) as caught:
        open_vision(path)
    assert str(caught.value).startswith(str(path))


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a text model": ({"general.architecture": ("s", "gemma3")}, {}, "this is not the picture half"),
    "another projector": ({"clip.projector_type": ("s", "mlp")}, {}, "belongs to another kind of model"),
    "no projector": ({"clip.projector_type": None}, {}, "its projector is None"),
    "a newer key": ({V + "projector_type": ("s", "qwen2vl_merger")}, {}, "another kind of model"),
    "another activation": ({"clip.use_silu": ("?", True)}, {}, "Gemma 3's tower uses GELU"),
    "other pixels": ({V + "image_mean": ("[f", [0.48, 0.46, 0.41])}, {}, "0.5 three times"),
    "quantized biases": ({}, {"v.post_ln.bias": ((32,), "Q8_0")}, "biases must be floats"),
    "quantized norms": ({}, {"v.post_ln.weight": ((32,), "Q8_0")}, "norms must be floats"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_unsupported(name: str, tmp_path: Path) -> None:
    keys, tensors, sentence = OTHERS[name]
    with pytest.raises(UnsupportedModelError, match=sentence):
        open_vision(mmproj_of(tmp_path / "a.gguf", keys, tensors))


def test_the_sound_file_behind_the_wrong_ones_opens(tmp_path: Path) -> None:
    assert open_vision(mmproj_of(tmp_path / "a.gguf", {}), TINY.width).config == EYES


def test_a_picture_half_is_not_a_text_model(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="this is the picture half of a model"):
        open_checkpoint(mmproj_file(tmp_path / "mmproj.gguf"))


@pytest.mark.parametrize("key", ["image_size", "block_count", "attention.head_count"])
def test_both_halves_need_their_sizes(tmp_path: Path, key: str) -> None:
    with pytest.raises(ModelFileError, match=f"gemma3.vision.{key} is 0"):
        open_checkpoint(both_halves(tmp_path / "a.gguf", **{f"gemma3.vision.{key}": ("I", 0)}))
