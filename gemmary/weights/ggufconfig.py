"""GGUF metadata -> Config, and back (ggml, docs/gguf.md; llama.cpp, convert_hf_to_gguf.py).

GGUF stores neither the query scale nor, mostly, what concerns local layers: llama.cpp has them in its code,
and the same rules are here. Ollama's single-file layout leaves out still more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..config import PATTERN, Config, Rope
from ..errors import UnsupportedModelError
from . import fields
from .fields import Fields, shortest, shown
from .huggingface import build_config

PREFIX = "gemma3."
LAYERS_27B = 62  # llama.cpp knows 27B by its layers, and its query scale is width / heads
OLLAMA_SCALED = (34, 48, 62)  # layers of 4B, 12B, 27B
OLLAMA_SOFTCAP = 30.0  # written by Ollama's converter for 1B, no property of the model


def config_from_gguf(metadata: Mapping[str, object], path: str | Path) -> Config:
    """The Config in the metadata of a GGUF file. `vocab` is the number of tokens.

    ModelFileError: a key is missing, mistyped or out of range. UnsupportedModelError: not Gemma 3, one shard
    of several, or a variant that Gemmary does not run.
    """
    path = Path(path)
    _refuse_others(metadata, path)
    keys = Fields(
        {k.removeprefix(PREFIX): v for k, v in metadata.items() if k.startswith(PREFIX)}, path, PREFIX
    )
    _refuse_softcaps(keys)
    width = keys.whole("embedding_length", fields.WIDTH)
    layers = keys.whole("block_count", fields.LAYERS)
    heads = keys.whole("attention.head_count", fields.HEADS)
    head_dim = keys.whole("attention.key_length", fields.HEAD_DIM, 256)
    if keys.whole("attention.value_length", fields.HEAD_DIM, head_dim) != head_dim:
        raise keys.fault("attention.value_length", f"{head_dim}, as attention.key_length")
    sizes = {
        "vocab": _tokens(metadata, path),
        "width": width,
        "layers": layers,
        "heads": heads,
        "kv_heads": keys.whole("attention.head_count_kv", fields.HEADS, heads),
        "head_dim": head_dim,
        "ffn": keys.whole("feed_forward_length", fields.FFN),
        "window": keys.whole("attention.sliding_window", fields.POSITIONS),
        "context": keys.whole("context_length", fields.POSITIONS),
    }
    scalar = width / heads if layers == LAYERS_27B else float(head_dim)
    eps = shortest(keys.number("attention.layer_norm_rms_epsilon", *fields.EPS, default=1e-6))
    return build_config(path, sizes, scalar, eps, _ropes(keys, layers), _global_layers(keys, layers))


def _refuse_others(metadata: Mapping[str, object], path: Path) -> None:
    keys = Fields(metadata, path)
    kind = keys.text("general.architecture")
    if kind == "clip":
        raise UnsupportedModelError(
            f"{path}: this is the picture half of a model; give the text model, and this file as mmproj"
        )
    if kind != "gemma3":
        raise UnsupportedModelError(f"{path}: the architecture is {shown(kind)}; Gemmary runs gemma3 only")
    if keys.whole("split.count", 65_535, 1, low=0) > 1:
        raise UnsupportedModelError(
            f"{path}: this is one part of a split model; merge the parts first: "
            "llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf"
        )


def _refuse_softcaps(keys: Fields) -> None:
    for key, harmless in (("final_logit_softcapping", (0, OLLAMA_SOFTCAP)), ("attn_logit_softcapping", (0,))):
        cap = keys.number(key, 0, 1e9, 0)
        if cap not in harmless:
            raise UnsupportedModelError(f"{keys.path}: {key} is {cap:g}; Gemma 3 has no soft caps")


def _tokens(metadata: Mapping[str, object], path: Path) -> int:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not 1 <= len(tokens) <= fields.VOCAB:
        raise Fields(metadata, path).fault("tokenizer.ggml.tokens", f"1 to {fields.VOCAB:,} texts")
    return len(tokens)


def _global_layers(keys: Fields, layers: int) -> tuple[int, ...]:
    key = "attention.sliding_window_pattern"
    pattern = keys.values.get(key, PATTERN)
    if isinstance(pattern, np.ndarray):  # of truth values: whether each layer is local
        if pattern.dtype != np.bool_ or len(pattern) != layers:
            raise keys.fault(key, f"{layers} truth values")
        return tuple(int(layer) for layer in np.flatnonzero(~pattern))
    period = keys.whole(key, fields.LAYERS, PATTERN)
    return tuple(range(period - 1, layers, period))


def _ropes(keys: Fields, layers: int) -> tuple[Rope, Rope]:
    ollama_local = keys.number("rope.local.freq_base", 1, fields.THETA, 1e4)
    ollama_global = keys.number("rope.global.freq_base", 1, fields.THETA, 1e6)
    local = keys.number("rope.freq_base_swa", 1, fields.THETA, ollama_local)
    everywhere = keys.number("rope.freq_base", 1, fields.THETA, ollama_global)
    return Rope(shortest(local)), Rope(shortest(everywhere), _factor(keys, layers))


def _factor(keys: Fields, layers: int) -> float:
    """What positions of global layers are divided by."""
    kind = keys.text("rope.scaling.type", "none")
    if kind == "linear":
        return shortest(keys.number("rope.scaling.factor", 1.0, fields.FACTOR))
    if kind != "none":
        raise UnsupportedModelError(
            f"{keys.path}: rope scaling is {shown(kind)}; Gemma 3 has linear scaling only"
        )
    # Ollama's converter leaves the scaling out of multimodal files, and its runner puts it back.
    return 8.0 if "vision.block_count" in keys.values and layers in OLLAMA_SCALED else 1.0


def gguf_metadata(config: Config, path: Path) -> dict[str, object]:
    """The metadata of a text decoder: Python values as save.py writes them (float: float32; int: uint32).

    UnsupportedModelError when the format cannot say what the config says.
    """
    _refuse_unsayable(config, path)
    keys: dict[str, object] = {
        "context_length": config.context,
        "embedding_length": config.width,
        "block_count": config.layers,
        "feed_forward_length": config.ffn,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "attention.sliding_window": config.window,
        "rope.freq_base": config.rope_global.theta,
    }
    if config.rope_global.factor != 1:
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": config.rope_global.factor}
    if config.rope_local.theta != 1e4:
        keys["rope.freq_base_swa"] = config.rope_local.theta
    if (pattern := _pattern(config)) is not None:
        keys["attention.sliding_window_pattern"] = pattern
    return {PREFIX + key: value for key, value in keys.items()}


def _refuse_unsayable(config: Config, path: Path) -> None:
    implied = config.width / config.heads if config.layers == LAYERS_27B else config.head_dim
    if config.query_scalar != implied:
        raise UnsupportedModelError(
            f"{path}: GGUF cannot store a query scale of {config.query_scalar:g}; it implies {implied:g}"
        )
    if config.rope_local.factor != 1:
        raise UnsupportedModelError(f"{path}: GGUF cannot store a rope factor for local layers")


def _pattern(config: Config) -> object:
    """None for the usual pattern, a period for a regular one, else whether each layer is local."""
    chosen = config.global_layers
    for period in (PATTERN, *range(1, config.layers + 2)):
        if chosen == tuple(range(period - 1, config.layers, period)):
            return None if period == PATTERN else period
    return np.array([not config.is_global(layer) for layer in range(config.layers)])
