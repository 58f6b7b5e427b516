"""A model as programs use it: many threads, closing, full memory, damaged numbers."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.engine import load as load_module
from gemmary.engine import memory
from gemmary.engine.sampling import NotFiniteError
from gemmary.errors import GemmaryError, ImageError, MemoryBudgetError, PromptError
from gemmary.ops.contract import TopK
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.save import write_gguf
from gemmary.weights.tensor import Tensor
from tests.parity.ggufs import vocabulary
from tests.parity.sharp import VOCAB, text_ids

from .pool import settled, snapshots

HELLO = [{"role": "user", "content": "abc"}]


def test_eight_threads_get_what_they_would_get_alone(fresh: gemmary.Model, model: gemmary.Model) -> None:
    """Forty requests at once, with shared beginnings, each equal to its solo run on another model."""
    requests = [(text_ids(30 + 25 * (n % 4), seed=n % 3), n) for n in range(40)]
    alone = [model.generate(ids, seed=seed, max_tokens=12).ids for ids, seed in requests]
    together: dict[int, tuple[int, ...]] = {}
    faults: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for n in range(worker, 40, 8):
                ids, seed = requests[n]
                if n % 2:
                    pieces = fresh.generate(ids, stream=True, seed=seed, max_tokens=12)
                    together[n] = sum((piece.ids for piece in pieces), ())
                else:
                    together[n] = fresh.generate(ids, seed=seed, max_tokens=12).ids
                fresh.score(ids[:5], [7])
        except BaseException as fault:
            faults.append(fault)

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert faults == []
    assert [together[n] for n in range(40)] == alone
    assert settled(fresh)[1] == 0


def test_threads_that_leave_at_random_disturb_nobody(fresh: gemmary.Model, model: gemmary.Model) -> None:
    """Half of the streams are closed early, from their own thread or another one."""
    ids = text_ids(80, seed=5)
    expected = model.generate(ids, seed=1, max_tokens=25).ids
    results: list[tuple[int, ...]] = []

    def leave(worker: int) -> None:
        for n in range(4):
            stream = fresh.generate(text_ids(60 + 9 * n, seed=worker), stream=True, seed=n)
            for count, _ in enumerate(stream):
                if count == worker:
                    other = threading.Thread(target=stream.close)
                    other.start()
                    other.join()
                    assert list(stream) == []

    def stay() -> None:
        results.extend(fresh.generate(ids, seed=1, max_tokens=25).ids for _ in range(4))

    workers = [threading.Thread(target=leave, args=(worker,)) for worker in range(3)]
    workers.append(threading.Thread(target=stay))
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert results == [expected] * 4
    assert settled(fresh)[1] == 0


def test_the_garbage_collector_may_close_a_stream_inside_the_engine(fresh: gemmary.Model) -> None:
    """It runs in any thread, also in the one that a closing stream would have to wait for."""

    class Ring:
        def __init__(self, stream: gemmary.Stream) -> None:
            self.stream, self.ring = stream, self

    stream = fresh.generate(text_ids(60), stream=True, seed=1)
    next(stream)
    gc.disable()
    try:
        ring = Ring(stream)
        del stream, ring
        fresh._thread.run(gc.collect)
    finally:
        gc.enable()
    assert settled(fresh)[1] == 0


def test_a_closed_model_says_so_and_frees_its_memory(packed: Path) -> None:
    model = gemmary.load(packed, context=256, threads=1)
    stream = model.generate([5], stream=True, seed=1)
    next(stream)
    pages = weakref.ref(model._runner.pages)  # type: ignore[union-attr]
    model.close()
    model.close()
    assert [piece.finish_reason for piece in stream] == ["cancelled"]
    del stream
    gc.collect()
    assert pages() is None
    for call in (
        lambda: model.chat(HELLO),
        lambda: model.chat(HELLO, stream=True),
        lambda: model.generate("a"),
        lambda: model.logits("a"),
        lambda: model.score("a", "b"),
    ):
        with pytest.raises(PromptError, match="closed"):
            call()
    assert model.tokenizer.decode(model.tokenizer.encode("abc")) == "abc"


def test_with_closes(packed: Path) -> None:
    with pytest.raises(ZeroDivisionError), gemmary.load(packed, context=256, threads=1) as model:
        raise ZeroDivisionError
    with pytest.raises(PromptError, match="closed"):
        model.generate("a")


def one_text(monkeypatch: pytest.MonkeyPatch, packed: Path) -> gemmary.Model:
    """A model with pages for one whole text and no more."""
    monkeypatch.setattr(memory, "_POOL_BYTES", 0)
    return gemmary.load(packed, context=512, threads=1)


def test_when_pages_run_out_the_newest_stream_gives_way(
    packed: Path, model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older ones go on to their end, as if nothing had happened; then there is room again."""
    options: dict[str, Any] = {
        "seed": 1,
        "max_tokens": 60,
        "logit_bias": dict.fromkeys(model.tokenizer.stops, -1e6),
    }
    expected = model.generate(text_ids(150, seed=0), **options).ids
    with one_text(monkeypatch, packed) as small:
        streams, faults = [], 0
        for number in range(6):
            stream = small.generate(text_ids(150, seed=number), stream=True, **options)
            try:
                streams.append((stream, next(stream).ids))
            except MemoryBudgetError as fault:
                assert "other answers" in str(fault)
                faults += 1
        assert 1 <= len(streams) < 6
        assert faults
        stream, ids = streams[0]
        assert ids + sum((piece.ids for piece in stream), ()) == expected
        for stream, _ in streams:
            stream.close()
        assert small.generate(text_ids(150, seed=0), **options).ids == expected
        assert settled(small)[1] == 0


def test_an_older_stream_that_grows_takes_the_pages_of_the_newest(
    packed: Path, model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"seed": 1, "logit_bias": dict.fromkeys(model.tokenizer.stops, -1e6)}
    expected = model.generate(text_ids(60, seed=0), max_tokens=440, **options).ids
    with one_text(monkeypatch, packed) as small:
        old = small.generate(text_ids(60, seed=0), stream=True, max_tokens=440, **options)
        ids = next(old).ids
        new = small.generate(text_ids(250, seed=1), stream=True, **options)
        next(new)
        assert ids + sum((piece.ids for piece in old), ()) == expected
        with pytest.raises(MemoryBudgetError):
            list(new)
        assert list(new) == []
        assert settled(small)[1] == 0


def test_snapshots_make_room_for_running_texts(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with one_text(monkeypatch, packed) as small:
        for number in range(8):
            assert len(small.generate(text_ids(300, seed=number), seed=1, max_tokens=3).ids) == 3
        assert snapshots(small) >= 1
        assert small.generate(text_ids(500, seed=9), seed=1, max_tokens=20).finish_reason == "context_full"


@pytest.mark.parametrize("form", ["F32", "Q8_0"])
@pytest.mark.parametrize(
    "name", ["layers.0.attn_norm", "layers.5.q_norm", "layers.1.k_norm", "layers.6.ffn_post_norm", "norm"]
)
def test_a_file_with_nan_is_a_typed_error(folder: Path, tmp_path: Path, form: str, name: str) -> None:
    """Wherever the NaN is, also where activations are rounded to int8 behind it."""
    from gemmary.formats import FORMATS

    checkpoint = open_checkpoint(folder)
    tensors = {}
    for tensor in (checkpoint.tensors[each] for each in checkpoint.tensors):
        matrix = len(tensor.shape) == 2
        values = tensor.values().copy()
        if tensor.name == name:
            values[3] = np.nan
        kind = FORMATS[form] if matrix else FORMATS["F32"]
        tensors[tensor.name] = Tensor.pack(tensor.name, values, kind, tensor.gain_offset)
    path = tmp_path / "nan.gguf"
    write_gguf(path, checkpoint.config, tensors, vocabulary(VOCAB))
    with gemmary.load(path, context=256) as model:
        for _ in range(2):
            with pytest.raises(NotFiniteError, match="download it again"):
                model.generate(text_ids(60), seed=1)
            with pytest.raises(NotFiniteError):
                list(model.generate(text_ids(60), stream=True, seed=1))
            with pytest.raises(NotFiniteError):
                model.score(text_ids(60), [7])
        assert settled(model) == (0, 0)


def test_after_numbers_went_wrong_once_nothing_of_it_is_read(
    fresh: gemmary.Model, model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the first tokens of that text, and all older snapshots, are computed again."""
    ids = text_ids(100, seed=6)
    expected = model.generate(ids, seed=1, max_tokens=8).ids
    fresh.generate(ids[:70], seed=1, max_tokens=2)
    assert snapshots(fresh)
    runner = fresh._runner
    head = runner.head  # type: ignore[union-attr]
    seen = []

    def damaged(states: Any, want: Any) -> Any:
        found = head(states, want)
        if isinstance(want, TopK):
            seen.append(want)
            if len(seen) == 4:
                found.logits[:] = np.nan
        return found

    monkeypatch.setattr(runner, "head", damaged)
    stream = fresh.generate(ids, stream=True, seed=1)
    with pytest.raises(GemmaryError, match="not finite"):
        list(stream)
    assert snapshots(fresh) == 0
    reply = fresh.generate(ids, seed=1, max_tokens=8)
    assert reply.usage.cached_tokens == 0
    assert reply.ids == expected


def test_what_this_version_does_not_do_is_said(model: gemmary.Model) -> None:
    with pytest.raises(ImageError, match="text only"):
        model.encode_image("cat.png")
    with pytest.raises(PromptError, match="pan_and_scan"):
        model.generate("hello", pan_and_scan=True)
    assert model.prompt(HELLO, pan_and_scan=True) == model.prompt(HELLO)  # there is nothing to cut
    picture = gemmary.Prompt([2, 5], np.zeros((1, 3, 8, 8), np.float32))
    for call in (model.generate, model.logits, lambda p: model.score(p, [1])):
        with pytest.raises(ImageError, match="text only"):
            call(picture)


BAD_MESSAGES: list[Any] = [
    [],
    None,
    "hello",
    b"hello",
    5,
    {"role": "user", "content": "a"},
    [5],
    ["a"],
    [{}],
    [{"content": "a"}],
    [{"role": "user"}],
    [{"role": "narrator", "content": "a"}],
    [{"role": None, "content": "a"}],
    [{"role": ["user"], "content": "a"}],
    [{"role": "user", "content": 5}],
    [{"role": "user", "content": b"a"}],
    [{"role": "user", "content": "\udc00"}],
    [{"role": "user", "content": [{"type": "text", "text": "\ud83d"}]}],
    [{"role": "user", "content": [{"type": "video"}]}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": [{"type": "image", "image": "cat.png"}]}],
]


@pytest.mark.parametrize("messages", BAD_MESSAGES, ids=range(len(BAD_MESSAGES)))
@pytest.mark.parametrize("stream", [False, True])
def test_bad_messages_are_prompt_errors(model: gemmary.Model, messages: Any, stream: bool) -> None:
    """At once, also when streaming, with a sentence to act on."""
    with pytest.raises((PromptError, ImageError)) as fault:
        model.chat(messages, stream=stream)
    assert len(str(fault.value)) > 20


def test_chat_is_generate_over_the_prompt(model: gemmary.Model) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HELLO]
    prompt = model.prompt(messages)
    assert prompt.ids[0] == model.tokenizer.bos
    chatted = model.chat(messages, seed=4, max_tokens=20)
    assert chatted.ids == model.generate(prompt, seed=4, max_tokens=20).ids
    assert chatted.message == {"role": "assistant", "content": chatted.text}
    again = model.prompt([*messages, chatted.message, {"role": "user", "content": "more"}])
    assert len(again.ids) > len(prompt.ids)


def test_a_gigantic_batch_of_logits_is_refused_before_work(
    model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model._runner), "step", lambda *_: pytest.fail("computed"))
    rows = [0] * (2_000_000_000 // (4 * VOCAB) + 1)
    with pytest.raises(MemoryBudgetError, match="fewer rows"):
        model.logits([5, 6], rows=rows)


def test_estimates_cover_what_a_model_takes(packed: Path) -> None:
    """Weights are the file's tensors; two texts take twice the pages of one."""
    one = gemmary.estimate(packed, context=512)
    two = gemmary.estimate(packed, context=512, batch=2)
    assert 0.8 * packed.stat().st_size < one.weights <= packed.stat().st_size
    assert two.pages == 2 * one.pages
    assert one.total == one.weights + one.pages + one.scratch
    assert gemmary.estimate(packed).pages > one.pages
    with gemmary.load(packed, context=512) as model:
        stream = model.generate(text_ids(450), stream=True, seed=1)
        next(stream)
        held = settled(model)[1]
        assert held <= one.pages
        assert held > one.pages / 3


def test_estimating_loads_nothing(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "EngineThread", lambda _: pytest.fail("loaded"))
    monkeypatch.setattr(Tensor, "values", lambda _: pytest.fail("decoded"))
    assert gemmary.estimate(packed).total > 0
