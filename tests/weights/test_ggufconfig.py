from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemmary.config import GEMMA3_1B, GEMMA3_4B, GEMMA3_27B, SIZES, Config, Rope
from gemmary.errors import ModelFileError, UnsupportedModelError
from gemmary.weights.ggufconfig import config_from_gguf, gguf_metadata

from .seeds import TINY

TEXT = {name: replace(config, vision=None) for name, config in SIZES.items()}


def official(size: str) -> dict[str, Any]:
    """What convert_hf_to_gguf.py writes, float32 numbers as they come out of a file."""
    config = SIZES[size]
    keys = {
        "context_length": config.context, "embedding_length": config.width, "block_count": config.layers,
        "feed_forward_length": config.ffn, "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads, "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim, "attention.sliding_window": config.window,
        "attention.layer_norm_rms_epsilon": float(np.float32(1e-6)), "rope.freq_base": 1e6,
    }  # fmt: skip
    if config.rope_global.factor == 8:
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    tokens = {"tokenizer.ggml.tokens": [b"x"] * config.vocab}
    return {
        "general.architecture": "gemma3",
        **{f"gemma3.{key}": value for key, value in keys.items()},
        **tokens,
    }


def changed(size: str = "1b", **changes: Any) -> dict[str, Any]:
    return official(size) | {f"gemma3.{key.replace('__', '.')}": value for key, value in changes.items()}


@pytest.mark.parametrize("size", ["270m", "1b", "4b", "12b", "27b"])
def test_official_files_give_the_sizes(size: str) -> None:
    assert config_from_gguf(official(size), "x.gguf") == TEXT[size]


def test_27b_has_the_query_scale_of_its_width() -> None:
    assert config_from_gguf(official("27b"), "x").query_scalar == 168
    assert config_from_gguf(changed("27b", block_count=61), "x").query_scalar == 128


@pytest.mark.parametrize("size", ["4b", "12b", "27b"])
def test_ollamas_layout_gets_what_it_leaves_out(size: str) -> None:
    """Ollama's convert_gemma3.go writes neither rope.freq_base, nor scaling, nor the norm's epsilon."""
    keys = official(size) | {"gemma3.vision.block_count": 27, "gemma3.mm.tokens_per_image": 256}
    for key in (
        "rope.freq_base",
        "rope.scaling.type",
        "rope.scaling.factor",
        "attention.layer_norm_rms_epsilon",
    ):
        del keys[f"gemma3.{key}"]
    assert config_from_gguf(keys, "x") == TEXT[size]


def test_ollamas_1b_softcap_is_ignored() -> None:
    keys = changed(
        final_logit_softcapping=30.0, rope__local__freq_base=10000.0, rope__global__freq_base=1000000.0
    )
    del keys["gemma3.rope.freq_base"]
    assert config_from_gguf(keys, "x") == GEMMA3_1B


def test_scaling_that_a_file_leaves_out_is_none() -> None:
    keys = official("4b")
    del keys["gemma3.rope.scaling.type"]
    assert config_from_gguf(keys, "x").rope_global == Rope(1e6, 1.0)


def test_optional_keys() -> None:
    config = config_from_gguf(changed(rope__freq_base_swa=20000.0, attention__sliding_window_pattern=4), "x")
    assert config.rope_local == Rope(20000.0)
    assert config.global_layers == (3, 7, 11, 15, 19, 23)
    truths = np.array([True] * 24 + [False, True])
    assert config_from_gguf(changed(attention__sliding_window_pattern=truths), "x").global_layers == (24,)


ODD = (
    TINY,
    replace(TINY, global_layers=()),
    replace(TINY, global_layers=(0,)),
    replace(TINY, global_layers=(0, 1)),
    replace(TINY, rope_local=Rope(5000.0), norm_eps=1e-5, window=3, kv_heads=2),
)


@pytest.mark.parametrize("config", [*TEXT.values(), *ODD], ids=str)
def test_written_and_read_again(config: Config) -> None:
    keys = gguf_metadata(config, Path("x")) | {"general.architecture": "gemma3"}
    assert config_from_gguf(keys | {"tokenizer.ggml.tokens": [b"x"] * config.vocab}, "x") == config


def test_only_official_keys_are_written_for_official_sizes() -> None:
    for size in ("270m", "1b", "4b", "12b", "27b"):
        keys = {key for key in official(size) if key.startswith("gemma3.")}
        assert gguf_metadata(SIZES[size], Path("x")).keys() == keys


@pytest.mark.parametrize(
    "config", [replace(TINY, query_scalar=31), replace(TINY, rope_local=Rope(1e4, 2.0))], ids=str
)
def test_what_gguf_cannot_say_is_told(config: Config) -> None:
    with pytest.raises(UnsupportedModelError, match="GGUF cannot store"):
        gguf_metadata(config, Path("x"))


UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "llama": (official("1b") | {"general.architecture": "llama"}, "architecture is 'llama'"),
    "gemma3n": (official("1b") | {"general.architecture": "gemma3n"}, "architecture is 'gemma3n'"),
    "mmproj": ({"general.architecture": "clip"}, "picture half of a model; give the text model"),
    "split": (official("1b") | {"split.count": 3, "split.no": 0}, "llama-gguf-split --merge"),
    "softcap": (changed(final_logit_softcapping=25.0), "final_logit_softcapping is 25"),
    "attention softcap": (changed(attn_logit_softcapping=50.0), "attn_logit_softcapping is 50"),
    "yarn": (changed(rope__scaling__type="yarn", rope__scaling__factor=8.0), "rope scaling is 'yarn'"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_other_models_are_unsupported(name: str) -> None:
    values, sentence = UNSUPPORTED[name]
    with pytest.raises(UnsupportedModelError, match=f"^some.gguf: .*{sentence}"):
        config_from_gguf(values, "some.gguf")


WHOLE = (
    "context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.sliding_window",
)  # fmt: skip
REAL = (
    "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.freq_base_swa", "rope.scaling.factor",
    "final_logit_softcapping",
)  # fmt: skip
ARRAYS = (np.array([1, 2]), np.array([], np.float32), np.array([True]), [b"1"])
NOT_NUMBERS = (*ARRAYS, True, "4", float("nan"), float("inf"), -1, -0.5, 1 << 63)


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
@pytest.mark.parametrize("key", WHOLE + REAL)
def test_numbers_are_checked(key: str, value: object) -> None:
    with pytest.raises(ModelFileError, match=f"some.gguf: gemma3.{key} is .*but must be a (whole )?number"):
        config_from_gguf(official("4b") | {f"gemma3.{key}": value}, "some.gguf")


@pytest.mark.parametrize("key", [*WHOLE[:5], WHOLE[-1]])
def test_keys_that_nothing_replaces_must_be_there(key: str) -> None:
    values = official("1b")
    del values[f"gemma3.{key}"]
    with pytest.raises(ModelFileError, match=f"gemma3.{key} is missing"):
        config_from_gguf(values, "some.gguf")


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no architecture": ({}, "general.architecture is missing"),
    "architecture an array": ({"general.architecture": np.array([1, 2])}, "general.architecture"),
    "split.count an array": (official("1b") | {"split.count": np.array([1, 2])}, "split.count"),
    "values of another length": (
        changed(attention__value_length=128),
        "must be 256, as attention.key_length",
    ),
    "heads that do not share": (changed(attention__head_count_kv=3), "cannot share"),
    "no tokens": (official("1b") | {"tokenizer.ggml.tokens": []}, "tokenizer.ggml.tokens"),
    "tokens as numbers": (official("1b") | {"tokenizer.ggml.tokens": np.zeros(4)}, "tokenizer.ggml.tokens"),
    "pattern 0": (changed(attention__sliding_window_pattern=0), "sliding_window_pattern"),
    "pattern too short": (changed(attention__sliding_window_pattern=np.array([True])), "26 truth values"),
    "pattern of numbers": (
        changed(attention__sliding_window_pattern=np.ones(26, np.int32)),
        "26 truth values",
    ),
    "scaling an array": (changed(rope__scaling__type=np.array([1, 2])), "rope.scaling.type"),
    "scaling without a factor": (changed(rope__scaling__type="linear"), "rope.scaling.factor is missing"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_told(name: str) -> None:
    values, sentence = MALFORMED[name]
    with pytest.raises(ModelFileError, match=sentence):
        config_from_gguf(values, "some.gguf")


def test_keys_without_the_prefix_are_not_the_models() -> None:
    assert config_from_gguf(official("1b") | {"block_count": 3, "rope.freq_base": 7.0}, "x") == GEMMA3_1B


def test_sizes_without_vision_are_the_same_names() -> None:
    assert config_from_gguf(official("4b"), "x").name == GEMMA3_4B.name
    assert config_from_gguf(official("27b"), "x").name == GEMMA3_27B.name
