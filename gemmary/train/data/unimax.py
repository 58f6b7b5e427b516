"""UniMax: as even over sources as can be without repeating any too often (Chung et al. 2023, algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping


def unimax(sizes: Mapping[str, float], budget: float, epochs: float) -> dict[str, float]:
    """How much to take of each source: characters, like `sizes` and `budget`.

    From the smallest source on, each gets an even share of what is left, or `epochs` times its size if that
    is less. The shares add up to `budget`, or to `epochs` times all sizes where that is less.
    """
    if budget < 0 or epochs < 0 or any(size < 0 for size in sizes.values()):
        raise ValueError("sizes, budget and epochs must not be negative")
    taken: dict[str, float] = {}
    left = budget
    ascending = sorted(sizes, key=lambda name: (sizes[name], name))
    for place, name in enumerate(ascending):
        taken[name] = min(left / (len(ascending) - place), epochs * sizes[name])
        left -= taken[name]
    return {name: taken[name] for name in sizes}
