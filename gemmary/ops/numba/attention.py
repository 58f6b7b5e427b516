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
    finish_row,
    fold_part,
    frame,
    leave_row,
    place_row,
    take_page,
)
from .emit import LANES
from .kernel import ADDRESS, COUNT, NUMBER, Kernel, ints_at, kernel, record
from .pagestore import ELEMENTS, element_of, size_of, store_token
from .tape import Tape
from .threads import read

ROWS = 48  # most query rows of a block: enough that a page comes from memory once and is used from the cache
RUN = 4  # pages folded on their own before their result is folded into what came before; runs lie at multiples of it
_FIELDS = 6  # of a block: first token, tokens, first page, end of pages, runs of blocks before, partial results before
_TOKEN, _TOKENS, _PAGE, _END, _RUNS, _PARTS = range(_FIELDS)
_PIECES_A_THREAD = 4  # fewer than this, and blocks are cut into runs
_RECORDS = ROW_BYTES * ROWS


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
        count, runs, parts = _blocks(self.seq, self.first, self.last, tokens, most, self.blocks)
        if cut is None:
            cut = count * self.kv_heads < _PIECES_A_THREAD * self.threads and parts <= self.room
        if cut and parts > self.room:
            raise ValueError(f"room for {self.room} partial results, and {parts} wanted")
        self.cut[0] = cut
        self.new_pieces[0] = count * self.kv_heads
        self.pieces[0] = (runs if cut else count) * self.kv_heads
        self.fold_pieces[0] = tokens * self.heads if cut else 0
        if not cut:
            work = self.blocks[:count, _TOKENS] * (self.blocks[:count, _END] - self.blocks[:count, _PAGE])
            self.blocks[:count] = self.blocks[np.argsort(-work, kind="stable")]  # the longest first


@njit("UniTuple(int64,3)(int32[::1],int32[::1],int32[::1],int64,int64,int32[:,::1])", cache=True)
def _blocks(
    seq: Ints, first: Ints, last: Ints, tokens: int, most: int, blocks: Ints
) -> tuple[int, int, int]:
    """Fill `blocks`; how many there are, the runs that they see, and partial results."""
    count, runs, parts, t = 0, 0, 0, 0
    while t < tokens:
        after, low, high = t, first[t], last[t]
        while after < tokens and after < t + most and seq[after] == seq[t]:
            low, high = min(low, first[after]), max(high, last[after])
            after += 1
        page, end = low // PAGE, high // PAGE + 1
        blocks[count, _TOKEN], blocks[count, _TOKENS] = t, after - t
        blocks[count, _PAGE], blocks[count, _END] = page, end
        blocks[count, _RUNS], blocks[count, _PARTS] = runs, parts
        seen = (end - 1) // RUN - page // RUN + 1
        count, runs, parts, t = count + 1, runs + seen, parts + seen * (after - t), after
    return count, runs, parts


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
        kv_heads=sight.kv_heads, head_dim=sight.head_dim, threads=sight.threads, scale=scale,
    )  # fmt: skip
    tape.add(
        _FOLD, sight.fold_pieces, blocks=sight.blocks, first=sight.first, last=sight.last, parts=sight.parts,
        out=out, tokens=len(sight.seq), heads=sight.heads, head_dim=sight.head_dim,
    )  # fmt: skip


@register_jitable(inline="always")
def _block_of_run(blocks: Ints, run: int) -> int:
    """Where the block of the step's run number `run` begins in `blocks`."""
    at = 0
    while run >= blocks[at + _RUNS] + (blocks[at + _END] - 1) // RUN - blocks[at + _PAGE] // RUN + 1:
        at += _FIELDS
    return at


def _attend(element: str) -> Kernel:
    def body(arguments: Any, piece: int) -> None:
        a = record(arguments)
        blocks = ints_at(a.blocks, a.tokens * _FIELDS)
        seq, first, last = ints_at(a.seq, a.tokens), ints_at(a.first, a.tokens), ints_at(a.last, a.tokens)
        head_dim, heads, shared = a.head_dim, a.heads, a.kv_heads
        item, kv, group, cut = piece // shared, piece % shared, heads // shared, read(a.cut) != 0
        at = _block_of_run(blocks, item) if cut else _FIELDS * item
        token, count, page, end = blocks[at + _TOKEN], blocks[at + _TOKENS] * group, blocks[at + _PAGE], blocks[at + _END]
        run, behind = page // RUN, (end - 1) // RUN + 1
        width, stride = head_dim + LANES, group
        if cut:
            step = item - blocks[at + _RUNS]
            run, behind, stride = run + step, run + step + 1, heads
            parts = a.parts + 4 * width * ((blocks[at + _PARTS] + step * blocks[at + _TOKENS]) * heads + kv * group)
            room = np.empty(0, np.float32)
        else:
            room = np.empty(count * width, np.float32)
            parts = room.ctypes.data
        rows, totals, scratch = frame(_RECORDS), frame(_RECORDS), frame(SCRATCH)
        for r in range(count):
            t, n = token + r // group, kv * group + r % group
            place = 4 * head_dim * (t * heads + n)
            sums = parts + 4 * width * (r // group * stride + r % group)
            place_row(rows + ROW_BYTES * r, a.q + place, sums, first[t], last[t])
            if not cut:
                place_row(totals + ROW_BYTES * r, 0, a.out + place, 0, 0)
                begin_row(totals + ROW_BYTES * r, head_dim)
        table = ints_at(a.table + np.int64(seq[token]) * a.table_row, end)
        nbytes = size_of(element) * PAGE * head_dim
        while run < behind:
            for r in range(count):
                begin_row(rows + ROW_BYTES * r, head_dim)
            for p in range(max(page, run * RUN), min(end, run * RUN + RUN)):
                # The first page of the next run is probably another thread's.
                later = p + 1 + (RUN * (a.threads - 1) if cut and p % RUN == RUN - 1 else 0)
                ahead = a.keys + (np.int64(table[min(later, end - 1)]) * shared + kv) * nbytes
                store = (np.int64(table[p]) * shared + kv) * nbytes
                take_page(
                    element, rows, count, a.keys + store, a.values + store, p * PAGE, head_dim, a.scale,
                    scratch, ahead,
                )  # fmt: skip
            for r in range(count):
                leave_row(rows + ROW_BYTES * r, head_dim)
                if not cut:
                    fold_part(totals + ROW_BYTES * r, parts + 4 * width * r, head_dim)
            run += 1
        if not cut:
            for r in range(count):
                finish_row(totals + ROW_BYTES * r, head_dim)

    return kernel(
        q=ADDRESS, keys=ADDRESS, values=ADDRESS, table=ADDRESS, table_row=COUNT, blocks=ADDRESS, seq=ADDRESS,
        first=ADDRESS, last=ADDRESS, cut=ADDRESS, parts=ADDRESS, out=ADDRESS, tokens=COUNT, heads=COUNT,
        kv_heads=COUNT, head_dim=COUNT, threads=COUNT, scale=NUMBER,
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
    row = frame(ROW_BYTES)
    place_row(row, 0, a.out + 4 * head_dim * piece, 0, 0)
    begin_row(row, head_dim)
    for run in range(first[t] // PAGE // RUN, last[t] // PAGE // RUN + 1):
        step = np.int64(run - blocks[at + _PAGE] // RUN)
        index = blocks[at + _PARTS] + step * blocks[at + _TOKENS] + t - blocks[at + _TOKEN]
        fold_part(row, a.parts + 4 * (head_dim + LANES) * (index * heads + n), head_dim)
    finish_row(row, head_dim)


_ATTEND = {element: _attend(element) for element in ELEMENTS}
_APPEND = {element: _append(element) for element in ELEMENTS}
