"""A small model that sees, with the transformers model that wrote it, and pictures to show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import gemmary
from gemmary.inputs.prompt import Prompt, brightness
from gemmary.inputs.sentencepiece_model import write_model
from gemmary.inputs.vocabulary import Kind as Piece
from gemmary.inputs.vocabulary import Vocabulary
from tests.parity.ggufs import vocabulary
from tests.parity.sharp import VOCAB, Kind
from tests.parity.towers import BEGIN, END, SOFT, TOWERS, googles_windows, saved_multimodal

# A picture has 16 tokens: more than the window. So the order of the mask's parts shows.
KIND = Kind(
    "seeing", layers=7, heads=2, kv_heads=1, head_dim=32, window=11, query_scalar=32, factor=1.0, width=64,
    ffn=96,
)  # fmt: skip
EYES = TOWERS[0]


def build(folder: Path) -> Any:
    """Write the model to a folder; transformers' own."""
    reference = saved_multimodal(KIND, EYES, folder)
    pieces = vocabulary(VOCAB)
    for token, name in ((END, "<end_of_image>"), (BEGIN, "<start_of_image>"), (SOFT, "<image_soft_token>")):
        pieces.tokens[token] = name
        pieces.types[token] = Piece.CONTROL
    model = write_model(Vocabulary("test", pieces.tokens, pieces.types, pieces.scores))
    (folder / "tokenizer.model").write_bytes(model)
    return reference


def picture(seed: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """A random RGB picture [h, w, 3]: coarse squares and a gradient."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, 3)).repeat(size[0] // 8 + 1, 0).repeat(size[1] // 8 + 1, 1)
    return coarse[: size[0], : size[1]].astype(np.uint8)


def asked(*seeds: int, question: str = "what is it") -> list[dict[str, Any]]:
    """A conversation of one message with pictures in front."""
    parts: list[dict[str, Any]] = [{"type": "image", "image": picture(seed)} for seed in seeds]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def expected(reference: Any, prompt: Prompt) -> np.ndarray:
    """Logits [T, V] of transformers for a prompt of ours."""
    ids = torch.tensor([prompt.ids])
    pixels = None if prompt.pixels is None else torch.from_numpy(brightness(prompt.pixels))
    with torch.no_grad(), googles_windows():
        out = reference(input_ids=ids, pixel_values=pixels, token_type_ids=(ids == SOFT).long())
    return out.logits[0].numpy()


def load(folder: Path, **options: Any) -> gemmary.Model:
    return gemmary.load(folder, **{"context": 1024, "threads": 1} | options)
