"""A second model guesses: the same text, whatever that model is, and its pages come back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.engine import runner
from gemmary.engine.choices import choices
from gemmary.engine.drafter import Drafter, build_drafter, check_same_vocabulary
from gemmary.engine.load import read_tokenizer
from gemmary.engine.thread import EngineThread
from gemmary.errors import MemoryBudgetError, UnsupportedModelError
from gemmary.formats import FORMATS
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.model.text import hidden
from gemmary.weights.checkpoint import open_checkpoint
from tests.parity.ggufs import quantized_copy, vocabulary
from tests.parity.sharp import VOCAB, Kind, saved

from .guessing import Always, always
from .pool import settled
from .questions import OPTIONS, PROMPT, same

MEMORY = 1 << 28
TINY = Kind(
    "draft",
    layers=6,
    heads=2,
    kv_heads=1,
    head_dim=32,
    window=40,
    query_scalar=32,
    factor=1.0,
    width=64,
    ffn=64,
)


def with_drafter(model: gemmary.Model, path: Path, context: int = 1024) -> Drafter:
    """What `load` does when a draft model is named."""
    checkpoint, runner = open_checkpoint(path), model._runner
    assert runner is not None

    tokenizers = read_tokenizer(checkpoint), model.tokenizer
    runner.drafter = build_drafter(checkpoint, tokenizers, model._thread, context, MEMORY)
    return runner.drafter


def drafter_bytes(model: gemmary.Model) -> int:
    """Bytes of pages that the draft model holds when its snapshots are forgotten."""
    drafting = model._runner.drafter.runner  # type: ignore[union-attr]

    def count() -> int:
        drafting.snapshots.clear()
        return drafting.pages.bytes_used

    return model._thread.run(count)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another size that says other things."""
    folder = tmp_path_factory.mktemp("draft")
    saved(TINY, folder)
    quantized_copy(folder, folder / "draft.gguf", FORMATS["Q4_0"])
    return folder / "draft.gguf"


@pytest.fixture
def twin(fresh: gemmary.Model, packed: Path) -> Iterator[gemmary.Model]:
    """A model whose draft model is the same file."""
    with_drafter(fresh, packed)
    yield fresh
    assert settled(fresh)[1] == 0
    assert drafter_bytes(fresh) == 0


@pytest.fixture
def mixed(fresh: gemmary.Model, other: Path) -> Iterator[gemmary.Model]:
    """A model with another as its draft model."""
    with_drafter(fresh, other)
    yield fresh
    assert settled(fresh)[1] == 0
    assert drafter_bytes(fresh) == 0


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_the_same_model_guesses_every_token(
    model: gemmary.Model, twin: gemmary.Model, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """It draws with the same noise, so it agrees: at any temperature, with penalties, past the window."""
    always(monkeypatch)
    for seed in (1, 2):
        asked = {"seed": seed, "max_tokens": 60, **options}
        plain = model.generate(PROMPT, speculate=False, **asked)
        reply = twin.generate(PROMPT, **asked)
        usage = dataclasses.replace(plain.usage, cached_tokens=reply.usage.cached_tokens)
        assert same(dataclasses.replace(plain, usage=usage), reply)
        timings = reply.timings
        assert timings.drafted_tokens > 0 or len(plain.ids) < 3
        if reply.finish_reason == "length":
            assert timings.accepted_tokens == timings.drafted_tokens > 30


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_another_model_changes_nothing(
    model: gemmary.Model, mixed: gemmary.Model, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    always(monkeypatch)
    for seed in (1,):
        asked = {"seed": seed, "max_tokens": 60, **options}
        plain = model.generate(PROMPT, speculate=False, **asked)
        reply = mixed.generate(PROMPT, **asked)
        assert (reply.ids, reply.text, reply.logprobs, reply.finish_reason) == (
            plain.ids,
            plain.text,
            plain.logprobs,
            plain.finish_reason,
        )
        assert reply.timings.accepted_tokens < reply.timings.drafted_tokens


def test_a_conversation_is_not_read_twice(twin: gemmary.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draft model remembers texts as the first one does."""
    always(monkeypatch)
    lengths: list[int] = []
    step = type(twin._runner).step

    def counted(self: Any, sequence: Any, ids: Any, *rest: Any) -> Any:
        if self is twin._runner.drafter.runner:  # type: ignore[union-attr]
            lengths.append(len(ids))
        return step(self, sequence, ids, *rest)

    monkeypatch.setattr(type(twin._runner), "step", counted)
    first = twin.generate(PROMPT, seed=1, max_tokens=30)
    assert sum(lengths) >= len(PROMPT)
    lengths.clear()
    twin.generate([*PROMPT, *first.ids, 7, 8, 9], seed=1, max_tokens=3)
    assert 0 < sum(lengths) < 20


@pytest.mark.parametrize("context", [95, 100, 120])
def test_a_draft_model_whose_context_ends_first(
    model: gemmary.Model,
    fresh: gemmary.Model,
    packed: Path,
    monkeypatch: pytest.MonkeyPatch,
    context: int,
) -> None:
    with_drafter(fresh, packed, context)
    always(monkeypatch)
    never = dict.fromkeys(model.tokenizer.stops, -1e6)
    plain = model.generate(PROMPT, seed=1, max_tokens=60, logit_bias=never, speculate=False)
    reply = fresh.generate(PROMPT, seed=1, max_tokens=60, logit_bias=never)
    assert reply.ids == plain.ids
    assert 0 < reply.timings.accepted_tokens <= reply.timings.drafted_tokens <= context - len(PROMPT)
    assert drafter_bytes(fresh) == 0


def test_a_draft_model_without_memory_for_one_more_text_guesses_no_more(
    model: gemmary.Model, twin: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = dict.fromkeys(model.tokenizer.stops, -1e6)
    plain = model.generate(PROMPT, seed=1, max_tokens=40, logit_bias=never, speculate=False)
    always(monkeypatch)
    runner = twin._runner.drafter.runner  # type: ignore[union-attr]
    reserve, calls = runner._reserve, []

    def full(*args: Any) -> None:
        calls.append(args)
        if len(calls) > 15:
            raise MemoryBudgetError("full")
        reserve(*args)

    monkeypatch.setattr(runner, "_reserve", full)
    reply = twin.generate(PROMPT, seed=1, max_tokens=40, logit_bias=never)
    assert reply.ids == plain.ids
    assert len(calls) == 16


def test_a_damaged_draft_model_guesses_no_more(
    model: gemmary.Model, twin: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = model.generate(PROMPT, seed=1, max_tokens=40, speculate=False)
    always(monkeypatch)
    runner = twin._runner.drafter.runner  # type: ignore[union-attr]
    head = runner.head

    def damaged(*args: Any) -> Any:
        found = head(*args)
        found.logits[:] = np.nan
        return found

    monkeypatch.setattr(runner, "head", damaged)
    reply = twin.generate(PROMPT, seed=1, max_tokens=40)
    assert (reply.ids, reply.timings.drafted_tokens) == (plain.ids, 0)


def test_cancelling_while_the_draft_model_reads_and_guesses(
    twin: gemmary.Model, model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = dict.fromkeys(model.tokenizer.stops, -1e6)
    plain = model.generate(PROMPT, seed=1, max_tokens=40, logit_bias=never, speculate=False)
    always(monkeypatch)
    draft = twin._runner.drafter.runner  # type: ignore[union-attr]
    for stop in (1, 2, 5, 9, 14):
        stream = twin.generate(PROMPT, stream=True, seed=1, max_tokens=40, logit_bias=never)
        seen: list[int] = []

        def leave(decoder: Any, *args: Any, seen: list[int] = seen, stop: int = stop) -> Any:
            seen += [1] if decoder is draft.decoder else []
            if len(seen) == stop:
                stream._cancel.set()  # noqa: B023
            return hidden(decoder, *args)

        with monkeypatch.context() as patch:
            patch.setattr(runner, "hidden", leave)
            pieces = list(stream)
        ids = sum((piece.ids for piece in pieces), ())
        assert pieces[-1].finish_reason == "cancelled"
        assert len(seen) == stop
        assert ids == plain.ids[: len(ids)]
        assert settled(twin)[1] == 0
        assert drafter_bytes(twin) == 0


def test_pictures_of_the_larger_model_are_not_read(
    model: gemmary.Model, mixed: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id for which the draft model has no row: it guesses nothing, and nothing breaks."""
    always(monkeypatch)
    drafter = mixed._runner.drafter  # type: ignore[union-attr]
    assert drafter is not None
    runner = drafter.runner
    monkeypatch.setattr(runner, "config", dataclasses.replace(runner.config, vocab=max(PROMPT)))
    reply = mixed.generate(PROMPT, seed=1, max_tokens=10)
    assert reply.ids == model.generate(PROMPT, seed=1, max_tokens=10, speculate=False).ids
    assert reply.timings.drafted_tokens == 0


def test_the_policy_chooses_the_draft_model_where_it_wins(
    model: gemmary.Model, twin: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real policy, told that guesses of this model cost nothing and rows are free."""
    from gemmary.engine.speculation import Costs

    monkeypatch.setattr(Costs, "step", lambda self, width: 0.01)
    monkeypatch.setattr(Costs, "known", True)
    monkeypatch.setattr("gemmary.engine.drafter.Follower.seconds", 1e-4)
    never = dict.fromkeys(model.tokenizer.stops, -1e6)
    plain = model.generate(PROMPT, seed=1, max_tokens=60, logit_bias=never, speculate=False)
    reply = twin.generate(PROMPT, seed=1, max_tokens=60, logit_bias=never)
    assert reply.ids == plain.ids
    assert reply.timings.accepted_tokens == reply.timings.drafted_tokens > 40


def tokenizer(**changes: Any) -> Tokenizer:
    lists = vocabulary(VOCAB)
    tokens, types = list(lists.tokens), list(lists.types)
    for at, token in changes.get("tokens", {}).items():
        tokens[at] = token
    for at, kind in changes.get("types", {}).items():
        types[at] = kind
    tokens += changes.get("more", [])
    types += [changes.get("kind", 1)] * len(changes.get("more", []))
    return Tokenizer.from_vocabulary(tokens, -np.arange(len(tokens), dtype=np.float32), types)


def test_vocabularies_must_mean_the_same() -> None:
    check_same_vocabulary("draft.gguf", tokenizer(), tokenizer())
    check_same_vocabulary("draft.gguf", tokenizer(), tokenizer(more=["<pad1>", "<pad2>"], kind=3))
    for changes in (
        {"tokens": {300: "▁other"}},
        {"tokens": {300: "▁word11", 301: "▁word10"}},
        {"types": {300: 3}},
        {"more": ["▁extra"]},
        {"tokens": {261: "<end_of_talk>"}},
    ):
        for pair in ((tokenizer(**changes), tokenizer()), (tokenizer(), tokenizer(**changes))):
            with pytest.raises(UnsupportedModelError, match=r"^draft\.gguf: .*another vocabulary.*choose"):
                check_same_vocabulary("draft.gguf", *pair)


def test_the_bundled_model_cannot_draft_for_another(packed: Path) -> None:
    from gemmary.weights.hub import bundled

    checkpoint, target = open_checkpoint(bundled()), open_checkpoint(packed)
    tokenizers = read_tokenizer(checkpoint), read_tokenizer(target)
    thread = EngineThread(lambda: None)
    with pytest.raises(UnsupportedModelError, match="another vocabulary"):
        build_drafter(checkpoint, tokenizers, thread, context=100, memory=MEMORY)
    thread.close()


def test_a_draft_model_that_does_not_fit_is_refused(packed: Path, model: gemmary.Model) -> None:
    checkpoint = open_checkpoint(packed)
    tokenizers = read_tokenizer(checkpoint), model.tokenizer
    with pytest.raises(MemoryBudgetError, match="smaller"):
        build_drafter(checkpoint, tokenizers, model._thread, context=100, memory=100_000)


def test_a_draft_model_says_only_what_may_be_said(twin: gemmary.Model) -> None:
    drafter = twin._runner.drafter  # type: ignore[union-attr]
    assert drafter is not None
    np.testing.assert_array_equal(drafter.allowed, choices(twin.tokenizer, VOCAB))
    assert Always.lengths
