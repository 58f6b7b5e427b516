"""Written towers: read by others, and by us again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from gemmary.errors import GemmaryError
from gemmary.formats import FORMATS
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.save import write_folder
from gemmary.weights.savevision import pack_tower, write_mmproj
from gemmary.weights.vision import open_vision
from gemmary.weights.visionnames import to_gguf, to_huggingface

from . import seeds
from .seeds import TINY
from .towers import EYES, SEEING, check_values, mmproj_file, seeing_folder, tower_tensors, tower_values


def test_transformers_reads_our_folder(tmp_path: Path) -> None:
    from transformers import Gemma3ForConditionalGeneration

    model = Gemma3ForConditionalGeneration.from_pretrained(seeing_folder(tmp_path, "F32"))
    parts = dict(model.named_parameters())
    for name, want in tower_values().items():
        theirs = f"model.{to_huggingface(name)}".replace("vision_tower.vision_model.", "vision_tower.")
        got = parts[theirs].detach().numpy()
        got = got.T if name == "projection" else got.reshape(want.shape)
        assert np.array_equal(got, want), name
    assert model.config.mm_tokens_per_image == EYES.tokens


def test_the_gguf_package_reads_our_mmproj(tmp_path: Path) -> None:
    reader = gguf.GGUFReader(mmproj_file(tmp_path / "a.gguf", "F16"))
    want = tower_values()
    theirs = {tensor.name: tensor for tensor in reader.tensors}
    assert theirs.keys() == {to_gguf(name) for name in want}
    for name, values in want.items():
        tensor = theirs[to_gguf(name)]
        got = gguf.dequantize(tensor.data, tensor.tensor_type)
        values = values + 1 if name == "soft_norm" else values.T if name == "projection" else values
        assert np.array_equal(got.reshape(values.shape), values), name
        if values.ndim == 1 or name in ("patch", "positions"):
            assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
    assert list(theirs["v.patch_embd.weight"].shape) == [4, 4, 3, 32]
    assert reader.fields["clip.vision.projection_dim"].contents() == TINY.width
    assert reader.fields["general.file_type"].contents() == 1


def test_quantized_mmproj(tmp_path: Path) -> None:
    """Rows of 48 do not divide into blocks of 32: F16, as fc2 of the true tower."""
    vision = open_vision(mmproj_file(tmp_path / "a.gguf", "Q8_0"))
    forms = {name.rpartition(".")[2]: tensor.format.name for name, tensor in vision.tensors.items()}
    assert (forms["q"], forms["fc1"], forms["fc2"], forms["projection"]) == ("Q8_0", "Q8_0", "F16", "F16")
    want = tower_values()
    for name, tensor in vision.tensors.items():
        values = tensor.gain() - 1 if name == "soft_norm" else tensor.values()
        assert np.abs(values - want[name]).max() <= 1 / 128, name


def test_towers_of_another_config_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(GemmaryError, match=r"'layers.2.attn_norm' is None"):
        write_mmproj(tmp_path / "a.gguf", replace(EYES, layers=3), tower_tensors())
    assert not any(tmp_path.iterdir())


def test_what_was_opened_can_be_written_again(tmp_path: Path) -> None:
    """Folder -> mmproj -> folder, bit for bit."""
    vision = open_checkpoint(seeing_folder(tmp_path / "a", "F32")).vision
    assert vision is not None
    write_mmproj(tmp_path / "b.gguf", vision.config, vision.tensors)
    again = open_vision(tmp_path / "b.gguf")
    write_folder(tmp_path / "c", SEEING, seeds.random_tensors(TINY, "F32"), vision=again.tensors)
    check_values(open_checkpoint(tmp_path / "c").vision, {"F32"})
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "c"))
    assert one == two


def test_a_copy_in_another_format(tmp_path: Path) -> None:
    values = {name: tensor.values() for name, tensor in tower_tensors().items()}
    write_mmproj(tmp_path / "a.gguf", EYES, pack_tower(values, FORMATS["BF16"]))
    check_values(open_vision(tmp_path / "a.gguf"), {"F32", "BF16"})
    shutil.copy(tmp_path / "a.gguf", tmp_path / "b.gguf")
    assert open_vision(tmp_path / "b.gguf").file_bytes == (tmp_path / "a.gguf").stat().st_size
