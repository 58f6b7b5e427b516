"""Attention over pages of floats: scores, and sums of values, for a few rows and one page of 64 keys.

Bit rule: a score sums over the head in order, one fused multiply-add a column, and is then scaled; values are
added in the order of positions.
"""

from __future__ import annotations

from collections.abc import Callable

from ..contract import PAGE
from .attention_page import CACHE_LINE, Page
from .attention_row import QUERY, SUMS, emit_fold
from .emit import F32, I64, LANES, VF, Emitter, Value, floats, whole
from .instructions import chosen
from .isa import avx512
from .pagestore import VECTORS, Element

Read = Callable[[Value], Value]  # of an address: sixteen floats


def _product(
    e: Emitter, a: list[Value], b: Value, pitch: Value, reads: list[Read], span: tuple[Value, Value],
    ahead: tuple[Value, int],
) -> list[list[Value]]:  # fmt: skip
    """For each a, and each vector that `reads` make of row i of b: the sum of a[i] * vector, in order.

    i goes over `span`; rows are `pitch` bytes apart. Of ahead = (address, n), n bytes are fetched for each i.
    """
    sums = [[e.variable(floats(0.0)) for _ in reads] for _ in a]
    with e.loop(span[1], span[0]) as i:
        for line in range(0, ahead[1], CACHE_LINE):
            e.prefetch(e.step(ahead[0], i, ahead[1]), line, cache=2)
        row = e.b.add(b, e.b.mul(i, pitch))
        vectors = [read(row) for read in reads]
        for address, totals in zip(a, sums, strict=True):
            factor = e.splat(e.load(F32, e.step(address, i, 4)))
            for vector, total in zip(vectors, totals, strict=True):
                e.b.store(e.fma(factor, vector, e.b.load(total)), total)
    return [[e.b.load(total) for total in totals] for totals in sums]


def _width(rows: int) -> int:
    """Vectors of 64 numbers to multiply at once: sums must fit the registers, and hide their own latency."""
    return VECTORS if chosen is avx512 else {1: VECTORS, 2: VECTORS // 2}.get(rows, 1)


def _reads(e: Emitter, kind: Element, first: int, width: int) -> list[Read]:
    """Vectors first .. first + width - 1 of the 64 numbers at an address."""

    def read(w: int) -> Read:
        return lambda address: kind.widen(e, address, w)

    return [read(w) for w in range(first, first + width)]


def scores(e: Emitter, kind: Element, page: Page, rows: list[Value]) -> None:
    """scale * (query . key) of some rows and all keys; the page's values are fetched meanwhile."""
    size = kind.size
    queries = [e.load(I64, row, QUERY, 8) for row in rows]
    span, width = (whole(0), page.head_dim), _width(len(rows))
    for first in range(0, VECTORS, width):
        ahead = e.b.add(page.values, e.b.mul(page.head_dim, whole(size * LANES * first)))
        sums = _product(
            e, queries, page.keys, whole(size * PAGE), _reads(e, kind, first, width), span,
            (ahead, size * LANES * width),
        )  # fmt: skip
        for m, totals in enumerate(sums):
            for w, total in enumerate(totals):
                e.store(e.b.fmul(total, page.scale), page.powers(e, m), 4 * LANES * (first + w))


def add_values(e: Emitter, kind: Element, page: Page, rows: list[Value], span: tuple[Value, Value]) -> None:
    """Fold the values of the keys in `span` into the rows' sums; the keys ahead are fetched meanwhile."""
    blocks, width = e.b.sdiv(page.head_dim, whole(PAGE)), _width(len(rows))
    with e.loop(blocks) as i:
        for first in range(0, VECTORS, width):
            reads = _reads(e, kind, first, width)
            _add_columns(e, kind, page, rows, span, e.b.mul(i, whole(PAGE)), first, reads)
    with e.loop(e.b.sdiv(page.head_dim, whole(LANES)), e.b.mul(blocks, whole(VECTORS))) as i:
        alone = [lambda address: kind.widen_alone(e, address)]
        _add_columns(e, kind, page, rows, span, e.b.mul(i, whole(LANES)), 0, alone)


def _add_columns(
    e: Emitter, kind: Element, page: Page, rows: list[Value], span: tuple[Value, Value], column: Value,
    first: int, reads: list[Read],
) -> None:  # fmt: skip
    """The same for some vectors of columns, from column + 16 * first; `reads` want `column`'s address."""
    size = kind.size
    ahead = e.step(page.ahead, e.b.add(column, whole(LANES * first)), size * PAGE)
    sums = _product(
        e, [page.powers(e, m) for m in range(len(rows))], e.step(page.values, column, size),
        e.b.mul(page.head_dim, whole(size)), reads, span, (ahead, size * LANES * len(reads)),
    )  # fmt: skip
    for m, (row, totals) in enumerate(zip(rows, sums, strict=True)):
        a, b = (e.splat(e.load(F32, page.weights(e, m), 4 * i)) for i in (0, 1))
        at = e.at(e.step(e.load(I64, row, SUMS, 8), column, 4), 4 * LANES * first)
        for w, total in enumerate(totals):
            e.store(emit_fold(e, e.load(VF, at, 4 * LANES * w), a, total, b), at, 4 * LANES * w)
