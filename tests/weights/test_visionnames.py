"""What the tensors of the picture half are called: against the gguf package, the spec and wrong names."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from gemmary.config import SIZES
from gemmary.weights.visionnames import from_gguf, from_huggingface, to_gguf, to_huggingface, vision_shapes

from .towers import EYES


def test_the_true_tower_has_its_tensors_and_parameters() -> None:
    vision = SIZES["4b"].vision
    assert vision is not None
    shapes = vision_shapes(vision, 2560)
    assert len(shapes) == 439  # in the published mmproj files
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == SIZES["4b"].vision_parameters


def test_names_go_to_files_and_back() -> None:
    for name in vision_shapes(EYES, 8):
        assert from_gguf(to_gguf(name)) == name
        theirs = to_huggingface(name)
        assert from_huggingface(theirs) == from_huggingface(f"model.{theirs}") == name
        assert from_huggingface(theirs.replace("vision_tower.vision_model.", "vision_tower.")) == name


def test_names_of_gguf_are_those_of_the_gguf_package() -> None:
    kinds = gguf.MODEL_TENSORS[gguf.MODEL_ARCH.MMPROJ]
    table = {gguf.TENSOR_NAMES[kind].format(bid=1) for kind in kinds}
    stems = {to_gguf(name).rpartition(".")[0] for name in vision_shapes(EYES, 8) if "layers.0" not in name}
    assert len(stems) == 5 + 8
    assert stems <= table


@pytest.mark.parametrize(
    "name",
    [
        "vision_tower.vision_model.head.probe",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj",
        "vision_tower.vision_model.encoder.layers.00.mlp.fc1.bias",
        "vision_tower.vision_model.layer_norm1.weight",
        "vision_tower.vision_model.encoder.layers.0.post_layernorm.weight",
        "vision_tower.vision_model.embeddings.position_embedding.bias",
        "multi_modal_projector.mm_soft_emb_norm.bias",
        "multi_modal_projector.mm_input_projection_weight.weight",
        "v.blk.0.attn_q.weight",
        "",
    ],
)
def test_other_hugging_face_names_are_unknown(name: str) -> None:
    assert from_huggingface(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "v.blk.0.attn_qkv.weight",
        "v.ln1.weight",
        "v.blk.x.ln1.weight",
        "mm.0.weight",
        "v.class_embd",
        "blk.0.ln1.bias",
    ],
)
def test_other_gguf_names_are_unknown(name: str) -> None:
    assert from_gguf(name) is None
