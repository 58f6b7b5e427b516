"""The debugger finds a bug where it was planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemmary.model.text import attention_of
from gemmary.weights import assemble
from gemmary.weights.checkpoint import Checkpoint

from .debugger import first_divergence
from .decoding import ENGINES
from .sharp import KINDS, saved, text_ids

IDS = text_ids(80)
BENT = {  # a norm whose gain is wrong, and the operation that shows it first
    "attn_norm": "layer 3: q",
    "k_norm": "layer 3: k rotated",
    "attn_post_norm": "layer 3: after attention",
    "ffn_norm": "layer 3: gate",
    "ffn_post_norm": "layer 3: after the layer",
}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("healthy")
    return saved(KINDS[2], folder), folder


@pytest.mark.parametrize("engine", ENGINES)
def test_a_healthy_model_agrees_everywhere(case: tuple[Any, Path], engine: str) -> None:
    assert first_divergence(case[0], ENGINES[engine](case[1]), IDS).startswith("they agree everywhere")


@pytest.mark.parametrize("norm", BENT)
def test_a_wrong_norm(case: tuple[Any, Path], norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Checkpoint.gain

    def wrong(checkpoint: Checkpoint, name: str) -> np.ndarray:
        return right(checkpoint, name) - np.float32(name == f"layers.3.{norm}")

    monkeypatch.setattr(Checkpoint, "gain", wrong)
    assert f"part at {BENT[norm]}:" in first_divergence(case[0], ENGINES["cpu"](case[1]), IDS)


def test_a_wrong_window(case: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(config: Any, layer: int) -> Any:
        right = attention_of(config, layer)
        return replace(right, window=config.window + 1) if layer == 3 else right

    monkeypatch.setattr(assemble, "attention_of", wrong)
    assert "part at layer 3: attention:" in first_divergence(case[0], ENGINES["cpu"](case[1]), IDS)
