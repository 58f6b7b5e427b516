"""Random towers, what they should say, and pictures for them to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn.functional import gelu, layer_norm, rms_norm, scaled_dot_product_attention, unfold

from gemmary.config import VisionConfig
from gemmary.formats import FORMATS, encode
from gemmary.model.text import Gain
from gemmary.model.vision import Layer, Tower, attention_of
from gemmary.ops.numba.machine import team
from gemmary.ops.numba.memory import WeightMemory
from gemmary.ops.numba.table import NumbaOps
from gemmary.ops.numba.tower import pack_linear

SMALL = VisionConfig(width=96, layers=3, heads=4, ffn=200, image=112, patch=7, tokens=16)
Weights = dict[str, np.ndarray]
Tensors = dict[str, torch.Tensor]


def random_weights(config: VisionConfig, text_width: int, outliers: int = 0, seed: int = 0) -> Weights:
    """Weights whose layers all matter. With `outliers`, norms make so many channels 60 times the others."""
    rng = np.random.default_rng(seed)
    d, f, p = config.width, config.ffn, 3 * config.patch**2

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape, np.float32) * np.float32(scale)).astype(np.float32)

    def matrix(rows: int, columns: int, gain: float = 1.0) -> np.ndarray:
        return normal(rows, columns, scale=gain * columns**-0.5)

    w = {
        "patch": matrix(d, p, 1.4), "patch.bias": normal(d, scale=0.1),
        "positions": normal(config.patches, d, scale=0.7), "projection": matrix(text_width, d),
        "norm": 1 + normal(d, scale=0.3), "norm.bias": normal(d, scale=0.1),
        "soft_norm": 1 + normal(d, scale=0.3),
    }  # fmt: skip
    for i in range(config.layers):
        at = f"{i}."
        for name in ("attn_norm", "ffn_norm"):
            w[at + name], w[at + name + ".bias"] = 1 + normal(d, scale=0.3), normal(d, scale=0.1)
        for name, shape, gain in (
            ("q", (d, d), 1.5), ("k", (d, d), 1.5), ("v", (d, d), 1.0), ("o", (d, d), 1.0),
            ("fc1", (f, d), 1.0), ("fc2", (d, f), 1.0),
        ):  # fmt: skip
            w[at + name], w[at + name + ".bias"] = matrix(*shape, gain), normal(shape[0], scale=0.1)
    if outliers:
        _plant(w, config, rng.choice(d, outliers, replace=False))
    return w


def _plant(w: Weights, config: VisionConfig, channels: np.ndarray) -> None:
    """What the matrices behind the norms make of it stays of the size that it was."""
    smaller = (config.width / (config.width + len(channels) * (60**2 - 1))) ** 0.5
    for i in range(config.layers):
        for name in ("attn_norm", "ffn_norm"):
            w[f"{i}.{name}"][channels] = 60
            w[f"{i}.{name}.bias"][channels] *= 60
        for name in ("q", "k", "v", "fc1"):
            w[f"{i}.{name}"] *= np.float32(smaller)
    w["soft_norm"][channels] = 60


def packed(
    w: Weights, config: VisionConfig, element: str, form: str = "F32", heads: str | None = None
) -> Tower:
    """A tower on the CPU engine. `form`: the file's; `heads`: the attention's element, if another one's."""
    memory = WeightMemory()
    ops = NumbaOps("F32" if (heads or element) == "F32" else "F16")

    def linear(name: str) -> Any:
        values = w[name]
        raw = encode(FORMATS[form], values).reshape(-1)
        return pack_linear(team(), memory, FORMATS[form], raw, *values.shape, w.get(f"{name}.bias"), element)

    def norm(name: str) -> Gain:
        return Gain(w[name], config.norm_eps, w.get(f"{name}.bias"))

    def layer(i: int) -> Layer:
        parts: dict[str, Any] = {n: norm(f"{i}.{n}") for n in ("attn_norm", "ffn_norm")}
        parts |= {n: linear(f"{i}.{n}") for n in ("q", "k", "v", "o", "fc1", "fc2")}
        return Layer(ops=ops, attention=attention_of(config), **parts)

    layers = tuple(layer(i) for i in range(config.layers))
    return Tower(
        config=config, ops=ops, patch=linear("patch"), positions=w["positions"], layers=layers,
        norm=norm("norm"), soft_norm=norm("soft_norm"), projection=linear("projection"),
    )  # fmt: skip


def truth(
    w: Weights, config: VisionConfig, pixels: np.ndarray, kind: torch.dtype = torch.float64
) -> np.ndarray:
    """Soft tokens, by plain torch in `kind`."""
    held = {name: torch.from_numpy(values).to(kind) for name, values in w.items()}
    with torch.inference_mode():
        parts = [_one(held, config, torch.from_numpy(picture).to(kind)) for picture in pixels]
    return torch.cat(parts).double().numpy()


def _one(w: Tensors, config: VisionConfig, picture: torch.Tensor) -> torch.Tensor:
    grid, side, eps = config.image // config.patch, round(config.tokens**0.5), config.norm_eps
    squares = unfold(picture[None], config.patch, stride=config.patch)[0].T
    x = _linear(w, "patch", squares) + w["positions"]
    for i in range(config.layers):
        h = _layer_norm(w, f"{i}.attn_norm", x, eps)
        heads = (_linear(w, f"{i}.{n}", h).unflatten(-1, (config.heads, -1)).transpose(0, 1) for n in "qkv")
        o = scaled_dot_product_attention(*heads).transpose(0, 1).flatten(1)
        x = x + _linear(w, f"{i}.o", o)
        h = _linear(w, f"{i}.fc1", _layer_norm(w, f"{i}.ffn_norm", x, eps))
        x = x + _linear(w, f"{i}.fc2", gelu(h, approximate="tanh"))
    x = _layer_norm(w, "norm", x, eps).view(side, grid // side, side, grid // side, -1)
    x = x.mean((1, 3)).flatten(0, 1)
    return rms_norm(x, x.shape[-1:], w["soft_norm"], eps) @ w["projection"].T


def _linear(w: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ w[name].T + w[f"{name}.bias"]


def _layer_norm(w: Tensors, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    return layer_norm(x, x.shape[-1:], w[name], w[f"{name}.bias"], eps)


def cosines(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Of each soft token."""
    got = got.astype(np.float64)
    return (got * want).sum(-1) / np.linalg.norm(got, axis=-1) / np.linalg.norm(want, axis=-1)


def noise(size: int, seed: int = 0) -> np.ndarray:
    """1/f noise, as natural pictures have it."""
    rng = np.random.default_rng(seed)
    away = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]) + 1 / size
    waves = np.fft.fft2(rng.standard_normal((3, size, size))) / away
    field = np.fft.ifft2(waves).real
    return _scaled(field + 0.7 * field[:1])


def gradient(size: int) -> np.ndarray:
    """A sky over a field, and a sun."""
    y, x = np.mgrid[0:size, 0:size] / size
    sun = np.exp(-((x - 0.7) ** 2 + (y - 0.2) ** 2) / 0.005)
    return _scaled(np.stack([y + sun, 0.5 * x + (y > 0.6) + sun, 1 - y]))


def document(size: int) -> np.ndarray:
    """Lines of text on white paper."""
    page = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(page)
    for i, y in enumerate(range(4, size - 12, 14)):
        line = f"{i:03d} Two coffees 7.40, one cake {i}.50 " * (size // 200 + 1)
        draw.text((4 + i % 3 * 8, y), line, fill="black")
    draw.rectangle((size // 2, size // 3, size - 5, size // 2), outline="blue", width=3)
    return (np.asarray(page, np.float32).transpose(2, 0, 1) / 127.5 - 1).astype(np.float32)


def _scaled(field: np.ndarray) -> np.ndarray:
    low, high = field.min(), field.max()
    return ((field - low) / (high - low) * 2 - 1).astype(np.float32)


PICTURES: dict[str, Callable[[int], np.ndarray]]
PICTURES = {"noise": noise, "gradient": gradient, "document": document}
