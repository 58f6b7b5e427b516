"""Whole multimodal models against transformers: pixels in, logits out, in float32.

Pictures are longer than the window, as at no real size: only then the order of the mask's parts shows, window
AND (causal OR same picture). There Google's window cuts on both sides, and that of transformers behind only:
it is given Google's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.model.pages import Pages, Sequence
from gemmary.model.text import hidden
from gemmary.ops.contract import Full, Step, pack
from gemmary.ops.reference import Reference
from gemmary.weights.assemble import module_text, module_tower, packed_text
from gemmary.weights.checkpoint import open_checkpoint

from .sharp import KINDS, distance, text_ids
from .test_pictures import causal_only, picture_outside_window, pictures_see_each_other
from .test_transformers import LIMIT
from .towers import BEGIN, END, SOFT, TOWERS, googles_windows, pictures, saved_multimodal

KIND = replace(KINDS[2], window=11)  # a picture has 16 tokens
EYES = TOWERS[0]
# Tokens of text before, between and after pictures: one, two neighbours far from the end, five in turns.
TEXTS = {1: (20, 30), 2: (5, 0, 60), 5: (9, 14, 0, 1, 33, 25)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("multimodal")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return saved_multimodal(KIND, EYES, folder)


@cache
def prompt(count: int) -> tuple[list[int], np.ndarray]:
    """Ids with `count` pictures in them, and the number of its picture for each, -1 for text."""
    ids: list[int] = []
    block: list[int] = []
    for number, length in enumerate(TEXTS[count]):
        ids += [token % END for token in text_ids(length, seed=10 * count + number)] if length else []
        block += [-1] * length
        if number < count:
            ids += [BEGIN] + [SOFT] * EYES.tokens + [END]
            block += [-1] + [number] * EYES.tokens + [-1]
    return ids, np.array(block, np.int32)


def expected(model: Any, count: int) -> np.ndarray:
    """Logits [T, V] of transformers."""
    ids, block = prompt(count)
    with torch.no_grad(), googles_windows():
        out = model(
            input_ids=torch.tensor([ids]),
            pixel_values=torch.from_numpy(pictures(EYES, count)),
            token_type_ids=torch.from_numpy((block >= 0).astype(np.int64))[None],
        )
    return out.logits[0].numpy()


@pytest.fixture(scope="module")
def wants(model: Any) -> dict[int, np.ndarray]:
    return {count: expected(model, count) for count in TEXTS}


def soft_tokens(folder: Path, count: int) -> np.ndarray:
    """Features [count * tokens, width] of our tower."""
    vision = open_checkpoint(folder).vision
    assert vision is not None
    with torch.no_grad():
        return module_tower(vision, Reference())(pictures(EYES, count)).numpy()


def part(count: int, soft: np.ndarray, start: int, end: int) -> Step:
    """A step of some of the tokens, with their pictures."""
    ids, block = prompt(count)
    before = int((block[:start] >= 0).sum())
    inside = soft[before : before + int((block[start:end] >= 0).sum())]
    step = pack([ids[start:end]], [start], range(end - start))
    return replace(step, block=block[start:end], soft=inside if len(inside) else None)


def turns(count: int) -> Iterator[int]:
    """Sizes of steps that end with each picture and each text."""
    for number, length in enumerate(TEXTS[count]):
        yield length + (EYES.tokens + 2 if number < count else 0)


def run(decoder: Any, folder: Path, count: int, cuts: list[int]) -> np.ndarray:
    """Logits [T, V] over pages."""
    soft, sequence, rows = soft_tokens(folder, count), Sequence(), []
    pages = Pages(decoder.ops, open_checkpoint(folder).config, (20, 20))
    for size in cuts:
        pages.reserve(sequence, size)
        step = part(count, soft, sequence.length, sequence.length + size)
        step = replace(step, pages=pages.table([sequence]))
        with torch.no_grad():
            states = hidden(decoder, step, pages.layers)
            rows.append(np.asarray(decoder.ops.head(states, decoder.table, Full())))
        pages.commit(sequence, size)
    return np.concatenate(rows)


DECODERS = {
    "reference": lambda folder: module_text(open_checkpoint(folder), Reference()),
    "cpu": lambda folder: packed_text(open_checkpoint(folder), pages="F32"),
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "a step a turn"])
@pytest.mark.parametrize("count", TEXTS)
@pytest.mark.parametrize("engine", DECODERS)
def test_logits(engine: str, count: int, whole: bool, folder: Path, wants: dict[int, np.ndarray]) -> None:
    cuts = [len(prompt(count)[0])] if whole else list(turns(count))
    gap = distance(run(DECODERS[engine](folder), folder, count, cuts), wants[count])
    print(f"distance {gap:.1e}")
    assert gap <= LIMIT


@pytest.mark.parametrize("count", TEXTS)
def test_logits_without_pages(count: int, folder: Path, wants: dict[int, np.ndarray]) -> None:
    assert distance(without_pages(folder, count), wants[count]) <= LIMIT


def without_pages(folder: Path, count: int) -> np.ndarray:
    """Logits [T, V], keys and values straight from the step, as in training."""
    module = module_text(open_checkpoint(folder), Reference())
    step = part(count, soft_tokens(folder, count), 0, len(prompt(count)[0]))
    with torch.no_grad():
        return np.asarray(module.ops.head(module(step), module.table, Full()))


def one_picture_for_the_other(patch: pytest.MonkeyPatch) -> None:
    right = Reference.embed

    def wrong(ops: Reference, table: Any, step: Any, scale: float) -> Any:
        soft = step.step.soft.reshape(-1, EYES.tokens, KIND.width)[::-1].reshape(-1, KIND.width).copy()
        return right(ops, table, replace(step, step=replace(step.step, soft=soft)), scale)

    patch.setattr(Reference, "embed", wrong)


def soft_tokens_scaled(patch: pytest.MonkeyPatch) -> None:
    """Features times sqrt(width), as embeddings are."""
    right = Reference.embed

    def wrong(ops: Reference, table: Any, step: Any, scale: float) -> Any:
        return right(ops, table, replace(step, step=replace(step.step, soft=step.step.soft * scale)), scale)

    patch.setattr(Reference, "embed", wrong)


@pytest.mark.parametrize(
    "plant",
    [
        picture_outside_window, causal_only, pictures_see_each_other, one_picture_for_the_other,
        soft_tokens_scaled,
    ],
    ids=lambda plant: plant.__name__,
)  # fmt: skip
def test_planted_bug(
    plant: Any, folder: Path, wants: dict[int, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = soft_tokens(folder, 2)  # the tower is not what is wrong
    plant(monkeypatch)
    monkeypatch.setattr(f"{__name__}.soft_tokens", lambda *_: right)
    gap = distance(without_pages(folder, 2), wants[2])
    print(f"{plant.__name__}: {gap:.1e} = {gap / LIMIT:.0f} limits")
    assert gap > 10 * LIMIT
