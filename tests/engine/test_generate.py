"""The oracle: greedy equals transformers, a seed is one text everywhere, an answer ends where it must."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import gemmary
from gemmary.errors import ContextFullError, GemmaryError, PromptError
from gemmary.ops.numba.team import Team
from tests.parity.sharp import text_ids

from .pool import settled, snapshots

PROMPT = text_ids(90, seed=8)  # past the window of 48


@pytest.fixture(scope="module")
def exact(folder: Path) -> gemmary.Model:
    """The folder in float32, as transformers reads it."""
    return gemmary.load(folder, dtype="float32", context=1024)


def transformers_ids(built: tuple[Path, Any], model: gemmary.Model, ids: list[int], count: int) -> list[int]:
    """Greedy ids; what Gemmary never says is suppressed, and the end of a turn ends it."""
    stops = sorted(model.tokenizer.stops)
    out = (
        built[1]
        .generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=count,
            suppress_tokens=sorted(model.tokenizer.controls - model.tokenizer.stops),
            eos_token_id=stops,
            pad_token_id=0,
        )[0, len(ids) :]
        .tolist()
    )
    return [i for i in out if i not in stops]


@pytest.mark.parametrize(("length", "seed"), [(5, 1), (47, 2), (120, 3)])
def test_greedy_equals_transformers(
    built: tuple[Path, Any], exact: gemmary.Model, length: int, seed: int
) -> None:
    ids = text_ids(length, seed)
    reply = exact.generate(ids, temperature=0, max_tokens=70)
    assert list(reply.ids) == transformers_ids(built, exact, ids, 70)


def test_a_seed_gives_one_text(model: gemmary.Model) -> None:
    """Blocking, streamed, again from snapshots, and another text for another seed."""
    options: dict[str, Any] = {"seed": 3, "max_tokens": 60, "temperature": 1.5}
    reply = model.generate(PROMPT, **options)
    again = model.generate(PROMPT, **options)
    pieces = list(model.generate(PROMPT, stream=True, **options))
    assert again.usage.cached_tokens > 0
    assert (again.ids, again.text) == (reply.ids, reply.text)
    assert sum((piece.ids for piece in pieces), ()) == reply.ids
    assert "".join(piece.text for piece in pieces) == reply.text
    assert model.generate(PROMPT, **{**options, "seed": 4}).ids != reply.ids


def test_without_a_seed_texts_differ(model: gemmary.Model) -> None:
    texts = {model.generate(PROMPT, max_tokens=20, temperature=2.0).ids for _ in range(3)}
    assert len(texts) == 3


def test_a_seed_gives_the_same_text_in_company(model: gemmary.Model, fresh: gemmary.Model) -> None:
    """While three other threads stream from the same model, with other prompts of other lengths."""
    alone = model.generate(PROMPT, seed=3, max_tokens=60, temperature=1.5)
    stop = threading.Event()
    finished: list[int] = []

    def stream(number: int) -> None:
        while not stop.is_set():
            ids = text_ids(20 + 37 * number, seed=number)
            finished.append(len(fresh.generate(ids, seed=number, max_tokens=25).ids))

    others = [threading.Thread(target=stream, args=(number,)) for number in range(3)]
    for thread in others:
        thread.start()
    try:
        for _ in range(2):
            assert fresh.generate(PROMPT, seed=3, max_tokens=60, temperature=1.5).ids == alone.ids
    finally:
        stop.set()
        for thread in others:
            thread.join()
    assert len(finished) >= 3


def test_a_seed_gives_the_same_text_on_the_reference(folder: Path, exact: gemmary.Model) -> None:
    """The torch path draws the same ids: noise belongs to ids, not to a device."""
    with gemmary.load(folder, device="torch", context=256) as reference:
        for options in ({"seed": 1, "temperature": 1.0}, {"temperature": 0}):
            ours = exact.generate(PROMPT, max_tokens=40, **options)  # type: ignore[arg-type]
            theirs = reference.generate(PROMPT, max_tokens=40, **options)  # type: ignore[arg-type]
            assert ours.ids == theirs.ids


def test_how_much_context_there_is_does_not_change_the_text(packed: Path, model: gemmary.Model) -> None:
    with gemmary.load(packed, context=200, threads=1) as other:
        assert (
            other.generate(PROMPT, seed=3, max_tokens=60).ids
            == model.generate(PROMPT, seed=3, max_tokens=60).ids
        )


def test_max_tokens_and_usage(model: gemmary.Model) -> None:
    reply = model.generate(text_ids(33, seed=33), seed=1, max_tokens=7)
    assert (reply.finish_reason, len(reply.ids)) == ("length", 7)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (33, 7, 40)
    assert reply.timings.prefill_tokens == 33 - reply.usage.cached_tokens
    assert reply.timings.prefill > 0
    assert reply.timings.decode > 0


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it(model: gemmary.Model) -> None:
    """Both tokens that end a turn; what was said before stays."""
    for token in model.tokenizer.stops:
        plain = model.generate(PROMPT, seed=3, max_tokens=1)
        forced = model.generate(PROMPT, seed=3, logit_bias={token: 1e6})
        assert (forced.finish_reason, forced.ids, forced.text) == ("stop", (), "")
        assert len(plain.ids) == 1


def said(model: gemmary.Model, count: int = 60) -> gemmary.Reply:
    """An answer in which no character is broken, so that its text can be cut anywhere."""
    words = {i: 100.0 for i in range(300, 512)}
    return model.generate(PROMPT, seed=5, max_tokens=count, temperature=0.8, logit_bias=words)


def test_stop_strings_end_the_text_wherever_token_borders_lie(model: gemmary.Model) -> None:
    words = {i: 100.0 for i in range(300, 512)}
    text = said(model).text
    for start, length in ((10, 3), (25, 9), (40, 17), (60, 1)):
        stop = text[start : start + length]
        whole = model.generate(
            PROMPT, seed=5, max_tokens=60, temperature=0.8, logit_bias=words, stop=["never seen", stop]
        )
        pieces = list(
            model.generate(PROMPT, True, seed=5, max_tokens=60, temperature=0.8, logit_bias=words, stop=stop)
        )
        assert whole.text == text[: text.index(stop)]
        assert whole.finish_reason == pieces[-1].finish_reason == "stop"
        assert "".join(piece.text for piece in pieces) == whole.text
        assert sum((piece.ids for piece in pieces), ()) == whole.ids
        assert model.tokenizer.decode(whole.ids).startswith(whole.text + stop)


def test_a_stop_string_that_does_not_come_loses_nothing(model: gemmary.Model) -> None:
    text = said(model).text
    words = {i: 100.0 for i in range(300, 512)}
    almost = text[-3:] + "never"
    reply = model.generate(PROMPT, seed=5, max_tokens=60, temperature=0.8, logit_bias=words, stop=almost)
    assert (reply.text, reply.finish_reason) == (text, "length")


def test_characters_are_never_cut(model: gemmary.Model) -> None:
    """A model that says mostly single bytes: whole characters only, and in the end what decode says."""
    tokenizer = model.tokenizer
    euro = [tokenizer.encode("€")[i] for i in range(3)]
    wishes = {i: 12.0 for i in range(4, 260)} | dict.fromkeys(euro, 16.0)
    for seed in range(4):
        pieces = list(
            model.generate(PROMPT, True, seed=seed, max_tokens=80, temperature=1.5, logit_bias=wishes)
        )
        ids = sum((piece.ids for piece in pieces), ())
        assert "".join(piece.text for piece in pieces) == tokenizer.decode(ids)
        assert all(piece.text for piece in pieces[:-1])
        assert any(len(piece.ids) > 1 for piece in pieces)
        for piece in pieces:
            piece.text.encode()


def test_the_last_piece_and_only_it_tells_the_end(model: gemmary.Model) -> None:
    *before, last = model.generate(PROMPT, stream=True, seed=1, max_tokens=10, logprobs=0)
    assert {(p.finish_reason, p.usage, p.timings) for p in before} == {(None, None, None)}
    assert last.finish_reason == "length"
    assert last.usage is not None
    assert last.usage.completion_tokens == 10
    assert last.timings is not None
    logprobs = [entry for piece in [*before, last] for entry in piece.logprobs or ()]
    assert len(logprobs) == 10
    assert all(entry.top == () for entry in logprobs)
    assert all(p.logprobs is None for p in model.generate(PROMPT, stream=True, seed=1, max_tokens=3))


def test_the_end_of_the_context_is_reported(packed: Path) -> None:
    with gemmary.load(packed, context=100) as model:
        never = dict.fromkeys(model.tokenizer.stops, -1e6)
        reply = model.generate(PROMPT, seed=2, max_tokens=500, logit_bias=never)
        assert (reply.finish_reason, len(reply.ids)) == ("context_full", 10)
        assert model.generate(text_ids(99, seed=1), seed=2, max_tokens=1).finish_reason == "length"
        for ids in (text_ids(100, seed=1), text_ids(101, seed=1), text_ids(5000, seed=1)):
            with pytest.raises(ContextFullError, match=r"100.*shorten"):
                model.generate(ids)
            with pytest.raises(ContextFullError):
                model.generate(ids, stream=True)  # at once, not at the first piece
        with pytest.raises(ContextFullError, match="100"):
            model.generate("a" * 10_000_000)  # refused before it is tokenised
        with pytest.raises(ContextFullError, match="drop older messages"):
            model.chat([{"role": "user", "content": "a" * 200}])
        assert model.logits(text_ids(100, seed=1), rows=[-1]).shape == (1, 512)


def test_progress_counts_up_to_the_whole_prompt(fresh: gemmary.Model) -> None:
    calls: list[tuple[int, int]] = []
    ids = text_ids(300, seed=77)
    fresh.generate(ids, max_tokens=1, progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (0, 300)
    assert calls[-1] == (300, 300)
    assert calls == sorted(calls)
    assert len({done for done, _ in calls}) >= 3
    calls.clear()
    fresh.generate([*ids, 7], max_tokens=1, progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (300, 301)  # what a snapshot holds is done


@pytest.mark.parametrize("at", [0, 1, 300])
def test_progress_returning_false_cancels(fresh: gemmary.Model, at: int) -> None:
    ids = text_ids(300, seed=78)
    reply = fresh.generate(ids, progress=lambda done, total: done < at)
    assert (reply.finish_reason, reply.ids, reply.text) == ("cancelled", (), "")
    assert reply.message == {"role": "assistant", "content": ""}
    *_, last = fresh.generate(ids, stream=True, progress=lambda done, total: False)
    assert last.finish_reason == "cancelled"
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (300, 0)
    assert settled(fresh)[1] == 0
    assert len(fresh.generate(ids, seed=1, max_tokens=5).ids) == 5


class Unexpected(Exception):
    """Something that a callback may raise."""


@pytest.mark.parametrize("kind", [Unexpected, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_progress_raises_comes_through_and_the_model_lives_on(
    fresh: gemmary.Model, model: gemmary.Model, kind: type[BaseException]
) -> None:
    ids = text_ids(200, seed=79)
    expected = model.generate(ids, seed=1, max_tokens=5).ids

    def fail(done: int, total: int) -> None:
        if done:
            raise kind

    for stream in (False, True):
        with pytest.raises(kind):
            answer = fresh.generate(ids, stream, progress=fail)
            list(answer)  # type: ignore[call-overload]
        assert settled(fresh)[1] == 0
    assert fresh.generate(ids, seed=1, max_tokens=5).ids == expected


@pytest.mark.parametrize("late", [3, 12, 21])
def test_a_fault_in_the_middle_of_a_step_discards_that_step_only(
    late: int, fresh: gemmary.Model, model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something fails when kernels have run already: that request alone fails, and all before it is sound."""
    ids = text_ids(60, seed=80)
    expected = model.generate(ids, seed=1, max_tokens=5).ids
    right, calls = Team.play, []

    def broken(self: Any, *args: Any) -> None:
        right(self, *args)
        calls.append(self)
        if len(calls) == late:
            raise Unexpected

    monkeypatch.setattr(Team, "play", broken)
    with pytest.raises(Unexpected):
        fresh.generate(ids, seed=1, max_tokens=20, logit_bias=dict.fromkeys(fresh.tokenizer.stops, -1e6))
    assert fresh.generate(ids, seed=1, max_tokens=5).ids == expected
    assert settled(fresh)[1] == 0


def test_memory_that_runs_out_inside_a_step_is_a_typed_error(
    fresh: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise MemoryError("Unable to allocate 3 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(type(fresh._runner), "head", full)
        with pytest.raises(GemmaryError, match="smaller context"):
            fresh.generate(PROMPT)
    assert len(fresh.generate(PROMPT, max_tokens=3, seed=1).ids) == 3


WRONG_PROMPTS = [
    None, 5, 2.5, b"abc", {"a": 1}, {1, 2}, [], "\ud800", ["a"], [1.0], [True], [-1], [512], [2**70], [[1]],
    [None], object(),
]  # fmt: skip


@pytest.mark.parametrize("prompt", WRONG_PROMPTS, ids=lambda p: type(p).__name__)
def test_prompts_that_are_none(model: gemmary.Model, prompt: Any) -> None:
    for call in (model.generate, model.logits, lambda p: model.score(p, [1])):
        with pytest.raises(PromptError):
            call(prompt)


def test_a_prompt_may_be_text_ids_an_array_or_a_prompt(model: gemmary.Model) -> None:
    """Text gets <bos>, ids are taken as they are."""
    import numpy as np

    ids = [model.tokenizer.bos, *model.tokenizer.encode("abc")]
    same = ["abc", ids, tuple(ids), np.array(ids), np.array(ids, np.uint16), gemmary.Prompt(ids)]
    assert len({model.generate(p, seed=1, max_tokens=9).ids for p in same}) == 1  # type: ignore[arg-type]
    assert model.generate("", seed=1, max_tokens=9).usage.prompt_tokens == 1


def test_closing_a_stream_gives_its_pages_back(fresh: gemmary.Model) -> None:
    stream = fresh.generate(PROMPT, stream=True, seed=1, max_tokens=500)
    for _ in range(5):
        next(stream)
    stream.close()
    held, left = settled(fresh)
    assert held > 0  # the snapshots, for the next turn
    assert left == 0
    assert list(stream) == []
    stream.close()


def test_leaving_with_dropping_or_never_starting_a_stream_leaks_nothing(fresh: gemmary.Model) -> None:
    with fresh.generate(PROMPT, stream=True, seed=1) as stream:
        next(stream)
    assert settled(fresh)[1] == 0
    for _ in fresh.generate(PROMPT, stream=True, seed=1):
        break
    assert settled(fresh)[1] == 0
    fresh.generate(PROMPT, stream=True, seed=1)
    fresh.generate(PROMPT, stream=True, seed=1).close()
    assert settled(fresh) == (0, 0)


def test_a_cancelled_answer_is_remembered(fresh: gemmary.Model) -> None:
    """Its tokens are sound: whoever asks on pays only for what is new."""
    stream = fresh.generate(PROMPT, stream=True, seed=1)
    ids = sum((next(stream).ids for _ in range(5)), ())
    stream.close()
    reply = fresh.generate([*PROMPT, *ids, 9], seed=1, max_tokens=1)
    assert reply.usage.cached_tokens >= len(PROMPT) + 4
    assert snapshots(fresh) > 0
