"""`gemmary show`: what a model file is, from its headers alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import SIZES
from . import flags
from .terminal import printable

if TYPE_CHECKING:
    from ..weights.checkpoint import Checkpoint

LABELS = {
    "embed": "token table", "q": "queries", "k": "keys", "v": "values", "o": "attention out",
    "gate": "gate", "up": "up", "down": "down", "norm": "norms",
    "eyes": "picture half",
}  # fmt: skip
FACTS = {
    "name": "general.name",
    "licence": "general.license",
    "by": "general.author",
    "base": "general.basename",
}

Image = Annotated[
    Path | None,
    typer.Option("--image", metavar="FILE", help="The crops that pan & scan takes of this picture."),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Draw the crops: .png, .jpg or .webp.")
]
MinCrop = Annotated[int, typer.Option(metavar="PIXELS", min=1, help="No side of a crop is shorter.")]
MaxCrops = Annotated[int, typer.Option(metavar="N", min=1, help="No more crops than that.")]
Ratio = Annotated[
    float, typer.Option(metavar="X", help="Cut when the longer side is so many times the other.")
]


def show(
    model: flags.Model = None,
    context: flags.Context = None,
    mmproj: flags.Mmproj = None,
    image: Image = None,
    output: Output = None,
    min_crop: MinCrop = 256,
    max_crops: MaxCrops = 4,
    ratio: Ratio = 1.2,
    tiles: flags.Tiles = None,
) -> None:
    """Sizes, number formats and memory of a model. Reads no weights, downloads nothing.

    With --image: the crops that pan & scan takes of a picture. That needs no model; -o draws them.

    \b
    gemmary show                                      the bundled model
    gemmary show gemma-3-4b-it-q4_0.gguf              a file
    gemmary show google/gemma-3-4b-it --context 32k   memory for 32,768 tokens
    gemmary show --image a.png -o crops.png           the crops of a picture
    """
    from ..weights.checkpoint import open_checkpoint
    from ..weights.hub import bundled, locate

    if image is not None:
        from ..inputs.crops import PanAndScan
        from .croppage import show_crops

        if model is not None:
            raise typer.BadParameter("the crops of a picture are the same for every model: leave MODEL out")
        return show_crops(image, output, PanAndScan(min_crop, max_crops, ratio, tiles))
    if output is not None:
        raise typer.BadParameter("-o draws the crops of a picture: add --image FILE")
    checkpoint = open_checkpoint(bundled() if model is None else locate(model), mmproj=mmproj)
    rows = [*_facts(checkpoint), *_eyes(checkpoint), *_memory(checkpoint, context)]
    for label, value in rows:
        print(f"{label:14} {printable(value)}")
    print()
    for line in _formats(checkpoint):
        print(line)


def _facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    config = checkpoint.config
    globals_ = sum(config.is_global(layer) for layer in range(config.layers))
    name = config.name if config.name in SIZES else "of a size of its own"
    return [
        ("file", str(checkpoint.path)),
        *_said(checkpoint),
        ("architecture", f"Gemma 3, {name}, text{' and pictures' if checkpoint.vision else ''}"),
        ("parameters", f"{checkpoint.parameters:,}"),
        ("layers", f"{config.layers}: {globals_} global, the others see {config.window:,} tokens"),
        ("width", f"{config.width:,}, feed-forward {config.ffn:,}"),
        ("heads", f"{config.heads} of {config.head_dim}, {config.kv_heads} for keys and values"),
        ("vocabulary", f"{config.vocab:,} tokens"),
        ("context", f"{config.context:,} tokens"),
    ]


def _eyes(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """What the model makes of pictures."""
    vision = checkpoint.vision
    if vision is None:
        return [("pictures", _blind(checkpoint))]
    config = vision.config
    whole = f"{config.image:,} x {config.image:,} pixels in patches of {config.patch}"
    return [
        ("pictures", f"{whole}, {config.tokens:,} tokens each"),
        ("tower", f"{config.layers} layers, {config.width:,} wide, {vision.parameters:,} parameters"),
        *([("mmproj", str(vision.path))] if vision.path != checkpoint.path else []),
    ]


def _blind(checkpoint: Checkpoint) -> str:
    """Why a model reads text only."""
    size = SIZES.get(checkpoint.config.name)
    if size is None or size.vision is None:
        return "none: it reads text only"
    return "none, without its mmproj file: put that beside the model, or name it with --mmproj FILE"


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
    weights = sum(sum(formats.values()) for formats in _groups(checkpoint).values())
    need = estimate_memory(checkpoint.config, weights, wanted)
    parts = f"weights {size(need.weights)}, pages {size(need.pages)}, scratch {size(need.scratch)}"
    return [
        ("memory", f"{size(need.total)} with a context of {wanted:,} tokens: {parts}"),
        ("this machine", size(machine_memory())),
    ]


def _formats(checkpoint: Checkpoint) -> list[str]:
    groups = _groups(checkpoint)
    lines = [
        f"{LABELS.get(kind, kind):14} {name:6} {size(count):>10}"
        for kind, formats in groups.items()
        for name, count in formats.items()
    ]
    total = sum(sum(formats.values()) for formats in groups.values())
    return [f"{'tensors':14} {'format':6} {'size':>10}", *lines, f"{'all':14} {'':6} {size(total):>10}"]


def _groups(checkpoint: Checkpoint) -> dict[str, dict[str, int]]:
    """Bytes by kind of tensor and number format, the picture half as one kind."""
    eyes: dict[str, int] = {}
    for tensor in checkpoint.vision.tensors.values() if checkpoint.vision else ():
        eyes[tensor.format.name] = eyes.get(tensor.format.name, 0) + len(tensor.raw)
    return {**checkpoint.groups(), **({"eyes": eyes} if eyes else {})}


def size(count: int) -> str:
    """Bytes for people: 12.3 kB, 45.6 MB, 7.89 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.{2 if unit == 'GB' else 1}f} {unit}"
    return f"{count} B"
