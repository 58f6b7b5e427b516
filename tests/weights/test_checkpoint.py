from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3TextConfig

from gemmary.config import SIZES, Config
from gemmary.errors import ModelFileError
from gemmary.formats import FORMATS
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.ggufconfig import gguf_metadata
from gemmary.weights.names import expected_shapes, is_norm, to_gguf, to_huggingface
from gemmary.weights.save import write_folder, write_gguf
from gemmary.weights.tensor import Tensor
from gemmary.weights.vocabulary import TokenizerFiles, Vocabulary

from . import seeds
from .seeds import TINY, random_tensors, random_values, vocabulary, with_head

TEXT = Gemma3TextConfig(
    vocab_size=48, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    head_dim=32, intermediate_size=96, sliding_window=8, max_position_embeddings=64, query_pre_attn_scalar=32,
    layer_types=["sliding_attention", "full_attention"],
)  # fmt: skip
ROOT = Path(__file__).parents[2]
VISION = {
    "hidden_size": 32, "image_size": 56, "intermediate_size": 48, "num_attention_heads": 2,
    "num_hidden_layers": 1, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
folder = pytest.fixture(seeds.smallest_folder)


def gguf_file(folder: Path, config: Config = TINY, tensors: dict[str, Tensor] | None = None) -> Path:
    path = folder / "model.gguf"
    write_gguf(path, config, tensors or random_tensors(config, "Q8_0"), vocabulary(config.vocab))
    return path


def randomised(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.state_dict()


# ---- what is read is what others read


def test_gguf_values_are_those_of_the_gguf_package(tmp_path: Path) -> None:
    """Matrices take turns through all number formats."""
    config = replace(TINY, width=256, heads=2, kv_heads=2, head_dim=128, ffn=256, query_scalar=128)
    tensors = random_tensors(config, "F32")
    kinds = list(FORMATS.values())
    rng = np.random.default_rng(3)
    for index, name in enumerate(name for name in tensors if not is_norm(name)):
        tensor, format = tensors[name], kinds[index % len(kinds)]
        raw = rng.integers(0, 120, tensor.rows * format.row_bytes(tensor.shape[1]), np.uint8)  # no NaN
        tensors[name] = Tensor(name, tensor.shape, format, raw)
    path = gguf_file(tmp_path, config, tensors)
    checkpoint = open_checkpoint(path)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert {tensor.format.name for tensor in checkpoint.tensors.values()} == FORMATS.keys()
    assert len(theirs) == len(checkpoint.tensors)
    for name, tensor in checkpoint.tensors.items():
        their = theirs[to_gguf(name)]
        expected = gguf.dequantize(their.data, their.tensor_type).reshape(tensor.shape)
        assert np.array_equal(tensor.values(), expected), name


def test_text_only_folder_of_transformers(tmp_path: Path) -> None:
    state = randomised(model := Gemma3ForCausalLM(TEXT))
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert (checkpoint.config.layers, checkpoint.config.global_layers) == (2, (1,))
    for name in checkpoint.tensors:
        expected = state[to_huggingface(name)].numpy()
        assert np.array_equal(checkpoint.tensors[name].values(), expected), name
        if is_norm(name):
            assert np.array_equal(checkpoint.gain(name), 1 + expected), name


@pytest.mark.parametrize("prefix", ["new", "old"])
def test_multimodal_folder_of_transformers(tmp_path: Path, prefix: str) -> None:
    config = Gemma3Config(
        text_config=TEXT.to_dict(),
        vision_config={"model_type": "siglip_vision_model", **VISION},
        mm_tokens_per_image=4,
    )
    state = randomised(model := Gemma3ForConditionalGeneration(config).to(torch.bfloat16))
    model.save_pretrained(tmp_path)
    saved = safetensors.torch.load_file(tmp_path / "model.safetensors")
    new = {name.replace("language_model.model.", "model.language_model."): t for name, t in saved.items()}
    old = {name.replace("model.language_model.", "language_model.model."): t for name, t in new.items()}
    safetensors.torch.save_file(new if prefix == "new" else old, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config.vision is not None
    assert checkpoint.config.vision.tokens == 4
    assert len(checkpoint.set_aside) + len(checkpoint.tensors) == len(saved)
    assert all("vision_tower" in name or "projector" in name for name in checkpoint.set_aside)
    for name in checkpoint.tensors:
        full = to_huggingface(name).replace("model.", "model.language_model.", 1)
        expected = state[full].float().numpy()
        assert np.array_equal(checkpoint.tensors[name].values(), expected), name


def test_sharded_folder_of_transformers(tmp_path: Path) -> None:
    state = randomised(model := Gemma3ForCausalLM(TEXT))
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    checkpoint = open_checkpoint(tmp_path)
    assert all(
        np.array_equal(tensor.values(), state[to_huggingface(name)].numpy())
        for name, tensor in checkpoint.tensors.items()
    )
    assert checkpoint.file_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))


def test_folder_and_gguf_of_the_same_weights_agree(tmp_path: Path) -> None:
    tensors = random_tensors(TINY, "F32")
    write_folder(tmp_path / "folder", TINY, tensors)
    ours, theirs = open_checkpoint(tmp_path / "folder"), open_checkpoint(gguf_file(tmp_path, TINY, tensors))
    assert ours.config == theirs.config == TINY
    assert list(ours.tensors) == list(theirs.tensors) == list(expected_shapes(TINY))
    for name in ours.tensors:
        if is_norm(name):
            assert np.array_equal(ours.gain(name), theirs.gain(name))
            assert np.array_equal(ours.gain(name), 1 + random_values(TINY)[name])
        else:
            assert np.array_equal(ours.tensors[name].values(), theirs.tensors[name].values())


# ---- the embedding table and its scale


@pytest.mark.parametrize("written", [262_144, 262_208])
@pytest.mark.parametrize("rows", [262_144, 262_208])
def test_table_with_or_without_the_rows_of_no_token(tmp_path: Path, rows: int, written: int) -> None:
    config = replace(TINY, vocab=rows, width=8, ffn=8, heads=1, kv_heads=1, head_dim=8)
    write_folder(tmp_path, config, random_tensors(config))
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"vocab_size": written}))
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config.vocab == rows
    assert checkpoint.tensors["embed"].shape == (rows, 8)


def test_gguf_table_may_have_more_rows_than_tokens_but_not_fewer(tmp_path: Path) -> None:
    shapes = expected_shapes(seeds.SMALLEST)
    for rows, tokens in ((16, 12), (12, 12), (12, 13)):
        entries = {to_gguf(name): (shape, "F32") for name, shape in shapes.items()}
        entries["token_embd.weight"] = ((rows, 32), "F16")
        header, size = seeds.gguf_header(
            seeds.smallest_metadata(replace(seeds.SMALLEST, vocab=tokens)), entries
        )
        path = tmp_path / "a.gguf"
        path.write_bytes(header + bytes(size))
        if rows < tokens:
            with pytest.raises(ModelFileError, match="the embedding has 12 rows for 13 tokens"):
                open_checkpoint(path)
        else:
            assert open_checkpoint(path).config.vocab == rows


SCALES = {640: 25.25, 1152: 34.0, 2560: 50.5, 3840: 62.0, 5376: 73.5}  # transformers, in bfloat16


@pytest.mark.parametrize("width", SCALES)
def test_embedding_scale_is_rounded_to_the_stored_dtype(tmp_path: Path, width: int) -> None:
    config = replace(TINY, vocab=16, width=width, layers=1, ffn=32, global_layers=())
    half = float(torch.tensor(math.sqrt(width)).to(torch.float16))
    for kind, scale in (("BF16", SCALES[width]), ("F16", half), ("F32", math.sqrt(width))):
        write_folder(tmp_path, config, random_tensors(config, kind))
        assert open_checkpoint(tmp_path).embed_scale == scale
        assert open_checkpoint(tmp_path, exact_scale=True).embed_scale == math.sqrt(width)
    path = gguf_file(tmp_path, config, random_tensors(config, "F32"))
    assert open_checkpoint(path).embed_scale == SCALES[width]
    assert open_checkpoint(path, exact_scale=True).embed_scale == math.sqrt(width)


def test_head_that_repeats_the_table_is_accepted(tmp_path: Path, folder: Path) -> None:
    assert len(open_checkpoint(with_head(tmp_path / "a.gguf", 0)).tensors) == 15
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    stored["lm_head.weight"] = stored["model.embed_tokens.weight"].clone()
    safetensors.torch.save_file(stored, folder / "model.safetensors")
    assert "head" not in open_checkpoint(folder).tensors


# ---- the official sizes, as files that take no room on disk


@pytest.mark.parametrize(
    ("size", "gigabytes"), [("1b", 0.997), ("4b", 3.149), ("12b", 8.068), ("27b", 17.223)]
)
def test_official_q4_0_layout(tmp_path: Path, size: str, gigabytes: float) -> None:
    """Q4_0 matrices, F16 table, F32 norms; weight bytes as in the published files."""
    config = replace(SIZES[size], vocab=262_144, vision=None)
    entries = {
        to_gguf(name): (shape, "F16" if name == "embed" else "F32" if is_norm(name) else "Q4_0")
        for name, shape in expected_shapes(config).items()
    }
    codes = {str: "s", int: "I", float: "f"}
    keys: dict[str, Any] = {k: (codes[type(v)], v) for k, v in gguf_metadata(config, tmp_path).items()}
    header, data = seeds.gguf_header(seeds.smallest_metadata() | keys, entries)
    path = tmp_path / "model.gguf"
    path.write_bytes(header)
    os.truncate(path, len(header) + data)
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == config
    assert checkpoint.parameters == config.parameters
    assert checkpoint.file_bytes == path.stat().st_size
    groups = checkpoint.groups()
    assert {kind: list(formats) for kind, formats in groups.items()} == {
        **{"embed": ["F16"], "norm": ["F32"]},
        **{kind: ["Q4_0"] for kind in ("q", "k", "v", "o", "gate", "up", "down")},
    }
    total = sum(sum(formats.values()) for formats in groups.values())
    assert round(total / 1e9, 3) == gigabytes


def test_opening_neither_reads_tensors_nor_brings_torch_or_numba(tmp_path: Path) -> None:
    """In a process of its own: 17 GB of tensors, opened in little memory."""
    config = replace(SIZES["27b"], vocab=262_144, vision=None)
    entries = {to_gguf(name): (shape, "Q4_0") for name, shape in expected_shapes(config).items()}
    entries = {name: (shape, "F32" if len(shape) == 1 else kind) for name, (shape, kind) in entries.items()}
    codes = {str: "s", int: "I", float: "f"}
    keys: dict[str, Any] = {k: (codes[type(v)], v) for k, v in gguf_metadata(config, tmp_path).items()}
    header, data = seeds.gguf_header(seeds.smallest_metadata() | keys, entries)
    path = tmp_path / "model.gguf"
    path.write_bytes(header)
    os.truncate(path, len(header) + data)
    script = (
        "import sys; from gemmary.weights.checkpoint import open_checkpoint\n"
        "from tests.weights.peak import peak\n"
        "before = peak()\n"
        f"open_checkpoint({str(path)!r})\n"
        "print(peak() - before, 'torch' in sys.modules, 'numba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    grown, torch_there, numba_there = done.stdout.split()
    assert 0 < int(grown) < 16 << 20
    assert (torch_there, numba_there) == ("False", "False")


# ---- the rest of the face


def test_tokenizer_comes_along(tmp_path: Path, folder: Path) -> None:
    assert open_checkpoint(folder).vocabulary == TokenizerFiles(None, None)
    (folder / "tokenizer.model").touch()
    (folder / "tokenizer.json").touch()
    files = open_checkpoint(folder).vocabulary
    assert files == TokenizerFiles(folder / "tokenizer.model", folder / "tokenizer.json")
    inside = open_checkpoint(gguf_file(tmp_path)).vocabulary
    assert isinstance(inside, Vocabulary)
    assert inside.tokens == vocabulary(TINY.vocab).tokens


def test_metadata_is_at_hand(tmp_path: Path, folder: Path) -> None:
    assert open_checkpoint(folder).metadata["model_type"] == "gemma3_text"
    assert open_checkpoint(gguf_file(tmp_path)).metadata["general.architecture"] == "gemma3"


def test_file_that_loses_its_permissions_after_opening_stays_open(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    (folder / "model.safetensors").chmod(0)
    assert len(checkpoint.tensors["norm"].raw) == 64
