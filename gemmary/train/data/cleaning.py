"""One spelling for one character, and the few rules by which a text is refused."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter

from .reasons import Reason

LETTERS = 0.5  # at least this share of what is not space is a letter, a mark or a digit
COMPRESSED = 0.1  # a text that zlib makes smaller than this says the same again and again
ENOUGH = 400  # bytes; shorter texts are too short to judge by compression
LOST = 0.001  # at most this share is U+FFFD, what decoders write for what they could not read

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")
_BLANK = re.compile(r"\n{4,}")
_NEWLINES = re.compile(r"\r\n?|\u2028|\u2029|\f|\v|\x85")


def clean(text: str) -> str:
    """NFC; lines end in a newline; no control characters; at most two empty lines; no space around it all."""
    text = unicodedata.normalize("NFC", _NEWLINES.sub("\n", text))
    return _BLANK.sub("\n\n\n", _CONTROL.sub("", text)).strip()


def fault(text: str, shortest: int) -> Reason | None:
    """Why a clean text is refused; None if it is not."""
    content = text.encode()
    if len(content) < shortest:
        return Reason.SHORT
    if text.count("\ufffd") > LOST * len(text):
        return Reason.GARBLED
    if _letters(text) < LETTERS:
        return Reason.SYMBOLS
    if len(content) >= ENOUGH and len(zlib.compress(content, 1)) < COMPRESSED * len(content):
        return Reason.REPETITIVE
    return None


def _letters(text: str) -> float:
    """The share of letters, marks and digits among what is not space."""
    counts = Counter(text)
    kinds = Counter[str]()
    for character, count in counts.items():
        kinds[unicodedata.category(character)[0]] += 0 if character.isspace() else count
    return sum(kinds[kind] for kind in "LMN") / max(kinds.total(), 1)
