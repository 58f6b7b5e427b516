"""What tokens of a picture see: their whole picture, what came before it, never the next; within the window.

Pictures here are longer than the window, as at no real size: only then the order of the mask's parts shows,
window AND (causal OR same picture). Truth: transformers, given a dense mask that this test builds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.model.pages import Sequence
from gemmary.model.text import hidden
from gemmary.ops.contract import Full, Step, pack
from gemmary.ops.reference import Reference

from .decoding import ENGINES, Decoding, reference
from .sharp import KINDS, distance, saved, text_ids
from .test_transformers import LIMIT

KIND = KINDS[2]
PARTS = (30, -70, 20, -64, 1, -50, 40)  # tokens of text, or minus tokens of a picture
BLOCK = np.concatenate([np.full(abs(n), -1 if n > 0 else i, np.int32) for i, n in enumerate(PARTS)])
IDS = text_ids(len(BLOCK))
SOFT = np.random.default_rng(3).normal(0, 4, (int((BLOCK >= 0).sum()), KIND.width)).astype(np.float32)
CUTS = [(len(BLOCK),), (30, 70, 20, 64, 1, 50, 40), (100, 84, 1, 90), (7, 93, 5, 15, 65, 50, 40)]


def dense_masks() -> dict[str, torch.Tensor]:
    """Additive masks [1, 1, T, T] for transformers, by kind of layer."""
    at = np.arange(len(BLOCK))
    picture = (BLOCK[:, None] == BLOCK) & (BLOCK[:, None] >= 0)
    seen = (at <= at[:, None]) | picture
    local = seen & (np.abs(at - at[:, None]) < KIND.window)
    masks = {"full_attention": seen, "sliding_attention": local}
    return {name: torch.where(torch.from_numpy(m), 0.0, -torch.inf)[None, None] for name, m in masks.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def want(folder: Path) -> np.ndarray:
    model = saved(KIND, folder)
    with torch.no_grad():
        x = model.model.embed_tokens(torch.tensor([IDS]))
        x[0, BLOCK >= 0] = torch.from_numpy(SOFT)
        return model(inputs_embeds=x, attention_mask=dense_masks()).logits[0].numpy()


def part(start: int, end: int) -> Step:
    """A step of some of the tokens, with their pictures."""
    block = BLOCK[start:end]
    spliced = int((BLOCK[:start] >= 0).sum())
    soft = SOFT[spliced : spliced + int((block >= 0).sum())]
    return replace(pack([IDS[start:end]], [start], range(end - start)), block=block, soft=soft)


def run(decoding: Decoding, cuts: tuple[int, ...]) -> np.ndarray:
    """Logits [T, V] over pages."""
    sequence, pages, decoder = Sequence(), decoding.pages, decoding.decoder
    rows = []
    for count in cuts:
        pages.reserve(sequence, count)
        step = replace(part(sequence.length, sequence.length + count), pages=pages.table([sequence]))
        with torch.no_grad():
            rows.append(
                np.asarray(decoder.ops.head(hidden(decoder, step, pages.layers), decoder.table, Full()))
            )
        pages.commit(sequence, count)
    return np.concatenate(rows)


def without_pages(decoding: Decoding) -> np.ndarray:
    """Logits [T, V], keys and values straight from the step, as in training."""
    module = decoding.decoder
    with torch.no_grad():
        return np.asarray(module.ops.head(module(part(0, len(IDS))), module.table, Full()))


@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_pictures(engine: str, cuts: tuple[int, ...], folder: Path, want: np.ndarray) -> None:
    gap = distance(run(ENGINES[engine](folder), cuts), want)
    print(f"distance {gap:.1e}")
    assert gap <= LIMIT


def test_cuts_do_not_change_bits(folder: Path) -> None:
    decoding = ENGINES["cpu"](folder)
    whole = run(decoding, CUTS[0])
    for cuts in CUTS[1:]:
        np.testing.assert_array_equal(run(decoding, cuts), whole)


def test_pictures_without_pages(folder: Path, want: np.ndarray) -> None:
    assert distance(without_pages(reference(folder)), want) <= LIMIT


def picture_outside_window(patch: pytest.MonkeyPatch) -> None:
    """(window AND causal) OR same picture: a picture's tokens see all of it, however far."""
    right = Reference.attend

    def wrong(ops: Reference, q: Any, k: Any, v: Any, kv: Any, step: Any, attention: Any) -> Any:
        if attention.window is not None:
            block = step.step.block
            starts = np.array([np.flatnonzero(block == b)[0] if b >= 0 else len(block) for b in block])
            nearest = torch.from_numpy(starts + attention.window - 1)
            step = replace(step, pos=torch.minimum(step.pos, nearest))
        return right(ops, q, k, v, kv, step, attention)

    patch.setattr(Reference, "attend", wrong)


def causal_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Step, "last_seen", property(lambda step: step.pos.copy()))


def pictures_see_each_other(patch: pytest.MonkeyPatch) -> None:
    right = Step.last_seen.fget  # type: ignore[attr-defined]

    def wrong(step: Step) -> np.ndarray:
        return right(replace(step, block=np.minimum(step.block, 0)))

    patch.setattr(Step, "last_seen", property(wrong))


def last_token_of_a_picture_hidden(patch: pytest.MonkeyPatch) -> None:
    """A picture ends one token early."""
    right = Step.last_seen.fget  # type: ignore[attr-defined]
    patch.setattr(
        Step, "last_seen", property(lambda step: np.maximum(right(step) - (step.block >= 0), step.pos))
    )


@pytest.mark.parametrize(
    "plant",
    [picture_outside_window, causal_only, pictures_see_each_other, last_token_of_a_picture_hidden],
    ids=lambda plant: plant.__name__,
)
def test_planted_bug(plant: Any, folder: Path, want: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    gap = distance(without_pages(reference(folder)), want)
    print(f"{plant.__name__}: {gap:.1e} = {gap / LIMIT:.0f} limits")
    assert gap > 10 * LIMIT
