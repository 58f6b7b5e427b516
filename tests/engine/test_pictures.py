"""Pictures through the public face: what transformers computes, and the laws of bits with pictures."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

import gemmary
from gemmary.engine import eyes
from gemmary.engine.options import Order
from gemmary.engine.sampling import Sampling
from gemmary.errors import ImageError, PromptError
from gemmary.inputs.crops import PanAndScan
from gemmary.inputs.prompt import Prompt, brightness
from gemmary.weights.assemble import packed_tower
from gemmary.weights.checkpoint import open_checkpoint
from tests.inputs.drawn import banner, receipt, tall_list
from tests.parity.sharp import distance
from tests.parity.test_transformers import LIMIT
from tests.parity.towers import SOFT, hf_features

from .company import alone, crowd, ended, left_over, opened
from .seeing import EYES, asked, build, expected, load, picture

GREEDY = {"temperature": 0, "max_tokens": 12, "logprobs": 3}  # ids alone may agree by chance


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("seeing")
    return folder, build(folder)


@pytest.fixture(scope="module")
def folder(built: tuple[Path, Any]) -> Path:
    return built[0]


@pytest.fixture(scope="module")
def reference(built: tuple[Path, Any]) -> Any:
    return built[1]


@pytest.fixture
def model(folder: Path) -> Iterator[gemmary.Model]:
    with load(folder) as loaded:
        yield loaded


@pytest.fixture(scope="module", params=["cpu", "torch"])
def exact(request: pytest.FixtureRequest, folder: Path) -> Iterator[gemmary.Model]:
    with load(folder, device=request.param, dtype="float32") as loaded:
        yield loaded


CHATS: dict[str, list[dict[str, Any]]] = {
    "one": asked(1),
    "two together": asked(1, 2),
    "the same twice": asked(3, 3),
    "five": asked(1, 2, 3, 4, 5),
    "an earlier turn": [*asked(1), {"role": "assistant", "content": "a word" * 12}, *asked(2)[:1]],
    "beyond the window": [*asked(1, question="tell me more about that " * 3)],
}


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
def test_logits_are_those_of_transformers(exact: gemmary.Model, reference: Any, chat: Any) -> None:
    prompt = exact.prompt(chat)
    assert distance(exact.logits(prompt), expected(reference, prompt)) < LIMIT


def test_pan_and_scan_is_that_of_transformers(exact: gemmary.Model, reference: Any) -> None:
    wide = [{"role": "user", "content": [{"type": "image", "image": picture(6, (40, 120))}]}]
    prompt = exact.prompt(wide, pan_and_scan=PanAndScan(min_crop=16))
    assert prompt.pixels is not None and len(prompt.pixels) == 4
    assert distance(exact.logits(prompt), expected(reference, prompt)) < LIMIT


def test_whole_numbers_are_the_same_pixels_to_the_bit(exact: gemmary.Model) -> None:
    prompt = exact.prompt(asked(1, 2))
    assert prompt.pixels is not None and prompt.pixels.dtype == np.uint8
    floats = Prompt(prompt.ids, brightness(prompt.pixels))
    assert set(floats.keys).isdisjoint(prompt.keys), "or the features of one would be those of the other"
    np.testing.assert_array_equal(exact.logits(floats), exact.logits(prompt))


def test_encode_image_gives_the_features(exact: gemmary.Model, reference: Any) -> None:
    pixels = exact.prompt(asked(7)).pixels
    found = exact.encode_image(picture(7))
    assert found.shape == (EYES.tokens, 64)
    assert distance(found, hf_features(reference, brightness(pixels))) < LIMIT


def logits(model: gemmary.Model, chat: Any, chunk: int) -> np.ndarray:
    runner = model._runner
    assert runner is not None
    runner.chunk = chunk
    runner.snapshots.clear()
    return model.logits(model.prompt(chat))


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
def test_chunks_do_not_change_bits(model: gemmary.Model, chat: Any) -> None:
    whole = logits(model, chat, 500)
    for chunk in (8, 15, 40):
        np.testing.assert_array_equal(logits(model, chat, chunk), whole)


def test_a_second_question_costs_no_second_look(
    model: gemmary.Model, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    encoding = eyes.encoding
    monkeypatch.setattr(eyes, "encoding", lambda *args: looks.append(1) or encoding(*args))
    model.chat(asked(1, 2), **GREEDY)
    assert len(looks) == 2
    again = model.chat(asked(1, 2, question="and why"), **GREEDY)
    assert again.usage.cached_tokens > 2 * EYES.tokens
    elsewhere = model.chat(asked(2, question="another text"), **GREEDY)
    assert len(looks) == 2
    with load(folder) as fresh:
        assert fresh.chat(asked(1, 2, question="and why"), **GREEDY).logprobs == again.logprobs
        assert fresh.chat(asked(2, question="another text"), **GREEDY).logprobs == elsewhere.logprobs


def test_another_picture_is_another_text(model: gemmary.Model, folder: Path) -> None:
    first, second = (model.logits(model.prompt(asked(seed)), [-1]) for seed in (1, 2))
    assert np.abs(first - second).max() > 0.1
    reply = model.chat(asked(1), **GREEDY)
    other = model.chat(asked(2), **GREEDY)
    assert other.usage.cached_tokens < len(model.prompt(asked(1)).ids) - EYES.tokens
    with load(folder) as fresh:
        assert fresh.chat(asked(2), **GREEDY).logprobs == other.logprobs != reply.logprobs


def test_turns_with_pictures_continue(model: gemmary.Model, folder: Path) -> None:
    chat = asked(1)
    for seed in (2, 3):
        reply = model.chat(chat, **GREEDY)
        chat = [*chat, dict(reply.message), *asked(seed, question="and this one")]
    last = model.chat(chat, **GREEDY)
    with load(folder) as fresh:
        alone = fresh.chat(chat, **GREEDY)
    assert last.logprobs == alone.logprobs
    assert last.usage.cached_tokens > alone.usage.cached_tokens == 0


def test_streams_with_pictures_do_not_disturb_each_other(model: gemmary.Model) -> None:
    chats = [asked(seed, seed + 1, question=f"number {seed}") for seed in range(6)]
    alone = [model.chat(chat, seed=1, max_tokens=20, logprobs=2).logprobs for chat in chats]
    runner = model._runner
    assert runner is not None
    model._thread.run(runner.snapshots.clear)
    runner.eyes = model._thread.run(lambda: eyes.Eyes(runner.eyes._tower, limit=1))  # nothing is remembered
    with ThreadPoolExecutor(6) as pool:
        together = list(
            pool.map(lambda chat: model.chat(chat, seed=1, max_tokens=20, logprobs=2).logprobs, chats)
        )
    assert together == alone


def test_guesses_and_penalties_do_not_meet_pictures(model: gemmary.Model) -> None:
    chat = asked(1, 1, 1, question="a b a b a b a b")
    for options in ({}, {"repeat_penalty": 1.2}):
        plain = model.chat(chat, seed=3, max_tokens=60, speculate=False, **options)
        assert model.chat(chat, seed=3, max_tokens=60, **options).ids == plain.ids


def test_cancelled_while_a_picture_is_encoded(model: gemmary.Model) -> None:
    seen: list[int] = []
    stream = model.chat(
        asked(9), stream=True, progress=lambda done, total: seen.append(done) or len(seen) < 3
    )
    pieces = list(stream)
    assert pieces[-1].finish_reason == "cancelled"
    assert model.chat(asked(8), **GREEDY).ids  # nothing is left half done


def test_a_picture_can_be_the_end_of_a_prompt(model: gemmary.Model) -> None:
    prompt = model.prompt(asked(1))
    ids = prompt.ids[: len(prompt.ids) - prompt.ids[::-1].index(SOFT)]
    cut = Prompt(ids, prompt.pixels, prompt.keys)
    first = model.generate(cut, **GREEDY)
    assert model.generate(cut, **GREEDY).logprobs == first.logprobs


@pytest.mark.parametrize("count", [0, 2])
def test_soft_tokens_and_pictures_must_match(model: gemmary.Model, count: int) -> None:
    prompt = model.prompt(asked(1))
    assert prompt.pixels is not None
    with pytest.raises(PromptError, match="soft tokens"):
        model.generate(Prompt(prompt.ids, prompt.pixels[:1].repeat(count, 0)), max_tokens=1)


def test_pixels_of_another_size_are_refused(model: gemmary.Model) -> None:
    prompt = model.prompt(asked(1))
    with pytest.raises(ImageError, match="56"):
        model.generate(Prompt(prompt.ids, np.zeros((1, 3, 28, 28), np.float32)), max_tokens=1)


def test_a_text_model_says_that_it_cannot_see(tmp_path: Path) -> None:
    shutil.copy(Path(gemmary.__file__).parent / "bundled" / "nano.gguf", tmp_path)  # without its other half
    with gemmary.load(tmp_path / "nano.gguf", context=512, threads=1) as blind:
        for attempt in (lambda: blind.chat(asked(1)), lambda: blind.encode_image(picture(1))):
            with pytest.raises(ImageError, match="reads text only"):
                attempt()


def test_closing_ends_an_encoding(folder: Path) -> None:
    model = load(folder)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            model.chat(asked(1, 2, 3, 4))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    model.close()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("draw", [receipt, banner, tall_list])
def test_documents_from_the_picture_to_the_logits(exact: gemmary.Model, reference: Any, draw: Any) -> None:
    """Crops and pixels by transformers' image processor, ids as ours, logits by its model."""
    chat = [
        {"role": "user", "content": [{"type": "image", "image": draw()}, {"type": "text", "text": "read"}]}
    ]
    prompt = exact.prompt(chat, pan_and_scan=PanAndScan(min_crop=16))
    half = [0.5, 0.5, 0.5]
    theirs = Gemma3ImageProcessorPil(
        size={"height": EYES.image, "width": EYES.image}, image_mean=half, image_std=half,
        do_pan_and_scan=True, pan_and_scan_min_crop_size=16, pan_and_scan_max_num_crops=4,
        pan_and_scan_min_ratio_to_activate=1.2,
    )([draw()], return_tensors="np")["pixel_values"]  # fmt: skip
    assert prompt.pixels is not None and len(theirs) > 1
    np.testing.assert_array_equal(brightness(prompt.pixels), theirs)
    found = exact.logits(prompt)
    assert distance(found, expected(reference, replace(prompt, pixels=np.ascontiguousarray(theirs)))) < LIMIT


def test_a_stream_says_what_is_left_to_look_at(model: gemmary.Model) -> None:
    left: list[float] = []
    stream = model.chat(
        asked(31, 32), stream=True, progress=lambda *_: left.append(stream.unseen) or True, **GREEDY
    )
    assert [piece for piece in stream][-1].finish_reason
    assert (left[0], max(left), left[-1]) == (0, 2, 0)
    assert [round(share, 2) for share in left if share >= 1][:4] == [2, 1.67, 1.33, 1]


def test_a_step_waits_for_one_layer_of_one_picture(
    model: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many show pictures: who writes goes on behind each layer, the oldest picture is ready first."""
    talk: list[Any] = [{"role": "user", "content": "a long story"}]
    writer = model.prompt(talk), Order(Sampling(logit_bias=dict.fromkeys(model.tokenizer.stops, -1e6)), 60)
    showing = [(model.prompt(asked(*seeds)), Order(Sampling(seed=2), 6)) for seeds in SHOWN]
    expect = [alone(model, *one) for one in (writer, *showing)]
    crowded, ticks = watched(model, monkeypatch)
    ready: list[int] = []
    keep = eyes.Eyes._keep
    monkeypatch.setattr(eyes.Eyes, "_keep", lambda *args: ready.append(args[1]) or keep(*args))
    with held(crowded):
        listeners = [opened(crowded, *one) for one in (writer, *showing)]
    ended(listeners)
    assert [listener.ids for listener in listeners] == expect
    assert max(layers for layers, _ in ticks) == 1
    assert sum(wrote > 0 for layers, wrote in ticks if layers) >= 15
    first = [model._runner.eyes.number(prompt.keys[0]) for prompt, _ in showing]  # type: ignore[union-attr]
    assert [number for number in ready if number in first] == first
    assert left_over(crowded) == (0, 0, 0, 0)


SHOWN = [(61,), (62,), (63, 64), (65,), (66,)]  # the pictures of five texts


def watched(model: gemmary.Model, patch: pytest.MonkeyPatch) -> tuple[gemmary.Model, list[tuple[int, int]]]:
    """A model for several texts that knows no picture; layers and tokens written, step by step."""
    assert model._runner is not None and model._runner.eyes is not None
    model._thread.run(model._runner.eyes._features.clear)
    crowded, ticks, layers = crowd(model, (60, 120)), list[tuple[int, int]](), [0]
    scheduler, advance = crowded.scheduler, eyes.Eyes._advance
    assert scheduler is not None
    tick = scheduler._tick

    def ticked() -> None:
        layers[0], written = 0, scheduler.tokens_written
        tick()
        ticks.append((layers[0], scheduler.tokens_written - written))

    def advanced(*args: Any) -> None:
        layers[0] += 1
        advance(*args)

    patch.setattr(scheduler, "_tick", ticked)
    patch.setattr(eyes.Eyes, "_advance", advanced)
    return crowded, ticks


@contextmanager
def held(model: gemmary.Model) -> Iterator[None]:
    """Nothing is computed meanwhile."""
    gate = threading.Event()
    model._thread.later(lambda: gate.wait(60))
    try:
        yield
    finally:
        gate.set()


def test_a_known_picture_waits_for_nobody(model: gemmary.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    known = model.prompt(asked(70)), Order(Sampling(seed=3), 4)
    strange = model.prompt(asked(71, 72, 73, 74)), Order(Sampling(seed=4), 4)
    expect = [alone(model, *one) for one in (strange, known)]
    crowded, _ = watched(model, monkeypatch)
    model.encode_image(picture(70))
    tower = model._runner.eyes  # type: ignore[union-attr]
    assert tower is not None
    unseen, numbers = list[float](), [tower.number(key) for key in strange[0].keys]
    with held(crowded):
        listeners = [opened(crowded, *one) for one in (strange, known)]
        listeners[1].each = lambda news: news.over and unseen.append(tower.unseen(numbers))
    ended(listeners)
    assert [listener.ids for listener in listeners] == expect
    assert unseen[0] > 1, "it was answered behind the pictures of another text"


@pytest.mark.parametrize("seed", [1, 4])
def test_what_an_int8_tower_costs_the_answer(folder: Path, seed: int) -> None:
    """KL per token, nats, of what follows a picture: the int8 tower against the same in float32."""
    rows: dict[str, np.ndarray] = {}
    for element in ("INT8", "F32"):
        with load(folder, dtype="float32") as model:
            vision, runner = open_checkpoint(folder).vision, model._runner
            assert vision is not None and runner is not None
            tower = model._thread.run(partial(packed_tower, vision, element))
            runner.eyes = eyes.Eyes(tower, eyes.FEATURE_BYTES)
            prompt = model.prompt(asked(seed, question="what is it and where was it found"))
            after = len(prompt.ids) - prompt.ids[::-1].index(SOFT)
            rows[element] = model.logits(prompt, range(after, len(prompt.ids))).astype(np.float64)
    logs = {name: x - np.logaddexp.reduce(x, -1, keepdims=True) for name, x in rows.items()}
    divergence = (np.exp(logs["F32"]) * (logs["F32"] - logs["INT8"])).sum(-1)
    assert 0 < divergence.mean() <= 1e-3
