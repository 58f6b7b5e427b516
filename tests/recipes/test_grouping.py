"""Heads that are pooled: what a group computes, and that training goes on from there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gemmary.errors import GemmaryError
from gemmary.model.modules import TextModule
from gemmary.ops.contract import pack
from gemmary.ops.reference import Reference
from gemmary.recipes.grouping import HOW, Settings, book_texts, grouped, made_up_texts, study, verdict, write
from gemmary.train.initial import initialise
from tests.train import toys

MANY = replace(toys.TOY, heads=4, kv_heads=4)


def weights() -> dict[str, np.ndarray]:
    model = TextModule(MANY, Reference())
    initialise(model, 3)
    return model.arrays()


def logits(arrays: dict[str, np.ndarray], kv_heads: int) -> torch.Tensor:
    model = TextModule(replace(MANY, kv_heads=kv_heads), Reference())
    model.load_arrays(arrays)
    with torch.no_grad():
        return model(pack([list(range(1, 30))], rows=range(29)))


@pytest.mark.parametrize("how", ["mean", "first"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_heads_that_are_alike_give_the_same_function(kv_heads: int, how: str) -> None:
    arrays = weights()
    for name in arrays:
        if name.endswith((".k", ".v")):
            heads = arrays[name].reshape(kv_heads, -1, MANY.head_dim, MANY.width)
            heads[:] = heads[:, :1]
    pooled, config = grouped(arrays, MANY, kv_heads, how)
    assert config == replace(MANY, kv_heads=kv_heads)
    torch.testing.assert_close(logits(pooled, kv_heads), logits(arrays, 4), rtol=0, atol=1e-5)


def test_the_mean_is_that_of_the_heads_which_query_heads_share() -> None:
    arrays = weights()
    pooled, _ = grouped(arrays, MANY, 2)
    height = MANY.head_dim
    for name, array in arrays.items():
        if not name.endswith((".k", ".v")):
            assert pooled[name] is array
            continue
        for group in range(2):
            for row in range(height):
                want = [(array[2 * group * height + row, d] + array[(2 * group + 1) * height + row, d]) / 2
                        for d in range(MANY.width)]  # fmt: skip
                np.testing.assert_allclose(pooled[name][group * height + row], want, atol=1e-7)


def test_random_heads_are_of_the_same_size_and_another_seed_gives_others() -> None:
    arrays = weights()
    one, other = (grouped(arrays, MANY, 1, "random", seed)[0]["layers.0.k"] for seed in (0, 1))
    assert one.shape == (MANY.head_dim, MANY.width) and not np.array_equal(one, other)
    assert abs(one.std() / arrays["layers.0.k"].std() - 1) < 0.2


def test_groups_that_are_not_equal_are_refused() -> None:
    with pytest.raises(GemmaryError, match="equal groups"):
        grouped(weights(), MANY, 3)
    with pytest.raises(ValueError, match="no way to pool"):
        grouped(weights(), MANY, 2, "median")


def test_a_study_leaves_curves_that_end_lower_than_they_begin(tmp_path: Path) -> None:
    settings = Settings(
        config=replace(MANY, vocab=260, layers=2, head_dim=8), kv_heads=1, row=32, steps=12,
        shares=(0.0, 0.5), seeds=(0,), held=4,
    )  # fmt: skip
    found = study(settings, made_up_texts(settings), tmp_path)
    write(settings, found, tmp_path)
    assert set(found) == {"none", *HOW}
    assert all(losses[1][0] < losses[0][0] for losses in found.values())
    assert json.loads((tmp_path / "grouping.json").read_text())["losses"] == found
    assert (tmp_path / "grouping.svg").read_text().count("<polyline") == 4
    assert "no effect seen" in (tmp_path / "grouping.md").read_text()  # one seed has no spread


def test_an_effect_larger_than_the_spread_is_named() -> None:
    found = {"mean": [[1.0, 1.1], [1.0, 1.1]], "first": [[2.0, 2.1], [1.01, 0.9]]}
    assert verdict(found, (0.0, 0.1)) == (
        "after 0.0% more training, the first head against the mean: +1.000 nats; "
        "after 10.0% more training, the first head against the mean: no effect seen"
    )


def test_a_folder_without_books_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GemmaryError, match="no books"):
        book_texts(tmp_path, Settings())
