"""A prompt's keys stand for its pixels."""

from __future__ import annotations

import numpy as np
import pytest

from gemmary.inputs.prompt import Prompt


def test_keys_of_bare_pixels() -> None:
    pixels = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    prompt = Prompt([2, 5], pixels)
    assert len(set(prompt.keys)) == 2
    assert prompt == Prompt([2, 5], pixels.copy()) != Prompt([2, 5], pixels[::-1].copy())
    assert Prompt([2, 5]) == Prompt([2, 5], None) != Prompt([2, 6])
    assert Prompt([2], pixels[:1]).keys != Prompt([2], pixels[:1].reshape(1, 3, 2, 8)).keys


def test_as_many_keys_as_pictures() -> None:
    with pytest.raises(ValueError, match="as many keys"):
        Prompt([2], np.zeros((2, 3, 4, 4), np.float32), (b"x",))
    with pytest.raises(ValueError, match="as many keys"):
        Prompt([2], None, (b"x",))
