"""Loss by position equals what a dense softmax says, token by token."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gemmary.model.modules import TextModule
from gemmary.ops.contract import pack
from gemmary.ops.reference import Reference
from gemmary.train.loss import mean_loss
from gemmary.train.packing import Document, pack_rows
from gemmary.train.positions import doubling, loss_by_position
from tests.train import toys

DOCUMENTS = [
    Document(d.ids, [0.0, *([1.0] * (len(d.ids) - 1))]) for d in toys.documents(30, seed=5) if len(d.ids) > 1
]


def alone(ids: list[int]) -> dict[int, float]:
    """Loss of each token of a document by its position: the reference table, no packing, all logits."""
    made = toys.model()
    model = TextModule(toys.TOY, Reference())
    model.load_arrays(made.arrays())
    with torch.no_grad():
        h = model(pack([ids], rows=range(len(ids))))
        chances = (h @ model.table.weight.T).double().softmax(-1)
    return {at: -math.log(float(chances[at - 1, ids[at]])) for at in range(1, len(ids))}


def test_buckets_hold_what_stands_there() -> None:
    edges = [0, 2, 8, 16]
    found = loss_by_position(toys.model(), pack_rows(DOCUMENTS, toys.ROW), edges, rows=3)
    losses = [(at, loss) for d in DOCUMENTS for at, loss in alone(list(d.ids)).items()]
    for bucket, (first, last) in zip(found, [(0, 2), (2, 8), (8, 16)], strict=True):
        here = [loss for at, loss in losses if first <= at < last]
        assert (bucket.first, bucket.last, bucket.tokens) == (first, last, len(here))
        assert bucket.loss == pytest.approx(np.mean(here), rel=1e-4)
        assert bucket.perplexity == pytest.approx(math.exp(np.mean(here)), rel=1e-3)


def test_all_buckets_together_are_the_mean_loss() -> None:
    rows, model = pack_rows(DOCUMENTS, toys.ROW), toys.model()
    found = loss_by_position(model, rows, [0, 3, toys.ROW])
    whole = sum(b.loss * b.tokens for b in found) / sum(b.tokens for b in found)
    assert whole == pytest.approx(mean_loss(model, rows), rel=1e-5)


def test_borders_that_are_none() -> None:
    rows, model = pack_rows(DOCUMENTS, toys.ROW), toys.model()
    with pytest.raises(ValueError, match="must ascend"):
        loss_by_position(model, rows, [0, 8, 8])
    with pytest.raises(ValueError, match="no document has tokens at positions 100 to 200"):
        loss_by_position(model, rows, [0, 100, 200])


def test_doubling() -> None:
    assert doubling(64, 512) == [0, 64, 128, 256, 512]
    assert doubling(64, 300) == [0, 64, 128, 256, 300]
