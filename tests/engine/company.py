"""Texts in company: who listens, what each says alone, and what is left behind when all are over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gemmary
from gemmary.engine.model import Model
from gemmary.engine.options import Order
from gemmary.engine.passage import News
from gemmary.engine.runner import Runner


@dataclass
class Listener:
    """What a text told, to the end."""

    ids: list[int] = field(default_factory=list)
    end: str | None = None
    fault: Exception | None = None
    over: threading.Event = field(default_factory=threading.Event)
    each: Callable[[News], object] = lambda news: None

    def __call__(self, news: News) -> None:
        self.ids += [draw.id for draw in news.draws]
        self.end, self.fault = news.end, news.fault
        if news.over:
            self.over.set()
        self.each(news)


def crowd(loaded: gemmary.Model, capacity: tuple[int, int], streams: int = 8, context: int = 320) -> Model:
    """A model with these weights that runs texts together, with pages and snapshots of its own."""
    runner = loaded._runner
    assert runner is not None
    more = loaded._thread.run(lambda: Runner(runner.decoder, runner.config, context, capacity))
    more.eyes = runner.eyes
    return Model(more, loaded.tokenizer, loaded._thread, (streams, 64))


def opened(model: Model, words: Any, order: Order, owner: str = "") -> Listener:
    """A text that has begun."""
    listener = Listener()
    model.open(words, listener, order, owner)
    return listener


def ended(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        assert listener.over.wait(120), "a text was forgotten"


def alone(loaded: gemmary.Model, words: Any, order: Order) -> list[int]:
    """What the request says by itself, on a model that remembers nothing."""
    assert loaded._runner is not None
    loaded._thread.run(loaded._runner.snapshots.clear)
    s = order.sampling
    reply = loaded.generate(
        words, max_tokens=order.max_tokens, temperature=s.temperature, seed=s.seed, logprobs=s.logprobs,
        logit_bias=s.logit_bias, schema=order.schema, speculate=False,
    )  # fmt: skip
    return list(reply.ids)


def left_over(model: Model) -> tuple[int, int, int, int]:
    """Texts that run and wait, pages held and pictures wanted, behind all queued work: all 0 after a rest."""
    runner, scheduler = model._runner, model.scheduler
    assert runner is not None
    assert scheduler is not None

    def count() -> tuple[int, int, int, int]:
        runner.snapshots.clear()
        wanted = len(runner.eyes._held) if runner.eyes else 0
        return scheduler.running, scheduler.waiting + len(runner._active), runner.pages.bytes_used, wanted

    return model._thread.run(count)
