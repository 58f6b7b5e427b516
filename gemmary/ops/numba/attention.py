"""Softmax attention over pages of 64 keys.

What a token sees is one interval of positions [first, last]. Scores are summed over H in order, exponentials
in 64 lanes (lane = position mod 64) and a fixed tree, values in the order of positions: the result of a token
does not depend on what else is in the step, nor on where the step began.
"""

from __future__ import annotations

import numpy as np
from typing import Any
from numba import njit, carray

from ..contract import PAGE
from .scalar import exp, fma
from .kernel import *
from .kernel import _floats

_ZERO = np.float32(0)


@njit(cache=True, nogil=True)
def append(
    k: np.ndarray, v: np.ndarray, keys: np.ndarray, values: np.ndarray,
    tables: np.ndarray, seq: np.ndarray, pos: np.ndarray,
) -> None:  # fmt: skip
    """Write k, v [T, K*H] into the pages; keys are stored transposed."""
    _, shared, head, _ = keys.shape
    for t in range(len(pos)):
        page, slot = tables[seq[t], pos[t] // PAGE], pos[t] % PAGE
        for g in range(shared):
            for h in range(head):
                keys[page, g, h, slot] = k[t, g * head + h]
                values[page, g, slot, h] = v[t, g * head + h]


@njit(inline="always")
def _score_page(
    q: np.ndarray, at: int, scale: np.float32, keys: np.ndarray, page: int, group: int,
    scores: np.ndarray, offset: int,
) -> None:  # fmt: skip
    """scores[offset + j] = scale * q . key j, for all 64 slots of a page."""
    for j in range(PAGE):
        scores[offset + j] = _ZERO
    for h in range(keys.shape[2]):
        x = q[at + h]
        for j in range(PAGE):
            scores[offset + j] = fma(x, keys[page, group, h, j], scores[offset + j])
    for j in range(PAGE):
        scores[offset + j] = np.float32(scores[offset + j] * scale)


@njit(inline="always")
def _exponentials(scores: np.ndarray, low: int, high: int, lanes: np.ndarray) -> np.float32:
    """Replace scores[low:high] by e^(score - max) and the rest by 0; return their sum."""
    peak = scores[low]
    for j in range(low, high):
        peak = max(peak, scores[j])
    for j in range(low):
        scores[j] = _ZERO
    for j in range(high, len(scores)):
        scores[j] = _ZERO
    for j in range(low, high):
        scores[j] = exp(np.float32(scores[j] - peak))
    for j in range(PAGE):
        lanes[j] = _ZERO
    for start in range(0, len(scores), PAGE):
        for j in range(PAGE):
            lanes[j] = np.float32(lanes[j] + scores[start + j])
    width = PAGE // 2
    while width:
        for j in range(width):
            lanes[j] = np.float32(lanes[j] + lanes[j + width])
        width //= 2
    return lanes[0]


@njit(cache=True, nogil=True, error_model="numpy")
def attend_items(
    q: np.ndarray, keys: np.ndarray, values: np.ndarray, tables: np.ndarray, seq: np.ndarray,
    first: np.ndarray, last: np.ndarray, scale: np.float32, begin: int, end: int, out: np.ndarray,
) -> None:  # fmt: skip
    """Items begin..end of `attend`: item = token * heads + head."""
    _, shared, head, _ = keys.shape
    heads = q.shape[1] // head
    flat = q.reshape(-1)
    lanes = np.empty(PAGE, np.float32)
    for item in range(begin, end):
        t, n = item // heads, item % heads
        group = n // (heads // shared)
        tile, behind = first[t] // PAGE, last[t] // PAGE + 1
        scores = np.empty((behind - tile) * PAGE, np.float32)
        for p in range(tile, behind):
            page = tables[seq[t], p]
            _score_page(flat, item * head, scale, keys, page, group, scores, (p - tile) * PAGE)
        low, high = first[t] - tile * PAGE, last[t] + 1 - tile * PAGE
        total = _exponentials(scores, low, high, lanes)
        for h in range(head):
            out[t, n * head + h] = _ZERO
        for j in range(low, high):
            page, slot = tables[seq[t], tile + j // PAGE], j % PAGE
            weight = scores[j]
            for h in range(head):
                out[t, n * head + h] = fma(weight, values[page, group, slot, h], out[t, n * head + h])
        for h in range(head):
            out[t, n * head + h] = np.float32(out[t, n * head + h] / total)



@kernel(k=ADDRESS, v=ADDRESS, keys=ADDRESS, values=ADDRESS, table=ADDRESS, width=COUNT, seqs=COUNT, seq=ADDRESS, pos=ADDRESS, tokens=COUNT, shared=COUNT, head=COUNT, pages=COUNT)
def _append(args, piece):
    a = record(args)
    append(floats_at(a.k, a.tokens*a.shared*a.head).reshape(a.tokens,a.shared*a.head), floats_at(a.v, a.tokens*a.shared*a.head).reshape(a.tokens,a.shared*a.head),
      carray(_floats(a.keys),(a.pages,a.shared,a.head,64)), carray(_floats(a.values),(a.pages,a.shared,64,a.head)),
      ints_at(a.table, a.seqs*a.width).reshape(a.seqs,a.width), ints_at(a.seq,a.tokens), ints_at(a.pos,a.tokens))

@kernel(q=ADDRESS, keys=ADDRESS, values=ADDRESS, table=ADDRESS, width=COUNT, seqs=COUNT, seq=ADDRESS, first=ADDRESS, last=ADDRESS, tokens=COUNT, heads=COUNT, shared=COUNT, head=COUNT, pages=COUNT, scale=NUMBER, out=ADDRESS)
def _attend(args, piece):
    a = record(args)
    attend_items(floats_at(a.q, a.tokens*a.heads*a.head).reshape(a.tokens,a.heads*a.head),
      carray(_floats(a.keys),(a.pages,a.shared,a.head,64)), carray(_floats(a.values),(a.pages,a.shared,64,a.head)),
      ints_at(a.table, a.seqs*a.width).reshape(a.seqs,a.width), ints_at(a.seq,a.tokens), ints_at(a.first,a.tokens), ints_at(a.last,a.tokens), a.scale, piece, piece+1,
      floats_at(a.out, a.tokens*a.heads*a.head).reshape(a.tokens,a.heads*a.head))

def attend(step, q, k, v, kv, attention, out):
    table=step.table(attention.kind); first=step.first(attention.window)
    P,K,H,_=kv.keys.shape
    step.tape.add(_append,1,k=k,v=v,keys=kv.keys,values=kv.values,table=table,width=table.shape[1],seqs=len(table),seq=step.seq,pos=step.pos,tokens=len(k),shared=K,head=H,pages=P)
    step.tape.add(_attend,q.size//H,q=q,keys=kv.keys,values=kv.values,table=table,width=table.shape[1],seqs=len(table),seq=step.seq,first=first,last=step.last,tokens=len(k),heads=q.shape[1]//H,shared=K,head=H,pages=P,scale=attention.scale,out=out)
