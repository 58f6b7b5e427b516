"""An answer, from the model to the screen."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, TextIO

from .preparing import preparing
from .terminal import Waiting, printable

if TYPE_CHECKING:
    from ..engine.model import Model
    from ..engine.reply import Piece
    from .dialogue import Message
    from .settings import Settings


@dataclass
class Spoken:
    """What was said. `last` has usage and timings; None when the user stopped the answer."""

    text: str = ""
    last: Piece | None = None


def speak(model: Model, messages: list[Message], settings: Settings, out: TextIO) -> Spoken:
    """Stream the answer to `out` as plain text. Ctrl-C stops it; what was said until then is returned."""
    spoken = Spoken()
    with Waiting("Thinking") as wait, preparing(wait):
        what, most = ("picture or crop" if settings.crops else "picture"), 0

        def progress(done: int, total: int) -> None:
            nonlocal most
            most = max(most, ceil(pieces.unseen))
            if pieces.unseen:
                wait.say(looking(what, most - pieces.unseen, most))
            elif done:
                wait.say(f"Reading: {done:,} of {total:,} tokens")

        pieces = model.chat(messages, stream=True, progress=progress, **settings.arguments())
        try:
            for piece in pieces:
                if piece.text:
                    wait.stop()
                    spoken.text += piece.text
                    out.write(printable(piece.text))
                    out.flush()
                if piece.finish_reason:
                    spoken.last = piece
        except KeyboardInterrupt:
            pass
        finally:
            pieces.close()
    return spoken


def looking(what: str, seen: float, pictures: int) -> str:
    """What is said while pictures are encoded, `seen` of so many."""
    which = f"{what} {int(seen) + 1} of {pictures}" if pictures > 1 else f"the {what}"
    return f"Looking at {which}: {100 * (seen % 1):.0f} %"


def meter(piece: Piece, context: int) -> str:
    """Speed of an answer, and how full the context is."""
    if piece.usage is None or piece.timings is None:
        return ""
    used = piece.usage.total_tokens
    speed = f"{piece.timings.decode_speed:.1f} tokens/s · " if piece.timings.decode_tokens > 1 else ""
    return f"{speed}{used:,} of {context:,} tokens ({100 * used / context:.0f} %)"
