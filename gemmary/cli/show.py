"""`gemmary show`: what a model file is, from its headers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import SIZES
from . import flags
from .terminal import printable

if TYPE_CHECKING:
    from ..weights.checkpoint import Checkpoint

LABELS = {
    "embed": "token table", "q": "queries", "k": "keys", "v": "values", "o": "attention out",
    "gate": "gate", "up": "up", "down": "down", "norm": "norms",
}  # fmt: skip
FACTS = {
    "name": "general.name",
    "licence": "general.license",
    "by": "general.author",
    "base": "general.basename",
}


def show(model: flags.Model = None, context: flags.Context = None) -> None:
    """Sizes, number formats and memory of a model. Reads no weights, downloads nothing.

    \b
    gemmary show                                      the bundled model
    gemmary show gemma-3-4b-it-q4_0.gguf              a file
    gemmary show google/gemma-3-4b-it --context 32k   memory for 32,768 tokens
    """
    from ..weights.checkpoint import open_checkpoint
    from ..weights.hub import bundled, locate

    checkpoint = open_checkpoint(bundled() if model is None else locate(model))
    for label, value in [*_facts(checkpoint), *_memory(checkpoint, context)]:
        print(f"{label:14} {printable(value)}")
    print()
    for line in _formats(checkpoint):
        print(line)


def _facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    config = checkpoint.config
    globals_ = sum(config.is_global(layer) for layer in range(config.layers))
    return [
        ("file", str(checkpoint.path)),
        *_said(checkpoint),
        ("architecture", f"Gemma 3, {config.name if config.name in SIZES else 'of a size of its own'}, text"),
        ("parameters", f"{checkpoint.parameters:,}"),
        ("layers", f"{config.layers}: {globals_} global, the others see {config.window:,} tokens"),
        ("width", f"{config.width:,}, feed-forward {config.ffn:,}"),
        ("heads", f"{config.heads} of {config.head_dim}, {config.kv_heads} for keys and values"),
        ("vocabulary", f"{config.vocab:,} tokens"),
        ("context", f"{config.context:,} tokens"),
        *([("left aside", f"{len(checkpoint.set_aside):,} vision tensors")] if checkpoint.set_aside else []),
    ]


def _said(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """What the file says about itself."""
    found = ((label, checkpoint.metadata.get(key)) for label, key in FACTS.items())
    return [
        (label, value[:100].replace("\n", " ")) for label, value in found if isinstance(value, str) and value
    ]


def _memory(checkpoint: Checkpoint, context: int | None) -> list[tuple[str, str]]:
    from ..engine.memory import check_context, estimate_memory, machine_memory

    check_context(checkpoint.config, context)
    wanted = context or checkpoint.config.context
    weights = sum(sum(formats.values()) for formats in checkpoint.groups().values())
    need = estimate_memory(checkpoint.config, weights, wanted)
    parts = f"weights {size(need.weights)}, pages {size(need.pages)}, scratch {size(need.scratch)}"
    return [
        ("memory", f"{size(need.total)} with a context of {wanted:,} tokens: {parts}"),
        ("this machine", size(machine_memory())),
    ]


def _formats(checkpoint: Checkpoint) -> list[str]:
    groups = checkpoint.groups()
    lines = [
        f"{LABELS.get(kind, kind):14} {name:6} {size(count):>10}"
        for kind, formats in groups.items()
        for name, count in formats.items()
    ]
    total = sum(sum(formats.values()) for formats in groups.values())
    return [f"{'tensors':14} {'format':6} {'size':>10}", *lines, f"{'all':14} {'':6} {size(total):>10}"]


def size(count: int) -> str:
    """Bytes for people: 12.3 kB, 45.6 MB, 7.89 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.{2 if unit == 'GB' else 1}f} {unit}"
    return f"{count} B"
