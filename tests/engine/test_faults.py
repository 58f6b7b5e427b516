"""A fault of one text is that text's: the others say what they say alone, and nothing is left behind.

Faults are put in at every stage that works for one text among several: the step, the head, the draw, the
constraint, the tower, the snapshots, whoever listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gemmary
from gemmary.engine.eyes import Eyes
from gemmary.engine.model import Model
from gemmary.engine.options import Order
from gemmary.engine.sampling import NotFiniteError, Sampler, Sampling
from gemmary.engine.schema import SchemaConstraint, SchemaError
from gemmary.errors import MemoryBudgetError
from tests.engine import seeing
from tests.engine.company import Listener, alone, crowd, ended, left_over, opened
from tests.parity.sharp import text_ids

POISON = 666
SCHEMA = {"type": "string", "pattern": "^[a-z]{30}$"}
PLENTY = (60, 120)


class PanicException(BaseException):
    """As pyo3 raises it: no Exception."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gemmary.Model]:
    folder = tmp_path_factory.mktemp("seeing")
    seeing.build(folder)
    with gemmary.load(folder, context=320, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def orders() -> list[tuple[list[int], Order]]:
    """Eight texts: the fourth is the one that will be harmed."""
    seeds = [1, 2, 3, POISON, 4, 5, 6, 7]
    texts = [text_ids(n, seed=n) for n in (5, 90, 33, 70, 70, 12, 150, 8)]

    def order(seed: int) -> Order:
        schema = SCHEMA if seed in (3, POISON) else None
        return Order(Sampling(seed=seed, logprobs=2 if seed % 2 else None), 12, schema=schema)

    return [(ids, order(seed)) for ids, seed in zip(texts, seeds, strict=True)]


@pytest.fixture(scope="module")
def solo(loaded: gemmary.Model, orders: list[tuple[list[int], Order]]) -> list[list[int]]:
    return [alone(loaded, ids, order) for ids, order in orders]


Hook = Callable[[pytest.MonkeyPatch, Model], None]


def late(sampler: Sampler) -> bool:
    """Whether this is the harmed text."""
    return sampler.sampling.seed == POISON


def harmed(model: Model, written: int = 4) -> list[Any]:
    """The sequence to harm, once its text has so many tokens."""
    return [
        p.sequence
        for p in model.scheduler._running  # type: ignore[union-attr]
        if late(p.request.sampler) and len(p.ids) - len(p.request.ids) >= written
    ]


def not_a_number(patch: pytest.MonkeyPatch, model: Model) -> None:
    runner = model._runner
    assert runner is not None
    together = runner.together

    def poisoned(parts: Any, rows: Any) -> Any:
        states, bad = together(parts, rows), harmed(model)
        ends = np.cumsum([len(ids) for _, ids in parts]) - 1
        for end, (sequence, _) in zip(ends, parts, strict=True):
            if sequence in bad and end in rows:
                states[list(rows).index(end)] = np.nan
        return states

    patch.setattr(runner, "together", poisoned)


def step(fault: type[BaseException]) -> Hook:
    def hook(patch: pytest.MonkeyPatch, model: Model) -> None:
        runner = model._runner
        assert runner is not None
        together = runner.together

        def failing(parts: Any, rows: Any) -> Any:
            if any(sequence is bad for bad in harmed(model) for sequence, _ in parts):
                for sequence, _ in parts:  # as `together` leaves it
                    runner.pages.truncate(sequence, sequence.length)
                raise fault("hook")
            return together(parts, rows)

        patch.setattr(runner, "together", failing)

    return hook


def head(patch: pytest.MonkeyPatch, model: Model) -> None:
    runner = model._runner
    assert runner is not None
    ask = runner.head

    def failing(states: Any, want: Any) -> Any:
        if want.allowed is not None and want.allowed.ndim == 2 and len(states) > 1 and harmed(model):
            raise RuntimeError("hook")  # whoever is in it: only in company
        return ask(states, want)

    patch.setattr(runner, "head", failing)


def method(owner: type, name: str, fault: type[BaseException]) -> Hook:
    """A method that fails the fourth time for the harmed text."""

    def hook(patch: pytest.MonkeyPatch, model: Model) -> None:
        original = getattr(owner, name)

        def failing(self: Any, *args: Any) -> Any:
            texts = [p.request for p in model.scheduler._running if late(p.request.sampler)]  # type: ignore[union-attr]
            if any(self in (request.sampler, request.constraint) for request in texts) and harmed(model):
                raise fault("hook")
            return original(self, *args)

        patch.setattr(owner, name, failing)

    return hook


def start(patch: pytest.MonkeyPatch, model: Model) -> None:
    runner = model._runner
    assert runner is not None
    begin = runner.start

    def failing(ids: Any, sequence: Any, key: bytes = b"") -> int:
        running = model.scheduler._running  # type: ignore[union-attr]
        if any(late(p.request.sampler) and p.sequence is sequence for p in running):
            raise MemoryError
        return begin(ids, sequence, key)

    patch.setattr(runner, "start", failing)


HOOKS: dict[str, tuple[Hook, type[BaseException]]] = {
    "NaN in a row": (not_a_number, NotFiniteError),
    "exception in a step": (step(RuntimeError), RuntimeError),
    "memory in a step": (step(MemoryError), MemoryBudgetError),
    "panic in a step": (step(PanicException), RuntimeError),
    "sampler asks": (method(Sampler, "want", ValueError), ValueError),
    "sampler draws": (method(Sampler, "draw", ZeroDivisionError), ZeroDivisionError),
    "constraint allows": (method(SchemaConstraint, "allowed", ValueError), ValueError),
    "constraint accepts": (method(SchemaConstraint, "accept", SchemaError), SchemaError),
    "constraint panics": (method(SchemaConstraint, "allowed", PanicException), RuntimeError),
    "memory at the start": (start, MemoryBudgetError),
}


@pytest.mark.parametrize("name", HOOKS)
def test_one_of_eight(
    name: str,
    loaded: gemmary.Model,
    orders: list[tuple[list[int], Order]],
    solo: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook, expected = HOOKS[name]
    model = crowd(loaded, PLENTY)
    hook(monkeypatch, model)
    listeners = [opened(model, ids, order) for ids, order in orders]
    ended(listeners)
    for number, (listener, ids) in enumerate(zip(listeners, solo, strict=True)):
        if number == 3:
            assert isinstance(listener.fault, expected), listener.fault
            assert listener.ids == ids[: len(listener.ids)]
            assert len(listener.ids) < len(ids)
        else:
            assert listener.fault is None
            assert listener.ids == ids, f"text {number} is another one"
    assert left_over(model) == (0, 0, 0, 0)
    monkeypatch.undo()
    again = opened(model, *orders[3])
    ended([again])
    assert again.ids == solo[3], "the model was harmed"


def test_a_head_that_fails_for_several_is_asked_for_each(
    loaded: gemmary.Model,
    orders: list[tuple[list[int], Order]],
    solo: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = crowd(loaded, PLENTY)
    head(monkeypatch, model)
    listeners = [opened(model, ids, order) for ids, order in orders]
    ended(listeners)
    assert [listener.ids for listener in listeners] == solo


def test_who_listens_and_fails_is_left(
    loaded: gemmary.Model, orders: list[tuple[list[int], Order]], solo: list[list[int]]
) -> None:
    """As a server's event loop does when it is closed."""
    model = crowd(loaded, PLENTY)
    told = []

    def gone(news: Any) -> None:
        told.append(news)
        raise RuntimeError("the event loop is closed")

    bad = Listener(each=gone)
    model.open(orders[0][0], bad, Order(Sampling(seed=1), 200))
    good = [opened(model, *order) for order in orders[4:6]]
    ended(good)
    assert [listener.ids for listener in good] == solo[4:6]
    ended([bad])
    assert bad.end == "cancelled"
    assert len(told) <= 3
    assert left_over(model) == (0, 0, 0, 0)


def test_a_fault_of_the_scheduler_itself_ends_all_and_leaves_nothing(
    loaded: gemmary.Model,
    orders: list[tuple[list[int], Order]],
    solo: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = crowd(loaded, PLENTY, streams=4)
    monkeypatch.setattr(model.scheduler, "_budget", lambda: harmed(model)[99])
    listeners = [opened(model, ids, order) for ids, order in orders]
    ended(listeners)
    assert all(isinstance(listener.fault, IndexError) for listener in listeners)
    assert left_over(model) == (0, 0, 0, 0)
    monkeypatch.undo()
    again = opened(model, *orders[0])
    ended([again])
    assert again.ids == solo[0]


def test_what_freed_pages_held_is_never_read(
    loaded: gemmary.Model, orders: list[tuple[list[int], Order]], solo: list[list[int]]
) -> None:
    """Every byte of every page says NaN before the texts come, as if somebody else had left it there."""
    model = crowd(loaded, PLENTY)
    assert model._runner is not None
    for layer in model._runner.pages.layers:
        for store in (layer.keys, layer.values):
            store.view(np.uint8)[...] = 0xFF
    listeners = [opened(model, ids, order) for ids, order in orders]
    ended(listeners)
    assert [listener.ids for listener in listeners] == solo


@pytest.mark.parametrize("pages", [(3, 5), (4, 9)])
def test_a_text_that_does_not_fit_ends_alone(
    loaded: gemmary.Model,
    orders: list[tuple[list[int], Order]],
    solo: list[list[int]],
    pages: tuple[int, int],
) -> None:
    """A tenth of the pages: texts give way to each other, and one is too long even by itself."""
    model = crowd(loaded, pages)
    long = opened(model, text_ids(300, seed=1), Order(Sampling(seed=1), 5))
    listeners = [opened(model, ids, order) for ids, order in orders]
    ended([long, *listeners])
    assert isinstance(long.fault, MemoryBudgetError)
    assert [listener.ids for listener in listeners] == solo
    assert model.scheduler is not None
    assert model.scheduler.gave_way > 0
    assert left_over(model) == (0, 0, 0, 0)


def blinded(patch: pytest.MonkeyPatch, what: Callable[[Eyes, int, Any], Any], number: int) -> None:
    """The tower does `what` with its result for the picture of this number."""
    keep = Eyes._keep

    def kept(self: Eyes, n: int, features: Any) -> None:
        keep(self, n, what(self, n, features) if n == number else features)

    patch.setattr(Eyes, "_keep", kept)


def not_finite(eyes: Eyes, number: int, features: Any) -> Any:
    return np.full_like(features, np.nan)


def failing(eyes: Eyes, number: int, features: Any) -> Any:
    raise MemoryError


@pytest.mark.parametrize(
    ("what", "expected"), [(not_finite, NotFiniteError), (failing, MemoryBudgetError)], ids=["NaN", "memory"]
)
def test_a_tower_that_fails_for_one_picture(
    loaded: gemmary.Model, monkeypatch: pytest.MonkeyPatch, what: Any, expected: type[Exception]
) -> None:
    """Pictures are encoded in turns with one tower: whoever ran the layer that failed, its owner is told."""
    prompts = [loaded.prompt(seeing.asked(seed)) for seed in (41, 42, 43)]
    order = Order(Sampling(seed=1), 6)
    expect = [alone(loaded, prompts[n], order) for n in (0, 2)]
    assert loaded._runner is not None
    eyes = loaded._runner.eyes
    assert eyes is not None
    loaded._thread.run(eyes._features.clear)
    model = crowd(loaded, PLENTY)
    blinded(monkeypatch, what, eyes.number(prompts[1].keys[0]))
    listeners = [opened(model, prompt, order) for prompt in prompts]
    ended(listeners)
    assert isinstance(listeners[1].fault, expected), listeners[1].fault
    assert [listeners[n].ids for n in (0, 2)] == expect
    assert left_over(model) == (0, 0, 0, 0)
    monkeypatch.undo()
    again = opened(model, prompts[1], order)
    ended([again])
    assert again.fault is None
    assert len(again.ids) > 0
