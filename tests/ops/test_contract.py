"""Steps: how texts are packed, and how far each token sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gemmary.ops.contract import GLOBAL, LOCAL, Attention, pack


def test_texts_are_packed_one_after_the_other() -> None:
    step = pack([[7, 8, 9], [5], [6, 6]], past=[10, 0, 64])
    assert step.ids.tolist() == [7, 8, 9, 5, 6, 6]
    assert step.pos.tolist() == [10, 11, 12, 0, 64, 65]
    assert step.seq.tolist() == [0, 0, 0, 1, 2, 2]
    assert step.block.tolist() == [-1] * 6
    assert step.starts.tolist() == [0, 3, 4, 6]
    assert step.past.tolist() == [10, 0, 64]
    assert step.rows.tolist() == [2, 3, 5]  # the last token of each
    arrays = (step.ids, step.pos, step.seq, step.block, step.starts, step.past, step.rows)
    assert {array.dtype for array in arrays} == {np.dtype(np.int32)}


def test_rows_that_want_logits() -> None:
    assert pack([[1, 2, 3]], rows=range(3)).rows.tolist() == [0, 1, 2]
    assert pack([[1, 2, 3]], rows=[]).rows.tolist() == []


def test_tokens_of_a_picture_see_to_its_end() -> None:
    step = pack([[1] * 9, [1] * 4], past=[100, 0])
    block = np.array([-1, 0, 0, 0, -1, 1, 1, -1, -1, 2, 2, 2, -1], np.int32)
    step = replace(step, block=block)
    want = [100, 103, 103, 103, 104, 106, 106, 107, 108, 2, 2, 2, 3]
    assert step.last_seen.tolist() == want


def test_a_window_makes_a_layer_local() -> None:
    assert Attention(window=None, scale=1.0, head_dim=8).kind == GLOBAL
    assert Attention(window=5, scale=1.0, head_dim=8).kind == LOCAL
