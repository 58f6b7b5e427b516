"""Packing loses nothing, mixes nothing, and trains every token on the next one of its own document."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmary.train.packing import Document, Rows, pack_rows

ROW = 16
TEXTS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=40), min_size=1, max_size=30)


def document(ids: list[int]) -> Document:
    """Weights that can be traced back to their ids."""
    return Document(ids, [i / 100 for i in ids])


def unpacked(rows: Rows) -> list[tuple[int, ...]]:
    """The documents that lie in the rows."""
    found = []
    for ids, numbers in zip(rows.ids, rows.document, strict=True):
        found += [tuple(ids[numbers == n].tolist()) for n in np.unique(numbers[numbers >= 0])]
    return found


def cut(ids: list[int]) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + ROW]) for i in range(0, len(ids), ROW)]


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_every_token_is_packed_once(texts: list[list[int]]) -> None:
    rows = pack_rows(map(document, texts), ROW)
    assert sorted(unpacked(rows)) == sorted(part for ids in texts for part in cut(ids))
    assert rows.tokens == sum(map(len, texts))
    assert rows.ids.shape == (len(rows), ROW)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_targets_are_the_next_tokens_of_the_same_document(texts: list[list[int]]) -> None:
    step, targets, weights = pack_rows(map(document, texts), ROW).step()
    wanted = {(pair[0], pair[1]) for ids in texts for part in cut(ids) for pair in itertools.pairwise(part)}
    pairs = list(zip(step.ids[step.rows].tolist(), targets.tolist(), strict=True))
    assert set(pairs) == wanted
    assert len(pairs) == sum(len(part) - 1 for ids in texts for part in cut(ids))
    assert np.array_equal(step.seq[step.rows], step.seq[step.rows + 1])
    assert weights.tolist() == pytest.approx([target / 100 for target in targets])


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_a_step_has_a_sequence_a_document_and_positions_from_zero(texts: list[list[int]]) -> None:
    step, _, _ = pack_rows(map(document, texts), ROW).step()
    assert step.starts[0] == 0 and step.starts[-1] == len(step.ids)
    for s, (first, end) in enumerate(zip(step.starts[:-1], step.starts[1:], strict=True)):
        assert (step.seq[first:end] == s).all()
        assert step.pos[first:end].tolist() == list(range(end - first))
        assert first // ROW == (end - 1) // ROW  # within one row


def test_tokens_without_weight_are_not_predicted() -> None:
    step, targets, weights = pack_rows([Document([7, 8, 9, 10], [0, 0, 1, 0.5])], ROW).step()
    assert step.rows.tolist() == [1, 2]
    assert targets.tolist() == [9, 10]
    assert weights.tolist() == [1.0, 0.5]


def test_rows_are_well_filled() -> None:
    dice = np.random.default_rng(0)
    texts = [document([1] * int(n)) for n in dice.integers(1, 12, 500)]
    rows = pack_rows(texts, ROW)
    assert rows.tokens / rows.ids.size > 0.95


def test_bad_documents_and_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="as many weights"):
        Document([1, 2], [1.0])
    with pytest.raises(ValueError, match="nothing to predict"):
        pack_rows([], 1)
