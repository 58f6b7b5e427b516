"""The picture half as GGUF: its metadata <-> VisionConfig, and the file beside a text model (spec 7.5).

llama.cpp keeps it in a file of its own, architecture `clip`; Ollama keeps it in the text model's file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..config import VisionConfig
from ..errors import ModelFileError, UnsupportedModelError
from . import fields
from .fields import Fields, shortest, shown
from .gguf import GGUFFile, read_gguf
from .huggingface import build_vision

CLIP, OLLAMA = "clip.vision.", "gemma3.vision."
PROJECTOR = "gemma3"
POOL = 4  # patches along a side of a soft token, where the file does not say
HALF = 0.5  # mean and standard deviation of pixels from 0 to 1

_FORMAT = re.compile(r"i?q\d+(_[a-z0-9]+)*|b?f16|f32")


def vision_from_mmproj(file: GGUFFile) -> tuple[VisionConfig, int]:
    """Sizes of the tower, and the width of the text model that it is for, from an mmproj file's metadata.

    ModelFileError: a key is missing, mistyped or out of range. UnsupportedModelError: not Gemma 3's.
    """
    _refuse_others(file)
    keys = _section(file, CLIP)
    image, patch = keys.whole("image_size", fields.PIXELS), keys.whole("patch_size", fields.PATCH)
    pool = keys.whole("projector.scale_factor", fields.PATCH, POOL)
    if image % (patch * pool):
        raise keys.fault("image_size", f"a multiple of {pool} patches of {patch}")
    config = _config(keys, image, patch, (image // (patch * pool)) ** 2)
    return config, keys.whole("projection_dim", fields.WIDTH)


def vision_from_text(file: GGUFFile) -> VisionConfig:
    """Sizes of the tower in a file that has both halves, as Ollama writes it."""
    keys = _section(file, OLLAMA)
    tokens = Fields(file.metadata, file.path).whole("gemma3.mm.tokens_per_image", fields.SOFT_TOKENS, 256)
    image, patch = keys.whole("image_size", fields.PIXELS), keys.whole("patch_size", fields.PATCH)
    return _config(keys, image, patch, tokens)


def _section(file: GGUFFile, prefix: str) -> Fields:
    values = {k.removeprefix(prefix): v for k, v in file.metadata.items() if k.startswith(prefix)}
    return Fields(values, file.path, prefix)


def _config(keys: Fields, image: int, patch: int, tokens: int) -> VisionConfig:
    sizes = {
        "width": keys.whole("embedding_length", fields.WIDTH),
        "layers": keys.whole("block_count", fields.LAYERS),
        "heads": keys.whole("attention.head_count", fields.HEADS),
        "ffn": keys.whole("feed_forward_length", fields.FFN),
        "image": image,
        "patch": patch,
        "tokens": tokens,
    }
    eps = keys.number("attention.layer_norm_epsilon", *fields.EPS, default=1e-6)
    return build_vision(keys.path, sizes, shortest(eps))


def _refuse_others(file: GGUFFile) -> None:
    keys = Fields(file.metadata, file.path)
    kind = keys.text("general.architecture")
    if kind != "clip":
        raise UnsupportedModelError(
            f"{file.path}: this is not the picture half of a model (its architecture is {shown(kind)}, not "
            "clip): give the mmproj file that comes with the model"
        )
    projector = _projector(file.metadata)
    if projector != PROJECTOR:
        raise UnsupportedModelError(
            f"{file.path}: its projector is {shown(projector)}, so it belongs to another kind of model; "
            "Gemma 3 needs an mmproj file of Gemma 3"
        )
    if keys.flag("clip.use_silu", False):
        raise UnsupportedModelError(f"{file.path}: clip.use_silu is set; Gemma 3's tower uses GELU")
    for key in ("clip.vision.image_mean", "clip.vision.image_std"):
        _refuse_other_pixels(keys, key)


def _refuse_other_pixels(keys: Fields, key: str) -> None:
    value = keys.values.get(key)
    if value is None:
        return
    if not isinstance(value, np.ndarray) or value.shape != (3,) or not (value == HALF).all():
        raise UnsupportedModelError(f"{keys.path}: {key} is {shown(value)}; Gemma 3 has {HALF} three times")


def mmproj_metadata(config: VisionConfig, text_width: int) -> dict[str, object]:
    """The metadata of an mmproj file: Python values as save.py writes them (float: float32; int: uint32)."""
    half = np.full(3, HALF, np.float32)
    return {
        "clip.has_vision_encoder": True,
        "clip.projector_type": PROJECTOR,
        "clip.use_gelu": True,
        CLIP + "image_size": config.image,
        CLIP + "patch_size": config.patch,
        CLIP + "embedding_length": config.width,
        CLIP + "feed_forward_length": config.ffn,
        CLIP + "block_count": config.layers,
        CLIP + "projection_dim": text_width,
        CLIP + "attention.head_count": config.heads,
        CLIP + "attention.layer_norm_epsilon": config.norm_eps,
        CLIP + "image_mean": half,
        CLIP + "image_std": half,
        CLIP + "projector.scale_factor": config.grid // config.side,
    }


def beside_model(model: Path, text_width: int) -> Path | None:
    """The mmproj file in the folder of a GGUF model, for a text this wide; None when there is none.

    Of several it is the one with the same name but for `mmproj` and the number format. ModelFileError: one
    cannot be read, or it is not clear which one is meant.
    """
    fitting = [path for path in sorted(model.parent.glob("*.gguf")) if _fits(path, text_width)]
    if len(fitting) > 1:
        alike = [path for path in fitting if _stem(path) == _stem(model)]
        fitting = alike if len(alike) == 1 else fitting
    if len(fitting) > 1:
        names = ", ".join(shown(path.name) for path in fitting[:4])
        raise ModelFileError(
            model, f"has several picture halves beside it: {names}. Name one of them: mmproj=..."
        )
    return fitting[0] if fitting else None


def _fits(path: Path, text_width: int) -> bool:
    if "mmproj" not in path.name.lower() or not path.is_file():
        return False
    metadata = read_gguf(path).metadata
    return _projector(metadata) == PROJECTOR and metadata.get(CLIP + "projection_dim") == text_width


def _projector(metadata: Mapping[str, object]) -> object:
    """Newer files say for each of their senses what they project with."""
    return metadata.get("clip.vision.projector_type", metadata.get("clip.projector_type"))


def _stem(path: Path) -> list[str]:
    """The words of a file's name without `mmproj`, `model` and the number format."""
    words = re.split(r"[-.\s]+", path.name.lower().removesuffix(".gguf"))
    return [word for word in words if word not in ("mmproj", "model") and not _FORMAT.fullmatch(word)]
