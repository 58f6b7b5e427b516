"""What files call the tensors, and what we call them (llama.cpp, gguf-py/gguf/constants.py; transformers).

Ours: `embed`, `norm`, and `layers.{i}.` + attn_norm q k v q_norm k_norm o attn_post_norm ffn_norm gate up
down ffn_post_norm. Shapes are row-major, [out, in].
"""

from __future__ import annotations

import re

from ..config import Config

HEAD = "head"  # an output head; in every Gemma 3 it is the embedding, and files rarely repeat it
VISION = "vision"  # anything of the picture half

# ours: (Hugging Face, GGUF), both without the `.weight` that follows
OUTER = {
    "embed": ("embed_tokens", "token_embd"),
    "norm": ("norm", "output_norm"),
}
LAYER = {
    "attn_norm": ("input_layernorm", "attn_norm"),
    "q": ("self_attn.q_proj", "attn_q"),
    "k": ("self_attn.k_proj", "attn_k"),
    "v": ("self_attn.v_proj", "attn_v"),
    "q_norm": ("self_attn.q_norm", "attn_q_norm"),
    "k_norm": ("self_attn.k_norm", "attn_k_norm"),
    "o": ("self_attn.o_proj", "attn_output"),
    "attn_post_norm": ("post_attention_layernorm", "post_attention_norm"),
    "ffn_norm": ("pre_feedforward_layernorm", "ffn_norm"),
    "gate": ("mlp.gate_proj", "ffn_gate"),
    "up": ("mlp.up_proj", "ffn_up"),
    "down": ("mlp.down_proj", "ffn_down"),
    "ffn_post_norm": ("post_feedforward_layernorm", "post_ffw_norm"),
}

# The text decoder's prefixes: multimodal as transformers >= 4.52 and as Google wrote it, then text only.
HF_TEXT = ("model.language_model.", "language_model.model.", "model.")
HF_HEADS = ("lm_head.weight", "language_model.lm_head.weight")
HF_VISION = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
GGUF_VISION = ("v.", "mm.")

_LAYER_NAME = re.compile(r"(?:layers|blk)\.(0|[1-9]\d{0,3})\.(.+)\.weight", re.ASCII)
_FROM_HF = {theirs: ours for ours, (theirs, _) in LAYER.items()}
_FROM_GGUF = {theirs: ours for ours, (_, theirs) in LAYER.items()}
_OUTER_HF = {f"{theirs}.weight": ours for ours, (theirs, _) in OUTER.items()}
_OUTER_GGUF = {f"{theirs}.weight": ours for ours, (_, theirs) in OUTER.items()}


def from_huggingface(name: str) -> str | None:
    """Our name, HEAD or VISION; None for a name that Gemma 3 does not have."""
    if name in HF_HEADS:
        return HEAD
    if name.startswith(HF_VISION):
        return VISION
    prefix = next((prefix for prefix in HF_TEXT if name.startswith(prefix)), None)
    return None if prefix is None else _ours(name[len(prefix) :], "layers", _OUTER_HF, _FROM_HF)


def from_gguf(name: str) -> str | None:
    """Our name, HEAD or VISION; None for a name that Gemma 3 does not have."""
    if name.startswith(GGUF_VISION):
        return VISION
    return HEAD if name == "output.weight" else _ours(name, "blk", _OUTER_GGUF, _FROM_GGUF)


def to_huggingface(name: str) -> str:
    """The name in a text-only Hugging Face file."""
    if name in OUTER:
        return f"model.{OUTER[name][0]}.weight"
    _, layer, part = name.split(".")
    return f"model.layers.{layer}.{LAYER[part][0]}.weight"


def to_gguf(name: str) -> str:
    """The name in a GGUF file."""
    if name in OUTER:
        return f"{OUTER[name][1]}.weight"
    _, layer, part = name.split(".")
    return f"blk.{layer}.{LAYER[part][1]}.weight"


def is_norm(name: str) -> bool:
    """Whether our `name` is a norm's."""
    return name.endswith("norm")


def expected_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a text decoder, in the order of the forward pass, with its shape."""
    width, ffn = config.width, config.ffn
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    layer = {
        "attn_norm": (width,), "q": (queries, width), "k": (keys, width), "v": (keys, width),
        "q_norm": (config.head_dim,), "k_norm": (config.head_dim,), "o": (width, queries),
        "attn_post_norm": (width,), "ffn_norm": (width,), "gate": (ffn, width), "up": (ffn, width),
        "down": (width, ffn), "ffn_post_norm": (width,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"embed": (config.vocab, width)}
    for index in range(config.layers):
        shapes |= {f"layers.{index}.{part}": shape for part, shape in layer.items()}
    return shapes | {"norm": (width,)}


def _ours(name: str, layers: str, outer: dict[str, str], parts: dict[str, str]) -> str | None:
    if name in outer:
        return outer[name]
    match = _LAYER_NAME.fullmatch(name)
    if match is None or not name.startswith(layers) or match[2] not in parts:
        return None
    return f"layers.{match[1]}.{parts[match[2]]}"
