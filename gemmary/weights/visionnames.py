"""What files call the tensors of the picture half, and what we call them (llama.cpp, clip-impl.h).

Ours: `patch`, `positions`, `norm`, `soft_norm`, `projection`, and `layers.{i}.` + attn_norm q k v o ffn_norm
fc1 fc2; all but `positions`, `soft_norm` and `projection` have a `.bias` beside them. Shapes are row-major,
[out, in]. Two tensors lie otherwise in files: the convolution of `patch` is [out, 3, patch, patch], and
`projection` is [in, out].
"""

from __future__ import annotations

import re

from ..config import VisionConfig

TOWERS = (
    "model.vision_tower.vision_model.",
    "model.vision_tower.",
    "vision_tower.vision_model.",
    "vision_tower.",
)
PROJECTORS = ("model.multi_modal_projector.", "multi_modal_projector.")

# ours: (Hugging Face, GGUF, GGUF as Ollama writes it), without prefix, `.weight` and `.bias`
OUTER = {
    "patch": ("embeddings.patch_embedding", "patch_embd", "patch_embedding"),
    "positions": ("embeddings.position_embedding", "position_embd", "position_embedding"),
    "norm": ("post_layernorm", "post_ln", "post_layernorm"),
}
LAYER = {
    "attn_norm": ("layer_norm1", "ln1", "layer_norm1"),
    "q": ("self_attn.q_proj", "attn_q", "attn_q"),
    "k": ("self_attn.k_proj", "attn_k", "attn_k"),
    "v": ("self_attn.v_proj", "attn_v", "attn_v"),
    "o": ("self_attn.out_proj", "attn_out", "attn_output"),
    "ffn_norm": ("layer_norm2", "ln2", "layer_norm2"),
    "fc1": ("mlp.fc1", "ffn_up", "mlp.fc1"),
    "fc2": ("mlp.fc2", "ffn_down", "mlp.fc2"),
}
# The projector's two, whole names without prefix. The projection of Hugging Face is a bare parameter.
PROJECTOR = {
    "soft_norm": ("mm_soft_emb_norm.weight", "soft_emb_norm.weight", "mm_soft_emb_norm.weight"),
    "projection": ("mm_input_projection_weight", "input_projection.weight", "mm_input_projection.weight"),
}
BARE = ("positions", "soft_norm", "projection")  # these have no bias

_LAYER_NAME = re.compile(r"(0|[1-9]\d{0,3})\.(.+)", re.ASCII)


def from_huggingface(name: str) -> str | None:
    """Our name; None for a name that the picture half of Gemma 3 does not have."""
    for prefix in PROJECTORS:
        if name.startswith(prefix):
            return _PROJECTOR_HF.get(name.removeprefix(prefix))
    tower = next((prefix for prefix in TOWERS if name.startswith(prefix)), None)
    return None if tower is None else _ours(name.removeprefix(tower), "encoder.layers.", _HF)


def from_gguf(name: str) -> str | None:
    """Our name; None for a name that the picture half of Gemma 3 does not have."""
    if name.startswith("mm."):
        return _PROJECTOR_GGUF.get(name.removeprefix("mm."))
    return _ours(name.removeprefix("v."), "blk.", _GGUF) if name.startswith("v.") else None


def to_huggingface(name: str) -> str:
    """The name in a multimodal Hugging Face file, as Google writes it."""
    if name in PROJECTOR:
        return PROJECTORS[1] + PROJECTOR[name][0]
    return TOWERS[2] + _theirs(name, "encoder.layers.", 0)


def to_gguf(name: str) -> str:
    """The name in an mmproj file."""
    return f"mm.{PROJECTOR[name][1]}" if name in PROJECTOR else f"v.{_theirs(name, 'blk.', 1)}"


def vision_shapes(config: VisionConfig, text_width: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of tower and projector, in the order of the forward pass, with its shape."""
    width, ffn = config.width, config.ffn
    matrices = {name: (width, width) for name in LAYER} | {"fc1": (ffn, width), "fc2": (width, ffn)}
    matrices |= {"attn_norm": (width,), "ffn_norm": (width,)}  # type: ignore[dict-item]
    shapes: dict[str, tuple[int, ...]] = {"patch": (width, 3 * config.patch**2), "patch.bias": (width,)}
    shapes["positions"] = (config.patches, width)
    for index in range(config.layers):
        for part, shape in matrices.items():
            shapes[f"layers.{index}.{part}"] = shape
            shapes[f"layers.{index}.{part}.bias"] = shape[:1]
    shapes |= {"norm": (width,), "norm.bias": (width,)}
    return shapes | {"soft_norm": (width,), "projection": (text_width, width)}


def stored_shape(name: str, shape: tuple[int, ...], config: VisionConfig) -> tuple[int, ...]:
    """The shape that a tensor of ours has in files."""
    if name == "patch":
        return (shape[0], 3, config.patch, config.patch)
    return shape[::-1] if name == "projection" else shape


def _table(columns: slice) -> dict[str, str]:
    """Their names of OUTER and LAYER, with `.weight` and `.bias` -> ours."""
    table: dict[str, str] = {}
    for ours, theirs in (OUTER | LAYER).items():
        for their in theirs[columns]:
            table[f"{their}.weight"] = ours
            if ours not in BARE:
                table[f"{their}.bias"] = f"{ours}.bias"
    return table


_HF, _GGUF = _table(slice(0, 1)), _table(slice(1, 3))
_PROJECTOR_HF = {theirs[0]: ours for ours, theirs in PROJECTOR.items()}
_PROJECTOR_GGUF = {their: ours for ours, theirs in PROJECTOR.items() for their in theirs[1:]}


def _ours(name: str, layers: str, table: dict[str, str]) -> str | None:
    if not name.startswith(layers):
        our = table.get(name)
        return our if our is not None and our.removesuffix(".bias") in OUTER else None
    match = _LAYER_NAME.fullmatch(name.removeprefix(layers))
    our = table.get(match[2]) if match else None
    if match is None or our is None or our.removesuffix(".bias") not in LAYER:
        return None
    return f"layers.{match[1]}.{our}"


def _theirs(name: str, layers: str, column: int) -> str:
    stem, suffix = (name[:-5], ".bias") if name.endswith(".bias") else (name, ".weight")
    if stem in OUTER:
        return OUTER[stem][column] + suffix
    _, layer, part = stem.split(".")
    return f"{layers}{layer}.{LAYER[part][column]}{suffix}"
