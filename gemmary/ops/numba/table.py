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
from ..contract import (
    Attention,
    Candidates,
    Floats,
    LayerPages,
    Norm,
    Scored,
    Step,
    Want,
)
from . import tower
from .activation import BLOCK, round_rows
from .attention import append, attend
from .gate import gate, gate_codes, gate_pieces
from .linear import PackedLinear, fetch, multiply
from .machine import team
from .norm import add_normalised, normalise
from .output import Output
from .pagestore import pages
from .rotary import rotate
from .staged import Staged
from .tape import Tape
from .tile import TOKEN_BYTES
from .tower import Projected, Softened, TowerLinear

RECORDED = 16  # tokens of the largest step that is recorded
_RECORDINGS = 32

Forward = Callable[[Any, Iterable[LayerPages | None]], Floats]


@dataclass
class Gated:
    """gelu(g) * u that is not computed yet: it is rounded for the next product as it is."""

    g: Floats
    u: Floats

    def computed(self) -> Floats:
        """The values, at once and in new memory, for who wants to look."""
        tape, out = Tape(), np.empty_like(self.g)
        tape.add(gate, len(out), g=self.g, u=self.u, out=out, columns=out.shape[1])
        team().play(tape)
        return out


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

    def __init__(self, element: str = "F16", replay: bool = True) -> None:
        """`element`: format of keys and values: F16, BF16, F32 or I8.

        Without `replay` every step is computed operation by operation: the same bits, for comparison.
        """
        self._element, self._replay = element, replay
        self._recordings: dict[Any, Recording] = {}
        self._outputs: dict[Any, Output] = {}
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

    def project(self, x: Floats, norm: Norm, linears: tuple[Any, ...]) -> tuple[Any, ...]:
        step, (tokens, columns) = self._step, x.shape
        if isinstance(linears[0], TowerLinear):
            if len(linears) == 1 and linears[0].bias is not None:  # into the feed-forward; see `merge`
                return (Projected(x, norm, linears[0]),)
            return tower.project(step, x, norm, linears)
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
            return tower.attend_pictures(step, q, k, v, attention, self._element)
        out, head = step.arena.take(q.shape), attention.head_dim
        sight = step.sight(attention, (q.shape[1] // head, k.shape[1] // head))
        append(step.tape, sight, k, v, kv, step.tables, attention.kind)
        attend(step.tape, sight, q, kv, step.tables, attention.kind, attention.scale, out)
        step.run()
        return out

    def merge(self, x: Floats, o: Any, linear: Any, post_norm: Norm | None) -> Floats:
        if post_norm is None:
            return tower.merge(self._step, x, o, linear)
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

    def gelu(self, x: Floats | Projected) -> Softened:
        return Softened(x)

    def patchify(self, pixels: Floats, linear: TowerLinear, positions: Floats, patch: int) -> Floats:
        return tower.patchify(self._step, pixels, linear, positions, patch)

    def pool(self, x: Floats, norm: Norm, grid: int, side: int) -> Floats:
        return tower.pool(self._step, x, norm, grid, side)

    def select(self, x: Floats, norm: Norm, step: Staged) -> Floats:
        out = step.arena.take((len(step.rows), x.shape[1]))
        step.tape.add(
            normalise, len(out), x=x, rows=step.rows, gain=norm.gain, eps=norm.eps, out=out, codes=None,
            tokens=len(out), columns=x.shape[1],
        )  # fmt: skip
        step.run()
        return out

    def head(self, h: Floats, table: PackedLinear, want: Want) -> Floats | Scored | Candidates:
        return self.output(table).answer(h, want)

    def output(self, table: PackedLinear) -> Output:
        """What answers about logits over a table; it counts what its plane did."""
        key = id(table), team().threads
        if key not in self._outputs:
            self._outputs[key] = Output(table, team())
        return self._outputs[key]

    def pages(self, count: int, kv_heads: int, head_dim: int) -> LayerPages:
        return pages(count, kv_heads, head_dim, self._element)

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
