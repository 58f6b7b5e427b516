"""Labels without training for them: whether a text belongs to a picture, asked of each text by itself.

As the sigmoid loss allows: sigmoid(t x . y + b) needs no other text to compare with, so a picture may have
several labels or none (SigLIP, arXiv 2303.15343).
"""

from __future__ import annotations

import torch

from ..ops.contract import Floats
from .pictures import Pixels
from .sigmoid_task import SigmoidModel, Texts

PORTION = 32  # pictures that go through the tower at a time


@torch.no_grad()
def probabilities(
    model: SigmoidModel, pixels: Pixels, texts: Texts, tiles: int = 1, portion: int = PORTION
) -> Floats:
    """How likely each text belongs to each picture [n, 3, S, S], in float32: [n, texts], each 0 to 1.

    `tiles`: cut each into tiles x tiles squares and ask of each of them, row by row: [n * tiles^2, texts].
    """
    y = torch.nn.functional.normalize(model.texts(texts).float(), dim=-1)
    found = []
    for first in range(0, len(pixels), portion):
        seen = model.pictures(pixels[first : first + portion], tiles)
        x = torch.nn.functional.normalize(seen.float(), dim=-1)
        found.append((x @ y.T * model.pairing.log_temperature.exp() + model.pairing.bias).sigmoid())
    result: Floats = torch.cat(found).numpy(force=True)
    return result


def labels(likely: Floats, threshold: float = 0.5) -> list[list[int]]:
    """The texts of each picture that are at least as likely as `threshold`, the likeliest first."""
    order = (-likely).argsort(-1, kind="stable")
    return [
        [int(text) for text in ranked if row[text] >= threshold]
        for ranked, row in zip(order, likely, strict=True)
    ]
