"""The op table of the CPU engine; see `contract.Ops` for shapes.

Operations put kernels on the tape of their step. A large step runs each operation at once. A small one is
recorded: it runs as a whole, and the next step of the same shape only has its numbers put in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...config import Rope
from ..candidates import candidates
from ..contract import (
    PAGE,
    Attention,
    Candidates,
    Floats,
    Full,
    LayerPages,
    Norm,
    Scored,
    Step,
    Targets,
    TopK,
    Want,
)
from .activation import BLOCK, room, round_rows
from .attention import attend
from .gate import gate, gate_codes, gate_pieces
from .linear import PackedLinear, fetch, multiply
from .machine import team
from .norm import add_normalised, normalise
from .rotary import rotate
from .staged import Staged
from .tape import Tape
from .tile import TOKEN_BYTES

RECORDED = 16  # tokens of the largest step that is recorded
_RECORDINGS = 32
_HEAD_ROWS = 8  # rows whose full logits exist at once when only candidates or scores were asked for

Forward = Callable[[Any, Iterable[LayerPages | None]], Floats]


@dataclass
class Gated:
    """gelu(g) * u that is not computed yet: it is rounded for the next product as it is."""

    g: Floats
    u: Floats


@dataclass
class Recording:
    """A step that can be played again: where its embeddings go and where its result is.

    It keeps the pages that it writes to: no others can come to lie at their addresses.
    """

    staged: Staged
    stores: list[LayerPages | None]
    embed: Callable[[Step], None] | None = None
    result: Floats | None = None


class NumbaOps:
    """Packed weights, integer dot products, paged attention, over NumPy arrays."""

    def __init__(self, replay: bool = True) -> None:
        """Without `replay` every step is computed operation by operation: the same bits, for comparison."""
        self._replay = replay
        self._recordings: dict[Any, Recording] = {}
        self._recording: Recording | None = None
        self._step: Any = None  # the staged step whose operations come in; one thread runs one step at a time

    def stage(self, step: Step) -> Staged:
        self._step = Staged(step, team(), recording=False)
        return self._step

    def run(self, forward: Forward, step: Step, kvs: Iterable[LayerPages | None]) -> Floats:
        if not self._replay or len(step.ids) > RECORDED or step.soft is not None or (step.block >= 0).any():
            return forward(self.stage(step), kvs)
        stores = list(kvs)
        key = (len(step.ids), len(step.starts), len(step.rows), team().threads, id(stores[0]))
        recording = self._recordings.get(key)
        if recording is None or not recording.staged.fits(step):
            return self._record(key, forward, step, stores)
        recording.staged.load(step)
        return _played(recording, step)

    def _record(self, key: Any, forward: Forward, step: Step, stores: list[LayerPages | None]) -> Floats:
        while len(self._recordings) >= _RECORDINGS:
            del self._recordings[next(iter(self._recordings))]
        self._step = Staged(step, team(), recording=True)
        self._recording = Recording(self._step, stores)
        try:
            self._recording.result = forward(self._recording.staged, stores)
            self._recordings[key] = self._recording
            return _played(self._recording, step)
        finally:
            self._recording = self._step = None

    def embed(self, table: PackedLinear, step: Staged, scale: float) -> Floats:
        x = step.arena.take((step.tokens, table.columns))

        def fill(host: Step) -> None:
            np.multiply(fetch(table, host.ids), np.float32(scale), out=x)
            if host.soft is not None:
                x[host.block >= 0] = host.soft

        if self._recording is None:
            fill(step.step)
        else:
            self._recording.embed = fill
        return x

    def project(self, x: Floats, norm: Norm, linears: tuple[PackedLinear, ...]) -> tuple[Floats, ...]:
        step, (tokens, columns) = self._step, x.shape
        h = step.arena.take(x.shape)
        codes = _codes(step, tokens, columns) if any(linear.quantized for linear in linears) else None
        step.tape.add(
            normalise, tokens, x=x, rows=None, gain=norm.gain, eps=norm.eps, out=h, codes=codes,
            tokens=tokens, columns=columns,
        )  # fmt: skip
        outs = tuple(step.arena.take((tokens, linear.rows)) for linear in linears)
        for linear, out in zip(linears, outs, strict=True):
            source = codes if linear.quantized and codes is not None else h
            multiply(step.tape, step.team, linear, source, tokens, out, waits=out is outs[0])
        step.run()
        return outs

    def rotate(
        self, q: Floats, k: Floats, q_norm: Norm, k_norm: Norm, step: Staged, rope: Rope
    ) -> tuple[Floats, Floats]:
        head = len(q_norm.gain)
        turned = step.arena.take(q.shape), step.arena.take(k.shape)
        step.tape.add(
            rotate, len(q), q=q, k=k, q_gain=q_norm.gain, k_gain=k_norm.gain, q_eps=q_norm.eps,
            k_eps=k_norm.eps, angles=step.turns(rope, head), q_out=turned[0], k_out=turned[1],
            q_heads=q.shape[1] // head, k_heads=k.shape[1] // head, head=head,
        )  # fmt: skip
        step.run()
        return turned

    def attend(
        self, q: Floats, k: Floats, v: Floats, kv: LayerPages | None, step: Staged, attention: Attention
    ) -> Floats:
        if kv is None:
            raise ValueError("the CPU engine attends over pages: put their table into the step")
        out = step.arena.take(q.shape)
        attend(step, q, k, v, kv, attention, out)
        step.run()
        return out

    def merge(self, x: Floats, o: Floats | Gated, linear: PackedLinear, post_norm: Norm) -> Floats:
        step, tokens = self._step, len(x)
        y, out = step.arena.take((tokens, linear.rows)), step.arena.take(x.shape)
        source = _codes_of(step, o, linear) if linear.quantized else _floats_of(step, o)
        multiply(step.tape, step.team, linear, source, tokens, y, waits=True)
        step.tape.add(
            add_normalised, tokens, x=x, y=y, gain=post_norm.gain, eps=post_norm.eps, out=out,
            columns=linear.rows,
        )  # fmt: skip
        step.run()
        return out

    def gate(self, g: Floats, u: Floats) -> Gated:
        return Gated(g, u)

    def select(self, x: Floats, norm: Norm, step: Staged) -> Floats:
        out = step.arena.take((len(step.rows), x.shape[1]))
        step.tape.add(
            normalise, len(out), x=x, rows=step.rows, gain=norm.gain, eps=norm.eps, out=out, codes=None,
            tokens=len(out), columns=x.shape[1],
        )  # fmt: skip
        step.run()
        return out

    def head(self, h: Floats, table: PackedLinear, want: Want) -> Floats | Scored | Candidates:
        if isinstance(want, Full):
            return _logits(h, table)
        parts = []
        for start in range(0, len(h), _HEAD_ROWS):
            rows = slice(start, start + _HEAD_ROWS)
            parts.append(_answer(_logits(h[rows], table), want, rows))
        return _join(parts)

    def pages(self, count: int, kv_heads: int, head_dim: int) -> LayerPages:
        # np.empty leaves untouched pages to the operating system: capacity costs nothing until it is written.
        return LayerPages(
            np.empty((count, kv_heads, head_dim, PAGE), np.float32),
            np.empty((count, kv_heads, PAGE, head_dim), np.float32),
        )

    def copy_page(self, store: LayerPages, source: int, target: int) -> None:
        store.keys[target] = store.keys[source]
        store.values[target] = store.values[source]


def _played(recording: Recording, step: Step) -> Floats:
    if recording.embed is None or recording.result is None:
        raise ValueError("a forward pass begins with an embedding and ends with hidden states")
    recording.embed(step)
    recording.staged.run(final=True)
    return recording.result.copy()


def _codes(step: Staged, tokens: int, columns: int) -> np.ndarray:
    """Memory for the codes of [tokens, columns]."""
    return step.arena.take((tokens * (columns // BLOCK) * TOKEN_BYTES,), np.uint8)


def _codes_of(step: Staged, o: Floats | Gated, linear: PackedLinear) -> np.ndarray:
    """o rounded to int8."""
    tokens, columns = len(o.g if isinstance(o, Gated) else o), linear.columns
    codes = _codes(step, tokens, columns)
    if isinstance(o, Gated):
        pieces = gate_pieces(tokens, columns)
        step.tape.add(gate_codes, pieces, g=o.g, u=o.u, codes=codes, tokens=tokens, columns=columns)
    else:
        step.tape.add(round_rows, tokens, x=o, codes=codes, tokens=tokens, columns=columns)
    return codes


def _floats_of(step: Staged, o: Floats | Gated) -> Floats:
    if not isinstance(o, Gated):
        return o
    out = step.arena.take(o.g.shape)
    step.tape.add(gate, len(out), g=o.g, u=o.u, out=out, columns=out.shape[1])
    return out


def _logits(h: Floats, table: PackedLinear) -> Floats:
    """Every logit of hidden states [R, D]: float32 [R, V]."""
    tape, threads = Tape(), team()
    out = np.empty((len(h), table.rows), np.float32)
    source: np.ndarray = np.ascontiguousarray(h)
    if table.quantized:
        codes = room(len(h), table.columns)
        tape.add(round_rows, len(h), x=source, codes=codes, tokens=len(h), columns=table.columns)
        multiply(tape, threads, table, codes, len(h), out, waits=True)
    else:
        multiply(tape, threads, table, source, len(h), out, waits=True)
    threads.play(tape)
    return out


def _answer(logits: Floats, want: Targets | TopK, rows: slice) -> Scored | Candidates:
    peak = logits.max(-1, keepdims=True)
    lse = np.log(np.exp(logits - peak).sum(-1)) + peak[:, 0]
    if isinstance(want, Targets):
        picked = logits[np.arange(len(logits)), want.ids[rows]]
        return Scored(picked, lse, logits.argmax(-1).astype(np.int32))
    return candidates(logits, lse, want)


def _join(parts: list[Any]) -> Any:
    """One answer from the answers of consecutive rows."""
    kind = type(parts[0])
    names = kind.__dataclass_fields__
    return kind(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
