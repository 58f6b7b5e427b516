"""KL and perplexity of a converted model, beside the reference path and plain formulas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from gemmary.engine import compare as module
from gemmary.engine.compare import comparable_ids, compare
from gemmary.engine.load import read_tokenizer
from gemmary.errors import MemoryBudgetError, PromptError
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.requantize import convert, quantize
from tests.parity.decoding import reference
from tests.parity.sharp import KINDS, saved, text_ids
from tests.parity.test_llama_cpp import divergence

LENGTH = 2 * module.ROWS + 9  # three parts, past the window


@pytest.fixture(scope="module")
def folder(built: tuple[Path, Any]) -> Path:
    return built[0]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def test_against_plain_formulas(folder: Path, tmp_path: Path) -> None:
    quantize(folder, tmp_path / "q4.gguf", "q4_0", "f16")
    ids = [2, *text_ids(LENGTH)]
    told: list[tuple[int, int]] = []
    found = compare(folder, tmp_path / "q4.gguf", ids, lambda done, total: told.append((done, total)))
    truth = reference(folder).run(ids, (len(ids),))
    # The file's scale is rounded as bf16, the folder's is not; beside one another, both are the folder's.
    after = reference(tmp_path / "q4.gguf", exact_scale=True).run(ids, (len(ids),))
    rows, targets = np.arange(len(ids) - 1), np.array(ids[1:])
    before, kept = (math.exp(-log_softmax(x)[rows, targets].mean()) for x in (truth, after))
    assert found.tokens == len(ids)
    assert found.before == pytest.approx(before, rel=1e-4)
    assert found.after == pytest.approx(kept, rel=0.03)  # a Q4_0 product rounds what it multiplies with
    assert found.divergence == pytest.approx(divergence(truth, after), rel=0.1)
    assert found.agreement == pytest.approx((truth.argmax(-1) == after.argmax(-1)).mean(), abs=0.03)
    assert 0.01 < found.divergence < 2 and 0.3 < found.agreement < 1
    assert told[-1] == (len(ids), len(ids)) and len(told) == 3


def test_the_same_numbers_diverge_nowhere(folder: Path, tmp_path: Path) -> None:
    """Also where GGUF files round sqrt(width) to bf16, and float32 folders do not."""
    saved(KINDS[0], tmp_path / "folder")
    (tmp_path / "folder/tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes())
    convert(tmp_path / "folder", tmp_path / "same.gguf", "f32")
    scales = [open_checkpoint(tmp_path / name).embed_scale for name in ("folder", "same.gguf")]
    assert scales[0] != scales[1]
    found = compare(tmp_path / "folder", tmp_path / "same.gguf", [2, *text_ids(LENGTH)])
    # The converted file runs as models do, with keys and values in halves.
    assert found.after == pytest.approx(found.before, rel=1e-3) and found.agreement == 1
    assert abs(found.divergence) < 1e-5


def test_rows_that_the_file_leaves_out(folder: Path, tmp_path: Path) -> None:
    """A folder's table may have more rows than tokens; the comparison is over tokens."""
    wide = tmp_path / "wide"
    convert(folder, wide, "f32")
    stored = safetensors.torch.load_file(wide / "model.safetensors")
    name = "model.embed_tokens.weight"
    stored[name] = torch.cat([stored[name], 9 * torch.ones(3, stored[name].shape[1])])
    safetensors.torch.save_file(stored, wide / "model.safetensors")
    config = (wide / "config.json").read_text()
    (wide / "config.json").write_text(config.replace('"vocab_size": 512', '"vocab_size": 515'))
    quantize(wide, tmp_path / "a.gguf", "bf16")
    quantize(folder, tmp_path / "b.gguf", "bf16")
    assert open_checkpoint(tmp_path / "a.gguf").config.vocab == 512
    ids = [2, *text_ids(40)]
    assert compare(wide, tmp_path / "a.gguf", ids) == compare(folder, tmp_path / "b.gguf", ids)


def test_ids_of_a_text(folder: Path) -> None:
    tokenizer = read_tokenizer(open_checkpoint(folder))
    text = "some text of ours, again and again. " * 40
    assert comparable_ids(folder, text, 100) == [2, *tokenizer.encode(text)[:100]]
    assert comparable_ids(folder, "some", 100) == [2, *tokenizer.encode("some")]


def test_texts_that_say_nothing(folder: Path) -> None:
    for text in ("", "a"):
        with pytest.raises(PromptError, match="needs 2 tokens or more"):
            comparable_ids(folder, text, 100)
    with pytest.raises(PromptError, match="reads at most 4,096 tokens"):
        comparable_ids(folder, "ab " * 4000, 5000)


def test_a_machine_too_small_is_noticed_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "machine_memory", lambda: 1 << 20)
    with pytest.raises(MemoryBudgetError, match="need more than the"):
        comparable_ids(folder, "some text", 100)
