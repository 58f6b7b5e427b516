"""What was planted is found; what is different stays."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmary.train.data.duplicates import exact_duplicates, near_duplicates
from tests.train.data.toyfiles import prose


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30))
def test_exact_against_a_search(pairs: list[tuple[int, int]]) -> None:
    digests = np.array(pairs, np.uint64).reshape(-1, 2)
    expected = [n for n, pair in enumerate(pairs) if pair in pairs[:n]]
    assert exact_duplicates(digests).tolist() == expected


def changed(text: str, dice: random.Random, share: float) -> str:
    """Some words replaced, other case and punctuation."""
    words = [prose(dice, 1) if dice.random() < share else word for word in text.upper().split()]
    return ", ".join(words)


def test_planted_near_duplicates_are_found(tmp_path: Path) -> None:
    """One word in 100 changed leaves 9 shingles in 10; of such pairs, 14 bands of 8 find more than 99 %."""
    pytest.importorskip("datatrove", reason="needs the extra `train`")
    dice = random.Random(3)
    texts = [prose(dice, 200) for _ in range(40)]
    planted = [changed(text, dice, 0.01) for text in texts[:20]]
    distant = [changed(text, dice, 0.5) for text in texts[20:]]
    found = near_duplicates([*texts, *planted, *distant, "too short", "too short"], tmp_path).tolist()
    assert set(found) <= set(range(40, 60))
    assert len(found) >= 19


def test_the_first_of_a_chain_is_kept_and_nothing_is_fine(tmp_path: Path) -> None:
    pytest.importorskip("datatrove", reason="needs the extra `train`")
    text = prose(random.Random(1), 100)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert near_duplicates([prose(random.Random(2), 100), text, text, text], tmp_path / "a").tolist() == [
        2,
        3,
    ]
    assert near_duplicates([], tmp_path / "b").tolist() == []
