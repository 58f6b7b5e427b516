"""config.json -> Config, and back (transformers, configuration_gemma3.py).

The official 4B, 12B and 27B files leave out whatever equals transformers' defaults, so the defaults here are
those of Gemma3TextConfig and SiglipVisionConfig, not those of any size. Old field names and those of
transformers 5 (`rope_parameters`) are both read. No name in the file ever selects code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..config import PATTERN, SIZES, Config, Rope, VisionConfig
from ..errors import ModelFileError, UnsupportedModelError
from . import fields
from .fields import Fields, shown

ACTIVATION = "gelu_pytorch_tanh"
LOCAL, GLOBAL = "sliding_attention", "full_attention"


def config_from_json(values: Mapping[str, object], path: str | Path) -> Config:
    """The Config in a parsed config.json, text only (`gemma3_text`) or multimodal (`gemma3`).

    ModelFileError: a field is missing, mistyped or out of range. UnsupportedModelError: not a Gemma 3, or one
    with a part that Gemmary does not run.
    """
    top = Fields(values, Path(path))
    kind = values.get("model_type")
    if kind == "gemma3_text":
        return _text(top, None)
    if kind != "gemma3":
        raise UnsupportedModelError(
            f"{path}: model_type is {shown(kind)}; Gemmary runs gemma3 and gemma3_text only"
        )
    text = top.section("text_config")
    if text is None:
        raise ModelFileError(path, "text_config is missing")
    _refuse_quantized(top)
    return _text(text, _vision(top))


def _text(text: Fields, vision: VisionConfig | None) -> Config:
    _refuse_variants(text)
    layers = text.whole("num_hidden_layers", fields.LAYERS, 26)
    local, everywhere = _ropes(text)
    values = {
        "vocab": text.whole("vocab_size", fields.VOCAB, 262_208),
        "width": text.whole("hidden_size", fields.WIDTH, 2304),
        "layers": layers,
        "heads": text.whole("num_attention_heads", fields.HEADS, 8),
        "kv_heads": text.whole("num_key_value_heads", fields.HEADS, 4),
        "head_dim": text.whole("head_dim", fields.HEAD_DIM, 256),
        "ffn": text.whole("intermediate_size", fields.FFN, 9216),
        "window": text.whole("sliding_window", fields.POSITIONS, 4096),
        "context": text.whole("max_position_embeddings", fields.POSITIONS, 131_072),
    }
    scalar = text.number("query_pre_attn_scalar", 1e-6, 1e6, 256)
    eps = text.number("rms_norm_eps", *fields.EPS, default=1e-6)
    return build_config(
        text.path, values, scalar, eps, (local, everywhere), _global_layers(text, layers), vision
    )


def build_config(
    path: Path,
    sizes: Mapping[str, int],
    query_scalar: float,
    norm_eps: float,
    ropes: tuple[Rope, Rope],
    global_layers: tuple[int, ...],
    vision: VisionConfig | None = None,
) -> Config:
    """The Config of checked values, named after the known size with the same shape ("custom" if none)."""
    try:
        config = Config(
            name="custom", **sizes, query_scalar=query_scalar, norm_eps=norm_eps, rope_local=ropes[0],
            rope_global=ropes[1], global_layers=global_layers, vision=vision,
        )  # fmt: skip
    except ValueError as error:
        raise ModelFileError(path, str(error)) from None
    return replace(
        config, name=next((n for n, size in SIZES.items() if _shape(size) == _shape(config)), "custom")
    )


def _shape(config: Config) -> tuple[int, ...]:
    return config.width, config.layers, config.heads, config.kv_heads, config.head_dim, config.ffn


def _refuse_quantized(section: Fields) -> None:
    if section.is_set("quantization_config"):
        raise UnsupportedModelError(
            f"{section.path}: quantization_config: weights that were quantized like this are not read; "
            "take the original bf16 files, or a GGUF file"
        )


def _refuse_variants(text: Fields) -> None:
    """Models of the same model_type that compute something else."""
    _refuse_quantized(text)
    activation = text.text("hidden_activation", ACTIVATION)
    if activation != ACTIVATION:
        raise UnsupportedModelError(
            f"{text.path}: hidden_activation is {shown(activation)}; Gemma 3 has {ACTIVATION}"
        )
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if text.values.get(key) is not None:
            raise UnsupportedModelError(f"{text.path}: {key} is set; Gemma 3 has no soft caps (Gemma 2 has)")
    for key in ("use_bidirectional_attention", "attention_bias"):
        if text.is_set(key):
            raise UnsupportedModelError(
                f"{text.path}: {key} is set; that is not Gemma 3 (EmbeddingGemma perhaps)"
            )


def _global_layers(text: Fields, layers: int) -> tuple[int, ...]:
    types = text.values.get("layer_types")
    if types is None:
        old = "sliding_window_pattern"
        key = old if text.values.get(old) is not None else f"_{old}"
        pattern = PATTERN if text.values.get(key) is None else text.whole(key, fields.LAYERS)
        return tuple(range(pattern - 1, layers, pattern))
    if (
        not isinstance(types, list)
        or len(types) != layers
        or any(kind not in (LOCAL, GLOBAL) for kind in types)
    ):
        raise text.fault("layer_types", f"a list of {layers} times {LOCAL!r} or {GLOBAL!r}")
    return tuple(index for index, kind in enumerate(types) if kind == GLOBAL)


def _ropes(text: Fields) -> tuple[Rope, Rope]:
    """The rotary embeddings of local and of global layers. `rope_scaling` speaks of the global ones only."""
    theta = text.number("rope_theta", 1, fields.THETA, 1e6)
    local_theta = text.number("rope_local_base_freq", 1, fields.THETA, 1e4)
    factor = _factor(text.section("rope_scaling"))
    both = text.section("rope_parameters")
    local = both.section(LOCAL) if both else None
    everywhere = both.section(GLOBAL) if both else None
    if both and not (local or everywhere):
        raise text.fault("rope_parameters", f"given for {LOCAL} and {GLOBAL} apart")
    if everywhere:
        theta = everywhere.number("rope_theta", 1, fields.THETA, theta)
        factor = factor if text.is_set("rope_scaling") else _factor(everywhere)
    if local:
        local_theta = local.number("rope_theta", 1, fields.THETA, local_theta)
    return Rope(local_theta, _factor(local)), Rope(theta, factor)


def _factor(scaling: Fields | None) -> float:
    """What positions are divided by: 1 unless the scaling is linear."""
    if scaling is None:
        return 1.0
    kind = scaling.values.get("rope_type", scaling.values.get("type", "default"))
    if kind == "default":
        return 1.0
    if kind != "linear":
        raise UnsupportedModelError(
            f"{scaling.path}: rope scaling is {shown(kind)}; Gemma 3 has linear scaling only"
        )
    return scaling.number("factor", 1.0, fields.FACTOR)


def _vision(top: Fields) -> VisionConfig | None:
    vision = top.section("vision_config")
    if vision is None:
        return None
    sizes = {
        "width": vision.whole("hidden_size", fields.WIDTH, 768),
        "layers": vision.whole("num_hidden_layers", fields.LAYERS, 12),
        "heads": vision.whole("num_attention_heads", fields.HEADS, 12),
        "ffn": vision.whole("intermediate_size", fields.FFN, 3072),
        "image": vision.whole("image_size", fields.PIXELS, 224),
        "patch": vision.whole("patch_size", fields.PATCH, 16),
        "tokens": top.whole("mm_tokens_per_image", fields.SOFT_TOKENS, 256),
    }
    activation = vision.text("hidden_act", ACTIVATION)
    if activation != ACTIVATION:
        raise UnsupportedModelError(
            f"{top.path}: vision_config.hidden_act is {shown(activation)}; Gemma 3 has {ACTIVATION}"
        )
    return build_vision(top.path, sizes, vision.number("layer_norm_eps", *fields.EPS, default=1e-6))


def build_vision(path: Path, sizes: Mapping[str, int], norm_eps: float) -> VisionConfig:
    """The VisionConfig of checked values; ModelFileError when they do not fit together."""
    try:
        return VisionConfig(**sizes, norm_eps=norm_eps)
    except ValueError as error:
        raise ModelFileError(path, str(error)) from None


def config_to_json(config: Config, dtype: str) -> dict[str, object]:
    """The text-only config.json of a decoder, for transformers 4.50 and newer. `dtype` as in "bfloat16"."""
    types = [GLOBAL if config.is_global(layer) else LOCAL for layer in range(config.layers)]
    local, everywhere = _rope_json(config.rope_local), _rope_json(config.rope_global)
    scalar = config.query_scalar
    return {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "torch_dtype": dtype,
        "vocab_size": config.vocab, "hidden_size": config.width, "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim, "intermediate_size": config.ffn, "hidden_activation": ACTIVATION,
        "sliding_window": config.window, "layer_types": types, "max_position_embeddings": config.context,
        "query_pre_attn_scalar": int(scalar) if scalar == int(scalar) else scalar,
        "rms_norm_eps": config.norm_eps, "rope_theta": config.rope_global.theta,
        "rope_local_base_freq": config.rope_local.theta,
        "rope_scaling": everywhere if config.rope_global.factor != 1 else None,
        "rope_parameters": {LOCAL: local, GLOBAL: everywhere},
        "tie_word_embeddings": True, "attention_bias": False, "attention_dropout": 0.0,
        "initializer_range": 0.02, "pad_token_id": 0, "eos_token_id": [1, 106], "bos_token_id": 2,
    }  # fmt: skip


def multimodal_to_json(config: Config, dtype: str) -> dict[str, object]:
    """The config.json of a model with a vision tower, as Google writes it. `dtype` as in "bfloat16"."""
    vision = config.vision
    if vision is None:
        raise ValueError("the config has no vision tower")
    text = config_to_json(config, dtype)
    ids = {key: text.pop(key) for key in ("pad_token_id", "eos_token_id", "bos_token_id")}
    return {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": dtype,
        "boi_token_index": 255_999, "eoi_token_index": 256_000, "image_token_index": 262_144,
        "mm_tokens_per_image": vision.tokens, "initializer_range": 0.02, **ids,
        "text_config": text,
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": vision.width,
            "num_hidden_layers": vision.layers, "num_attention_heads": vision.heads,
            "intermediate_size": vision.ffn, "image_size": vision.image, "patch_size": vision.patch,
            "layer_norm_eps": vision.norm_eps, "hidden_act": ACTIVATION, "vision_use_head": False,
        },
    }  # fmt: skip


def _rope_json(rope: Rope) -> dict[str, object]:
    if rope.factor == 1:
        return {"rope_type": "default", "rope_theta": rope.theta}
    return {"rope_type": "linear", "factor": rope.factor, "rope_theta": rope.theta}
