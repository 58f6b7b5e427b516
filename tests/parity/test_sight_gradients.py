"""Gradients through the splice against transformers' Gemma3ForConditionalGeneration, in float32.

transformers' gradients are written to a folder as if they were weights, so that what reads weights brings
them into our names and layouts: both are linear.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.ops.trainable import Trainable
from gemmary.train.packing import Document, Rows, pack_rows
from gemmary.train.sight_task import Sight
from gemmary.weights.assemble import module_text, module_tower
from gemmary.weights.checkpoint import open_checkpoint

from .sharp import KINDS, text_ids
from .towers import BEGIN, END, SOFT, TOWERS, hf_multimodal, pictures

KIND = replace(KINDS[1], layers=7, window=20)  # a global layer behind six; a picture has 16 tokens
EYES = TOWERS[0]
ROW = 128


def document(texts: tuple[int, ...], shown: tuple[int, ...], seed: int) -> Document:
    """Texts of these lengths with these pictures between them; every other text token is to be predicted."""
    ids: list[int] = []
    seen: list[int] = []
    for number, length in enumerate(texts):
        ids += [token % END for token in text_ids(length, seed + number)]
        seen += [-1] * length
        if number < len(shown):
            ids += [BEGIN] + [SOFT] * EYES.tokens + [END]
            seen += [-1] + [shown[number]] * EYES.tokens + [-1]
    weights = [float(picture < 0 and column % 2 == 0) for column, picture in enumerate(seen)]
    return Document(ids, weights, seen)


DOCUMENTS = [document((7, 25), (2,), 1), document((3, 1, 30), (0, 1), 2), document((20, 0), (2,), 3)]
PIXELS = pictures(EYES, 3)


def loss_of(model: Any, rows: Rows) -> torch.Tensor:
    """transformers' summed loss of a row with one document."""
    step, targets, weights = rows.step()
    seen = torch.from_numpy(rows.ids == SOFT)
    out = model(
        input_ids=torch.from_numpy(rows.ids).long(),
        pixel_values=torch.from_numpy(PIXELS[rows.shown]),
        token_type_ids=seen.long(),
    )
    logits = out.logits[0][torch.from_numpy(step.rows).long()]
    losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets).long(), reduction="none")
    total: torch.Tensor = (losses * torch.from_numpy(weights)).sum()
    return total


@pytest.fixture(scope="module")
def sights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sight, Sight, float]:
    """A model of ours; one whose weights are transformers' gradients; transformers' loss."""
    folder, model = tmp_path_factory.mktemp("sight"), hf_multimodal(KIND, EYES)
    model.save_pretrained(folder / "weights")
    loss = sum((loss_of(model, pack_rows([d], len(d.ids))) for d in DOCUMENTS), torch.zeros(()))
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    model.save_pretrained(folder / "slopes")
    return sight(folder / "weights"), sight(folder / "slopes"), float(loss.detach())


def sight(folder: Path) -> Sight:
    checkpoint = open_checkpoint(folder)
    assert checkpoint.vision is not None
    eyes = module_tower(checkpoint.vision, Trainable(checkpoint.vision.config.patches, (None,)))
    return Sight(module_text(checkpoint, Trainable(ROW, (None, KIND.window))), eyes)


def gaps(model: Sight, slopes: Sight, rows: Rows) -> dict[str, float]:
    """Distance of our gradients from transformers', as a share of their length, by name.

    Not of the biases of the tower's keys: softmax does not feel them, and both gradients are rounding.
    """
    loss = model(*rows.step(), PIXELS[rows.shown])
    found = torch.autograd.grad(loss, list(model.parameters()))
    wanted = dict(slopes.named_parameters())
    return {
        name: float((got - wanted[name].detach()).norm() / wanted[name].detach().norm())
        for (name, _), got in zip(model.named_parameters(), found, strict=True)
        if not name.endswith(".k.bias")
    }


def test_packed_rows_have_the_gradients_of_transformers(sights: tuple[Sight, Sight, float]) -> None:
    model, slopes, loss = sights
    rows = pack_rows(DOCUMENTS, ROW)
    assert len(rows) == 2 and len(rows.shown) == 4
    ours = model(*rows.step(), PIXELS[rows.shown])
    assert float(ours.detach()) == pytest.approx(loss, rel=1e-5)
    found = gaps(model, slopes, rows)
    print(f"distance {max(found.values()):.1e}")
    assert max(found.values()) < 3e-5, max(found, key=lambda name: found[name])


def test_the_check_would_see_pictures_in_another_order(sights: tuple[Sight, Sight, float]) -> None:
    model, slopes, _ = sights
    rows = pack_rows(DOCUMENTS, ROW)
    assert rows.pictures is not None
    wrong = np.where(rows.pictures == 0, 1, np.where(rows.pictures == 1, 0, rows.pictures)).astype(np.int32)
    found = gaps(model, slopes, replace(rows, pictures=wrong))
    assert found["eyes.projection.weight"] > 0.1
