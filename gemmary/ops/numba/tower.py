"""The op table's part for pictures: linears with biases, and what waits until it can be done in one go.

The feed-forward's hidden values are the largest array of the tower: 4,304 numbers a patch. So a projection to
it is only noted down; `merge` then takes some rows through both matrices while they are in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import UnsupportedModelError
from ...formats import FORMATS, Format, decode
from ..contract import Attention, Floats, Ints, Norm
from . import linear as floats
from .attention import append, attend
from .bands import Bands, multiply
from .emit import LANES
from .linear import PackedLinear
from .memory import WeightMemory
from .pagestore import pages
from .patch_attention import attend_patches
from .patch_codes import Codes, note_rows, peaks_of, round_rows
from .patch_rows import add_rows, cut_square, gelu_rows, normalise_rows, pool_square
from .sight import Sight
from .staged import Staged
from .team import Team

TOGETHER = 1024  # rows of a picture that go through a product together: they stay in the last cache


@dataclass(frozen=True)
class TowerLinear:
    """x W^T + bias, over int8 (`Bands`) or over floats as they lie in the file."""

    weight: Bands | PackedLinear
    bias: Floats | None

    @property
    def rows(self) -> int:
        """Outputs."""
        return self.weight.rows


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

    element "INT8": rounded once more, 32 columns of a row to a scale; fast. "F32": exact products of float32
    with what the file has. ValueError for another word.
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
        softened = _softened(step, self.of.computed(step) if isinstance(self.of, Projected) else self.of)
        step.run()
        return softened.values


def project(step: Staged, x: Floats, norm: Norm, linears: tuple[TowerLinear, ...]) -> tuple[Floats, ...]:
    """norm(x) through each linear."""
    outs = tuple(step.arena.take((len(x), linear.rows)) for linear in linears)
    for part in _portions(step, len(x)):
        h = _normalised(step, x[part], norm)
        for linear, out in zip(linears, outs, strict=True):
            _multiply(step, linear, h, out[part])
        step.run()
    return outs


def merge(step: Staged, x: Floats, o: Floats | Softened, linear: TowerLinear) -> Floats:
    """x + o W^T + bias."""
    out = step.arena.take(x.shape)
    for part in _portions(step, len(x)):
        _multiply(step, linear, _rows_of(step, o, part), out[part], x[part])
        step.run()
    return out


def _rows_of(step: Staged, o: Floats | Softened, part: slice) -> _Rows:
    """Some rows of what is merged, computed if they were not yet."""
    if not isinstance(o, Softened):
        return _noted(step, o[part])
    if not isinstance(o.of, Projected):
        return _softened(step, o.of[part])
    h = _normalised(step, o.of.x[part], o.of.norm)
    hidden = step.arena.take((len(h.values), o.of.linear.rows))
    _multiply(step, o.of.linear, h, hidden)
    return _softened(step, hidden)


def attend_pictures(
    step: Staged, q: Floats, k: Floats, v: Floats, attention: Attention, element: str
) -> Floats:
    """Attention of patches that see all of their picture: in float32 where that is the element, else in int8.

    UnsupportedModelError for a step that is not pictures of one size, or for a window.
    """
    lengths = np.diff(step.step.starts)
    whole = (step.step.block >= 0).all() and (step.last == lengths[step.seq] - 1).all()
    if attention.window is not None or not whole or (lengths != lengths[0]).any():
        raise UnsupportedModelError("without pages, a CPU attends within whole pictures of one size only")
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
    side = pixels.shape[2]
    each = (side // patch) ** 2
    out = step.arena.take((len(pixels) * each, linear.rows))
    for n, picture in enumerate(pixels):
        squares = step.arena.take((each, 3 * patch * patch))
        step.tape.add(cut_square, each, pixels=picture, side=side, patch=patch, out=squares)
        step.run()
        for first in range(0, each, TOGETHER):
            part = slice(first, min(first + TOGETHER, each))
            to = out[n * each + part.start : n * each + part.stop]
            _multiply(step, linear, _noted(step, squares[part]), to, positions[part])
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


@dataclass
class _Rows:
    """Floats that products want as they are, or as codes, which are made once; peaks: see `patch_codes`."""

    values: Floats
    peaks: Ints
    codes: Codes | None = None


def _multiply(step: Staged, linear: TowerLinear, rows: _Rows, out: Floats, add: Floats | None = None) -> None:
    """Put out = rows W^T + bias + add on the tape."""
    if isinstance(linear.weight, PackedLinear):
        floats.multiply(step.tape, step.team, linear.weight, rows.values, len(out), out, waits=True)
        if linear.bias is not None or add is not None:
            step.tape.add(add_rows, len(out), y=out, bias=linear.bias, add=add, out=out, columns=linear.rows)
        return
    if rows.codes is None:
        rows.codes = round_rows(step.tape, step.arena, rows.values, rows.peaks)
    multiply(step.tape, step.team, step.arena, linear.weight, rows.codes, out, add)


def _normalised(step: Staged, x: Floats, norm: Norm) -> _Rows:
    out, peaks = step.arena.take(x.shape), peaks_of(step.arena, *x.shape)
    step.tape.add(
        normalise_rows, len(peaks), x=x, gain=norm.gain, bias=norm.bias, eps=norm.eps, out=out, peaks=peaks,
        tokens=len(x), columns=x.shape[1],
    )  # fmt: skip
    return _Rows(out, peaks)


def _softened(step: Staged, x: Floats) -> _Rows:
    out, peaks = step.arena.take(x.shape), peaks_of(step.arena, *x.shape)
    step.tape.add(gelu_rows, len(peaks), x=x, out=out, peaks=peaks, tokens=len(x), columns=x.shape[1])
    return _Rows(out, peaks)


def _noted(step: Staged, x: Floats) -> _Rows:
    peaks = peaks_of(step.arena, *x.shape)
    step.tape.add(note_rows, len(peaks), x=x, peaks=peaks, tokens=len(x), columns=x.shape[1])
    return _Rows(x, peaks)


def _portions(step: Staged, rows: int) -> Iterator[slice]:
    """The rows of each picture, at most TOGETHER at a time."""
    each = rows // (len(step.step.starts) - 1)
    for picture in range(0, rows, each):
        for first in range(picture, picture + each, TOGETHER):
            yield slice(first, min(first + TOGETHER, picture + each))
