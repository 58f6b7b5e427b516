"""A tower learns from pairs of picture and text, as SigLIP's did (arXiv 2303.15343; Gemma 3 report, 2.2).

What turns patches and texts into one vector each is trained beside the tower and thrown away afterwards:
SigLIP's attention pooling for patches; for texts a small transformer whose tokens all see each other, as
those of a picture do, because a bag of tokens cannot tell a red square and a blue circle from a blue square
and a red circle.

Each micro-batch is a batch of its own: its pairs are each other's wrong answers. n pictures, P patches, L
tokens of a row, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ..config import Config, VisionConfig
from ..inputs.prompt import brightness
from ..model.modules import TextModule
from ..model.text import attention_of
from ..model.vision_modules import TowerModule, TrunkModule
from ..ops.contract import Step
from ..ops.reference import normalise
from ..ops.trainable import Trainable
from .pictures import Pixels
from .sigmoid_loss import SigmoidLoss
from .task import Lesson, recorded

if TYPE_CHECKING:
    from .loop import Plan

Tensor = torch.Tensor
Texts = Sequence[Sequence[int]]
Bools = npt.NDArray[np.bool_]


class Pairs(NamedTuple):
    """Pictures [n, 3, S, S], uint8 or float32 in -1..1, and the ids of the text that belongs to each.

    Or texts of any number, and `true` [n, texts]: which of them are true of which picture. With `tiles`, a
    picture is a collage of tiles x tiles, and texts belong to tiles: `true` is [n * tiles^2, texts], tile by
    tile along the rows.
    """

    pixels: Pixels
    texts: Texts
    true: Bools | None = None
    tiles: int = 1


class AttentionPool(nn.Module):
    """SigLIP's head: one learned query looks at all patches, then a feed-forward. [n, P, D] -> [n, size]."""

    def __init__(self, config: VisionConfig, size: int) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.probe = nn.Parameter(torch.zeros(width))
        self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(3))
        self.norm = nn.LayerNorm(width, config.norm_eps)
        self.fc1, self.fc2 = nn.Linear(width, config.ffn), nn.Linear(config.ffn, width)
        self.out = nn.Linear(width, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors of pictures, of any length."""
        k, v = (linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.k, self.v))
        q = self.probe.to(k.dtype).view(1, self.heads, 1, -1).expand(len(x), -1, -1, -1)
        found = self.o(scaled_dot_product_attention(q, k, v).flatten(1))
        result: Tensor = self.out(
            found + self.fc2(gelu(self.fc1(self.norm(found.float())), approximate="tanh"))
        )
        return result


class TextEncoder(nn.Module):
    """Texts of at most `longest` tokens to vectors: decoder layers that look both ways, the mean, a matrix.

    `config`: its sizes; layers look as far as their windows say, so all of them had better be global.
    """

    def __init__(self, config: Config, longest: int, size: int, device: str = "cpu") -> None:
        super().__init__()
        windows = {attention_of(config, layer).window for layer in range(config.layers)}
        self.longest = longest
        self.decoder = TextModule(config, Trainable(longest, tuple(windows), device))
        self.out = nn.Linear(config.width, size, bias=False)

    def forward(self, texts: Texts) -> Tensor:
        """Vectors of texts, of any length. ValueError: a text is empty or too long."""
        room = 1 << (len(texts) - 1).bit_length()  # compiled layers want few different shapes: powers of two
        filled = [*texts, *[texts[0]] * (room - len(texts))]
        step = text_step(filled, self.longest)
        h = self.decoder(step).unflatten(0, (-1, self.longest))[: len(texts)]
        lengths = torch.tensor([len(text) for text in texts], device=h.device)
        inside = torch.arange(self.longest, device=h.device) < lengths[:, None]
        result: Tensor = self.out((h * inside[..., None]).sum(1) / lengths[:, None])
        return result


def text_step(texts: Texts, longest: int) -> Step:
    """A row of `longest` tokens a text; all tokens of a text see each other, the filling sees itself."""
    lengths = np.array([len(text) for text in texts], np.int32)
    if lengths.min() < 1 or lengths.max() > longest:
        raise ValueError(f"texts of {lengths.min()} to {lengths.max()} tokens; take 1 to {longest}")
    column = np.arange(longest, dtype=np.int32)
    inside = column < lengths[:, None]
    ids = np.zeros(inside.shape, np.int32)
    ids[inside] = np.concatenate([np.asarray(text, np.int32) for text in texts])
    first = (column == 0) | (column == lengths[:, None])
    seq = (np.cumsum(first) - 1).astype(np.int32)
    starts = np.append(np.flatnonzero(first), first.size).astype(np.int32)
    return Step(
        ids=ids.ravel(),
        pos=np.where(inside, column, column - lengths[:, None]).ravel().astype(np.int32),
        seq=seq,
        block=seq,
        starts=starts,
        past=np.zeros(len(starts) - 1, np.int32),
        rows=np.arange(first.size, dtype=np.int32),
    )


class SigmoidModel(nn.Module):
    """A tower without its projector, with which it shares parameters, and what compares pictures with texts.

    `bias`: that of the loss at first; minus the logarithm of a micro-batch's wrong pairs is a good guess.
    """

    def __init__(self, tower: TowerModule, texts: TextEncoder, bias: float = -10.0) -> None:
        super().__init__()
        self.tower, self.texts = TrunkModule(tower), texts
        self.pool = AttentionPool(tower.config, texts.out.out_features)
        self.pairing = SigmoidLoss(bias=bias)

    def pictures(self, pixels: Pixels, tiles: int = 1) -> Tensor:
        """Vectors [n * tiles^2, size] of pictures, or of the tiles of each, of any length."""
        patches = normalise(self.tower(brightness(pixels)), self.tower.norm)
        side = self.tower.config.image // self.tower.config.patch // tiles
        placed = patches.unflatten(0, (len(pixels), tiles, side, tiles, side)).transpose(2, 3)
        result: Tensor = self.pool(placed.flatten(0, 2).flatten(1, 2))
        return result

    def forward(self, pairs: Pairs) -> Tensor:
        """Mean loss a picture, or a tile."""
        images, texts = self.pictures(pairs.pixels, pairs.tiles), self.texts(pairs.texts)
        true = None if pairs.true is None else torch.as_tensor(pairs.true, device=images.device)
        result: Tensor = self.pairing(images, texts, true)
        return result


class SigmoidTask:
    """`pairs(step)` is what a step learns from; it depends on the step alone, and `digest` says on what else.

    A step's pairs are cut into `plan.parts` micro-batches, each with its own wrong answers; where texts are
    true of several pictures, each micro-batch has some of the pictures and what is true of any of them.
    """

    def __init__(self, model: SigmoidModel, pairs: Callable[[int], Pairs], digest: str, plan: Plan) -> None:
        self.model, self.pairs, self.plan = model, pairs, plan
        self.identity: dict[str, Any] = {
            "data": digest,
            "eyes": recorded(model.tower.config),
            "reader": {**recorded(model.texts.decoder.config), "longest": model.texts.longest},
        }

    @property
    def module(self) -> nn.Module:
        """Tower, text encoder and both heads."""
        return self.model

    @property
    def root(self) -> nn.Module:
        """The same: its forward pass is the loss."""
        return self.model

    @property
    def layers(self) -> list[nn.Module]:
        """Those of tower and text encoder."""
        return [*self.model.tower.layers, *self.model.texts.decoder.layers]

    def parts(self, step: int) -> list[Pairs]:
        """The pairs of `step`. ValueError: they are no multiple of `plan.parts`."""
        pixels, texts, true, tiles = self.pairs(step)
        size, rest = divmod(len(pixels), self.plan.parts)
        if rest or not size or (true is None and len(texts) != len(pixels)):
            raise ValueError(
                f"{len(pixels)} pictures and {len(texts)} texts are no {self.plan.parts} equal parts"
            )
        cuts = [slice(first, first + size) for first in range(0, len(pixels), size)]
        if true is None:
            return [Pairs(pixels[cut], texts[cut]) for cut in cuts]
        found = []
        for cut, of_cut in zip(cuts, np.split(true, self.plan.parts), strict=True):
            some = np.flatnonzero(of_cut.any(0))
            found.append(Pairs(pixels[cut], [texts[int(text)] for text in some], of_cut[:, some], tiles))
        return found

    def loss(self, part: Pairs) -> Lesson:
        """The loss summed over pictures or tiles; a picture counts as a token."""
        kind = self.model.pairing.bias.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.plan.low):
            loss = self.model(part)
        images = len(part.pixels) * part.tiles**2
        return Lesson(loss * images, float(images), len(part.pixels))
