"""The real sizes have exactly the parameters of the released checkpoints (counted, never allocated)."""

from __future__ import annotations

import pytest

from gemmary.config import SIZES

# Rows of 262,144 (text-only) or 262,208 (with vision) x width; the decoder without its table; tower and
# projector; everything. The totals are those of the files that Google published.
RELEASED = {
    "270m": (167_772_160, 100_326_016, 0, 268_098_176),
    "1b": (301_989_888, 697_896_064, 0, 999_885_952),
    "4b": (671_252_480, 3_209_010_688, 419_816_304, 4_300_079_472),
    "12b": (1_006_878_720, 10_759_155_456, 421_290_864, 12_187_325_040),
    "27b": (1_409_630_208, 25_599_716_096, 423_060_336, 27_432_406_640),
}


@pytest.mark.parametrize("name", RELEASED)
def test_parameters(name: str) -> None:
    config = SIZES[name]
    counted = (
        config.embedding_parameters,
        config.body_parameters,
        config.vision_parameters,
        config.parameters,
    )
    assert counted == RELEASED[name]


@pytest.mark.parametrize("name", ["4b", "12b", "27b"])
def test_vision_tower_is_the_same_for_all(name: str) -> None:
    vision = SIZES[name].vision
    assert vision is not None
    assert (vision.parameters(), vision.patches) == (416_866_032, 4096)


def test_every_real_size_is_counted() -> None:
    assert set(SIZES) == {*RELEASED, "nano"}
