"""Logits against transformers, in float32, on sharp random models of every structural kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from .debugger import first_divergence
from .decoding import ENGINES, Decoding
from .sharp import KINDS, distance, saved, text_ids

Cuts = tuple[int, ...]

LIMIT = 1e-5  # of the logit range; rounding gives up to 2.5e-6
LENGTH = 600  # several windows


@dataclass(frozen=True)
class Case:
    """A random model: its transformers twin, and where its files are."""

    model: Any
    folder: Path


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param.name)
    return Case(saved(request.param, folder), folder)


def expected(model: Any, ids: list[int]) -> np.ndarray:
    """Logits [T, V] of transformers."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


@pytest.fixture(scope="module")
def texts(case: Case) -> list[tuple[list[int], np.ndarray]]:
    lengths = (LENGTH, 257, 64, 63, 65, 130, 1, 2)
    return [(ids, expected(case.model, ids)) for ids in (text_ids(n, seed=n) for n in lengths)]


@pytest.fixture(scope="module", params=ENGINES)
def decoding(request: pytest.FixtureRequest, case: Case) -> Decoding:
    return ENGINES[request.param](case.folder)


def check(case: Case, decoding: Decoding, ids: list[int], got: np.ndarray, want: np.ndarray) -> None:
    """Equal within rounding; else the message says which operation of which layer is to blame."""
    gap = distance(got, want)
    print(f"distance {gap:.1e}")
    if not gap <= LIMIT:
        pytest.fail(f"{gap:.1e} of the logit range; {first_divergence(case.model, decoding, ids)}")


def test_the_models_are_sharp(case: Case) -> None:
    with torch.no_grad():
        out = case.model(torch.tensor([text_ids(257)]), output_attentions=True)
    attention = torch.stack([entropy(a).mean() for a in out.attentions])
    assert out.logits.std() >= 3
    assert attention.mean() < 2
    assert entropy(out.logits.softmax(-1)).mean() > 2


def entropy(p: torch.Tensor) -> torch.Tensor:
    """In bits, over the last axis."""
    return -(p * p.clamp_min(1e-20).log2()).sum(-1)


@pytest.mark.parametrize("cuts", [(LENGTH,), (64,), (100, 1, 63, 200)], ids=str)
def test_one_text(
    case: Case, decoding: Decoding, texts: list[tuple[list[int], np.ndarray]], cuts: Cuts
) -> None:
    ids, want = texts[0]
    check(case, decoding, ids, decoding.run(ids, cuts), want)


@pytest.mark.parametrize("cuts", [pytest.param((1,), marks=pytest.mark.long), (7,)], ids=str)
def test_small_steps(
    case: Case, decoding: Decoding, texts: list[tuple[list[int], np.ndarray]], cuts: Cuts
) -> None:
    ids, want = texts[-3]  # two page borders
    check(case, decoding, ids, decoding.run(ids, cuts), want)


@pytest.mark.long
@pytest.mark.parametrize("cuts", [(1,), (7,), (65,)], ids=str)
def test_small_steps_over_many_windows(
    case: Case, decoding: Decoding, texts: list[tuple[list[int], np.ndarray]], cuts: Cuts
) -> None:
    ids, want = texts[0]
    check(case, decoding, ids, decoding.run(ids, cuts), want)


@pytest.mark.parametrize(
    ("count", "chunk"), [(2, 50), (8, 64), pytest.param(8, 7, marks=pytest.mark.long)], ids=str
)
def test_several_texts_in_one_step(
    case: Case, decoding: Decoding, texts: list[tuple[list[int], np.ndarray]], count: int, chunk: int
) -> None:
    chosen = texts[:count] if chunk == 64 else [(ids[:140], want[:140]) for ids, want in texts[:count]]
    got = decoding.together([ids for ids, _ in chosen], chunk)
    for (ids, want), logits in zip(chosen, got, strict=True):
        check(case, decoding, ids, logits, want)
