"""A recorded step gives the bits of a computed one, and is really played instead of computed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gemmary.formats import FORMATS
from gemmary.model.pages import Sequence
from gemmary.ops.numba import staged, table
from gemmary.ops.numba.machine import prepare
from gemmary.ops.numba.table import RECORDED, NumbaOps
from gemmary.weights.assemble import packed_text
from gemmary.weights.checkpoint import open_checkpoint
from tests.golden.model import CONFIG, bits, write
from tests.parity.decoding import Decoding

Steps = list[
    tuple[list[int], list[int]]
]  # of each step: which sequences, and how many tokens each of them gets


def ids(count: int, seed: int) -> list[int]:
    return (bits(count, seed) % np.uint64(CONFIG.vocab)).tolist()


@pytest.fixture(scope="module", params=["Q4_0", "Q6_K", "F16"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(FORMATS[request.param], tmp_path_factory.mktemp(request.param))


def decoding(file: Path, replay: bool, pages: str = "F16") -> Decoding:
    checkpoint = open_checkpoint(file)
    text, ops = packed_text(checkpoint), NumbaOps(pages, replay)
    layers = tuple(replace(layer, ops=ops) for layer in text.layers)
    return Decoding(replace(text, ops=ops, layers=layers), checkpoint.config)


class Run:
    """Logits of steps over a few texts."""

    def __init__(self, engine: Decoding) -> None:
        self.engine = engine
        self.texts = [ids(400, seed) for seed in range(8)]
        self.sequences = [Sequence() for _ in self.texts]

    def step(self, which: list[int], counts: list[int]) -> list[np.ndarray]:
        chosen = [self.sequences[i] for i in which]
        parts = [
            self.texts[i][s.length : s.length + n] for i, s, n in zip(which, chosen, counts, strict=True)
        ]
        return self.engine.step(chosen, parts)


def assert_same(file: Path, steps: Steps, pages: str = "F16") -> None:
    plain, replayed = Run(decoding(file, False, pages)), Run(decoding(file, True, pages))
    for number, (which, counts) in enumerate(steps):
        for one, other in zip(plain.step(which, counts), replayed.step(which, counts), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"step {number}")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with each Python call of an operation."""
    seen: list[int] = []
    for name in ("project", "rotate", "attend", "merge", "gate", "select"):
        right = getattr(NumbaOps, name)

        def counted(*args: object, right: object = right) -> object:
            seen.append(1)
            return right(*args)  # type: ignore[operator]

        monkeypatch.setattr(NumbaOps, name, counted)
    return seen


def test_decoding_one_text(file: Path) -> None:
    assert_same(file, [([0], [60]), *[([0], [1])] * 80])


def test_pages_of_int8(file: Path) -> None:
    assert_same(file, [([0], [60]), *[([0, 1], [1, 2])] * 20], "I8")


@pytest.mark.long
def test_several_texts_that_come_and_go(file: Path) -> None:
    """Steps of the same size over other sequences, and of other sizes in between."""
    rng = np.random.default_rng(0)
    steps: Steps = [([i], [int(n)]) for i, n in enumerate(rng.integers(1, 90, 8))]
    for _ in range(60):
        which = sorted(rng.permutation(8)[: rng.integers(1, 5)].tolist())
        steps.append((which, rng.integers(1, 4, len(which)).tolist()))
    assert_same(file, steps)


@pytest.mark.long
def test_page_tables_outgrow_a_recording(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged, "_GROWTH", 1)
    assert_same(
        file, [*[([0], [1])] * 70, ([0], [60]), *[([0], [1])] * 3, ([0, 1], [1, 1]), *[([0], [1])] * 3]
    )


@pytest.fixture
def threads() -> Iterator[None]:
    yield
    prepare()


@pytest.mark.long
def test_other_thread_counts(file: Path, threads: None) -> None:
    plain, replayed = Run(decoding(file, False)), Run(decoding(file, True))
    for number in range(24):
        want = plain.step([0], [1])[0]
        prepare((1, 2, 3, 16)[number // 2 % 4])
        np.testing.assert_array_equal(replayed.step([0], [1])[0], want)


def test_a_recording_is_played(file: Path, calls: list[int]) -> None:
    run = Run(decoding(file, True))
    run.step([0], [1])
    once = len(calls)
    assert once == 7 * CONFIG.layers + 1
    for _ in range(10):
        run.step([0], [1])
    assert len(calls) == once, "computed although it was recorded"
    run.step([0, 1], [1, 1])
    assert len(calls) == 2 * once
    for _ in range(3):
        run.step([1, 0], [1, 1])
    assert len(calls) == 2 * once
    run.step([0], [RECORDED + 1])
    run.step([0], [RECORDED + 1])
    assert len(calls) == 4 * once, "large steps are computed"


def test_without_replay_everything_is_computed(file: Path, calls: list[int]) -> None:
    run = Run(decoding(file, False))
    run.step([0], [1])
    once = len(calls)
    run.step([0], [1])
    assert len(calls) == 2 * once


def test_old_recordings_go(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_RECORDINGS", 2)
    engine = decoding(file, True)
    run, plain = Run(engine), Run(decoding(file, False))
    for count in (1, 2, 3, 1, 2, 3, 3, 1):
        np.testing.assert_array_equal(run.step([0], [count])[0], plain.step([0], [count])[0])
        assert len(engine.decoder.ops._recordings) <= 2


def test_a_result_outlives_the_next_step(file: Path) -> None:
    """What a step gave is the caller's, whatever is played afterwards."""
    run = Run(decoding(file, True))
    first = run.step([0], [1])[0]
    copy = first.copy()
    run.step([0], [1])
    np.testing.assert_array_equal(first, copy)


def test_new_pages_are_not_taken_for_old_ones(file: Path) -> None:
    """A recording writes into the pages that it was made with: no others may come to lie where they are."""
    engine = decoding(file, True)
    decoder = engine.decoder
    want = Run(engine).step([0], [1])[0]
    pages = weakref.ref(engine.pages.layers[0])
    del engine
    gc.collect()
    assert pages() is not None
    np.testing.assert_array_equal(Run(Decoding(decoder, CONFIG, 20)).step([0], [1])[0], want)


def test_a_failed_step_leaves_no_recording(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = decoding(file, True)
    run = Run(engine)
    with monkeypatch.context() as patch:
        patch.setattr(NumbaOps, "select", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.step([0], [1])
    plain = Run(decoding(file, False))
    np.testing.assert_array_equal(Run(engine).step([0], [1])[0], plain.step([0], [1])[0])
