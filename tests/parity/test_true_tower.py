"""The tower at its true width, and at its true shape (4,096 patches, 27 layers), against transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.config import VisionConfig
from gemmary.ops.reference import Reference
from gemmary.weights.assemble import module_tower
from gemmary.weights.synthetictower import synthetic_tower
from gemmary.weights.tensor import Tensor
from gemmary.weights.vision import VisionCheckpoint
from gemmary.weights.visionnames import stored_shape, to_huggingface

from .sharp import distance
from .test_tower import LIMIT


def stored(tensor: Tensor, config: VisionConfig) -> np.ndarray:
    """Values in the shape that files have."""
    return (
        tensor.values().T
        if tensor.name == "projection"
        else tensor.values().reshape(stored_shape(tensor.name, tensor.shape, config))
    )


def hf_tower(vision: VisionCheckpoint) -> tuple[Any, Any]:
    """Encoder and projector of transformers with these weights."""
    from transformers import Gemma3Config, SiglipVisionConfig, SiglipVisionModel
    from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

    config = SiglipVisionConfig(
        hidden_size=1152, num_hidden_layers=vision.config.layers, num_attention_heads=16,
        intermediate_size=4304, image_size=vision.config.image, patch_size=14, vision_use_head=False,
    )  # fmt: skip
    whole = Gemma3Config(vision_config=config.to_dict(), mm_tokens_per_image=vision.config.tokens)
    encoder, projector = SiglipVisionModel(config).eval(), Gemma3MultiModalProjector(whole)
    for part, prefix in ((encoder, "vision_tower.vision_model."), (projector, "multi_modal_projector.")):
        state = {
            to_huggingface(name).removeprefix(prefix): torch.from_numpy(stored(tensor, vision.config))
            for name, tensor in vision.tensors.items()
            if to_huggingface(name).startswith(prefix)
        }
        part.load_state_dict(state, assign=True)
    return encoder, projector


def gap(config: VisionConfig) -> float:
    vision = synthetic_tower(config, 5, text_width=2304, format="F32")
    size = (1, 3, config.image, config.image)
    pixels = np.random.default_rng(0).uniform(-1, 1, size).astype(np.float32)
    with torch.no_grad():
        encoder, projector = hf_tower(vision)
        want = projector(encoder(torch.from_numpy(pixels)).last_hidden_state)[0].numpy()
        del encoder, projector
        got = module_tower(vision, Reference())(pixels).numpy()
    assert got.shape == (config.tokens, 2304)
    return distance(got, want)


@pytest.mark.long
def test_two_layers_of_a_quarter_of_a_picture() -> None:
    found = gap(replace(VisionConfig(), layers=2, image=448, tokens=64))
    print(f"distance {found:.1e}")
    assert found <= LIMIT


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_true_tower() -> None:
    found = gap(VisionConfig())
    print(f"distance {found:.1e}")
    assert found <= LIMIT
