"""Packing loses nothing, mixes nothing, and trains every token on the next one of its own document."""

from __future__ import annotations

import itertools
import random

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


# ---- pictures

SHOWN = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=20)


def showing(number: int, before: int, pictures: int) -> Document:
    """Text, then pictures of two soft tokens with a mark behind each; all ids tell whose they are."""
    ids, shown = [100 * number + i for i in range(before)], [-1] * before
    for picture in range(pictures):
        ids += [100 * number + 50 + picture] * 2 + [9]
        shown += [10 * number + picture] * 2 + [-1]
    return Document(ids, [float(picture < 0) for picture in shown], shown)


@settings(max_examples=40, deadline=None)
@given(SHOWN, st.randoms())
def test_every_picture_is_a_block_where_its_document_has_it(
    texts: list[tuple[int, int]], dice: random.Random
) -> None:
    documents = [showing(number, *sizes) for number, sizes in enumerate(texts)]
    rows = pack_rows(documents, ROW)
    order = list(range(len(rows)))
    dice.shuffle(order)
    part = rows.take(np.array(order, np.int32))
    step, targets, _ = part.step()
    assert sorted(part.shown) == sorted({p for d in documents for p in d.pictures or () if p >= 0})
    for block, picture in enumerate(part.shown):
        columns = np.flatnonzero(step.block == block)
        assert columns.tolist() == [columns[0], columns[0] + 1]
        assert columns[0] // ROW == columns[1] // ROW
        assert (part.ids.ravel()[columns] == 100 * (picture // 10) + 50 + picture % 10).all()
        assert (step.ids[columns] == 0).all()  # ids of soft tokens may lie outside of the table
    assert step.block.max() == len(part.shown) - 1
    assert not {50, 51, 52, 53} & {target % 100 for target in targets if target != 9}


def test_one_picture_shown_by_neighbours_is_two_blocks() -> None:
    pair = Document([5, 5, 6], [0, 0, 1], [3, 3, -1])
    rows = pack_rows([Document([6, 5, 5], [1, 0, 0], [-1, 3, 3]), pair], 3)
    assert rows.shown.tolist() == [3, 3]
    assert sorted(rows.step()[0].block.tolist()) == [-1, -1, 0, 0, 1, 1]


def test_which_pictures_are_shown_is_part_of_the_data() -> None:
    one, other = (pack_rows([Document([1, 5, 6], [1, 0, 1], [-1, n, -1])], ROW) for n in (0, 1))
    assert one.digest != other.digest


def test_documents_with_pictures_are_never_cut_and_soft_tokens_never_predicted() -> None:
    with pytest.raises(ValueError, match="has 20 tokens and must not be cut"):
        pack_rows([Document([1] * 40, [1.0] * 40), showing(1, 17, 1)], ROW)
    with pytest.raises(ValueError, match="nobody can predict a picture"):
        Document([1, 2], [1.0, 1.0], [-1, 0])
    with pytest.raises(ValueError, match="as many numbers of pictures"):
        Document([1, 2], [1.0, 1.0], [0])
