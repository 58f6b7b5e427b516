"""Softmax attention over pages of 64 keys, as kernels of a tape.

Bit rules: each page gives a row a largest score, a sum of exponentials and a sum of values
(`attention_tile`). These are folded in the order of pages, in runs of RUN pages that begin at multiples of
RUN; what runs give is folded in their order. Whether one thread does all of a row or each run is a piece
(`sight`), a row's bits are the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from ..contract import PAGE, Floats, Ints, LayerPages
from .attention_page import SCRATCH
from .attention_row import ROW_BYTES, begin_row, finish_row, fold_part, frame, leave_row, place_row
from .attention_tile import query_bytes, round_query, take_page
from .emit import LANES
from .kernel import ADDRESS, COUNT, NUMBER, Kernel, ints_at, kernel, record
from .pagestore import FORMATS, element_of, part_bytes, store_token
from .sight import END, FIELDS, PAGES, PARTS, ROWS, RUN, RUNS, TOKEN, TOKENS, Sight
from .tape import Tape
from .threads import read

_RECORDS = ROW_BYTES * ROWS


def append(
    tape: Tape, sight: Sight, k: Floats, v: Floats, store: LayerPages, tables: Ints, kind: int
) -> None:
    """Write k, v [T, K*H] of the tokens in `sight` into the pages; tables [S, 2, n] as in `Step`."""
    tape.add(
        _APPEND[element_of(store)], sight.new_pieces, k=k, v=v, keys=store.keys, values=store.values,
        table=tables[:, kind], table_row=tables.strides[0], blocks=sight.blocks, seq=sight.seq,
        pos=sight.pos, tokens=len(sight.seq), kv_heads=sight.kv_heads, head_dim=sight.head_dim,
    )  # fmt: skip


def attend(
    tape: Tape, sight: Sight, q: Floats, store: LayerPages, tables: Ints, kind: int, scale: float, out: Floats
) -> None:
    """out [T, N*H] from q [T, N*H]: softmax of scale * (q . k) over what each token in `sight` sees, times v.

    Keys and values, those of the step too, are in the pages.
    """
    tape.add(
        _ATTEND[element_of(store)], sight.pieces, q=q, keys=store.keys, values=store.values,
        table=tables[:, kind], table_row=tables.strides[0], blocks=sight.blocks, seq=sight.seq,
        first=sight.first, last=sight.last, cut=sight.cut, parts=sight.parts, out=out, scale=scale,
        tokens=len(sight.seq), heads=sight.heads, kv_heads=sight.kv_heads, head_dim=sight.head_dim,
        threads=sight.threads,
    )  # fmt: skip
    tape.add(
        _FOLD, sight.fold_pieces, blocks=sight.blocks, first=sight.first, last=sight.last, parts=sight.parts,
        out=out, tokens=len(sight.seq), heads=sight.heads, head_dim=sight.head_dim,
    )  # fmt: skip


@register_jitable(forceinline=True)
def _block_of_run(blocks: Ints, run: int) -> int:
    """Where the block that has run number `run` of the step begins in `blocks`."""
    at = 0
    while run >= blocks[at + RUNS] + (blocks[at + END] - 1) // RUN - blocks[at + PAGES] // RUN + 1:
        at += FIELDS
    return at


@register_jitable(forceinline=True)
def _part(parts: int, blocks: Ints, at: int, run: int, row: int, heads: int, head_dim: int) -> int:
    """Where the partial result of a run is; run and row (token * heads + head) count within the block."""
    return parts + 4 * (head_dim + LANES) * ((blocks[at + PARTS] + run * blocks[at + TOKENS]) * heads + row)


def _attend(element: str) -> Kernel:
    def body(arguments: Any, piece: int) -> None:
        a = record(arguments)
        blocks = ints_at(a.blocks, a.tokens * FIELDS)
        seq, first, last = ints_at(a.seq, a.tokens), ints_at(a.first, a.tokens), ints_at(a.last, a.tokens)
        heads, head_dim, kv, group = a.heads, a.head_dim, piece % a.kv_heads, a.heads // a.kv_heads
        cut, item = read(a.cut) != 0, piece // a.kv_heads
        at = _block_of_run(blocks, item) if cut else FIELDS * item
        token, page, end = blocks[at + TOKEN], blocks[at + PAGES], blocks[at + END]
        run, behind, step = page // RUN, (end - 1) // RUN + 1, 0
        if cut:
            step = item - blocks[at + RUNS]
            run, behind = run + step, run + step + 1
        count = blocks[at + TOKENS] * group
        rows, totals, scratch = frame(_RECORDS), frame(_RECORDS), frame(SCRATCH)
        width = head_dim + LANES
        query = query_bytes(element, head_dim)
        room = np.empty(count * query // 4 + (0 if cut else count * width), np.float32)
        for r in range(count):
            t, n = r // group, kv * group + r % group
            place = 4 * head_dim * ((token + t) * heads + n)
            sums = room.ctypes.data + query * count + 4 * width * r
            if cut:
                sums = _part(a.parts, blocks, at, step, t * heads + n, heads, head_dim)
            q = round_query(element, a.q + place, room.ctypes.data + query * r, head_dim)
            place_row(rows + ROW_BYTES * r, q, sums, first[token + t], last[token + t])
            if not cut:
                place_row(totals + ROW_BYTES * r, 0, a.out + place, 0, 0)
                begin_row(totals + ROW_BYTES * r, head_dim)
        table = ints_at(a.table + np.int64(seq[token]) * a.table_row, end)
        nbytes = part_bytes(element, head_dim)
        while run < behind:
            for r in range(count):
                begin_row(rows + ROW_BYTES * r, head_dim)
            for p in range(max(page, run * RUN), min(end, run * RUN + RUN)):
                # The first page of the next run is probably another thread's.
                later = p + 1 + (RUN * (a.threads - 1) if cut and p % RUN == RUN - 1 else 0)
                ahead = (np.int64(table[min(later, end - 1)]) * a.kv_heads + kv) * nbytes
                store = (np.int64(table[p]) * a.kv_heads + kv) * nbytes
                take_page(
                    element, rows, count, a.keys + store, a.values + store, p * PAGE, head_dim, a.scale,
                    scratch, a.keys + ahead,
                )  # fmt: skip
            for r in range(count):
                leave_row(rows + ROW_BYTES * r, head_dim)
                if not cut:
                    part = room.ctypes.data + query * count + 4 * width * r
                    fold_part(totals + ROW_BYTES * r, part, head_dim)
            run += 1
        if not cut:
            for r in range(count):
                finish_row(totals + ROW_BYTES * r, head_dim)

    return kernel(
        q=ADDRESS, keys=ADDRESS, values=ADDRESS, table=ADDRESS, table_row=COUNT, blocks=ADDRESS, seq=ADDRESS,
        first=ADDRESS, last=ADDRESS, cut=ADDRESS, parts=ADDRESS, out=ADDRESS, tokens=COUNT, heads=COUNT,
        kv_heads=COUNT, head_dim=COUNT, threads=COUNT, scale=NUMBER,
    )(body)  # fmt: skip


@kernel(
    blocks=ADDRESS, first=ADDRESS, last=ADDRESS, parts=ADDRESS, out=ADDRESS, tokens=COUNT, heads=COUNT,
    head_dim=COUNT,
)  # fmt: skip
def _FOLD(arguments: Any, piece: int) -> None:
    """The partial results of a token's runs, of one head."""
    a = record(arguments)
    blocks = ints_at(a.blocks, a.tokens * FIELDS)
    first, last = ints_at(a.first, a.tokens), ints_at(a.last, a.tokens)
    head_dim, heads, t = a.head_dim, a.heads, piece // a.heads
    at = 0
    while t >= blocks[at + TOKEN] + blocks[at + TOKENS]:
        at += FIELDS
    row, inside = frame(ROW_BYTES), piece - blocks[at + TOKEN] * heads
    place_row(row, 0, a.out + 4 * head_dim * piece, 0, 0)
    begin_row(row, head_dim)
    for run in range(first[t] // PAGE // RUN, last[t] // PAGE // RUN + 1):
        step = run - blocks[at + PAGES] // RUN
        fold_part(row, _part(a.parts, blocks, at, step, inside, heads, head_dim), head_dim)
    finish_row(row, head_dim)


def _append(element: str) -> Kernel:
    def body(arguments: Any, piece: int) -> None:
        a = record(arguments)
        blocks = ints_at(a.blocks, a.tokens * FIELDS)
        seq, pos = ints_at(a.seq, a.tokens), ints_at(a.pos, a.tokens)
        head_dim, at, kv = a.head_dim, FIELDS * (piece // a.kv_heads), piece % a.kv_heads
        nbytes = part_bytes(element, head_dim)
        for t in range(blocks[at + TOKEN], blocks[at + TOKEN] + blocks[at + TOKENS]):
            page, slot = pos[t] // PAGE, pos[t] % PAGE
            table = ints_at(a.table + np.int64(seq[t]) * a.table_row, page + 1)
            store = (np.int64(table[page]) * a.kv_heads + kv) * nbytes
            new = 4 * head_dim * (t * a.kv_heads + kv)
            store_token(element, a.k + new, a.v + new, a.keys + store, a.values + store, slot, head_dim)

    return kernel(
        k=ADDRESS, v=ADDRESS, keys=ADDRESS, values=ADDRESS, table=ADDRESS, table_row=COUNT, blocks=ADDRESS,
        seq=ADDRESS, pos=ADDRESS, tokens=COUNT, kv_heads=COUNT, head_dim=COUNT,
    )(body)  # fmt: skip


_ATTEND = {element: _attend(element) for element in FORMATS}
_APPEND = {element: _append(element) for element in FORMATS}
