"""Texts together: each weight is read once a step for all, owners take turns, nobody waits unheard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gemmary
from gemmary.engine.line import QueueFullError
from gemmary.engine.options import Order
from gemmary.engine.passage import News
from gemmary.engine.sampling import Sampling
from tests.parity.sharp import text_ids

from .pool import settled


@pytest.fixture
def crowd(packed: Path) -> Iterator[gemmary.Model]:
    with gemmary.load(packed, context=256, threads=1, streams=8, queue=4) as loaded:
        yield loaded


class Heard:
    """The news of a text."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self.done = threading.Event()

    def __call__(self, news: News) -> None:
        self.news.append(news)
        if news.over:
            self.done.set()

    @property
    def ids(self) -> list[int]:
        return [draw.id for news in self.news for draw in news.draws]


def order(model: gemmary.Model, tokens: int, seed: int = 0) -> Order:
    """That many tokens exactly: no token that ends a turn is said."""
    never = dict.fromkeys(model.tokenizer.stops, -1e6)
    return Order(Sampling(seed=seed, logit_bias=never), max_tokens=tokens)


def counted(model: gemmary.Model, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often all layers, and the head, were run."""
    runner, counts = model._runner, {"together": 0, "head": 0}
    assert runner is not None
    for name in counts:
        called = getattr(runner, name)

        def count(*given: Any, name: str = name, called: Any = called) -> Any:
            counts[name] += 1
            return called(*given)

        monkeypatch.setattr(runner, name, count)
    return counts


def test_each_weight_is_read_once_a_step_for_all(
    crowd: gemmary.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight texts of 40 tokens: as many passes over the weights as one takes, and a tenth more at most."""
    counts, heard = counted(crowd, monkeypatch), [Heard() for _ in range(8)]
    for seed, listener in enumerate(heard):
        crowd.open(text_ids(5, seed=seed), listener, order(crowd, 40, seed))
    assert all(listener.done.wait(60) for listener in heard)
    assert all(len(listener.ids) == 40 for listener in heard)
    assert counts["together"] <= 1.1 * 40 and counts["head"] <= 1.1 * 40


def test_the_queue_is_bounded_and_fair(crowd: gemmary.Model) -> None:
    """One owner fills all places and the queue; another one who comes next is served before the rest."""
    assert crowd.scheduler is not None
    begun, order_of_ends = threading.Event(), list[str]()
    hold = threading.Event()

    def listener(name: str) -> Any:
        def hear(news: News) -> None:
            if name == "many 0" and news.draws:
                begun.set()
                hold.wait(60)
            if news.over:
                order_of_ends.append(name)

        return hear

    for number in range(8):
        crowd.open(text_ids(3, seed=number), listener(f"many {number}"), order(crowd, 30), "many")
    assert begun.wait(60)
    for number in range(8, 11):
        crowd.open(text_ids(3, seed=number), listener(f"many {number}"), order(crowd, 30), "many")
    crowd.open(text_ids(3, seed=20), listener("one"), order(crowd, 5), "one")
    with pytest.raises(QueueFullError):
        crowd.open(text_ids(3, seed=21), listener("too many"), order(crowd, 5), "one")
    hold.set()
    while len(order_of_ends) < 12:
        assert threading.Event().wait(0.01) is False
    assert order_of_ends.index("one") < order_of_ends.index("many 10")
    assert "too many" not in order_of_ends


def test_cancelled_within_a_step(crowd: gemmary.Model) -> None:
    heard = Heard()
    transcript = crowd.open(text_ids(5, seed=1), heard, order(crowd, 200))
    while not heard.ids:
        assert not heard.done.wait(0.001)
    transcript.request.cancel.set()
    said = len(heard.ids)
    assert heard.done.wait(60)
    assert heard.news[-1].end == "cancelled"
    assert len(heard.ids) <= said + 2


def test_nothing_is_held_when_all_is_over(crowd: gemmary.Model) -> None:
    heard = [Heard() for _ in range(6)]
    for seed, listener in enumerate(heard):
        transcript = crowd.open(text_ids(60, seed=seed), listener, order(crowd, 30))
        if seed % 2:
            transcript.request.cancel.set()
    assert all(listener.done.wait(60) for listener in heard)
    assert settled(crowd)[1] == 0


def test_a_closed_model_ends_every_text(packed: Path) -> None:
    heard = [Heard() for _ in range(4)]
    with gemmary.load(packed, context=256, threads=1, streams=2) as model:
        for listener in heard:
            model.open(text_ids(5, seed=1), listener, order(model, 200))
    for listener in heard:
        assert listener.done.wait(60)
        assert listener.news[-1].end == "cancelled"


def test_chat_goes_the_same_way(crowd: gemmary.Model, packed: Path) -> None:
    messages = [{"role": "user", "content": "the quick brown fox"}]
    with gemmary.load(packed, context=256, threads=1) as alone:
        wanted = alone.chat(messages, seed=5, max_tokens=20)
    reply = crowd.chat(messages, seed=5, max_tokens=20)
    assert reply.ids == wanted.ids and reply.finish_reason == wanted.finish_reason
    pieces = list(crowd.chat(messages, stream=True, seed=5, max_tokens=20))
    assert tuple(i for piece in pieces for i in piece.ids) == wanted.ids
    assert pieces[-1].usage is not None and pieces[-1].usage.cached_tokens > 0


def test_a_model_without_streams_says_what_to_do(model: gemmary.Model) -> None:
    with pytest.raises(gemmary.errors.PromptError, match="streams=8"):
        model.open([5], print, Order())
