"""The sizes of Gemma 3 (technical report, table 1; Hugging Face config.json).

Nothing else in the house knows a size. A config says what the network *is*; how a file stores it
(dtype, names, table rows that no token uses) belongs to `weights/`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt

PATTERN = 6  # five sliding-window layers, then a global one (report, section 2)


@dataclass(frozen=True)
class Rope:
    """Rotary embedding: base `theta`, positions divided by `factor`."""

    theta: float
    factor: float = 1.0


@dataclass(frozen=True)
class VisionConfig:
    """SigLIP So400m/14 at 896 x 896, and the projector's 4 x 4 pooling to 256 soft tokens."""

    width: int = 1152
    layers: int = 27
    heads: int = 16
    ffn: int = 4304
    image: int = 896
    patch: int = 14
    tokens: int = 256
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        sizes = (self.width, self.layers, self.heads, self.ffn, self.image, self.patch, self.tokens)
        if min(sizes) <= 0 or not self.norm_eps > 0:
            raise ValueError(f"every size of a vision tower must be positive: {self}")
        if self.width % self.heads:
            raise ValueError(f"a vision tower {self.width} wide cannot be shared by {self.heads} heads")
        if self.image % self.patch or self.side**2 != self.tokens or self.grid % self.side:
            raise ValueError(
                f"{self.tokens} tokens a picture cannot be pooled from {self.image} pixels in patches of "
                f"{self.patch}"
            )

    @property
    def grid(self) -> int:
        """Patches along a side of a picture."""
        return self.image // self.patch

    @property
    def side(self) -> int:
        """Soft tokens along a side of a picture."""
        return isqrt(self.tokens)

    @property
    def patches(self) -> int:
        """Patches in one picture."""
        return self.grid * self.grid

    def parameters(self) -> int:
        """Parameters of the tower, the projector not counted."""
        attention = 4 * (self.width * self.width + self.width)
        ffn = 2 * self.width * self.ffn + self.ffn + self.width
        embedding = 3 * self.patch**2 * self.width + self.width + self.patches * self.width
        return self.layers * (attention + ffn + 4 * self.width) + embedding + 2 * self.width


@dataclass(frozen=True)
class Config:
    """One Gemma 3 network.

    `width` is the residual stream, `ffn` the hidden size of the gated feed-forward, `window` the number
    of keys that a local layer sees, the query included. `query_scalar` is query_pre_attn_scalar:
    scores are multiplied by its -0.5th power. `vocab` counts the rows of the embedding table.
    """

    name: str
    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    window: int
    context: int
    query_scalar: float
    rope_local: Rope = Rope(10_000.0)
    rope_global: Rope = Rope(1_000_000.0)
    norm_eps: float = 1e-6
    global_layers: tuple[int, ...] | None = None
    vision: VisionConfig | None = None

    def __post_init__(self) -> None:
        if self.global_layers is None:
            every = tuple(range(PATTERN - 1, self.layers, PATTERN))
            object.__setattr__(self, "global_layers", every)
        positive = (
            self.vocab, self.width, self.layers, self.heads, self.kv_heads, self.head_dim,
            self.ffn, self.window, self.context,
        )  # fmt: skip
        if min(positive) <= 0 or not self.query_scalar > 0 or not self.norm_eps > 0:
            raise ValueError(f"every size of a Gemma 3 config must be positive: {self}")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} key/value heads")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd: rotary embedding needs pairs")

    def is_global(self, layer: int) -> bool:
        """Whether `layer` (0-based) attends to everything before it."""
        return layer in (self.global_layers or ())

    def rope(self, layer: int) -> Rope:
        """The rotary embedding of `layer`."""
        return self.rope_global if self.is_global(layer) else self.rope_local

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the table, which is also the output head."""
        return self.vocab * self.width

    @property
    def body_parameters(self) -> int:
        """Parameters of the decoder without its table."""
        attention = 2 * self.width * (self.heads + self.kv_heads) * self.head_dim + 2 * self.head_dim
        return self.layers * (attention + 3 * self.width * self.ffn + 4 * self.width) + self.width

    @property
    def vision_parameters(self) -> int:
        """Parameters of tower and projector; 0 for a text model."""
        if self.vision is None:
            return 0
        return self.vision.parameters() + self.vision.width * (self.width + 1)

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.embedding_parameters + self.body_parameters + self.vision_parameters


GEMMA3_270M = Config(
    name="270m", vocab=262_144, width=640, layers=18, heads=4, kv_heads=1, head_dim=256, ffn=2048,
    window=512, context=32_768, query_scalar=256,
)  # fmt: skip
GEMMA3_1B = replace(GEMMA3_270M, name="1b", width=1152, layers=26, ffn=6912, global_layers=None)
GEMMA3_4B = Config(
    name="4b", vocab=262_208, width=2560, layers=34, heads=8, kv_heads=4, head_dim=256, ffn=10_240,
    window=1024, context=131_072, query_scalar=256, rope_global=Rope(1_000_000.0, 8.0), vision=VisionConfig(),
)  # fmt: skip
GEMMA3_12B = replace(
    GEMMA3_4B, name="12b", width=3840, layers=48, heads=16, kv_heads=8, ffn=15_360, global_layers=None
)
GEMMA3_27B = replace(
    GEMMA3_4B, name="27b", width=5376, layers=62, heads=32, kv_heads=16, head_dim=128, ffn=21_504,
    query_scalar=168, global_layers=None,
)  # fmt: skip
NANO = Config(
    name="nano", vocab=12_288, width=256, layers=7, heads=4, kv_heads=1, head_dim=64, ffn=704,
    window=128, context=4096, query_scalar=64, rope_global=Rope(1_000_000.0, 8.0),
    vision=VisionConfig(width=192, layers=6, heads=3, ffn=768, image=128, patch=16, tokens=64),
)  # fmt: skip

SIZES = {c.name: c for c in (GEMMA3_270M, GEMMA3_1B, GEMMA3_4B, GEMMA3_12B, GEMMA3_27B, NANO)}
