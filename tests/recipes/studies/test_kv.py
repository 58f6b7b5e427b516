"""Memory of keys and values: the report's figures to the megabyte, and our pool's own count."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gemmary.config import SIZES
from gemmary.engine.memory import estimate_memory, number_bytes
from gemmary.recipes.studies import kv

LENGTHS = ("1K", "4K", "8K", "16K", "32K", "64K", "128K")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> kv.Findings:
    study = kv.study("Memory", quick=False)
    return study.find(study.runs(tmp_path_factory.mktemp("kv"), 1, lambda line: None, "abc"))


def test_figure_5(found: kv.Findings) -> None:
    assert [int(line[1]) for line in found.tables[0][1:]] == [1745, 981, 900, 570, 445]


def test_figure_6(found: kv.Findings) -> None:
    head, everywhere, windowed = found.tables[1]
    assert head[1:] == LENGTHS
    assert [int(cell) for cell in everywhere[1:]] == [55, 218, 436, 872, 1745, 3490, 6979]
    assert [int(cell) for cell in windowed[1:]] == [55, 80, 113, 180, 315, 583, 1120]


@pytest.mark.parametrize("size", kv.OWN)
def test_the_pool_holds_no_more_than_was_estimated(size: str) -> None:
    config = SIZES[size]
    held = kv.pool_bytes(config, [4096, 32_768])[32_768]
    most = estimate_memory(config, 0, 32_768, number=number_bytes(config, "int8")).pages
    kept = sum(32_768 if config.is_global(layer) else config.window for layer in range(config.layers))
    bare = kept * 2 * config.kv_heads * (config.head_dim + 4)
    assert bare <= held <= most
    assert held < 1.05 * bare


def test_it_needs_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gemmary.recipes.studies import catalogue

    monkeypatch.setitem(sys.modules, "torch", None)
    study = catalogue.find("kv", tmp_path, tmp_path, quick=True)
    assert study.runs(tmp_path, 1, lambda line: None, "abc").values("figure 5", "3:1, window 1024")
