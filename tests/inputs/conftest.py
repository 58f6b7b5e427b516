"""One tokenizer of each kind for all tests of this room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemmary.inputs.tokenizer import Tokenizer

from . import trained


@pytest.fixture(scope="session")
def model() -> bytes:
    """A small SentencePiece model with Gemma's layout; needs no data."""
    return trained.train(trained.sources(), 1500)


@pytest.fixture(scope="session")
def tokenizer(model: bytes) -> Tokenizer:
    return Tokenizer.from_model(model)


@pytest.fixture(scope="session")
def broad_model() -> bytes:
    """A SentencePiece model of 388 languages."""
    return trained.train([*trained.declarations(2500), *trained.pages(20_000)], 16_000)


@pytest.fixture(scope="session")
def broad(broad_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """The broad vocabulary through each of the three constructors."""
    return {
        "model": Tokenizer.from_model(broad_model),
        "json": Tokenizer.from_json(broad_json(broad_model, tmp_path_factory.mktemp("tokenizer"))),
        "vocabulary": Tokenizer.from_vocabulary(*zip(*trained.rows(broad_model), strict=True)),
    }


@pytest.fixture(scope="session")
def processor(model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """transformers' Gemma3Processor for the small vocabulary: pictures of 56 x 56 pixels, 4 soft tokens."""
    from tokenizers import Tokenizer as Library
    from transformers import Gemma3Processor, PreTrainedTokenizerFast
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    path = broad_json(model, tmp_path_factory.mktemp("processor"))
    names = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    text = PreTrainedTokenizerFast(
        tokenizer_object=Library.from_file(str(path)), bos_token="<bos>", eos_token="<eos>",
        pad_token="<pad>", unk_token="<unk>", extra_special_tokens=names,
    )  # fmt: skip
    half = [0.5, 0.5, 0.5]
    pictures = Gemma3ImageProcessorPil(size={"height": 56, "width": 56}, image_mean=half, image_std=half)
    return Gemma3Processor(pictures, text, image_seq_length=4)


def broad_json(model: bytes, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(trained.as_json(model), ensure_ascii=False), encoding="utf-8")
    return path
