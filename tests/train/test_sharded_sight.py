"""A decoder with eyes learns the same on many processes, whatever pictures each of them has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gemmary.model.vision_modules import ProjectorModule
from gemmary.train.checkpoint import load_latest
from gemmary.train.company import Company
from gemmary.train.feature_cache import CachedFeatures, write_features
from gemmary.train.loop import Trainer
from gemmary.train.optimizer import Learning
from gemmary.train.packing import Document, pack_rows
from gemmary.train.sight_task import SightTask
from tests.train import shapes
from tests.train.crew import crew

PICTURES, NAMES = shapes.pictures(24, 0)
SEEN = [shapes.conversation(int(name), number) for number, name in enumerate(NAMES)]
TEXT = [Document([2, *range(40, 40 + shapes.ROW - 2), 1], [1.0] * shapes.ROW)] * 6


def learn(company: Company, folder: Path, cached: bool, shards: int | None) -> None:
    """Four steps with a tower, or with the features that it made."""
    plan = shapes.plan(
        4, rows=2, parts=4, clip=1e9, seed=4, shards=shards,
        learning=Learning(peak=4e-3, warmup=1, cooldown=0, muon=0.0),
    )  # fmt: skip
    tower, rows = shapes.tower(), pack_rows([*SEEN, *TEXT], shapes.ROW)
    if cached:
        features = CachedFeatures(folder / "features", tower, PICTURES.digest)
        task = SightTask(shapes.text(), ProjectorModule(tower), rows, features, plan)
    else:
        task = SightTask(shapes.text(), tower, rows, PICTURES, plan)
    assert [[len(part.shown) for part in task.parts(step)] for step in (0, 3)] == [[8, 4, 0, 0], [4, 4, 0, 8]]
    Trainer(task, plan, folder / str(company.size), company=company).run()


@pytest.mark.parametrize(
    ("processes", "shards", "cached"),
    [(2, None, False), pytest.param(2, 1, False, marks=pytest.mark.long),
     pytest.param(2, None, True, marks=pytest.mark.long),
     pytest.param(4, 2, False, marks=pytest.mark.long)],
)  # fmt: skip
def test_processes_with_other_pictures_are_one(
    tmp_path: Path, processes: int, shards: int | None, cached: bool
) -> None:
    if cached:
        write_features(tmp_path / "features", shapes.tower(), PICTURES)
    learn(Company(), tmp_path, cached, None)
    assert crew(processes, learn, tmp_path, cached, shards) == [0] * processes
    one, many = (load_latest(tmp_path / str(size)) for size in (1, processes))
    assert one is not None and many is not None and one.tensors.keys() == many.tensors.keys()
    for name in one.tensors.keys() - {"random"}:
        if ".k.bias" not in name:  # softmax does not feel it: AdamW follows the rounding of a gradient of 0
            torch.testing.assert_close(many.tensors[name], one.tensors[name], rtol=2e-4, atol=2e-4, msg=name)
