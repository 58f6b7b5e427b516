"""How much fits is known before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gemmary
from gemmary.config import GEMMA3_1B, GEMMA3_4B, SIZES
from gemmary.engine import load as load_module
from gemmary.engine.memory import choose_context, estimate_memory, machine_memory, pool_pages
from gemmary.errors import MemoryBudgetError, PromptError
from gemmary.model.pages import page_bytes
from gemmary.ops.contract import GLOBAL, LOCAL, PAGE

GB = 1_000_000_000


def test_pages_of_a_real_size_are_what_the_formula_says() -> None:
    """Global layers keep everything, local layers a window and the step in work, and a page of slack each."""
    config, context = GEMMA3_4B, 32_768
    keys = 2 * config.kv_heads * config.head_dim * 2  # bytes: halves
    everywhere = 5 * keys * (context + PAGE)
    windows = 29 * keys * (config.window + 256 + 256 + PAGE)  # a chunk, and a picture that is not cut
    assert estimate_memory(config, 0, context).pages == everywhere + windows


@pytest.mark.parametrize("name", SIZES)
def test_a_larger_context_never_takes_less(name: str) -> None:
    totals = [estimate_memory(SIZES[name], GB, tokens).total for tokens in (64, 512, 1024, 4096, 32_768)]
    assert totals == sorted(totals)


def test_the_context_shrinks_until_it_fits() -> None:
    whole = estimate_memory(GEMMA3_1B, GB, GEMMA3_1B.context).total
    assert choose_context(GEMMA3_1B, GB, None, whole) == GEMMA3_1B.context
    smaller = choose_context(GEMMA3_1B, GB, None, whole - 1)
    assert smaller == GEMMA3_1B.context // 2
    assert choose_context(GEMMA3_1B, GB, 5000, whole) == 5000


@pytest.mark.parametrize(("wanted", "memory"), [(None, GB), (32_768, GB + 100_000_000), (10, GB - 1)])
def test_what_cannot_fit_says_what_to_take_instead(wanted: int | None, memory: int) -> None:
    with pytest.raises(MemoryBudgetError, match=r"1\.0 GB.*smaller context, a 4-bit file or a smaller model"):
        choose_context(GEMMA3_1B, GB, wanted, memory)


def test_the_pool_holds_a_text_always_and_more_where_there_is_room() -> None:
    def size(pages: tuple[int, int]) -> int:
        return sum(n * page_bytes(GEMMA3_1B, kind) for n, kind in zip(pages, (GLOBAL, LOCAL), strict=True))

    one = estimate_memory(GEMMA3_1B, 0, 4096).pages
    assert size(pool_pages(GEMMA3_1B, 4096, 0)) == one
    assert size(pool_pages(GEMMA3_1B, 4096, -GB)) == one
    assert one < size(pool_pages(GEMMA3_1B, 4096, GB // 2)) <= GB // 2
    assert size(pool_pages(GEMMA3_1B, 4096, 100 * GB)) <= 1 << 30


def test_this_machine_has_memory() -> None:
    assert 100_000_000 < machine_memory() < 1 << 50


def test_load_refuses_what_the_machine_cannot_hold(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "machine_memory", lambda: 900_000)
    for options in ({}, {"context": 4096}, {"device": "torch"}):
        with pytest.raises(MemoryBudgetError, match="smaller"):
            gemmary.load(packed, **options)  # type: ignore[arg-type]


def test_load_takes_no_more_than_it_may(packed: Path) -> None:
    """The context shrinks until all of it fits: weights, scratch and the pages that are really there."""
    whole = gemmary.estimate(packed)
    for memory in (whole.total, whole.total - 1):
        with gemmary.load(packed, threads=1, streams=2, memory=memory) as loaded:
            needed = gemmary.estimate(packed, loaded.context)
            assert loaded.context == (4096 if memory == whole.total else 2048)
            assert loaded.scheduler is not None
            taken = loaded.scheduler.pages.bytes_total
            assert needed.pages <= taken <= memory - needed.weights - needed.scratch
    with pytest.raises(MemoryBudgetError, match="smaller"):
        gemmary.load(packed, context=4096, memory=whole.total - 1)
    with gemmary.load(packed, threads=1, memory=1 << 60) as loaded:
        assert loaded.context == 4096, "the machine is still the limit"


def test_a_context_that_the_model_does_not_have(packed: Path) -> None:
    for call in (gemmary.load, gemmary.estimate):
        with pytest.raises(PromptError, match="at most 4,096"):
            call(packed, context=4097)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "9", [1], float("nan")], ids=repr)
def test_senseless_sizes(packed: Path, value: Any) -> None:
    for call in (
        lambda: gemmary.load(packed, context=value),
        lambda: gemmary.load(packed, threads=value),
        lambda: gemmary.load(packed, memory=value),
        lambda: gemmary.estimate(packed, context=value),
        lambda: gemmary.estimate(packed, batch=value),
    ):
        with pytest.raises(PromptError):
            call()
