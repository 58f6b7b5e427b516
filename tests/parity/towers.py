"""Random multimodal Gemma 3 models for transformers, sharp in both halves (sharp.py says what that means)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from .sharp import VOCAB, Kind, hf_config

SOFT, BEGIN, END = VOCAB - 1, VOCAB - 2, VOCAB - 3  # ids of a soft token, and of the marks around a picture


@dataclass(frozen=True)
class Eyes:
    """Sizes of one random tower, in transformers' names where it has them; `tokens` a picture."""

    name: str
    width: int
    heads: int
    layers: int
    ffn: int
    image: int
    patch: int
    tokens: int
    eps: float = 1e-6


TOWERS = (
    Eyes("heads of 18", width=72, heads=4, layers=3, ffn=100, image=56, patch=7, tokens=16),
    Eyes("heads of 72", width=144, heads=2, layers=2, ffn=269, image=56, patch=14, tokens=4),
    Eyes("no pooling", width=48, heads=3, layers=2, ffn=96, image=28, patch=4, tokens=49),
    Eyes("one token", width=32, heads=1, layers=1, ffn=31, image=30, patch=6, tokens=1),
    Eyes("a large eps", width=64, heads=4, layers=2, ffn=80, image=48, patch=8, tokens=9, eps=1e-2),
)


def vision_config(eyes: Eyes) -> dict[str, Any]:
    """The tower's configuration for transformers."""
    return {
        "model_type": "siglip_vision_model", "hidden_size": eyes.width, "num_attention_heads": eyes.heads,
        "num_hidden_layers": eyes.layers, "intermediate_size": eyes.ffn, "image_size": eyes.image,
        "patch_size": eyes.patch, "layer_norm_eps": eyes.eps, "vision_use_head": False,
    }  # fmt: skip


def hf_multimodal(kind: Kind, eyes: Eyes, seed: int = 0) -> Any:
    """A transformers model with sharp random weights, float32."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = Gemma3Config(
        text_config=hf_config(kind).to_dict(),
        vision_config=vision_config(eyes),
        mm_tokens_per_image=eyes.tokens,
        image_token_id=SOFT,
        boi_token_id=BEGIN,
        eoi_token_id=END,
    )
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = Gemma3ForConditionalGeneration(config).eval().float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _randomise(name, parameter)
    return model


def _randomise(name: str, parameter: torch.Tensor) -> None:
    gentle = {
        "layer_norm": (1.0, 0.3),
        "post_layernorm": (1.0, 0.3),
        "q_norm": (1.5, 0.3),
        "k_norm": (1.5, 0.3),
    }
    if name.endswith(".bias"):
        parameter.normal_(0.0, 0.2)
    elif found := [spread for part, spread in gentle.items() if part in name and "_attention" not in name]:
        parameter.normal_(*found[0])
    elif name.endswith("language_model.norm.weight"):
        parameter.normal_(-1.0, 1.0)
    elif "norm" in name:
        parameter.normal_(0.0, 0.3)
    elif "embed_tokens" in name:
        parameter.normal_(0.0, 4.0 / parameter.shape[1] ** 0.5)
    elif "position_embedding" in name:
        parameter.normal_(0.0, 0.7)
    elif "mm_input_projection" in name:
        parameter.normal_(0.0, 4.0 * parameter.shape[0] ** -0.5)
    else:
        sharp = 1.5 if "vision" in name and ("q_proj" in name or "k_proj" in name) else 1.0
        parameter.normal_(0.0, sharp * parameter[0].numel() ** -0.5)


def saved_multimodal(kind: Kind, eyes: Eyes, folder: Path, seed: int = 0) -> Any:
    """The model, written to `folder` as Hugging Face writes it."""
    model = hf_multimodal(kind, eyes, seed)
    model.save_pretrained(folder)
    return model


def hf_features(model: Any, pixels: np.ndarray) -> np.ndarray:
    """Soft tokens [n * tokens, width] of transformers."""
    with torch.no_grad():
        return model.model.get_image_features(torch.from_numpy(pixels)).pooler_output.flatten(0, 1).numpy()


def pictures(eyes: Eyes, count: int, seed: int = 0) -> np.ndarray:
    """Random pixels [count, 3, S, S] in -1..1, with edges and a gradient: no two patches alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1, 1, (count, 3, 8, 8)).astype(np.float32)
    grown = coarse.repeat(-(-eyes.image // 8), 2).repeat(-(-eyes.image // 8), 3)[
        ..., : eyes.image, : eyes.image
    ]
    noise = rng.uniform(-1, 1, grown.shape).astype(np.float32)
    return np.clip(0.7 * grown + 0.3 * noise, -1, 1)


@contextmanager
def googles_windows() -> Iterator[None]:
    """transformers with Google's local mask: its own ends `window` tokens behind a query, and nowhere ahead.

    The two differ where a picture is longer than the window, as at no real size.
    """

    def overlay(window: int) -> Any:
        return lambda batch, head, query, key: (query - key).abs() < window

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.models.gemma3.modeling_gemma3.sliding_window_overlay", overlay)
        yield
