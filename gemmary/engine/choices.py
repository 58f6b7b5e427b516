"""Which tokens may be generated at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..inputs.tokenizer import Tokenizer


def choices(tokenizer: Tokenizer, vocab: int) -> npt.NDArray[np.bool_]:
    """bool [vocab]: text, and the ends of a turn; no picture marks, no padding."""
    allowed = np.zeros(vocab, np.bool_)
    allowed[: tokenizer.vocab] = True
    allowed[[i for i in tokenizer.controls if i < vocab]] = False
    allowed[[i for i in tokenizer.stops if i < vocab]] = True
    return allowed
