"""Folders that we write, against what vLLM's loader takes (vllm_gemma3.json names file and commit)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
from transformers import AutoConfig

from gemmary.weights.save import write_folder

from .seeds import TINY, random_tensors
from .towers import seeing_folder

THEIRS = json.loads(Path(__file__).with_name("vllm_gemma3.json").read_text(encoding="utf-8"))
Shape = tuple[int, ...]
Wanted = dict[tuple[str, str], Shape]  # (parameter, shard, or "" for the whole) -> shape


def size(text: str, fields: Mapping[str, int]) -> int:
    """`num_attention_heads * head_dim` -> a number."""
    return math.prod(fields[word] if word in fields else int(word) for word in text.split(" * "))


def wanted(half: Mapping[str, Any], fields: Mapping[str, int], prefix: str = "") -> Wanted:
    """Every shard that has to come for the parameters of one half of a model."""
    found: Wanted = {}
    layers = [
        (name.format(layer), shards)
        for layer in range(fields["num_hidden_layers"])
        for name, shards in half["layer"].items()
    ]
    for name, shards in [*half["parameters"].items(), *layers]:
        for shard, shape in shards.items():
            found[prefix + name, shard] = tuple(size(text, fields) for text in shape)
    return found


def text_parameters(config: Mapping[str, Any], prefix: str = "") -> Wanted:
    return wanted(THEIRS["text"], config, prefix)


def multimodal_parameters(config: Mapping[str, Any]) -> Wanted:
    text, vision = config["text_config"], config["vision_config"]
    grid = vision["image_size"] // vision["patch_size"]
    fields = vision | {"grid": grid, "text_hidden_size": text["hidden_size"]}
    prefix = THEIRS["multimodal"]["text_prefix"]
    return text_parameters(text, prefix) | wanted(THEIRS["vision"], fields)


def loaded(shapes: Mapping[str, Shape], parameters: Wanted, prefixes: Mapping[str, str]) -> Wanted:
    """What each tensor of a file is loaded as; KeyError for a name that vLLM has no place for."""
    stacks = {(name, shard): name for name, shard in parameters if shard}
    found: Wanted = {}
    for name, shape in shapes.items():
        old = next((old for old in prefixes if name.startswith(old)), "")
        name = prefixes.get(old, "") + name.removeprefix(old)
        place = next(
            (
                (whole, shard)
                for whole, shard in stacks
                if shard in name and name.replace(shard, whole.split(".")[-2]) == whole
            ),
            (name, ""),
        )
        if place not in parameters:
            raise KeyError(name)
        found[place] = shape
    return found


def written(folder: Path) -> tuple[dict[str, Any], dict[str, Shape]]:
    """config.json, and the shape of every tensor."""
    with safetensors.safe_open(folder / "model.safetensors", "np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return json.loads((folder / "config.json").read_text(encoding="utf-8")), shapes


def text_folder(path: Path) -> Path:
    write_folder(path, TINY, random_tensors(TINY))
    return path


def check_text_config(config: Mapping[str, Any]) -> None:
    assert [field for field in THEIRS["text"]["config"] if field not in config] == []
    assert {field: config[field] for field in THEIRS["text"]["fixed"]} == THEIRS["text"]["fixed"]


def test_every_tensor_of_a_text_folder_has_its_place_and_none_is_missing(tmp_path: Path) -> None:
    config, shapes = written(text_folder(tmp_path))
    parameters = text_parameters(config)
    assert loaded(shapes, parameters, {}) == parameters


def test_every_tensor_of_a_multimodal_folder_has_its_place_and_none_is_missing(tmp_path: Path) -> None:
    config, shapes = written(seeing_folder(tmp_path))
    parameters = multimodal_parameters(config)
    assert loaded(shapes, parameters, THEIRS["multimodal"]["prefixes"]) == parameters


def test_a_name_that_vllm_does_not_know_is_seen(tmp_path: Path) -> None:
    config, shapes = written(text_folder(tmp_path))
    parameters = text_parameters(config)
    with pytest.raises(KeyError, match="attn_q"):
        loaded({**shapes, "blk.0.attn_q.weight": (64, 64)}, parameters, {})
    del shapes["model.layers.1.self_attn.k_proj.weight"]
    assert loaded(shapes, parameters, {}) != parameters


def test_the_config_of_a_text_folder_has_the_fields(tmp_path: Path) -> None:
    config, _ = written(text_folder(tmp_path))
    assert config["architectures"] == [THEIRS["text"]["architecture"]]
    check_text_config(config)


def test_the_config_of_a_multimodal_folder_has_the_fields(tmp_path: Path) -> None:
    config, _ = written(seeing_folder(tmp_path))
    theirs, vision = THEIRS["multimodal"], config["vision_config"]
    assert config["architectures"] == [theirs["architecture"]]
    assert [field for field in theirs["config"] if field not in config] == []
    check_text_config(config["text_config"])
    assert [field for field in THEIRS["vision"]["config"] if field not in vision] == []
    assert {field: vision[field] for field in THEIRS["vision"]["fixed"]} == THEIRS["vision"]["fixed"]


def test_fields_mean_what_we_mean_where_vllm_reads_them(tmp_path: Path) -> None:
    """vLLM sees a config through transformers: windows, frequencies and scale must arrive by layer."""
    config = replace(TINY, layers=3, global_layers=(1,))
    write_folder(tmp_path, config, random_tensors(config))
    read = AutoConfig.from_pretrained(tmp_path)
    assert read.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]
    assert (read.sliding_window, read.query_pre_attn_scalar, read.head_dim) == (8, 32, 32)
    everywhere, local = read.rope_parameters["full_attention"], read.rope_parameters["sliding_attention"]
    assert (everywhere["rope_type"], everywhere["rope_theta"], everywhere["factor"]) == ("linear", 1e6, 8.0)
    assert (local["rope_type"], local["rope_theta"]) == ("default", 1e4)
    assert (read.final_logit_softcapping, read.attn_logit_softcapping) == (None, None)
