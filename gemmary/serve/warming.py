"""A model that was just loaded reads, writes and sees a little, so that no user waits for kernels."""

from __future__ import annotations

import io
import logging
import time

from ..engine.model import Model
from ..errors import GemmaryError
from .presence import report

TEXT = "Hello. " * 16  # enough tokens for the kernels that read many at once
TOKENS = 4
SIDE = 64  # pixels
log = logging.getLogger("gemmary.serve")


def warm(model: Model, name: str) -> None:
    """Have it answer, and forget the answer: neither its cache nor a counter knows of it.

    A fault is told in the log and the model is served as it is: whoever asks it gets the same error. Takes
    seconds, those of the tower included; for a model that nobody asks yet.
    """
    started = time.monotonic()
    try:
        _answer(model)
    except GemmaryError as fault:  # it quotes no user: nobody has asked yet
        log.warning("the first answer failed: %s", fault, extra={"model": name})
    except Exception as fault:
        log.warning("the first answer failed; where follows", extra={"model": name})
        report(fault)
    else:
        log.info("warm", extra={"model": name, "seconds": round(time.monotonic() - started, 2)})
    finally:
        if model.scheduler is not None:
            model.scheduler.forget()


def _answer(model: Model) -> None:
    """A text, and a picture where it sees and its context holds one."""
    model.generate(TEXT, max_tokens=TOKENS, seed=0)
    vision = model.config.vision
    if vision is not None and model.context > vision.tokens + 2 * TOKENS + 32:
        parts = [{"type": "image", "image": _blank()}, {"type": "text", "text": "Hello."}]
        model.chat([{"role": "user", "content": parts}], max_tokens=TOKENS, seed=0)


def _blank() -> bytes:
    """A white picture as a file, so that what decodes files is started too."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "white").save(buffer, "PNG")
    return buffer.getvalue()
