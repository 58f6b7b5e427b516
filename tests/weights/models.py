"""A folder with weights and a real, small tokenizer, to be converted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from gemmary.config import Config
from gemmary.formats import FORMATS
from gemmary.weights.requantize import convert, quantize
from gemmary.weights.save import write_folder
from gemmary.weights.tensor import Tensor
from tests.inputs import trained

from .seeds import TINY, random_values

# Rows of 256 divide into every block; rows of 96 (down) and 64 (o) into blocks of 32 only.
WIDE = replace(TINY, vocab=1520, width=256)
ODD = replace(WIDE, ffn=100)
TEMPLATE = "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.content }}{% endfor %}"


@cache
def model() -> bytes:
    """A SentencePiece model of 1,500 pieces with Gemma's layout."""
    return trained.train(trained.sources(), 1500)


def tensors(config: Config, format: str = "BF16") -> dict[str, Tensor]:
    """Random tensors, all in one float format, norms as w."""
    return {
        name: Tensor.pack(name, values, FORMATS[format], 1.0 if name.endswith("norm") else 0.0)
        for name, values in random_values(config).items()
    }


def source_folder(
    folder: Path,
    config: Config = WIDE,
    format: str = "BF16",
    files: Sequence[str] = ("tokenizer.model", "tokenizer.json", "chat_template.jinja"),
) -> Path:
    """A Hugging Face folder with these files of the tokenizer."""
    write_folder(folder, config, tensors(config, format))
    contents = {
        "tokenizer.model": model(),
        "tokenizer.json": json.dumps(trained.as_json(model())).encode(),
        "chat_template.jinja": TEMPLATE.encode(),
        "chat_template.json": json.dumps({"chat_template": TEMPLATE}).encode(),
        "tokenizer_config.json": json.dumps({"chat_template": TEMPLATE, "model_max_length": 10**30}).encode(),
    }
    for name in files:
        (folder / name).write_bytes(contents[name])
    return folder


def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder, called gemma-toy."""
    return source_folder(tmp_path_factory.mktemp("source") / "gemma-toy")


def writers(folder: Path, out: Path) -> dict[str, Callable[..., None]]:
    """Ways to write, by the name of what they write."""
    return {
        "new.gguf": lambda **how: quantize(folder, out / "new.gguf", "q4_0", **how),
        "new": lambda **how: convert(folder, out / "new", "f32", **how),
    }
