"""A text as words that survive reformatting: for finding what was copied, never for training."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

# Scripts that are written without spaces: every character is a word.
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip


class _Table(dict[int, str]):
    """What each character becomes; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if unicodedata.category(character)[0] in "PSCZ":
            result = " "
        elif any(first <= code <= last for first, last in _UNSPACED):
            result = f" {character} "
        else:
            result = character
        self[code] = result
        return result


_TABLE = _Table()


def words(text: str) -> list[str]:
    """Lower-case words without punctuation and signs; Chinese, Japanese, Thai, ... character by character."""
    return unicodedata.normalize("NFKC", text).lower().translate(_TABLE).split()


def word_hashes(found: list[str]) -> Hashes:
    """A 64-bit number for each word, the same on every machine: uint64 [words]."""
    return np.fromiter(map(_hash, found), np.uint64, len(found))


@lru_cache(maxsize=1 << 17)
def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
