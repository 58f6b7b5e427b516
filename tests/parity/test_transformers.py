"""Logits against transformers, in float32, on sharp random models of every structural kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from .decoding import ENGINES, Decoding
from .sharp import KINDS, Kind, distance, saved, text_ids

LIMIT = 2e-4  # of the logit range
LENGTH = 600  # several windows


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Kind, Path, object]:
    folder = tmp_path_factory.mktemp(request.param.name)
    return request.param, folder, saved(request.param, folder)


def expected(model: object, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()  # type: ignore[operator]


@pytest.fixture(scope="module")
def texts(case: tuple[Kind, Path, object]) -> list[tuple[list[int], np.ndarray]]:
    lengths = (LENGTH, 257, 64, 63, 65, 130, 1, 2)
    return [(ids, expected(case[2], ids)) for ids in (text_ids(n, seed=n) for n in lengths)]


@pytest.fixture(scope="module", params=ENGINES)
def decoding(request: pytest.FixtureRequest, case: tuple[Kind, Path, object]) -> Decoding:
    return ENGINES[request.param](case[1])


def test_the_models_are_sharp(case: tuple[Kind, Path, object]) -> None:
    model = case[2]
    with torch.no_grad():
        out = model(torch.tensor([text_ids(LENGTH)]), output_attentions=True)  # type: ignore[operator]
    entropy = [-(a * a.clamp_min(1e-20).log2()).sum(-1).mean() for a in out.attentions]
    assert out.logits.std() >= 3
    assert torch.stack(entropy).mean() < 2


@pytest.mark.parametrize("cuts", [(LENGTH,), (7,), (64,), (1,), (100, 1, 63, 200)], ids=str)
def test_one_text(
    decoding: Decoding, texts: list[tuple[list[int], np.ndarray]], cuts: tuple[int, ...]
) -> None:
    ids, want = texts[0]
    if cuts == (1,):
        ids, want = ids[:150], want[:150]
    gap = distance(decoding.run(ids, cuts), want)
    print(f"distance {gap:.1e}")
    assert gap <= LIMIT


@pytest.mark.parametrize(("count", "chunk"), [(2, 50), (8, 64), (8, 7)])
def test_several_texts_in_one_step(
    decoding: Decoding, texts: list[tuple[list[int], np.ndarray]], count: int, chunk: int
) -> None:
    chosen = texts[:count] if chunk == 64 else [(ids[:140], want[:140]) for ids, want in texts[:count]]
    got = decoding.together([ids for ids, _ in chosen], chunk)
    assert max(distance(g, want) for g, (_, want) in zip(got, chosen, strict=True)) <= LIMIT
