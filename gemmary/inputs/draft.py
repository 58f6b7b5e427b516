"""A prompt while it is written: text, control tokens, pictures, one after the other.

Text between two control tokens is encoded as one piece, whoever wrote its parts. So the newlines around a
picture fuse with those beside them into one token, as in transformers, where pictures are put into the text
before it is tokenised (transformers, processing_gemma3.py); and no text becomes a control token.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..config import VisionConfig
from ..errors import ContextFullError, ImageError
from .parts import NO_EYES, Content, Shown
from .prompt import Prompt
from .tokenizer import Tokenizer

AROUND = "\n\n"  # before and behind every picture
WHOLE, CROPS, NEXT = "Here is the original image ", " and here are some crops to help you see better ", " "
MAX_VIEWS = 64  # pictures of a prompt, crops included: 154 MB at 896 x 896
NO_MARKS = "the vocabulary of this model has no tokens for pictures: leave the pictures out"
TOO_MANY = f"these are more than {MAX_VIEWS} pictures, crops included: show fewer in one prompt"


class Draft:
    """Grows by `control`, `text` and `picture`; `prompt` is what it has become.

    vision: sizes of what pictures become; None when the model cannot see. context: tokens that there may be;
    None: any number.
    """

    def __init__(
        self, tokenizer: Tokenizer, vision: VisionConfig | None = None, context: int | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._vision = vision
        self._context = context
        self._ids: list[int] = []
        self._waiting: list[str] = []  # text since the last control token
        self._pixels: list[npt.NDArray[np.uint8]] = []
        self._keys: list[bytes] = []

    def control(self, *tokens: int) -> None:
        """Control tokens: the only way for them to get into a prompt."""
        self._ids += self._tokenizer.encode("".join(self._waiting))
        self._ids += tokens
        self._waiting.clear()

    def text(self, text: str) -> None:
        """Text, never a control token."""
        self._waiting.append(text)

    def content(self, content: Content) -> None:
        """Text and pictures as they come."""
        for part in content:
            if isinstance(part, Shown):
                self.picture(part)
            else:
                self.text(part)

    def picture(self, shown: Shown) -> None:
        """A picture, and the crops that pan & scan takes of it. ImageError; ContextFullError."""
        if self._vision is None:
            raise ImageError(NO_EYES)
        from .views import cut  # Pillow is not loaded for text

        tokens = self._soft_tokens(self._vision)
        found = cut(shown.source, shown.pan_and_scan)
        self._check_room(len(found.boxes), self._vision)
        views = found.views(self._vision.image)
        self._keys += views.keys
        self._pixels.append(views.pixels)
        crops = len(views.keys) - 1
        self.text(WHOLE if crops else "")
        self._view(tokens)
        for crop in range(crops):
            self.text(NEXT if crop else CROPS)
            self._view(tokens)

    def prompt(self) -> Prompt:
        """Everything so far."""
        self.control()
        pixels = np.concatenate(self._pixels) if self._pixels else None
        return Prompt(list(self._ids), pixels, tuple(self._keys))

    def _check_room(self, more: int, vision: VisionConfig) -> None:
        """Whether so many squares more can ever be read, before memory is taken for them."""
        views = len(self._keys) + more
        if views > MAX_VIEWS:
            raise ImageError(TOO_MANY)
        if self._context is not None and views * vision.tokens > self._context:
            raise ContextFullError(
                f"{views} pictures, crops included, are {views * vision.tokens:,} tokens, and the context of "
                f"this model is {self._context:,}: show fewer, or without crops"
            )

    def _view(self, tokens: list[int]) -> None:
        self.text(AROUND)
        self.control(*tokens)
        self.text(AROUND)

    def _soft_tokens(self, vision: VisionConfig) -> list[int]:
        """The ids of one picture, text around it apart."""
        start, soft, end = self._tokenizer.start_of_image, self._tokenizer.soft, self._tokenizer.end_of_image
        if start is None or soft is None or end is None:
            raise ImageError(NO_MARKS)
        return [start, *([soft] * vision.tokens), end]
