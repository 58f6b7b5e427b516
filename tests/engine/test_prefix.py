"""The next turn computes only what is new, and its bits are those of a model that never saw the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.engine.prefix import Snapshots
from gemmary.model.pages import Sequence
from gemmary.ops.contract import Full
from tests.parity.sharp import VOCAB, text_ids

from .pool import settled, snapshots

LONG = {"role": "user", "content": "the quick brown fox jumps over the lazy dog " * 3}


@pytest.fixture
def unseen(packed: Path) -> Iterator[gemmary.Model]:
    """A second model, that remembers nothing."""
    with gemmary.load(packed, context=1024, threads=1) as loaded:
        yield loaded


def answer(model: gemmary.Model, messages: list[dict[str, Any]]) -> gemmary.Reply:
    """Letters only, so that a text becomes the same ids again."""
    letters = dict.fromkeys(model.tokenizer.encode("abcdefgh"), 50.0)
    return model.chat(messages, seed=3, max_tokens=24, logit_bias=letters)


def test_the_second_turn_of_a_conversation_runs_only_new_tokens(
    fresh: gemmary.Model, unseen: gemmary.Model
) -> None:
    """Far past the window of 48 in the first turn already."""
    first = answer(fresh, [LONG])
    assert first.usage.cached_tokens == 0
    assert first.usage.prompt_tokens > 100
    messages = [LONG, first.message, {"role": "user", "content": "and then"}]
    second = answer(fresh, messages)
    known = first.usage.prompt_tokens + len(first.ids) - 1  # the last token was drawn, but never run
    assert second.usage.cached_tokens == known
    assert second.timings.prefill_tokens == second.usage.prompt_tokens - known
    assert second.ids == answer(unseen, messages).ids


def test_editing_the_last_message_keeps_the_turns_before_it(
    fresh: gemmary.Model, unseen: gemmary.Model
) -> None:
    first = answer(fresh, [LONG])
    before = [LONG, first.message]
    answer(fresh, [*before, {"role": "user", "content": "and then"}])
    edited = [*before, {"role": "user", "content": "but why"}]
    again = answer(fresh, edited)
    assert again.usage.cached_tokens >= first.usage.prompt_tokens + len(first.ids) - 1
    assert again.ids == answer(unseen, edited).ids


def test_retry_runs_one_token_of_the_prompt(fresh: gemmary.Model) -> None:
    """At any length: also where a page has just left the window."""
    for length in sorted({*range(165, 181), *range(120, 250, 7)}):
        ids = text_ids(length, seed=length)
        assert fresh.generate(ids, seed=1, max_tokens=3).usage.cached_tokens == 0
        assert fresh.generate(ids, seed=2, max_tokens=3).usage.cached_tokens == length - 1


def test_bits_are_those_of_a_fresh_model(fresh: gemmary.Model, unseen: gemmary.Model) -> None:
    """The logits behind every later token, from a snapshot and from scratch, compared bit for bit."""
    ids = text_ids(200, seed=9)
    fresh.generate(ids[:130], seed=1, max_tokens=1)
    runner, cancel = fresh._runner, gemmary.engine.request.Request([], None, frozenset()).cancel  # type: ignore[arg-type]
    assert runner is not None
    sequence = Sequence()

    def step(token: int) -> np.ndarray:
        return runner.head(runner.step(sequence, [token], [0], cancel), Full())[0]

    assert fresh._thread.run(lambda: runner.start(ids, sequence)) == 130
    rows = [fresh._thread.run(lambda token=token: step(token)) for token in ids[130:]]  # type: ignore[misc]
    fresh._thread.run(lambda: runner.finish(sequence))
    np.testing.assert_array_equal(np.stack(rows), unseen.logits(ids, rows=range(130, 200)))


def test_branches_of_one_beginning(fresh: gemmary.Model, unseen: gemmary.Model) -> None:
    """Several continuations of one text, in turn and again: none sees what another wrote."""
    trunk = text_ids(100, seed=1)
    branches = [trunk + text_ids(40, seed=n) for n in range(2, 6)]
    fresh.generate(trunk, seed=1, max_tokens=1)
    for _ in range(2):
        for ids in branches:
            reply = fresh.generate(ids, seed=1, max_tokens=15)
            assert reply.usage.cached_tokens >= 100
            assert reply.ids == unseen.generate(ids, seed=1, max_tokens=15).ids


def test_random_conversations_equal_a_model_without_memory(
    fresh: gemmary.Model, unseen: gemmary.Model
) -> None:
    """Continue, cut back, edit, repeat, start anew: forty random requests that share beginnings."""
    rng = np.random.default_rng(0)
    text, cached = text_ids(150, seed=0), 0
    for number in range(40):
        keep = int(rng.integers(1, len(text) + 1)) if rng.random() < 0.7 else len(text)
        text = text[:keep] + [int(i) for i in rng.integers(4, VOCAB, rng.integers(0, 60))]
        text = text[:300] or [5]
        ours = fresh.generate(text, seed=number, max_tokens=int(rng.integers(1, 12)))
        unseen._thread.run(unseen._runner.snapshots.clear)  # type: ignore[union-attr]
        theirs = unseen.generate(text, seed=number, max_tokens=len(ours.ids) or 1)
        assert ours.ids == theirs.ids
        assert theirs.usage.cached_tokens == 0
        cached += ours.usage.cached_tokens
        text += ours.ids
    assert cached > 40 * 50
    assert settled(fresh)[1] == 0


def test_a_short_conversation_takes_one_snapshot(fresh: gemmary.Model) -> None:
    """What a longer text covers needs no snapshot of its own; past the window it does."""
    fresh.generate(text_ids(20, seed=1), seed=1, max_tokens=10)
    assert snapshots(fresh) == 1
    for _ in range(3):
        fresh.generate(text_ids(20, seed=1), seed=1, max_tokens=10)
    assert snapshots(fresh) == 1
    fresh.generate(
        text_ids(20, seed=2), seed=1, max_tokens=200, logit_bias=dict.fromkeys(fresh.tokenizer.stops, -1e6)
    )
    assert snapshots(fresh) == 3


def test_only_so_many_texts_are_remembered(fresh: gemmary.Model) -> None:
    for number in range(300):
        fresh.generate([4 + number], seed=1, max_tokens=1)
    count = snapshots(fresh)
    assert 1 < count < 300
    assert fresh.generate([303, 9], seed=1, max_tokens=1).usage.cached_tokens == 1  # the newest
    assert fresh.generate([4, 9], seed=1, max_tokens=1).usage.cached_tokens == 0  # the oldest


def test_the_least_recently_used_goes_first(fresh: gemmary.Model) -> None:
    runner = fresh._runner
    assert runner is not None
    kept = Snapshots(runner.pages, 2)

    def text(ids: list[int]) -> None:
        sequence = Sequence()
        runner.pages.reserve(sequence, len(ids))
        runner.pages.commit(sequence, len(ids))
        kept.keep(ids, sequence)
        runner.pages.release(sequence)

    text([1, 2])
    text([3, 4])
    runner.pages.release(kept.start([1, 2, 9]))  # used
    text([5, 6])
    found = {n: kept.start([n, n + 1, 9]) for n in (1, 3, 5)}
    assert {n: sequence.length for n, sequence in found.items()} == {1: 2, 3: 0, 5: 2}
    for sequence in found.values():
        runner.pages.release(sequence)
    kept.clear()
    assert settled(fresh) == (0, 0)
