"""The op table's part for pictures: linears with biases, and what waits until it can be done in one go.

The feed-forward's hidden values are the largest array of the tower: 4,304 numbers a patch. So a projection to
it is only noted down; `merge` then takes some rows through both matrices while they are in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import UnsupportedModelError
from ...formats import FORMATS, Format, decode
from ..contract import Attention, Floats, Norm
from . import linear as floats
from .activation import BLOCK
from .attention import append, attend
from .bands import Bands, multiply
from .emit import LANES
from .linear import PackedLinear
from .memory import WeightMemory
from .pagestore import pages
from .patch_attention import attend_patches
from .patch_rows import add_rows, cut_square, gelu_rows, normalise_rows, pool_square, round_padded
from .sight import Sight
from .staged import Staged
from .team import Team
from .tile import TOKEN_BYTES

TOGETHER = 1024  # rows that go through the feed-forward together


@dataclass(frozen=True)
class TowerLinear:
    """x W^T + bias, over int8 (`Bands`) or over floats as they lie in the file."""

    weight: Bands | PackedLinear
    bias: Floats | None

    @property
    def rows(self) -> int:
        """Outputs."""
        return self.weight.rows

    @property
    def quantized(self) -> bool:
        """Whether it takes int8 activations."""
        return isinstance(self.weight, Bands)


def pack_linear(
    team: Team,
    memory: WeightMemory,
    form: Format,
    raw: npt.NDArray[np.uint8],
    rows: int,
    columns: int,
    bias: Floats | None,
    element: str,
) -> TowerLinear:
    """A linear of the tower from a file's bytes: any float format, or Q8_0. bias float32 [rows].

    element "INT8": rounded once more, a row to one scale; fast. "F32": exact products of float32 with what the
    file has. ValueError for another word.
    """
    if element not in ("INT8", "F32"):
        raise ValueError(f"a tower is computed in INT8 or F32, not in {element}")
    held = None if bias is None else np.ascontiguousarray(bias, np.float32)
    if element == "INT8":
        return TowerLinear(Bands.pack(team, memory, decode(form, raw, rows, columns), held), held)
    if form.group:
        form, raw = FORMATS["F32"], decode(form, raw, rows, columns).reshape(-1).view(np.uint8)
    return TowerLinear(PackedLinear.pack(team, memory, form, raw, rows, columns), held)


@dataclass(frozen=True)
class Projected:
    """norm(x) through one linear, not computed yet."""

    x: Floats
    norm: Norm
    linear: TowerLinear

    def computed(self, step: Staged) -> Floats:
        """The values [T, rows]."""
        return project(step, self.x, self.norm, (self.linear,))[0]


@dataclass(frozen=True)
class Softened:
    """gelu_tanh of something, not computed yet."""

    of: Floats | Projected

    def computed(self, step: Staged) -> Floats:
        """The values [T, F]."""
        x = self.of.computed(step) if isinstance(self.of, Projected) else self.of
        return _softened(step, x)


def project(step: Staged, x: Floats, norm: Norm, linears: tuple[TowerLinear, ...]) -> tuple[Floats, ...]:
    """norm(x) through each linear, at once."""
    exact = None if all(linear.quantized for linear in linears) else _normalised(step, x, norm, False)
    codes = _normalised(step, x, norm, True) if any(linear.quantized for linear in linears) else None
    outs = tuple(step.arena.take((len(x), linear.rows)) for linear in linears)
    for linear, out in zip(linears, outs, strict=True):
        _multiply(step, linear, codes if linear.quantized else exact, out)
    step.run()
    return outs


def merge(step: Staged, x: Floats, o: Floats | Softened, linear: TowerLinear) -> Floats:
    """x + o W^T + bias."""
    out = step.arena.take(x.shape)
    if not isinstance(o, Softened) or not isinstance(o.of, Projected):
        values = o.computed(step) if isinstance(o, Softened) else o
        _multiply(step, linear, _source(step, values, linear), out, x)
        step.run()
        return out
    for first in range(0, len(x), TOGETHER):
        part = slice(first, first + TOGETHER)
        _feed_forward(step, x[part], o.of, linear, out[part], o.of.x[part])
    return out


def _feed_forward(
    step: Staged, x: Floats, entry: Projected, exit_: TowerLinear, out: Floats, source: Floats
) -> None:
    """out = x + gelu(entry(source)) W^T + bias, for some rows."""
    width = entry.linear.rows
    if isinstance(entry.linear.weight, Bands):
        width = entry.linear.weight.padded[0]
    hidden = step.arena.take((len(x), width))
    given = _normalised(step, source, entry.norm, entry.linear.quantized)
    _multiply(step, entry.linear, given, hidden)
    if isinstance(exit_.weight, Bands):
        codes = _codes(step, len(x), exit_.weight)
        step.tape.add(
            gelu_rows, len(x), x=hidden, row=hidden.strides[0], out=None, codes=codes, tokens=len(x),
            columns=exit_.weight.columns, padded=exit_.weight.padded[1],
        )  # fmt: skip
        multiply(step.tape, step.team, exit_.weight, codes, out, x)
    else:
        _multiply(step, exit_, _softened(step, hidden[:, : entry.linear.rows]), out, x)
    step.run()


def attend_pictures(
    step: Staged, q: Floats, k: Floats, v: Floats, attention: Attention, element: str
) -> Floats:
    """Attention of patches that see all of their picture: in float32 where that is the element, else in int8.

    UnsupportedModelError for a step that is not pictures of one size, or for a window.
    """
    lengths = np.diff(step.step.starts)
    whole = (step.step.block >= 0).all() and (step.last == lengths[step.seq] - 1).all()
    if attention.window is not None or not whole or (lengths != lengths[0]).any():
        raise UnsupportedModelError(
            "without pages, the CPU engine attends within whole pictures of one size only"
        )
    if element == "F32":
        return _attend_exactly(step, q, k, v, attention)
    out = attend_patches(step.tape, step.arena, q, k, v, int(lengths[0]), attention.head_dim, attention.scale)
    step.run()
    return out


def _attend_exactly(step: Staged, q: Floats, k: Floats, v: Floats, attention: Attention) -> Floats:
    """The text's attention over float32 pages, which are made for it; heads are padded to whole vectors."""
    head, heads, kv_heads = attention.head_dim, *(x.shape[1] // attention.head_dim for x in (q, k))
    padded = -(-head // LANES) * LANES
    wide = []
    for x in (q, k, v):
        room = np.zeros((len(x), x.shape[1] // head, padded), np.float32)
        room[:, :, :head] = x.reshape(len(x), -1, head)
        wide.append(room.reshape(len(x), -1))
    sequences, most = len(step.step.starts) - 1, int(np.diff(step.step.starts).max())
    count = -(-most // 64)
    tables = np.arange(sequences * count, dtype=np.int32).reshape(sequences, 1, count).repeat(2, 1)
    store = pages(sequences * count, kv_heads, padded, "F32")
    sight = Sight(None, (heads, kv_heads, padded), step.team.threads, step.tokens, 0)
    sight.look(step.seq, step.pos, step.last)
    out = np.empty_like(wide[0])
    append(step.tape, sight, wide[1], wide[2], store, tables, attention.kind)
    attend(step.tape, sight, wide[0], store, tables, attention.kind, attention.scale, out)
    step.run()
    result = step.arena.take(q.shape)
    result.reshape(len(q), heads, head)[:] = out.reshape(len(q), heads, padded)[:, :, :head]
    return result


def patchify(step: Staged, pixels: Floats, linear: TowerLinear, positions: Floats, patch: int) -> Floats:
    """See `contract.Ops`."""
    pixels = np.ascontiguousarray(pixels, np.float32)
    count, _, side, _ = pixels.shape
    each, columns = (side // patch) ** 2, 3 * patch * patch
    tokens = count * each
    out = step.arena.take((tokens, linear.rows))
    for n in range(count):
        given, padded, codes = None, 0, None
        if isinstance(linear.weight, Bands):
            padded, codes = linear.weight.padded[1], _codes(step, each, linear.weight)
        else:
            given = step.arena.take((each, columns))
        step.tape.add(
            cut_square, each, pixels=pixels[n], side=side, patch=patch, out=given, codes=codes, tokens=each,
            padded=padded,
        )  # fmt: skip
        source = given if codes is None else codes
        _multiply(step, linear, source, out[n * each : (n + 1) * each], positions)
        step.run()
    return out


def pool(step: Staged, x: Floats, norm: Norm, grid: int, side: int) -> Floats:
    """See `contract.Ops`."""
    out = step.arena.take((len(x) // (grid // side) ** 2, x.shape[1]))
    step.tape.add(
        pool_square, len(out), x=x, gain=norm.gain, bias=norm.bias, eps=norm.eps, out=out,
        columns=x.shape[1], grid=grid, side=side,
    )  # fmt: skip
    step.run()
    return out


def _multiply(step: Staged, linear: TowerLinear, source: Any, out: Floats, add: Floats | None = None) -> None:
    """Put out = source W^T + bias + add on the tape; source are codes where the linear takes them."""
    if isinstance(linear.weight, Bands):
        multiply(step.tape, step.team, linear.weight, source, out, add)
        return
    floats.multiply(step.tape, step.team, linear.weight, source, len(out), out, waits=True)
    if linear.bias is not None or add is not None:
        step.tape.add(add_rows, len(out), y=out, bias=linear.bias, add=add, out=out, columns=out.shape[1])


def _normalised(step: Staged, x: Floats, norm: Norm, as_codes: bool) -> Any:
    columns = x.shape[1]
    padded = -(-columns // BLOCK) * BLOCK
    out = (
        step.arena.take((len(x) * padded // BLOCK * TOKEN_BYTES,), np.uint8)
        if as_codes
        else step.arena.take(x.shape)
    )
    step.tape.add(
        normalise_rows, len(x), x=x, gain=norm.gain, bias=norm.bias, eps=norm.eps,
        out=None if as_codes else out, codes=out if as_codes else None, tokens=len(x), columns=columns,
        padded=padded,
    )  # fmt: skip
    return out


def _softened(step: Staged, x: Floats) -> Floats:
    out = step.arena.take(x.shape)
    step.tape.add(
        gelu_rows, len(x), x=x, row=x.strides[0], out=out, codes=None, tokens=len(x), columns=x.shape[1],
        padded=0,
    )  # fmt: skip
    return out


def _source(step: Staged, x: Floats, linear: TowerLinear) -> Any:
    """x as the linear wants it."""
    if not isinstance(linear.weight, Bands):
        return x
    codes = _codes(step, len(x), linear.weight)
    step.tape.add(
        round_padded, len(x), x=x, codes=codes, tokens=len(x), columns=x.shape[1],
        padded=linear.weight.padded[1],
    )  # fmt: skip
    return codes


def _codes(step: Staged, tokens: int, weight: Bands) -> npt.NDArray[np.uint8]:
    """Memory for codes."""
    return step.arena.take((tokens * weight.padded[1] // BLOCK * TOKEN_BYTES,), np.uint8)
