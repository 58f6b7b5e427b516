"""Tower and projector against transformers, in float32, on sharp random models of every structural kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemmary.model import vision
from gemmary.ops.reference import Reference, normalise
from gemmary.ops.trainable import Trainable
from gemmary.weights import assemble
from gemmary.weights.assemble import module_tower, packed_tower
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.savevision import write_mmproj
from gemmary.weights.vision import VisionCheckpoint, open_vision

from .sharp import KINDS, distance
from .towers import TOWERS, Eyes, hf_features, pictures, saved_multimodal

LIMIT = 2e-6  # of the range of the features; rounding gives up to 4e-7
Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


@dataclass(frozen=True)
class Case:
    """A random model: its files, some pixels, and what transformers makes of them."""

    eyes: Eyes
    folder: Path
    pixels: np.ndarray
    want: np.ndarray

    @property
    def vision(self) -> VisionCheckpoint:
        found = open_checkpoint(self.folder).vision
        assert found is not None
        return found


@pytest.fixture(scope="module", params=TOWERS, ids=lambda eyes: eyes.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    eyes, folder = request.param, tmp_path_factory.mktemp("tower")
    model = saved_multimodal(KINDS[2], eyes, folder)
    pixels = pictures(eyes, 3)
    return Case(eyes, folder, pixels, hf_features(model, pixels))


def run(checkpoint: VisionCheckpoint, pixels: np.ndarray, ops: Any = None) -> np.ndarray:
    tower = module_tower(checkpoint, ops or Reference())
    with torch.no_grad():
        return tower(pixels).numpy()


def test_features(case: Case) -> None:
    got = run(case.vision, case.pixels)
    assert got.shape == (3 * case.eyes.tokens, KINDS[2].width)
    gap = distance(got, case.want)
    print(f"distance {gap:.1e}")
    assert gap <= LIMIT


def test_a_picture_knows_nothing_of_the_others(case: Case) -> None:
    alone = np.concatenate([run(case.vision, case.pixels[i : i + 1]) for i in range(3)])
    assert distance(alone, case.want) <= LIMIT


def test_the_training_table_gives_the_same(case: Case) -> None:
    ops = Trainable(case.vision.config.patches, (None,))
    assert distance(run(case.vision, case.pixels, ops), case.want) <= LIMIT


def test_an_mmproj_file_of_it_gives_the_same(case: Case, tmp_path: Path) -> None:
    write_mmproj(tmp_path / "mmproj.gguf", case.vision.config, case.vision.tensors)
    assert distance(run(open_vision(tmp_path / "mmproj.gguf"), case.pixels), case.want) <= LIMIT


def test_the_cpu_engine_gives_the_same(case: Case) -> None:
    pytest.importorskip("gemmary.ops.numba.tower")
    tower = packed_tower(case.vision, "F32")
    gap = distance(vision.features(tower, case.pixels), case.want)
    print(f"distance {gap:.1e}")
    assert gap <= 3 * LIMIT


# ---- the check can fail: mistakes that people make


@dataclass(frozen=True)
class Numbers:
    """A norm as plain values."""

    gain: Any
    eps: float
    bias: Any


def with_gains(patch: Patch, change: Callable[[Any], Any]) -> None:
    """Norms whose gains `change` has had."""
    right = Reference.project

    def wrong(ops: Any, x: Any, norm: Any, linears: Any) -> Any:
        return right(ops, x, Numbers(change(norm), norm.eps, norm.bias), linears)

    patch.setattr(Reference, "project", wrong)


def soft_norm_without_its_1(patch: Patch) -> None:
    with_gains(patch, lambda norm: norm.gain - int(norm.bias is None))


def layer_norms_with_a_1(patch: Patch) -> None:
    with_gains(patch, lambda norm: norm.gain + int(norm.bias is not None))


def layer_norms_that_keep_the_mean(patch: Patch) -> None:
    def wrong(ops: Any, x: Any, norm: Any, linears: Any) -> Any:
        h = normalise(x, Numbers(norm.gain, norm.eps, None))
        return tuple(linear(h if norm.bias is None else h + norm.bias) for linear in linears)

    patch.setattr(Reference, "project", wrong)


def another_eps(patch: Patch) -> None:
    """Ten times too large, as torch's own is."""
    right = vision.features

    def wrong(tower: Any, pixels: Any) -> Any:
        for part in tower.modules():
            if hasattr(part, "eps"):
                part.eps = part.eps * 10
        return right(tower, pixels)

    patch.setattr("gemmary.model.vision_modules.features", wrong)


def exact_gelu(patch: Patch) -> None:
    patch.setattr(Reference, "gelu", lambda ops, x: torch.nn.functional.gelu(x))


def transposed_grid(patch: Patch) -> None:
    right = Reference.pool

    def wrong(ops: Any, x: Any, norm: Any, grid: int, side: int) -> Any:
        return right(ops, x.unflatten(0, (-1, grid, grid)).transpose(1, 2).flatten(0, 2), norm, grid, side)

    patch.setattr(Reference, "pool", wrong)


def pooled_runs(patch: Patch) -> None:
    """Means of neighbours in the sequence, not of squares."""

    def wrong(ops: Any, x: Any, norm: Any, grid: int, side: int) -> Any:
        return normalise(x, norm).unflatten(0, (-1, (grid // side) ** 2)).mean(1)

    patch.setattr(Reference, "pool", wrong)


def pooled_before_the_norm(patch: Patch) -> None:
    def wrong(ops: Any, x: Any, norm: Any, grid: int, side: int) -> Any:
        squares = x.unflatten(0, (-1, side, grid // side, side, grid // side))
        return normalise(squares.mean((2, 4)).flatten(0, 2), norm)

    patch.setattr(Reference, "pool", wrong)


def pixels_last(patch: Patch) -> None:
    """A square as [patch, patch, 3]."""

    def wrong(ops: Any, pixels: Any, linear: Any, positions: Any, patch: int) -> Any:
        squares = ops._tensor(pixels).unfold(2, patch, patch).unfold(3, patch, patch)
        return (linear(squares.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)) + positions).flatten(0, 1)

    patch.setattr(Reference, "patchify", wrong)


def projection_as_it_lies(patch: Patch) -> None:
    """The memory of the file read as [out, in]."""
    right = assemble.module_tower

    def wrong(checkpoint: VisionCheckpoint, ops: Any) -> Any:
        tower = right(checkpoint, ops)
        weight = tower.projection.weight
        weight.data = weight.data.T.contiguous().view(weight.shape)
        return tower

    patch.setattr(f"{__name__}.module_tower", wrong)


def scaled_by_the_whole_width(patch: Patch) -> None:
    right = Reference.attend

    def wrong(ops: Any, q: Any, k: Any, v: Any, kv: Any, step: Any, attention: Any) -> Any:
        return right(ops, q, k, v, kv, step, replace(attention, scale=q.shape[1] ** -0.5))

    patch.setattr(Reference, "attend", wrong)


def causal(patch: Patch) -> None:
    right = vision.picture_step
    patch.setattr(
        vision,
        "picture_step",
        lambda *sizes: replace(step := right(*sizes), block=np.full_like(step.block, -1)),
    )


def pictures_that_meet(patch: Patch) -> None:
    """All pictures of a step in one sequence."""
    right = vision.picture_step

    def wrong(pictures: int, patches: int) -> Any:
        return right(1, pictures * patches)

    patch.setattr(vision, "picture_step", wrong)


BUGS: tuple[Plant, ...] = (
    soft_norm_without_its_1, layer_norms_with_a_1, layer_norms_that_keep_the_mean, another_eps, exact_gelu,
    transposed_grid, pooled_runs, pooled_before_the_norm, pixels_last, projection_as_it_lies,
    scaled_by_the_whole_width, causal, pictures_that_meet,
)  # fmt: skip


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_planted_bug(plant: Plant, planted: Case, monkeypatch: Patch) -> None:
    plant(monkeypatch)
    gap = distance(run(planted.vision, planted.pixels), planted.want)
    print(f"{plant.__name__}: {gap:.1e} = {gap / LIMIT:.0f} limits")
    assert gap > 5 * LIMIT


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Squares that are not runs, and dim pictures: so that an eps shows."""
    eyes, folder = replace(TOWERS[0], eps=1e-3), tmp_path_factory.mktemp("planted")
    model = saved_multimodal(KINDS[2], eyes, folder)
    pixels = pictures(eyes, 2)
    return Case(eyes, folder, pixels, hf_features(model, pixels))
