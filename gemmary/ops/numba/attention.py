"""Softmax attention over pages, as kernels of a tape.

What a token sees is one interval of positions [first, last]. Tokens of one text that follow each other make a
block; a piece is a block and a key/value head, so that every page is read once for all of their queries. Where
that gives too few pieces (a token a step, late in a long text), a piece is one page of a block: it leaves a
partial result, and `fold` joins those in the order of pages. Both ways give the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import register_jitable

from ...errors import UnsupportedModelError
from ..contract import PAGE, Attention, Floats, Ints, LayerPages
from .attention_tile import (
    ROW_BYTES,
    SCRATCH,
    begin_row,
    clear,
    finish_row,
    fold_part,
    frame,
    leave_row,
    page_rows,
)
from .emit import LANES
from .kernel import ADDRESS, COUNT, NUMBER, Kernel, ints_at, kernel, record
from .pagestore import ELEMENTS, element_of, size_of, store_token
from .tape import Tape
from .threads import read

ROWS = 48  # most query rows of a block: enough that a page comes from memory once and is used from the cache
_FIELDS = 6  # of a block: first token, tokens, first page, pages, pages of blocks before, partial results before
_TOKEN, _TOKENS, _PAGE, _PAGES, _TILE, _PART = range(_FIELDS)
_RECORDS = ROW_BYTES * ROWS
_PIECES_A_THREAD = 4  # fewer than this, and blocks are cut into pages


class Sight:
    """What the tokens of a step see in one kind of layers, cut into pieces. It stays where it is; `look` renews it.

    It has room for `tokens` tokens a step, and for `parts` partial results of a page and a token.
    """

    def __init__(
        self, window: int | None, heads: int, kv_heads: int, head_dim: int, threads: int, tokens: int, parts: int
    ) -> None:
        if head_dim % LANES:
            raise UnsupportedModelError(f"heads are {head_dim} wide: attention wants a multiple of {LANES}")
        if heads % kv_heads or heads // kv_heads > ROWS:
            raise UnsupportedModelError(f"{heads} query heads cannot share {kv_heads} key/value heads")
        self.window, self.threads, self.room = window, threads, parts
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.seq, self.pos, self.first, self.last = (np.zeros(tokens, np.int32) for _ in range(4))
        self.blocks = np.zeros((tokens, _FIELDS), np.int32)
        self.cut, self.new_pieces, self.pieces, self.fold_pieces = (np.zeros(1, np.int64) for _ in range(4))
        self.parts = np.empty(parts * heads * (head_dim + LANES), np.float32)

    def look(self, seq: Ints, pos: Ints, last: Ints, cut: bool | None = None) -> None:
        """Tokens of a step [T]: sequence, position, last position seen. `cut` forces pages as pieces, or forbids it."""
        tokens = len(seq)
        for mine, given in ((self.seq, seq), (self.pos, pos), (self.last, last)):
            mine[:tokens] = given
        self.first[:tokens] = 0 if self.window is None else np.maximum(pos - np.int32(self.window - 1), 0)
        most = max(1, ROWS * self.kv_heads // self.heads)
        count, tiles, parts = _blocks(self.seq, self.first, self.last, tokens, most, self.blocks)
        if cut is None:
            cut = count * self.kv_heads < _PIECES_A_THREAD * self.threads and parts <= self.room
        if cut and parts > self.room:
            raise ValueError(f"room for {self.room} partial results, and {parts} wanted")
        self.cut[0] = cut
        self.new_pieces[0] = count * self.kv_heads
        self.pieces[0] = (tiles if cut else count) * self.kv_heads
        self.fold_pieces[0] = tokens * self.heads if cut else 0
        if not cut:
            work = self.blocks[:count, _TOKENS] * self.blocks[:count, _PAGES]
            self.blocks[:count] = self.blocks[np.argsort(-work, kind="stable")]  # the longest first


@njit("UniTuple(int64,3)(int32[::1],int32[::1],int32[::1],int64,int64,int32[:,::1])", cache=True)
def _blocks(
    seq: Ints, first: Ints, last: Ints, tokens: int, most: int, blocks: Ints
) -> tuple[int, int, int]:
    """Fill `blocks`; how many there are, the pages that they see, and partial results."""
    count, tiles, parts, t = 0, 0, 0, 0
    while t < tokens:
        end, low, high = t, first[t], last[t]
        while end < tokens and end < t + most and seq[end] == seq[t]:
            low, high = min(low, first[end]), max(high, last[end])
            end += 1
        page = low // PAGE
        pages = high // PAGE + 1 - page
        blocks[count, _TOKEN], blocks[count, _TOKENS] = t, end - t
        blocks[count, _PAGE], blocks[count, _PAGES] = page, pages
        blocks[count, _TILE], blocks[count, _PART] = tiles, parts
        count, tiles, parts, t = count + 1, tiles + pages, parts + pages * (end - t), end
    return count, tiles, parts


def append(tape: Tape, sight: Sight, k: Floats, v: Floats, store: LayerPages, tables: Ints, kind: int) -> None:
    """Write k, v [T, K*H] into the pages; tables [S, 2, n] as in `Step`."""
    tape.add(
        _APPEND[element_of(store)], sight.new_pieces, k=k, v=v, keys=store.keys, values=store.values,
        table=tables[:, kind], table_row=tables.strides[0], blocks=sight.blocks, seq=sight.seq, pos=sight.pos,
        tokens=len(sight.seq), kv_heads=sight.kv_heads, head_dim=sight.head_dim,
    )  # fmt: skip


def attend(
    tape: Tape, sight: Sight, q: Floats, store: LayerPages, tables: Ints, kind: int, scale: float, out: Floats
) -> None:
    """out [T, N*H] from q [T, N*H]: each token's softmax over what it sees; keys of the step are in the pages."""
    tape.add(
        _ATTEND[element_of(store)], sight.pieces, q=q, keys=store.keys, values=store.values,
        table=tables[:, kind], table_row=tables.strides[0], blocks=sight.blocks, seq=sight.seq, first=sight.first,
        last=sight.last, cut=sight.cut, parts=sight.parts, out=out, tokens=len(sight.seq), heads=sight.heads,
        kv_heads=sight.kv_heads, head_dim=sight.head_dim, scale=scale,
    )  # fmt: skip
    tape.add(
        _FOLD, sight.fold_pieces, blocks=sight.blocks, first=sight.first, last=sight.last, parts=sight.parts,
        out=out, tokens=len(sight.seq), heads=sight.heads, head_dim=sight.head_dim,
    )  # fmt: skip


@register_jitable(inline="always")
def _cut(blocks: Ints, item: int) -> tuple[int, int]:
    """Block and page of an item, where pages are pieces."""
    block = 0
    while item >= blocks[_FIELDS * block + _TILE] + blocks[_FIELDS * block + _PAGES]:
        block += 1
    return block, item - blocks[_FIELDS * block + _TILE]


def _attend(element: str) -> Kernel:
    def body(arguments: Any, piece: int) -> None:
        a = record(arguments)
        blocks = ints_at(a.blocks, a.tokens * _FIELDS)
        seq, first, last = ints_at(a.seq, a.tokens), ints_at(a.first, a.tokens), ints_at(a.last, a.tokens)
        head_dim, heads, shared = a.head_dim, a.heads, a.kv_heads
        block, kv, tile = piece // shared, piece % shared, 0
        group, cut = heads // shared, read(a.cut) != 0
        if cut:
            block, tile = _cut(blocks, block)
        at = _FIELDS * block
        token, tokens = blocks[at + _TOKEN], blocks[at + _TOKENS]
        page, end = blocks[at + _PAGE], blocks[at + _PAGE] + blocks[at + _PAGES]
        out, row0, pitch = a.out, token * heads, 4 * head_dim
        if cut:
            page, end = page + tile, page + tile + 1
            out, pitch = a.parts, 4 * (head_dim + LANES)
            row0 = (blocks[at + _PART] + tile * tokens) * heads
        table = ints_at(a.table + np.int64(seq[token]) * a.table_row, end)
        rows = frame(_RECORDS)
        scratch = frame(SCRATCH)
        count = tokens * group
        for r in range(count):
            t, n = r // group, kv * group + r % group
            query = a.q + 4 * head_dim * ((token + t) * heads + n)
            sums = out + pitch * (row0 + t * heads + n)
            begin_row(rows + ROW_BYTES * r, query, sums, first[token + t], last[token + t])
            clear(sums, head_dim)
        nbytes = size_of(element) * PAGE * head_dim
        for p in range(page, end):
            store = (np.int64(table[p]) * shared + kv) * nbytes
            keys, values, base = a.keys + store, a.values + store, p * PAGE
            r = 0
            while r < count:
                x, left = rows + ROW_BYTES * r, count - r
                if left >= 6:
                    page_rows(element, 6, x, keys, values, base, head_dim, a.scale, scratch)
                    r += 6
                elif left >= 4:
                    page_rows(element, 4, x, keys, values, base, head_dim, a.scale, scratch)
                    r += 4
                elif left >= 2:
                    page_rows(element, 2, x, keys, values, base, head_dim, a.scale, scratch)
                    r += 2
                else:
                    page_rows(element, 1, x, keys, values, base, head_dim, a.scale, scratch)
                    r += 1
        for r in range(count):
            if cut:
                leave_row(rows + ROW_BYTES * r, head_dim)
            else:
                finish_row(rows + ROW_BYTES * r, head_dim)

    return kernel(
        q=ADDRESS, keys=ADDRESS, values=ADDRESS, table=ADDRESS, table_row=COUNT, blocks=ADDRESS, seq=ADDRESS,
        first=ADDRESS, last=ADDRESS, cut=ADDRESS, parts=ADDRESS, out=ADDRESS, tokens=COUNT, heads=COUNT,
        kv_heads=COUNT, head_dim=COUNT, scale=NUMBER,
    )(body)  # fmt: skip


def _append(element: str) -> Kernel:
    def body(arguments: Any, piece: int) -> None:
        a = record(arguments)
        blocks = ints_at(a.blocks, a.tokens * _FIELDS)
        seq, pos = ints_at(a.seq, a.tokens), ints_at(a.pos, a.tokens)
        head_dim, shared = a.head_dim, a.kv_heads
        at, kv = _FIELDS * (piece // shared), piece % shared
        nbytes = size_of(element) * PAGE * head_dim
        for t in range(blocks[at + _TOKEN], blocks[at + _TOKEN] + blocks[at + _TOKENS]):
            page, slot = pos[t] // PAGE, pos[t] % PAGE
            table = ints_at(a.table + np.int64(seq[t]) * a.table_row, page + 1)
            store = (np.int64(table[page]) * shared + kv) * nbytes
            new = 4 * head_dim * (t * shared + kv)
            store_token(element, a.k + new, a.v + new, a.keys + store, a.values + store, slot, head_dim)

    return kernel(
        k=ADDRESS, v=ADDRESS, keys=ADDRESS, values=ADDRESS, table=ADDRESS, table_row=COUNT, blocks=ADDRESS,
        seq=ADDRESS, pos=ADDRESS, tokens=COUNT, kv_heads=COUNT, head_dim=COUNT,
    )(body)  # fmt: skip


@kernel(
    blocks=ADDRESS, first=ADDRESS, last=ADDRESS, parts=ADDRESS, out=ADDRESS, tokens=COUNT, heads=COUNT,
    head_dim=COUNT,
)  # fmt: skip
def _FOLD(arguments: Any, piece: int) -> None:  # noqa: N802
    a = record(arguments)
    blocks = ints_at(a.blocks, a.tokens * _FIELDS)
    first, last = ints_at(a.first, a.tokens), ints_at(a.last, a.tokens)
    head_dim, heads = a.head_dim, a.heads
    t, n = piece // heads, piece % heads
    at = 0
    while t >= blocks[at + _TOKEN] + blocks[at + _TOKENS]:
        at += _FIELDS
    row, sums = frame(ROW_BYTES), a.out + 4 * head_dim * piece
    begin_row(row, 0, sums, 0, 0)
    clear(sums, head_dim)
    for p in range(first[t] // PAGE, last[t] // PAGE + 1):
        tile = np.int64(p - blocks[at + _PAGE])
        index = blocks[at + _PART] + tile * blocks[at + _TOKENS] + t - blocks[at + _TOKEN]
        fold_part(row, a.parts + 4 * (head_dim + LANES) * (index * heads + n), head_dim)
    finish_row(row, head_dim)


_ATTEND = {element: _attend(element) for element in ELEMENTS}
_APPEND = {element: _append(element) for element in ELEMENTS}
