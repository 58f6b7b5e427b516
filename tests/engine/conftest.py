"""Small models for the tests of the engine, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gemmary
from gemmary.formats import FORMATS
from gemmary.inputs.sentencepiece_model import write_model
from gemmary.inputs.vocabulary import Vocabulary
from tests.parity.ggufs import quantized_copy, vocabulary
from tests.parity.sharp import VOCAB, Kind, saved

# Seven layers have one global layer; the window is passed by every text here that is longer than 48 tokens.
SMALL = Kind(
    "engine", layers=7, heads=2, kv_heads=1, head_dim=32, window=48, query_scalar=32, factor=1.0, width=64,
    ffn=96,
)  # fmt: skip
# Large enough that 4,000 tokens take seconds.
LARGE = Kind(
    "slow", layers=6, heads=4, kv_heads=2, head_dim=64, window=512, query_scalar=64, factor=1.0, width=192,
    ffn=768,
)  # fmt: skip


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder in float32 with a tokenizer, and the transformers model that wrote it."""
    folder = tmp_path_factory.mktemp("engine")
    reference = saved(SMALL, folder)
    pieces = vocabulary(VOCAB)
    model = write_model(Vocabulary("test", pieces.tokens, pieces.types, pieces.scores))
    (folder / "tokenizer.model").write_bytes(model)
    return folder, reference


@pytest.fixture(scope="session")
def folder(built: tuple[Path, Any]) -> Path:
    return built[0]


@pytest.fixture(scope="session")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as a GGUF file of 8 bits."""
    path = tmp_path_factory.mktemp("packed") / "model.gguf"
    quantized_copy(folder, path, FORMATS["Q8_0"])
    return path


@pytest.fixture(scope="session")
def model(packed: Path) -> Iterator[gemmary.Model]:
    """One model for all tests that leave it as it was."""
    with gemmary.load(packed, context=1024, threads=1) as loaded:
        yield loaded


@pytest.fixture
def fresh(packed: Path) -> Iterator[gemmary.Model]:
    """A model of one's own."""
    with gemmary.load(packed, context=1024, threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gemmary.Model]:
    """A model whose prefill of 4,000 tokens takes seconds."""
    folder = tmp_path_factory.mktemp("slow")
    saved(LARGE, folder)
    quantized_copy(folder, folder / "model.gguf", FORMATS["Q8_0"])
    with gemmary.load(folder / "model.gguf", threads=1) as loaded:
        yield loaded
