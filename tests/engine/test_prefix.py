"""The next turn computes only what is new, and its bits are those of a model that never saw the first."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.engine import prefix
from gemmary.engine.options import Order
from gemmary.engine.prefix import Snapshots
from gemmary.engine.sampling import Sampling
from gemmary.model.pages import Sequence
from gemmary.ops.contract import Full
from tests.parity.sharp import VOCAB, text_ids

from .company import Listener, alone, crowd, ended, left_over
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


def turns(model: gemmary.Model, *said: str) -> list[int]:
    """The ids of a conversation whose texts were said in turns, the next one being the model's."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
    return list(model.prompt(messages).ids)


A, B, C = "the quick brown fox " * 5, "jumps over the lazy dog " * 4, "and comes back again " * 5
JOURNEYS = {  # what was asked, what is asked then: all of it past the window of 48
    "append": ((A,), (A, B, C)),
    "edit": ((A, B, C), (A, B, "but why")),
    "regenerate": ((A, B, C), (A, B, C)),
    "branch": ((A, B, A, B, C), (A, B, "another way", B, C)),
    "system prompt": ((A + "one",), (A + "two",)),
}


@pytest.mark.parametrize("evicted", [False, True], ids=["kept", "evicted"])
@pytest.mark.parametrize("journey", JOURNEYS)
def test_journeys(model: gemmary.Model, journey: str, evicted: bool) -> None:
    """Of one user, while another one reads the same and more, with few pages so that old ones go, or many."""
    crowded = crowd(model, (10, 14) if evicted else (200, 300), streams=2, context=1024)
    order = Order(Sampling(seed=5), 10)

    def said(ids: list[int], key: bytes) -> tuple[list[int], int]:
        listener = Listener()
        transcript = crowded.open(ids, listener, order, key.decode(), key)
        ended([listener])
        assert listener.fault is None
        return listener.ids, transcript.run.cached

    first, then = (turns(model, *texts) for texts in JOURNEYS[journey])
    said(first, b"ours")
    assert said(first, b"theirs") == (alone(model, first, order), 0), "another user's text was used"
    for number in range(6 if evicted else 1):
        said(text_ids(220, seed=number), b"theirs")
    ids, cached = said(then, b"ours")
    assert ids == alone(model, then, order)
    assert said(then, b"theirs")[0] == ids
    if not evicted and journey != "system prompt":
        assert cached >= 100
    if evicted:
        assert cached == 0, "nothing was evicted: the pages were too many to show anything"
    assert left_over(crowded)[:3] == (0, 0, 0)


class Short:
    """SHA-256, of which one byte is left."""

    def __init__(self, data: bytes) -> None:
        self._digest = sha256(data).digest()[:1]

    def digest(self) -> bytes:
        return self._digest


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_hash_of_eight_bits_confuses_nothing(
    fresh: gemmary.Model, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Texts are compared in full. The longest usable beginning is found, as by going through all."""
    runner = fresh._runner
    assert runner is not None
    pages, rng = runner.pages, np.random.default_rng(0)
    monkeypatch.setattr(prefix.hashlib, "sha256", Short)
    kept = Snapshots(pages, 40)
    for _ in range(count):
        text = rng.integers(0, 3, rng.integers(1, 200)).tolist()
        text[:100] = [1] * int(rng.choice([0, 20, 64, 100]))
        key = bytes([rng.integers(3)])
        lengths = [
            shared
            for old in kept._kept.values()
            if old.key == key
            and pages.can_truncate(old.sequence, shared := common(old.ids.tolist(), text[:-1]))
        ]
        sequence = kept.start(text, key)
        assert sequence.length == max(lengths, default=0)
        more = len(text) - sequence.length
        while not pages.room(sequence, more):
            assert kept.evict()
        pages.reserve(sequence, more)
        pages.commit(sequence, more)
        kept.keep(text, sequence, key)
        pages.release(sequence)
    kept.clear()
    assert settled(fresh) == (0, 0)


def common(a: list[int], b: list[int]) -> int:
    """Length of the common beginning."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
