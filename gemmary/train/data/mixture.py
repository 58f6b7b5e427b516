"""Which documents the mixture holds, how often each, and in which order: a function of plan and seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .density import density_weights
from .plan import DataPlan
from .unimax import unimax

Numbers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


def draw(plan: DataPlan, names: list[str], entries: npt.NDArray[Any], kept: Numbers) -> Numbers:
    """Numbers of documents, shuffled; one that is repeated is there several times.

    entries: the spool's. kept: numbers of the documents that may be drawn. Sources share the plan's
    characters by UniMax; within a source, a document's expected count is in proportion to its weight.
    """
    source, chars = entries["source"][kept], entries["chars"][kept].astype(np.float64)
    sizes = {name: float(chars[source == number].sum()) for number, name in enumerate(names)}
    shares = unimax(sizes, plan.characters or sum(sizes.values()), plan.epochs)
    drawn = [np.zeros(0, np.int64)]
    for number, name in enumerate(names):
        mine = kept[source == number]
        if not len(mine):
            continue
        of_density = density_weights(entries["embedding"], mine, plan.density, plan.seed)
        weights = of_density * entries["quality"][mine]
        expected = repeats(entries["chars"][mine].astype(np.float64), weights, shares[name], plan.epochs)
        drawn.append(np.repeat(mine, copies(expected, np.random.default_rng((plan.seed, number)))))
    return np.random.default_rng(plan.seed).permutation(np.concatenate(drawn))


def repeats(sizes: Weights, weights: Weights, wanted: float, most: float) -> Weights:
    """How often each document is expected: in proportion to its weight, at most `most`; `wanted` in all.

    The sum of sizes times repeats is `wanted`, or `most` times all sizes where that is less.
    """
    if wanted >= most * sizes.sum():
        return np.full(len(sizes), float(most))
    order = np.argsort(-weights, kind="stable")
    size, weight = sizes[order], weights[order]
    full = most * np.concatenate([[0.0], np.cumsum(size)[:-1]])  # what the heavier ones take if all are full
    open_weight = np.cumsum((size * weight)[::-1])[::-1]
    factor = (wanted - full) / open_weight
    first = int(np.argmax(factor * weight <= most))  # the heaviest document that is not full
    return np.asarray(np.minimum(most, weights * factor[first]))


def copies(expected: Weights, rng: np.random.Generator) -> Numbers:
    """Whole numbers within 1 of each expectation, and in total; every document's mean is its expectation."""
    order = rng.permutation(len(expected))
    steps = np.floor(np.cumsum(expected[order]) + rng.random() + 1e-9)
    result = np.zeros(len(expected), np.int64)
    result[order] = np.diff(steps, prepend=0.0)
    return result
