"""What a user sees of a picture that goes into a message: a thumbnail, its size, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ImageError
from .attachment import Attachment
from .terminal import note

if TYPE_CHECKING:
    from ..engine.model import Model
    from ..inputs.crops import PanAndScan
    from ..inputs.prompt import Picture


def check_sight(model: Model) -> None:
    """ImageError when a model reads text only."""
    from ..inputs.parts import NO_EYES

    if model.config.vision is None:
        raise ImageError(NO_EYES)


def introduce(model: Model, picture: Attachment, cut: bool | PanAndScan) -> None:
    """Show a picture on the terminal where that is possible, and say what it is in a line."""
    from PIL import Image

    from ..inputs.picture import read_picture
    from .thumbnail import show

    pixels = read_picture(picture.data)
    line = f"{picture.name}  {summary(model, pixels, cut)}"
    show(Image.fromarray(pixels))
    note(line)


def summary(model: Model, pixels: Picture, cut: bool | PanAndScan) -> str:
    """ "1,240 x 2,048, 3 crops, 1,040 tokens": counted in the prompt that the model would get."""
    height, width = pixels.shape[:2]
    part = {"type": "image", "image": pixels}
    prompt = model.prompt([{"role": "user", "content": [part]}], pan_and_scan=cut)
    bare = model.prompt([{"role": "user", "content": ""}])
    crops = len(prompt.keys) - 1
    cost = f"{len(prompt.ids) - len(bare.ids):,} tokens"
    return ", ".join([f"{width:,} x {height:,}", *([f"{crops} crops"] if crops else []), cost])
