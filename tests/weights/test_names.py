from __future__ import annotations

import math

import gguf
import pytest

from gemmary.config import SIZES
from gemmary.weights import names

# Tensors in a GGUF file of each size, as dumps of the published files have them
TENSORS = {"270m": 236, "1b": 340, "4b": 444, "12b": 626, "27b": 808}


@pytest.mark.parametrize("size", TENSORS)
def test_every_size_has_its_tensors_and_parameters(size: str) -> None:
    config = SIZES[size]
    shapes = names.expected_shapes(config)
    assert len(shapes) == TENSORS[size]
    assert sum(map(math.prod, shapes.values())) == config.embedding_parameters + config.body_parameters


def test_gguf_names_are_those_of_the_gguf_package() -> None:
    arch = gguf.MODEL_ARCH.GEMMA3
    table = {gguf.TENSOR_NAMES[kind].format(bid=3) + ".weight" for kind in gguf.MODEL_TENSORS[arch]}
    ours = {
        names.to_gguf(name) for name in names.expected_shapes(SIZES["1b"]) if not name.startswith("layers.")
    }
    ours |= {names.to_gguf(f"layers.3.{part}") for part in names.LAYER}
    assert ours == table - {"output.weight"}  # the package allows a head of its own, as llama.cpp does


def test_names_go_to_files_and_back() -> None:
    for name in names.expected_shapes(SIZES["270m"]):
        assert names.from_gguf(names.to_gguf(name)) == name
        theirs = names.to_huggingface(name)
        for prefix in ("model.", "model.language_model.", "language_model.model."):
            assert names.from_huggingface(prefix + theirs.removeprefix("model.")) == name


def test_hugging_face_names_are_those_of_transformers() -> None:
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(num_hidden_layers=2, hidden_size=32, num_attention_heads=2, vocab_size=8)
    with torch.device("meta"):
        theirs = set(Gemma3ForCausalLM(config).state_dict()) - {"lm_head.weight"}
    ours = {names.to_huggingface(name) for name in ("embed", "norm")}
    ours |= {names.to_huggingface(f"layers.{i}.{part}") for i in (0, 1) for part in names.LAYER}
    assert ours == theirs


@pytest.mark.parametrize(
    "name",
    [
        "vision_tower.vision_model.embeddings.patch_embedding.weight",
        "model.vision_tower.vision_model.post_layernorm.bias",
        "model.vision_tower.post_layernorm.bias",
        "multi_modal_projector.mm_input_projection_weight",
        "model.multi_modal_projector.mm_soft_emb_norm.weight",
    ],
)
def test_vision_names_of_hugging_face_are_known(name: str) -> None:
    assert names.from_huggingface(name) == names.VISION
    assert names.from_gguf(name) is None


@pytest.mark.parametrize("name", ["v.blk.0.attn_q.weight", "v.patch_embd.bias", "mm.input_projection.weight"])
def test_vision_names_of_gguf_are_known(name: str) -> None:
    assert names.from_gguf(name) == names.VISION
    assert names.from_huggingface(name) is None


@pytest.mark.parametrize("name", ["lm_head.weight", "language_model.lm_head.weight"])
def test_heads_are_known(name: str) -> None:
    assert names.from_huggingface(name) == names.HEAD


@pytest.mark.parametrize(
    "name",
    [
        "",
        "embed_tokens.weight",
        "model.embed_tokens",
        "model.embed_tokens.bias",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.00.self_attn.q_proj.weight",
        "model.layers.-1.self_attn.q_proj.weight",
        "model.layers.٣.self_attn.q_proj.weight",
        "model.layers.99999.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.weight\n",
        "model.blk.0.input_layernorm.weight",
        "model.layers.0.attn_q.weight",
        "model.model.norm.weight",
        "base_model.model.layers.0.self_attn.q_proj.lora_A.weight",
    ],
)
def test_other_hugging_face_names_are_unknown(name: str) -> None:
    assert names.from_huggingface(name) is None


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q.bias", "blk.0.ffn_gate_exps.weight", "layers.0.attn_q.weight", "rope_freqs.weight"]
)
def test_other_gguf_names_are_unknown(name: str) -> None:
    assert names.from_gguf(name) is None
