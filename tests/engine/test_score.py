"""Logits and scores against log_softmax of transformers' logits, and of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gemmary
from gemmary.errors import ContextFullError, PromptError
from tests.parity.sharp import distance, text_ids

from .pool import settled


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.log_softmax(torch.tensor(logits, dtype=torch.float64), -1).numpy()


@pytest.fixture(scope="module")
def exact(folder: Path) -> gemmary.Model:
    return gemmary.load(folder, dtype="float32", context=1024, threads=1)


def test_logits_and_scores_equal_transformers(built: tuple[Path, Any], exact: gemmary.Model) -> None:
    """Past the window and over several chunks."""
    ids = text_ids(330, seed=12)
    with torch.no_grad():
        theirs = built[1](torch.tensor([ids])).logits[0].numpy()
    assert distance(exact.logits(ids), theirs) < 1e-4
    scored = exact.score(ids[:300], ids[300:])
    expected = log_softmax(theirs)[np.arange(299, 329), ids[300:]]
    np.testing.assert_allclose(scored.logprobs, expected, atol=2e-3)
    assert scored.ids == tuple(ids[300:])
    assert scored.total == pytest.approx(sum(scored.logprobs))


def test_score_says_what_greedy_would_say(model: gemmary.Model) -> None:
    ids = text_ids(60, seed=13)
    best = [int(i) for i in model.logits(ids, rows=[-1]).argmax(-1)]
    for _ in range(3):
        best.append(int(model.logits([*ids, *best], rows=[-1]).argmax()))
    assert model.score(ids, best).greedy
    for place in range(4):
        other = [*best[:place], (best[place] + 1) % 512, *best[place + 1 :]]
        assert not model.score(ids, other).greedy


def test_score_is_log_softmax_of_logits(model: gemmary.Model) -> None:
    ids, more = text_ids(50, seed=14), text_ids(70, seed=15)
    logits = model.logits([*ids, *more], rows=range(49, 119))
    expected = log_softmax(logits)[np.arange(70), more]
    np.testing.assert_allclose(model.score(ids, more).logprobs, expected, atol=1e-5)


def test_text_and_ids_are_scored_alike(model: gemmary.Model) -> None:
    """A text continuation is tokenised by itself and appended."""
    bos, encode = model.tokenizer.bos, model.tokenizer.encode
    assert model.score("abc", " def") == model.score([bos, *encode("abc")], encode(" def"))
    assert model.score("", "a").ids == tuple(encode("a"))


def test_rows_come_in_the_order_asked_for(model: gemmary.Model) -> None:
    ids = text_ids(300, seed=16)
    whole = model.logits(ids)
    assert (whole.shape, whole.dtype) == ((300, 512), np.float32)
    rows = [299, 0, -1, 17, 17, -300, 255, 256]
    np.testing.assert_array_equal(model.logits(ids, rows=rows), whole[rows])
    np.testing.assert_array_equal(model.logits(ids, rows=np.array(rows)), whole[rows])  # type: ignore[arg-type]
    assert model.logits(ids, rows=[]).shape == (0, 512)
    assert settled(model)[1] == 0


@pytest.mark.parametrize("rows", [[300], [-301], [True], [1.0], ["0"], [None], [2**70], 5, "0", b"0", {0: 1}])
def test_rows_that_are_none(model: gemmary.Model, rows: Any) -> None:
    with pytest.raises(PromptError, match="row"):
        model.logits(text_ids(300, seed=16), rows=rows)


@pytest.mark.parametrize(
    "more", [[], "", None, 5, b"a", [512], [-1], [1.0], [True], "\ud800", {1: 2}], ids=repr
)
def test_continuations_that_are_none(model: gemmary.Model, more: Any) -> None:
    with pytest.raises(PromptError):
        model.score("abc", more)


def test_texts_beyond_the_context(model: gemmary.Model) -> None:
    assert model.context == 1024
    with pytest.raises(ContextFullError, match=r"1,024.*shorten"):
        model.logits(text_ids(1025), rows=[0])
    with pytest.raises(ContextFullError):
        model.score(text_ids(1000), text_ids(25))
    assert len(model.score(text_ids(1000), text_ids(24)).logprobs) == 24


def test_scoring_disturbs_no_stream(model: gemmary.Model) -> None:
    stream = model.generate(text_ids(70, seed=2), stream=True, seed=1, max_tokens=12)
    ids = next(stream).ids
    for piece in stream:
        model.score(text_ids(100, seed=3), [5, 6])
        ids += piece.ids
    assert ids == model.generate(text_ids(70, seed=2), seed=1, max_tokens=12).ids
