"""SigLIP and the projector (technical report, section 2.2), written once over the op table.

A picture is a sequence of patches that all see each other: one block of the step. Patches become soft tokens
by averaging squares of them, a norm and one matrix. This file knows no device, no dtype and no quantization.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..config import VisionConfig
from ..ops.contract import Array, Attention, Floats, Ops, Step
from .text import Gain


def block(ops: Ops, x: Array, w: Any, step: Any) -> Array:
    """One encoder layer: x [T, D] -> [T, D]. Norms in front, none behind; `w` has the fields of `Layer`."""
    q, k, v = ops.project(x, w.attn_norm, (w.q, w.k, w.v))
    x = ops.merge(x, ops.attend(q, k, v, None, step, w.attention), w.o, None)
    (f,) = ops.project(x, w.ffn_norm, (w.fc1,))
    return ops.merge(x, ops.gelu(f), w.fc2, None)


def attention_of(config: VisionConfig) -> Attention:
    """Every patch sees every patch of its picture."""
    head = config.width // config.heads
    return Attention(window=None, scale=head**-0.5, head_dim=head)


@dataclass(frozen=True)
class Layer:
    """One encoder layer on the NumPy side. Linears carry their biases."""

    ops: Ops
    attn_norm: Gain
    q: Any
    k: Any
    v: Any
    o: Any
    ffn_norm: Gain
    fc1: Any
    fc2: Any
    attention: Attention

    def __call__(self, x: Array, step: Any) -> Array:
        """`block` with these weights."""
        return block(self.ops, x, self, step)


class Trunk(Protocol):
    """What `patches` and `pooled` need: a tower, with or without its projector."""

    @property
    def config(self) -> VisionConfig:
        """Sizes."""

    @property
    def ops(self) -> Any:
        """The op table."""

    @property
    def patch(self) -> Any:
        """Linear [D, 3 * patch^2] with its bias."""

    @property
    def positions(self) -> Array:
        """Added to the patches [P, D]."""

    @property
    def layers(self) -> Any:
        """The layers in order: callables (x, step) -> x."""

    @property
    def norm(self) -> Any:
        """The last LayerNorm."""


class Encoder(Trunk, Protocol):
    """What `features` needs; the NumPy `Tower` and the torch module both have it."""

    @property
    def soft_norm(self) -> Any:
        """RMSNorm of the averaged patches."""

    @property
    def projection(self) -> Any:
        """Linear [width of the text, D]."""


@dataclass(frozen=True)
class Tower:
    """Encoder and projector on the NumPy side."""

    config: VisionConfig
    ops: Ops
    patch: Any
    positions: Array
    layers: tuple[Layer, ...]
    norm: Gain
    soft_norm: Gain
    projection: Any


def picture_step(pictures: int, patches: int) -> Step:
    """A step of `pictures` sequences of `patches` tokens, each a block of its own: the full mask."""
    number = np.repeat(np.arange(pictures, dtype=np.int32), patches)
    return Step(
        ids=np.zeros(pictures * patches, np.int32),
        pos=np.tile(np.arange(patches, dtype=np.int32), pictures),
        seq=number,
        block=number,
        starts=(np.arange(pictures + 1) * patches).astype(np.int32),
        past=np.zeros(pictures, np.int32),
        rows=np.zeros(0, np.int32),
    )


def features(tower: Encoder, pixels: Floats) -> Array:
    """Soft tokens of pictures: float32 [n, 3, S, S] in -1..1 -> [n * tokens, width of the text]."""
    return _result(encoding(tower, pixels))


def patches(tower: Trunk, pixels: Floats) -> Array:
    """Patches of pictures behind the last layer, in front of the last norm: [n * P, D]."""
    return _result(_layers(tower, pixels))


def pooled(tower: Trunk, pixels: Floats) -> Array:
    """Squares of normed patches averaged, in front of the projector: [n * tokens, D]."""
    return _pooled(tower, patches(tower, pixels))


def projected(projector: Any, ops: Ops, pooled_TD: Array) -> Array:
    """Soft tokens [n * tokens, width of the text] of `pooled`; a tower is a projector too."""
    (soft,) = ops.project(pooled_TD, projector.soft_norm, (projector.projection,))
    return soft


def encoding(tower: Encoder, pixels: Floats) -> Generator[None, None, Array]:
    """`features` layer by layer, for who wants to do something else in between; they are its result."""
    x = yield from _layers(tower, pixels)
    return projected(tower, tower.ops, _pooled(tower, x))


def _layers(tower: Trunk, pixels: Floats) -> Generator[None, None, Array]:
    config, ops = tower.config, tower.ops
    staged = ops.stage(picture_step(len(pixels), config.patches))
    x = ops.patchify(pixels, tower.patch, tower.positions, config.patch)
    for layer in tower.layers:
        yield
        x = layer(x, staged)
    return x


def _pooled(tower: Trunk, x: Array) -> Array:
    return tower.ops.pool(x, tower.norm, tower.config.grid, tower.config.side)


def _result(layers: Generator[None, None, Array]) -> Array:
    while True:
        try:
            next(layers)
        except StopIteration as done:
            return done.value
