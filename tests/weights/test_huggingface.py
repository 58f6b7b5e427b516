from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gemmary.config import GEMMA3_4B, GEMMA3_27B, NANO, SIZES, Config, Rope
from gemmary.errors import ModelFileError, UnsupportedModelError
from gemmary.weights.huggingface import config_from_json, config_to_json

from .seeds import TINY

VISION = {
    "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model",
    "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
SCALING = {"factor": 8.0, "rope_type": "linear"}


def multimodal(**text: Any) -> dict[str, Any]:
    """The top level of the official 4B, 12B and 27B files."""
    return {
        "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999,
        "eoi_token_index": 256000, "eos_token_id": [1, 106], "image_token_index": 262144,
        "initializer_range": 0.02, "mm_tokens_per_image": 256, "model_type": "gemma3",
        "torch_dtype": "bfloat16",
        "text_config": {"model_type": "gemma3_text", "rope_scaling": SCALING, "sliding_window": 1024, **text},
        "vision_config": VISION,
    }  # fmt: skip


def text_only(**changes: Any) -> dict[str, Any]:
    """The official 1B file."""
    return {
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "attn_logit_softcapping": None, "bos_token_id": 2, "cache_implementation": "hybrid",
        "eos_token_id": [1, 106], "final_logit_softcapping": None, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "initializer_range": 0.02,
        "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text",
        "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
        "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
        "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 262144, **changes,
    }  # fmt: skip


def smallest() -> dict[str, Any]:
    """The official 270M file: layers spelt out, the pattern's name with an underscore."""
    values = text_only(
        hidden_size=640, intermediate_size=2048, num_hidden_layers=18, _sliding_window_pattern=6,
        use_bidirectional_attention=False,
        layer_types=(["sliding_attention"] * 5 + ["full_attention"]) * 3,
    )  # fmt: skip
    del values["sliding_window_pattern"]
    return values


# The shortest config.json of each published size: whatever they leave out is a default of transformers.
OFFICIAL = {
    "270m": smallest(),
    "1b": text_only(),
    "4b": multimodal(hidden_size=2560, intermediate_size=10240, num_hidden_layers=34),
    "12b": multimodal(
        hidden_size=3840, intermediate_size=15360, num_hidden_layers=48, num_attention_heads=16,
        num_key_value_heads=8,
    ),
    "27b": multimodal(
        hidden_size=5376, intermediate_size=21504, num_hidden_layers=62, num_attention_heads=32,
        num_key_value_heads=16, head_dim=128, query_pre_attn_scalar=168,
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", OFFICIAL)
def test_official_files_give_the_sizes(size: str) -> None:
    assert config_from_json(OFFICIAL[size], "config.json") == SIZES[size]


@pytest.mark.parametrize("size", OFFICIAL)
def test_as_saved_by_transformers_5(size: str) -> None:
    """Every field spelt out, `rope_parameters` for `rope_scaling`."""
    from transformers import Gemma3Config, Gemma3TextConfig

    values = OFFICIAL[size]
    kind = Gemma3Config if values["model_type"] == "gemma3" else Gemma3TextConfig
    saved = json.loads(kind(**json.loads(json.dumps(values))).to_json_string(use_diff=False))
    text = saved.get("text_config", saved)
    assert "rope_scaling" not in text
    assert text["rope_parameters"]["full_attention"]["rope_theta"] == 1e6
    assert config_from_json(saved, "config.json") == SIZES[size]


@pytest.mark.parametrize("config", [*SIZES.values(), TINY], ids=lambda config: config.name)
def test_written_and_read_again(config: Config) -> None:
    text = json.loads(json.dumps(config_to_json(config, "bfloat16")))
    assert config_from_json(text, "config.json") == replace(config, vision=None)


def test_written_for_transformers_old_and_new() -> None:
    from transformers import Gemma3TextConfig

    config = replace(TINY, rope_local=Rope(20_000.0), query_scalar=48, norm_eps=1e-5)
    values = json.loads(json.dumps(config_to_json(config, "float32")))
    read = Gemma3TextConfig(**values)
    assert read.rope_parameters["full_attention"] == {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    assert read.rope_parameters["sliding_attention"] == {"rope_type": "default", "rope_theta": 2e4}
    assert read.layer_types == ["sliding_attention", "full_attention"]
    assert (read.query_pre_attn_scalar, read.rms_norm_eps, read.sliding_window) == (48, 1e-5, 8)
    old = ("rope_scaling", "rope_theta", "rope_local_base_freq")  # what transformers 4 reads
    assert [values[key] for key in old] == [read.rope_parameters["full_attention"], 1e6, 2e4]


def test_key_type_is_read_as_rope_type() -> None:
    values = OFFICIAL["4b"] | {
        "text_config": OFFICIAL["4b"]["text_config"] | {"rope_scaling": {"type": "linear", "factor": 8}}
    }
    assert config_from_json(values, "x") == GEMMA3_4B


@pytest.mark.parametrize("pattern", [1, 2, 4, 26, 30])
def test_other_patterns(pattern: int) -> None:
    config = config_from_json(text_only(sliding_window_pattern=pattern), "x")
    assert config.global_layers == tuple(layer for layer in range(26) if (layer + 1) % pattern == 0)


def test_layer_types_go_before_the_pattern() -> None:
    types = ["full_attention"] * 3 + ["sliding_attention"] * 23
    assert config_from_json(text_only(layer_types=types), "x").global_layers == (0, 1, 2)


def test_a_shape_of_no_known_size_is_custom() -> None:
    assert config_from_json(text_only(num_hidden_layers=25), "x").name == "custom"
    assert config_from_json(config_to_json(NANO, "float32"), "x").name == "nano"
    assert config_from_json(text_only(vocab_size=1000), "x").name == "1b"  # a vocabulary is not a shape


def test_multimodal_without_vision_is_text() -> None:
    values = {key: value for key, value in OFFICIAL["27b"].items() if key != "vision_config"}
    assert config_from_json(values, "x") == replace(GEMMA3_27B, vision=None)


UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "no model_type": (
        {key: v for key, v in text_only().items() if key != "model_type"},
        "model_type is None",
    ),
    "gemma2": (text_only(model_type="gemma2"), "model_type is 'gemma2'; Gemmary runs gemma3"),
    "gemma3n": (text_only(model_type="gemma3n"), "model_type is 'gemma3n'"),
    "a list": (text_only(model_type=["gemma3"]), "model_type is"),
    "final softcap": (text_only(final_logit_softcapping=30.0), "final_logit_softcapping is set"),
    "softcap of zero": (text_only(attn_logit_softcapping=0), "attn_logit_softcapping is set"),
    "EmbeddingGemma": (text_only(use_bidirectional_attention=True), "use_bidirectional_attention is set"),
    "biases": (text_only(attention_bias=True), "attention_bias is set"),
    "gelu": (text_only(hidden_activation="gelu"), "hidden_activation is 'gelu'"),
    "silu": (OFFICIAL["4b"] | {"text_config": {"hidden_activation": "silu"}}, "hidden_activation is 'silu'"),
    "yarn": (text_only(rope_scaling={"rope_type": "yarn", "factor": 8.0}), "rope scaling is 'yarn'"),
    "llama3": (
        text_only(rope_parameters={"full_attention": {"rope_type": "llama3", "factor": 8}}),
        "rope scaling is 'llama3'",
    ),
    "bitsandbytes": (
        OFFICIAL["4b"] | {"quantization_config": {"quant_method": "bitsandbytes"}},
        "quantization_config: weights that were quantized.*take the original",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_other_models_are_unsupported(name: str) -> None:
    values, sentence = UNSUPPORTED[name]
    with pytest.raises(UnsupportedModelError, match=f"^some/config.json: .*{sentence}"):
        config_from_json(values, "some/config.json")


WHOLE = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "intermediate_size", "sliding_window", "max_position_embeddings",
)  # fmt: skip
REAL = ("query_pre_attn_scalar", "rms_norm_eps", "rope_theta", "rope_local_base_freq")
NOT_NUMBERS = (True, "4", None, [4], {}, float("nan"), float("inf"), -1, 0, 10**13, 1 << 63, 10**40)


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
@pytest.mark.parametrize("field", WHOLE + REAL)
def test_numbers_are_checked(field: str, value: object) -> None:
    with pytest.raises(ModelFileError, match=f"some/config.json: {field} is .*but must be a (whole )?number"):
        config_from_json(text_only(**{field: value}), "some/config.json")


@pytest.mark.parametrize("field", WHOLE)
@pytest.mark.parametrize("value", [4.0, 4.5, 1e3])
def test_whole_numbers_are_not_reals(field: str, value: float) -> None:
    with pytest.raises(ModelFileError, match=field):
        config_from_json(text_only(**{field: value}), "config.json")


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no text_config": ({"model_type": "gemma3"}, "text_config is missing"),
    "text_config a list": (
        {"model_type": "gemma3", "text_config": []},
        "text_config is .* a group of fields",
    ),
    "heads that do not share": (text_only(num_attention_heads=4, num_key_value_heads=3), "cannot share"),
    "odd head_dim": (text_only(head_dim=127), "127 is odd"),
    "too few layer types": (text_only(layer_types=["full_attention"]), "a list of 26 times"),
    "unknown layer type": (text_only(layer_types=["chunked_attention"] * 26), "layer_types"),
    "layer types a text": (text_only(layer_types="full_attention"), "layer_types"),
    "layer types of lists": (text_only(layer_types=[[]] * 26), "layer_types"),
    "pattern 0": (text_only(sliding_window_pattern=0), "sliding_window_pattern"),
    "pattern true": (
        smallest() | {"layer_types": None, "_sliding_window_pattern": True},
        "_sliding_window_pattern",
    ),
    "scaling without a factor": (
        text_only(rope_scaling={"rope_type": "linear"}),
        "rope_scaling.factor is missing",
    ),
    "factor 0": (text_only(rope_scaling={"rope_type": "linear", "factor": 0}), "rope_scaling.factor is 0"),
    "factor NaN": (text_only(rope_scaling=SCALING | {"factor": float("nan")}), "rope_scaling.factor is nan"),
    "scaling a number": (text_only(rope_scaling=8), "rope_scaling is 8"),
    "rope_parameters not by kind": (text_only(rope_parameters={"rope_type": "default"}), "rope_parameters"),
    "activation a number": (text_only(hidden_activation=3), "hidden_activation is 3"),
    "vision a number": (OFFICIAL["4b"] | {"vision_config": 3}, "vision_config"),
    "no patch": (
        OFFICIAL["4b"] | {"vision_config": VISION | {"patch_size": 0}},
        "vision_config.patch_size is 0",
    ),
    "patches that do not pool": (OFFICIAL["4b"] | {"mm_tokens_per_image": 255}, "cannot be pooled"),
    "vision heads": (
        OFFICIAL["4b"] | {"vision_config": VISION | {"num_attention_heads": 7}},
        "cannot be shared by 7 heads",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_told(name: str) -> None:
    values, sentence = MALFORMED[name]
    with pytest.raises(ModelFileError, match=sentence):
        config_from_json(values, "some/config.json")
