"""The parity check can fail: each mistake that people make with Gemma 3, planted on purpose, turns it red.

Mistakes of structure are planted under the CPU engine, mistakes of arithmetic in the reference: both run the
same `block`. `pytest -s` prints a table of bugs and distances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, silu

from gemmary.config import Config, Rope
from gemmary.model import text as model
from gemmary.model.pages import Pages, Sequence
from gemmary.ops.contract import LOCAL, PAGE
from gemmary.ops.numba.table import NumbaOps
from gemmary.ops.reference import Reference, normalise, rotary
from gemmary.weights import assemble
from gemmary.weights.checkpoint import Checkpoint

from .decoding import ENGINES
from .sharp import KINDS, distance, saved, text_ids
from .test_transformers import LIMIT

KIND = KINDS[2]  # the 27B-like one has everything: query scale, rotary factor, shared heads
LENGTH = 150  # three windows, two page borders
Tensor = torch.Tensor
Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


def window(change: int) -> Plant:
    """Local layers see more keys or fewer."""

    def wrong(config: Config, layer: int) -> Any:
        right = model.attention_of(config, layer)
        return right if right.window is None else replace(right, window=right.window + change)

    return lambda patch: patch.setattr(assemble, "attention_of", wrong)


def ropes(local: Callable[[Config], Rope], everywhere: Callable[[Config], Rope]) -> Plant:
    """Other rotary bases or factors."""

    def wrong(config: Config, layer: int) -> Rope:
        return everywhere(config) if config.is_global(layer) else local(config)

    return lambda patch: patch.setattr(Config, "rope", wrong)


def right_local(config: Config) -> Rope:
    return config.rope_local


def right_global(config: Config) -> Rope:
    return config.rope_global


def scale_by_head_dim(patch: Patch) -> None:
    def wrong(config: Config, layer: int) -> Any:
        return replace(model.attention_of(config, layer), scale=config.head_dim**-0.5)

    patch.setattr(assemble, "attention_of", wrong)


def later_globals(patch: Patch) -> None:
    right = Config.is_global
    patch.setattr(Config, "is_global", lambda config, layer: right(config, layer - 1))


def gains_without_one(chosen: str) -> Plant:
    """`w` for `1 + w` in the norms whose name contains `chosen`."""
    right = Checkpoint.gain

    def wrong(checkpoint: Checkpoint, name: str) -> np.ndarray:
        return right(checkpoint, name) - np.float32(chosen in name)

    return lambda patch: patch.setattr(Checkpoint, "gain", wrong)


def no_embed_scale(patch: Patch) -> None:
    right = NumbaOps.embed
    patch.setattr(NumbaOps, "embed", lambda ops, table, step, scale: right(ops, table, step, 1.0))


def pages_dropped_early(patch: Patch) -> None:
    right = Pages.commit

    def wrong(pages: Pages, sequence: Sequence, count: int) -> None:
        right(pages, sequence, count)
        table = sequence.tables[LOCAL]
        held = [n for n, page in enumerate(table) if page >= 0]
        if len(held) > 1 and sequence.length % PAGE > 0:
            pages._pools[LOCAL].drop(table[held[0]])
            table[held[0]] = -1

    patch.setattr(Pages, "commit", wrong)


def turned(turn: Callable[[Tensor, Any, Tensor, Rope], Tensor]) -> Plant:
    """`turn(heads, norm, positions, rope)` instead of norm, then half-split rotation."""

    def wrong(_: Reference, q: Tensor, k: Tensor, q_norm: Any, k_norm: Any, step: Any, rope: Rope) -> Any:
        pairs = ((q, q_norm), (k, k_norm))
        heads = ((x.unflatten(-1, (-1, len(norm.gain))), norm) for x, norm in pairs)
        return tuple(turn(x, norm, step.pos, rope).flatten(1) for x, norm in heads)

    return lambda patch: patch.setattr(Reference, "rotate", wrong)


def interleaved(x_TNH: Tensor, norm: Any, pos: Tensor, rope: Rope) -> Tensor:
    """Element 2j pairs with 2j + 1."""
    x = normalise(x_TNH, norm)
    halves = torch.cat([x[..., ::2], x[..., 1::2]], -1)
    a, b = rotary(halves, pos, rope).chunk(2, -1)
    return torch.stack([a, b], -1).flatten(-2)


def keys_late(patch: Patch) -> None:
    right = Reference.rotate

    def wrong(ops: Reference, q: Tensor, k: Tensor, q_norm: Any, k_norm: Any, step: Any, rope: Rope) -> Any:
        later = replace(step, pos=step.pos + 1)
        return right(ops, q, k, q_norm, k_norm, step, rope)[0], right(ops, q, k, q_norm, k_norm, later, rope)[
            1
        ]

    patch.setattr(Reference, "rotate", wrong)


def slots_late(patch: Patch) -> None:
    right = Reference._append

    def wrong(ops: Reference, k: Tensor, v: Tensor, *rest: Any) -> None:
        right(ops, k.roll(1, 0), v.roll(1, 0), *rest)

    patch.setattr(Reference, "_append", wrong)


def norm_after_addition(patch: Patch) -> None:
    patch.setattr(Reference, "merge", lambda _, x, o, linear, norm: normalise(x + linear(o), norm))


def no_post_norm(patch: Patch) -> None:
    patch.setattr(Reference, "merge", lambda _, x, o, linear, norm: x + linear(o))


def heads_interleaved(patch: Patch) -> None:
    right = Reference._softmax

    def wrong(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float) -> Tensor:
        share = q.shape[1] // k.shape[1]
        return right(q, k.repeat(1, share, 1), v.repeat(1, share, 1), seen, scale)

    patch.setattr(Reference, "_softmax", staticmethod(wrong))


def untied(patch: Patch) -> None:
    patch.setattr(Reference, "head", lambda _, h, table, want: h @ table.weight.roll(1, 0).T)


def scaled_head(patch: Patch) -> None:
    right = Reference.head
    patch.setattr(
        Reference, "head", lambda ops, h, table, want: right(ops, h * h.shape[1] ** 0.5, table, want)
    )


def gated(act: Callable[[Tensor], Tensor]) -> Plant:
    """Another activation."""
    return lambda patch: patch.setattr(Reference, "gate", lambda _, g, u: act(g) * u)


CPU_BUGS: dict[str, Plant] = {
    "window one too large": window(1),
    "window one too small": window(-1),
    "rotary factor on local layers": ropes(lambda c: replace(c.rope_local, factor=8.0), right_global),
    "no rotary factor on global layers": ropes(right_local, lambda c: replace(c.rope_global, factor=1.0)),
    "global base on local layers": ropes(lambda c: replace(c.rope_local, theta=1e6), right_global),
    "local base on global layers": ropes(right_local, lambda c: replace(c.rope_global, theta=1e4)),
    "H^-0.5 for query_scalar^-0.5": scale_by_head_dim,
    "global layers one later": later_globals,
    "w for 1 + w": gains_without_one(""),
    "w for 1 + w in QK-norm only": gains_without_one("q_norm"),
    "embedding not scaled": no_embed_scale,
}
REFERENCE_BUGS: dict[str, Plant] = {
    "a page dropped too early": pages_dropped_early,
    "interleaved rotation": turned(interleaved),
    "QK-norm after rotation": turned(lambda x, norm, pos, rope: normalise(rotary(x, pos, rope), norm)),
    "no QK-norm": turned(lambda x, norm, pos, rope: rotary(x, pos, rope)),
    "keys rotated one position off": keys_late,
    "keys and values stored one slot off": slots_late,
    "post-norm after the addition": norm_after_addition,
    "no post-norm": no_post_norm,
    "key/value heads dealt in turn": heads_interleaved,
    "another table as head": untied,
    "head scaled like the embedding": scaled_head,
    "erf GELU": gated(gelu),
    "sigmoid GELU": gated(lambda g: g * (1.702 * g).sigmoid()),
    "SiLU": gated(silu),
}
BUGS = [(n, "cpu", p) for n, p in CPU_BUGS.items()] + [(n, "reference", p) for n, p in REFERENCE_BUGS.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("healthy")


@pytest.fixture(scope="module")
def want(folder: Path) -> np.ndarray:
    with torch.no_grad():
        return saved(KIND, folder)(torch.tensor([text_ids(LENGTH)])).logits[0].numpy()


@pytest.fixture(scope="module")
def table() -> Iterator[dict[str, float]]:
    """Distances by bug; printed after the last test."""
    found: dict[str, float] = {}
    yield found
    for name, gap in sorted(found.items(), key=lambda item: item[1]):
        print(f"\n{name:36} {gap:8.1e} = {gap / LIMIT:8.0f} limits", end="")
    print()


def measured(engine: str, folder: Path, want: np.ndarray) -> float:
    texts = [text_ids(30, seed=7), text_ids(LENGTH)]  # another text first: page 0 is not ours
    return distance(ENGINES[engine](folder).together(texts, 75)[1], want)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_bug(engine: str, folder: Path, want: np.ndarray, table: dict[str, float]) -> None:
    gap = table[f"none ({engine})"] = measured(engine, folder, want)
    assert gap <= LIMIT


@pytest.mark.parametrize(("name", "engine", "plant"), BUGS, ids=[name for name, _, _ in BUGS])
def test_bug(
    name: str,
    engine: str,
    plant: Plant,
    folder: Path,
    want: np.ndarray,
    table: dict[str, float],
    monkeypatch: Patch,
) -> None:
    plant(monkeypatch)
    gap = table[name] = measured(engine, folder, want)
    assert gap > 10 * LIMIT
