"""Features on disk are the tower's, and those of another tower or other pictures are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gemmary.errors import GemmaryError
from gemmary.inputs.prompt import brightness
from gemmary.model.vision_modules import ProjectorModule, TowerModule
from gemmary.train.feature_cache import CachedFeatures, FeaturesError, write_features
from gemmary.train.pictures import PictureArray
from tests.train import shapes

COUNT, SIZE = 21, 8  # three files, the last one not full


@pytest.fixture(scope="module")
def eyes() -> TowerModule:
    return shapes.tower()


@pytest.fixture(scope="module")
def pictures() -> PictureArray:
    return shapes.pictures(COUNT, 0)[0]


@pytest.fixture
def folder(tmp_path: Path, eyes: TowerModule, pictures: PictureArray) -> Path:
    write_features(tmp_path, eyes, pictures, SIZE)
    return tmp_path


def test_a_projector_makes_of_them_what_the_tower_makes_of_pixels(
    folder: Path, eyes: TowerModule, pictures: PictureArray
) -> None:
    cached = CachedFeatures(folder, eyes, pictures.digest)
    numbers = np.array([20, 0, 7, 8, 3, 20], np.int32)
    found = cached.read(numbers)
    assert len(cached) == COUNT and found.shape == (6, 9, 64)
    with torch.no_grad():
        want = eyes(brightness(pictures.pixels[numbers]))
        got = ProjectorModule(eyes)(torch.from_numpy(found).float())
    assert float((got - want).abs().max() / want.std()) < 3e-3  # float16 has 11 bits


def test_writing_goes_on_where_it_was_cut(folder: Path, eyes: TowerModule, pictures: PictureArray) -> None:
    first, second, third = sorted(folder.iterdir())
    before = {path: path.read_bytes() for path in (first, second, third)}
    ages = first.stat().st_mtime_ns
    second.unlink()
    third.write_bytes(before[third][:-50])
    said: list[str] = []
    write_features(folder, eyes, pictures, SIZE, warn=said.append)
    assert {path: path.read_bytes() for path in before} == before
    assert first.stat().st_mtime_ns == ages and len(said) == 1 and "features-00002" in said[0]


def test_damage_is_found_when_the_file_is_used(
    folder: Path, eyes: TowerModule, pictures: PictureArray
) -> None:
    path = folder / "features-00001.bin"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    cached = CachedFeatures(folder, eyes, pictures.digest)
    cached.read(np.array([0, 20], np.int32))
    with pytest.raises(FeaturesError, match=r"00001.bin: it changed since it was written; remove it"):
        cached.read(np.array([8], np.int32))


def test_a_missing_file_is_found_at_once(folder: Path, eyes: TowerModule, pictures: PictureArray) -> None:
    (folder / "features-00002.bin").unlink()
    with pytest.raises(FeaturesError, match=r"1 files are missing, features-00002.bin the first"):
        CachedFeatures(folder, eyes, pictures.digest)


def test_another_tower_and_other_pictures_are_refused(
    folder: Path, eyes: TowerModule, pictures: PictureArray
) -> None:
    others = shapes.pictures(COUNT, 1)[0]
    with pytest.raises(FeaturesError, match="another tower"):
        CachedFeatures(folder, shapes.tower(1), pictures.digest)
    with pytest.raises(FeaturesError, match="another pictures"):
        CachedFeatures(folder, eyes, others.digest)
    with pytest.raises(FeaturesError, match="another tower"):
        write_features(folder, shapes.tower(1), pictures, SIZE)


def test_the_projector_is_not_part_of_the_tower(
    folder: Path, pictures: PictureArray
) -> None:  # it goes on learning
    learnt = shapes.tower()
    with torch.no_grad():
        learnt.projection.weight.mul_(2.0)
        learnt.soft_norm.weight.add_(1.0)
    CachedFeatures(folder, learnt, pictures.digest)


def test_what_float16_does_not_hold_is_said(tmp_path: Path, pictures: PictureArray) -> None:
    loud = shapes.tower()
    with torch.no_grad():
        loud.norm.bias[3] = 1e5
    with pytest.raises(GemmaryError, match="float16 does not hold"):
        write_features(tmp_path, loud, pictures)
