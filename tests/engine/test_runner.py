"""Steps over sequences: whole or not at all, and left between two layers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.engine.runner import MAX_CHUNK, Runner
from gemmary.engine.thread import Cancelled
from gemmary.errors import MemoryBudgetError
from gemmary.model.pages import Sequence
from gemmary.ops.contract import Full
from tests.parity.sharp import text_ids


@pytest.fixture
def runner(fresh: gemmary.Model) -> Iterator[Runner]:
    """The runner of a model; the test's thread stands in for the engine's, which is idle."""
    found = fresh._runner
    assert found is not None
    yield found
    found.snapshots.clear()
    assert found.pages.bytes_used == 0, "the test left pages behind"


def begin(runner: Runner) -> Sequence:
    sequence = Sequence()
    runner.start([], sequence)
    return sequence


def run(runner: Runner, sequence: Sequence, ids: list[int]) -> np.ndarray:
    """Logits of the last of `ids`."""
    states = runner.step(sequence, ids, [len(ids) - 1], threading.Event())
    return np.array(runner.head(states, Full())[0])


def test_a_cancelled_step_stops_at_the_next_layer_and_never_happened(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = text_ids(150, seed=1)
    expected = begin(runner)
    run(runner, expected, ids[:70])
    logits = run(runner, expected, ids[70:])
    runner.finish(expected)

    sequence, cancel, layers = begin(runner), threading.Event(), []
    run(runner, sequence, ids[:70])
    held = runner.pages.bytes_used
    kind = type(runner.decoder.layers[0])
    whole = kind.__call__

    def third_cancels(self: Any, *args: Any) -> Any:
        layers.append(self)
        if len(layers) == 3:
            cancel.set()
        return whole(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "__call__", third_cancels)
        with pytest.raises(Cancelled):
            runner.step(sequence, ids[70:], [79], cancel)
    assert len(layers) == 3
    assert (sequence.length, runner.pages.bytes_used) == (70, held)
    np.testing.assert_array_equal(run(runner, sequence, ids[70:]), logits)
    runner.finish(sequence)


def test_steps_grow_until_a_layer_takes_its_time(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """From small to large on a quick machine, back on a slow one, never beyond what scratch is sized for."""
    seconds, now = 0.0, 0.0

    def perf_counter() -> float:
        nonlocal now
        now += seconds
        return now

    monkeypatch.setattr("gemmary.engine.runner.time.perf_counter", perf_counter)
    sizes = []
    for step in (1e-4, 1e-4, 7.0, 7.0, 7 * 0.04):
        seconds = step
        sequence = begin(runner)
        run(runner, sequence, text_ids(runner.chunk, seed=1))
        runner.finish(sequence)
        sizes.append(runner.chunk)
    assert sizes == [MAX_CHUNK, MAX_CHUNK, 10, 8, 8]


def test_a_sequence_that_was_never_started_or_is_finished_cannot_step(runner: Runner) -> None:
    """Its pages are gone: running it would silently begin a new text."""
    sequence = begin(runner)
    run(runner, sequence, [5, 6])
    runner.finish(sequence)
    runner.finish(sequence)
    for gone in (sequence, Sequence()):
        with pytest.raises(MemoryBudgetError, match="other answers"):
            run(runner, gone, [7])


def test_an_empty_text_is_not_remembered(runner: Runner) -> None:
    sequence = begin(runner)
    runner.keep([5, 6], sequence)
    assert len(runner.snapshots) == 0
    runner.finish(sequence)
