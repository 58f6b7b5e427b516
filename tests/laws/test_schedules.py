"""Bits do not depend on company: whatever shares a step, joins, leaves or gives way, each text is its own.

Random schedules: prompts that share beginnings, with and without pictures and crops, every kind of draw and
schemas, users who share and who do not, arrivals and
cancellations in the middle of others, few pages so that texts give way and are read again. Each text is
compared, ids and log-probabilities, with the same request on a model that does nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.engine.model import Model
from gemmary.engine.options import Order
from gemmary.engine.passage import News
from gemmary.engine.runner import Runner
from gemmary.engine.sampling import Sampling
from gemmary.inputs.crops import PanAndScan
from gemmary.inputs.prompt import Prompt
from tests.engine import seeing
from tests.parity.sharp import text_ids

CONTEXT = 320
FEW_PAGES = (6, 9)  # of each kind: a whole text and not much more
MANY_PAGES = (60, 120)
SCHEMAS: list[Any] = [
    {"enum": ["yes", "no", "perhaps"]},
    {"type": "string", "pattern": "^[a-z]{3,40}$"},
    {"type": "object", "properties": {"n": {"type": "integer"}, "w": {"enum": ["a", "b"]}},
     "required": ["n", "w"]},
]  # fmt: skip


@dataclass
class Plan:
    """A request of a schedule: when it comes (after so many draws of all), and when it is cancelled."""

    words: Any
    order: Order
    after: int
    cut: int | None = None
    owner: str = ""
    key: bytes = b""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)
    end: str | None = None
    fault: Exception | None = None
    cancel: threading.Event | None = None


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gemmary.Model]:
    folder = tmp_path_factory.mktemp("seeing")
    seeing.build(folder)
    with gemmary.load(folder, context=CONTEXT, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def asked(loaded: gemmary.Model) -> list[Any]:
    """Prompts: pictures, and texts of which many begin as others do."""
    rng = np.random.default_rng(0)
    trunks = [text_ids(n, seed=n) for n in (3, 70, 130, 200)]
    texts = [
        t[: int(rng.integers(1, len(t) + 1))] + text_ids(int(rng.integers(0, 40)), seed=9) for t in trunks * 8
    ]
    pictures: list[Any] = [loaded.prompt(seeing.asked(*seeds)) for seeds in ((1,), (2, 1), (1, 1, 3))]
    wide = {"role": "user", "content": [{"type": "image", "image": seeing.picture(4, (40, 160))}]}
    pictures.append(loaded.prompt([wide], pan_and_scan=PanAndScan(min_crop=16)))
    assert len(pictures[-1].keys) > 1, "it was not cut"
    return [text or [5] for text in texts] + pictures * 3


def orders(rng: np.random.Generator) -> Order:
    sampling = [
        Sampling(seed=int(rng.integers(9))),
        Sampling(temperature=0.0),
        Sampling(temperature=0.7, top_k=0, top_p=1.0, seed=3),
        Sampling(seed=4, repeat_penalty=1.3, frequency_penalty=0.5, logprobs=3),
        Sampling(seed=5, logit_bias={7: 4.0, 9: -100.0}, logprobs=0),
    ][int(rng.integers(5))]
    schema = SCHEMAS[int(rng.integers(len(SCHEMAS)))] if rng.random() < 0.25 else None
    return Order(sampling, max_tokens=int(rng.integers(1, 40)), schema=schema)


def alone(model: gemmary.Model, plan: Plan, known: dict[Any, Any]) -> tuple[list[int], list[float | None]]:
    """What the request says by itself, on a model that remembers nothing of other texts."""
    words = (
        tuple(plan.words.ids + list(plan.words.keys)) if isinstance(plan.words, Prompt) else tuple(plan.words)
    )
    key = words, repr(plan.order)
    if key not in known:
        assert model._runner is not None
        model._thread.run(model._runner.snapshots.clear)
        s = plan.order.sampling
        reply = model.generate(
            plan.words,
            max_tokens=plan.order.max_tokens,
            temperature=s.temperature,
            top_k=s.top_k,
            top_p=s.top_p,
            repeat_penalty=s.repeat_penalty,
            frequency_penalty=s.frequency_penalty,
            logit_bias=s.logit_bias,
            seed=s.seed,
            logprobs=s.logprobs,
            schema=plan.order.schema,
            speculate=False,
        )
        known[key] = list(reply.ids), [entry.logprob for entry in reply.logprobs or ()]
    return known[key]


def played(model: Model, plans: list[Plan]) -> None:
    """Run a schedule. New requests come from inside the news of others, so that it is the same every time."""
    drawn, done = 0, threading.Semaphore(0)
    waiting = sorted(plans, key=lambda plan: plan.after)

    def arrive() -> None:
        while waiting and (waiting[0].after <= drawn or all(p.end or p.fault for p in plans if p.cancel)):
            begin(waiting.pop(0))

    def begin(plan: Plan) -> None:
        def hear(news: News) -> None:
            nonlocal drawn
            for draw in news.draws:
                plan.ids.append(draw.id)
                plan.logprobs.append(draw.logprob)
                drawn += 1
            if plan.cut is not None and len(plan.ids) >= plan.cut and plan.cancel is not None:
                plan.cancel.set()
            plan.end, plan.fault = news.end, news.fault
            if news.over:
                done.release()
            arrive()

        plan.cancel = model.open(plan.words, hear, plan.order, plan.owner, plan.key).request.cancel

    arrive()
    for _ in plans:
        assert done.acquire(timeout=120), "a text was forgotten"


def check(loaded: gemmary.Model, asked: list[Any], number: int, known: dict[Any, Any]) -> int:
    rng = np.random.default_rng(number)
    plans = [
        Plan(
            asked[int(rng.integers(len(asked)))],
            orders(rng),
            after=int(rng.integers(0, 60)),
            cut=int(rng.integers(1, 12)) if rng.random() < 0.2 else None,
            owner=str(rng.integers(3)),
            key=bytes([rng.integers(2)]),
        )
        for _ in range(int(rng.integers(2, 9)))
    ]
    runner = loaded._runner
    assert runner is not None
    capacity = FEW_PAGES if number % 2 else MANY_PAGES
    crowd = loaded._thread.run(lambda: Runner(runner.decoder, runner.config, CONTEXT, capacity))
    crowd.eyes = runner.eyes
    model = Model(crowd, loaded.tokenizer, loaded._thread, (int(rng.integers(1, 7)), 64))
    played(model, plans)
    for plan in plans:
        assert plan.fault is None, f"schedule {number}: {plan.fault}"
        ids, logprobs = alone(loaded, plan, known)
        if plan.end == "cancelled":
            ids, logprobs = ids[: len(plan.ids)], logprobs[: len(plan.ids)]
        assert plan.ids == ids, f"schedule {number}: another text"
        if logprobs:
            assert plan.logprobs == logprobs, f"schedule {number}: other log-probabilities"
    loaded._thread.run(crowd.snapshots.clear)
    assert loaded._thread.run(lambda: crowd.pages.bytes_used) == 0, f"schedule {number}: pages were lost"
    assert model.scheduler is not None
    return model.scheduler.gave_way


def test_texts_are_their_own_in_any_company(loaded: gemmary.Model, asked: list[Any]) -> None:
    known: dict[Any, Any] = {}
    gave_way = sum(check(loaded, asked, number, known) for number in range(12))
    assert gave_way > 0, "no text had to give way: the pages were too many to show anything"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_five_hundred_schedules(loaded: gemmary.Model, asked: list[Any]) -> None:
    known: dict[Any, Any] = {}
    assert sum(check(loaded, asked, number, known) for number in range(12, 512)) > 0
