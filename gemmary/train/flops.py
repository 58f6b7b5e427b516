"""What training costs in floating point operations, and what a device can do at best.

Only products of matrices count (a multiplication and an addition are two operations), each once forward and
twice backward. What is computed again to save memory does not count, nor a teacher's own pass: model FLOPs,
as PaLM's appendix B counts them, so that a share of the peak says how much of the device *learns*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

from ..config import Config, VisionConfig

# Dense bfloat16 operations a second, from the makers' data sheets. The first that a device's name has counts.
PEAKS = (
    ("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H200 NVL", 835e12), ("H100", 989e12), ("H200", 989e12),
    ("GH200", 989e12), ("B200", 2250e12), ("A100", 312e12), ("L40S", 362e12), ("L4", 121e12),
)  # fmt: skip


def text(config: Config, lengths: Iterable[int]) -> int:
    """Of training the decoder on documents of these lengths (tokens), each alone or packed without mixing.

    6 operations a token for each weight of the body's matrices and of the head, and 12 for each channel of
    each pair of a query and a key that it sees (windows honoured; a picture's look ahead is left out).
    """
    found = list(lengths)
    channels = config.heads * config.head_dim
    windows = [None if config.is_global(layer) else config.window for layer in range(config.layers)]
    seen = {window: sum(pairs(length, window) for length in found) for window in set(windows)}
    matrices = _body(config) + config.embedding_parameters
    return 6 * matrices * sum(found) + 12 * channels * sum(seen[window] for window in windows)


def tower(config: VisionConfig, trained: bool = True) -> int:
    """Of one picture in the vision tower without its projector; `trained` False: forward only."""
    inside = config.layers * (4 * config.width**2 + 2 * config.width * config.ffn)
    attention = config.layers * 2 * config.width * config.patches
    forward = 2 * config.patches * (inside + attention)
    pixels = 2 * config.patches * 3 * config.patch**2 * config.width  # nobody wants gradients of pixels
    return 3 * forward + 2 * pixels if trained else forward + pixels


def pairs(length: int, window: int | None) -> int:
    """How many (query, key) a causal document has; a query sees `window` keys at most, itself included."""
    if window is None or window >= length:
        return length * (length + 1) // 2
    return window * (window + 1) // 2 + (length - window) * window


def peak(device: torch.device) -> float | None:
    """Operations a second in bfloat16 that the device's maker promises; None where nobody has said."""
    return _peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def _peak_of(name: str) -> float | None:
    if "MIG" in name.split():  # a part of a device
        return None
    return next((value for key, value in PEAKS if re.search(rf"\b{key}\b", name)), None)


def _body(config: Config) -> int:
    """Weights of the decoder's matrices; norms are no matrices."""
    attention = 2 * config.width * (config.heads + config.kv_heads) * config.head_dim
    return config.layers * (attention + 3 * config.width * config.ffn)
