"""Speculated = plain, bit for bit: whoever guesses, however well, wherever the text ends."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import gemmary
from gemmary.engine import decoding
from gemmary.engine.choices import choices
from gemmary.engine.decoding import Decoding
from gemmary.engine.speculation import Costs
from tests.parity.sharp import VOCAB, text_ids

from .guessing import Always, Guesser, always, lucky, right, wrong
from .pool import settled, snapshots
from .questions import OPTIONS, PROMPT, WORDS, same

TOKENS = 70  # a page border on the way
GUESSERS: dict[str, Callable[[list[int]], Guesser]] = {
    "right": right,
    "wrong": lambda text: wrong(text, VOCAB),
    "lucky": lambda text: lucky(text, VOCAB, 3),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("kind", GUESSERS)
def test_replies_are_the_same(
    model: gemmary.Model,
    fresh: gemmary.Model,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    kind: str,
) -> None:
    """Text, ids, reason, log-probabilities, and what is remembered afterwards. The words of the guesses are
    those of the plain answer, so that right ones are right.
    """
    drafted = accepted = 0
    for seed in range(2):
        asked = {"seed": seed, "max_tokens": TOKENS, **options}
        for each in (model, fresh):
            each._thread.run(each._runner.snapshots.clear)  # type: ignore[union-attr]
        plain = model.generate(PROMPT, speculate=False, **asked)
        with monkeypatch.context() as patch:
            always(patch, GUESSERS[kind]([*PROMPT, *plain.ids]))
            reply = fresh.generate(PROMPT, **asked)
        assert same(plain, reply)
        assert snapshots(fresh) == snapshots(model)
        drafted += reply.timings.drafted_tokens
        accepted += reply.timings.accepted_tokens
        if kind == "right" and reply.finish_reason == "length":
            assert reply.timings.accepted_tokens == reply.timings.drafted_tokens
    assert settled(fresh)[1] == 0
    if kind == "wrong":
        assert (drafted > 0, accepted) == (True, 0)
    else:
        assert accepted > 5


@pytest.mark.parametrize("kind", GUESSERS)
def test_streams_are_the_same_piece_by_piece(
    model: gemmary.Model, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name in ("plain", "logprobs", "ends often", "stop strings"):
        asked: dict[str, Any] = {"seed": 4, "max_tokens": 40, **OPTIONS[name]}
        model.generate(PROMPT, speculate=False, **asked)
        plain = list(model.generate(PROMPT, True, speculate=False, **asked))
        ids = sum((piece.ids for piece in plain), ())
        with monkeypatch.context() as patch:
            always(patch, GUESSERS[kind]([*PROMPT, *ids]))
            pieces = list(model.generate(PROMPT, True, **asked))
        times = pieces[-1].timings
        plain[-1] = dataclasses.replace(plain[-1], timings=times)
        assert pieces == plain


@pytest.mark.parametrize("tokens", range(1, 20))
def test_max_tokens_inside_a_draft(
    model: gemmary.Model, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    plain = model.generate(PROMPT, seed=2, max_tokens=30, speculate=False)
    always(monkeypatch, right([*PROMPT, *plain.ids]))
    monkeypatch.setattr(Always, "lengths", (7,))
    reply = model.generate(PROMPT, seed=2, max_tokens=tokens)
    assert (reply.ids, reply.finish_reason) == (plain.ids[:tokens], "length")
    assert reply.timings.drafted_tokens == reply.timings.accepted_tokens >= (tokens - 2) * 7 // 8


@pytest.mark.parametrize("length", range(80, 100))
def test_the_end_of_the_context_inside_a_draft(
    packed: Path, model: gemmary.Model, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """No token is run behind the end, and the text is that of a larger context."""
    never = dict.fromkeys(model.tokenizer.stops, -1e6)
    ids = text_ids(length, seed=length)
    plain = model.generate(ids, seed=1, max_tokens=100 - length, logit_bias=never, speculate=False)
    always(monkeypatch, right([*ids, *plain.ids]))
    monkeypatch.setattr(Always, "lengths", (5,))
    with gemmary.load(packed, context=100, threads=1) as small:
        reply = small.generate(ids, seed=1, logit_bias=never)
        assert (reply.ids, reply.finish_reason) == (plain.ids, "context_full")
        assert settled(small)[1] == 0


def test_a_stop_token_in_the_middle_of_right_guesses(
    model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guesses go on behind the end of the turn; the answer does not."""
    found = 0
    for seed in range(12):
        asked: dict[str, Any] = {"seed": seed, "max_tokens": 60, "logit_bias": {1: 5.0, 261: 5.0}}
        plain = model.generate(PROMPT, speculate=False, **asked)
        if plain.finish_reason != "stop" or len(plain.ids) < 3:
            continue
        for end in (1, 261):
            with monkeypatch.context() as patch:
                always(patch, right([*PROMPT, *plain.ids], end))
                patch.setattr(Always, "lengths", (15,))
                reply = model.generate(PROMPT, **asked)
            assert (reply.ids, reply.text, reply.finish_reason) == (plain.ids, plain.text, "stop")
            found += 1
    assert found >= 6


@pytest.mark.parametrize("kind", GUESSERS)
def test_a_schema_is_kept(model: gemmary.Model, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """What is allowed at a row is known only when the draws before it are."""
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "integer"}, "maxItems": 5},
            "b": {"enum": ["word1", "word22"]},
        },
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    for seed in range(3):
        asked: dict[str, Any] = {"seed": seed, "max_tokens": 60, "schema": schema, "logprobs": 2}
        model.generate(PROMPT, speculate=False, **asked)
        plain = model.generate(PROMPT, speculate=False, **asked)
        with monkeypatch.context() as patch:
            always(patch, GUESSERS[kind]([*PROMPT, *plain.ids]))
            reply = model.generate(PROMPT, **asked)
        assert same(plain, reply)
        assert (reply.timings.accepted_tokens > 0) == (kind != "wrong")


def test_many_threads_that_guess_get_what_they_would_get_alone(
    model: gemmary.Model, fresh: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repetitions of the prompt are guessed at every step, in four streams of one model."""
    prompts = [(text_ids(20, seed=n) * 3)[: 41 + 5 * n] for n in range(4)]
    plain = [model.generate(ids, seed=n, max_tokens=30, speculate=False) for n, ids in enumerate(prompts)]
    always(monkeypatch)
    replies: dict[int, gemmary.Reply] = {}

    def ask(n: int) -> None:
        replies[n] = fresh.generate(prompts[n], seed=n, max_tokens=30)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [replies[n].ids for n in range(4)] == [reply.ids for reply in plain]
    assert sum(reply.timings.drafted_tokens for reply in replies.values()) > 0
    assert settled(fresh)[1] == 0


def test_it_can_be_switched_off(model: gemmary.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch)
    ids = text_ids(20, seed=1) * 3
    off = model.generate(ids, seed=1, max_tokens=30, speculate=False)
    on = model.generate(ids, seed=1, max_tokens=30)
    assert off.timings.drafted_tokens == 0 < on.timings.drafted_tokens
    assert off.ids == on.ids


def test_the_reference_is_never_guessed_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch promises no bits to a row that has company."""
    always(monkeypatch)
    with gemmary.load(folder, device="torch", context=256) as reference:
        assert reference.generate([5, 6] * 9, seed=1, max_tokens=4).timings.drafted_tokens == 0


def test_nobody_gives_way_for_a_guess(
    fresh: gemmary.Model, model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pages for the next token and no more, the text goes on without guesses."""
    plain = model.generate(PROMPT, seed=3, max_tokens=30, speculate=False)
    room = fresh._runner.pages.room  # type: ignore[union-attr]
    always(monkeypatch, right([*PROMPT, *plain.ids]))
    monkeypatch.setattr(decoding, "_BURST_SECONDS", 0.0)
    tight = lambda s, count: room(s, count) and (s.length < len(PROMPT) or count == 1)  # noqa: E731
    monkeypatch.setattr(fresh._runner.pages, "room", tight)  # type: ignore[union-attr]
    reply = fresh.generate(PROMPT, seed=3, max_tokens=30)
    assert (reply.ids, reply.timings.drafted_tokens) == (plain.ids, 0)


def test_quick_steps_are_handed_over_together(fresh: gemmary.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[int] = []
    burst = Decoding.burst

    def counted(self: Decoding) -> Any:
        found = burst(self)
        jobs.append(len(found.draws))
        return found

    monkeypatch.setattr(Decoding, "burst", counted)
    for seconds, most in ((0.0, 1), (60.0, 30)):
        jobs.clear()
        monkeypatch.setattr(decoding, "_BURST_SECONDS", seconds)
        fresh.generate(PROMPT, seed=3, max_tokens=30, speculate=False, logit_bias=WORDS)
        assert jobs == [most] * (30 // most)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which rows are free, so that the policy's choice does not depend on the test's."""
    monkeypatch.setattr(Costs, "step", lambda self, width: 0.01)
    monkeypatch.setattr(Costs, "known", True)
    yield


EDIT = (
    "Correct the spelling:\n\nThe quick brown fox jumps over the lazy dog near the old stone bridge, while "
    "seven curious children watch from the window of the red house.\n\n"
)


def test_prompts_that_are_worked_on_get_right_guesses(eager: None) -> None:
    """The bundled model, its own policy: what the answer repeats of the prompt is guessed."""
    text = EDIT.split("\n\n")[1]
    with gemmary.load() as bundled:
        ids = bundled.prompt([{"role": "user", "content": EDIT}, {"role": "assistant", "content": text}]).ids
        never = dict.fromkeys(bundled.tokenizer.stops, -1e6)
        for options in ({"temperature": 0}, {"seed": 5}):
            asked: dict[str, Any] = {"max_tokens": 100, "logit_bias": never, **options}
            plain = bundled.generate(ids, speculate=False, **asked)
            reply = bundled.generate(ids, **asked)
            assert (reply.ids, reply.text, reply.finish_reason) == (
                plain.ids,
                plain.text,
                plain.finish_reason,
            )
            if "seed" not in options:
                assert reply.timings.accepted_tokens > 10


def test_answers_of_the_bundled_model_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its window of 128, over page borders, right and wrong guesses mixed."""
    with gemmary.load() as bundled:
        vocab, never = bundled.config.vocab, dict.fromkeys(bundled.tokenizer.stops, -1e6)
        ids = bundled.prompt([{"role": "user", "content": EDIT * 2}]).ids
        for seed in range(2):
            asked: dict[str, Any] = {"seed": seed, "max_tokens": 120, "logit_bias": never, "logprobs": 2}
            plain = bundled.generate(ids, speculate=False, **asked)
            with monkeypatch.context() as patch:
                always(patch, lucky([*ids, *plain.ids], vocab, seed))
                reply = bundled.generate(ids, **asked)
            assert (reply.ids, reply.text, reply.logprobs) == (plain.ids, plain.text, plain.logprobs)
            assert reply.timings.accepted_tokens > 50
        assert choices(bundled.tokenizer, vocab).sum() < vocab
