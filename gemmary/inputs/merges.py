"""Scores of a SentencePiece model <-> merges of a tokenizer.json: two ways to say which pair merges first.

SentencePiece merges the pair whose piece has the highest score, leftmost first; the tokenizers library merges
the pair that its list names first. Hugging Face's converter lists, for each piece, every cut into two pieces,
in order of score. What is made here is that list; and from such a list, scores that say the same. Control
pieces have no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import ModelFileError
from .vocabulary import SPACE, Kind, Vocabulary

Merge = tuple[str, str]
MERGED = (Kind.NORMAL, Kind.USER_DEFINED)


def merges_of(vocabulary: Vocabulary) -> list[Merge]:
    """The list that merges as the scores do.

    User-defined pieces come first, the longest beginning before all, so that a run of spaces grows from its
    left end: SentencePiece cuts it out whole. ModelFileError: two pieces of one score, of which a list would
    have to put one first.
    """
    known = _merged(vocabulary)
    cuts = [(vocabulary.kinds[known[piece]], pair) for piece in known for pair in _cuts(piece, known)]
    defined = [pair for kind, pair in cuts if kind == Kind.USER_DEFINED]
    normal = [pair for kind, pair in cuts if kind == Kind.NORMAL]
    scores = {a + b: float(vocabulary.scores[known[a + b]]) for a, b in normal}
    if len(set(scores.values())) != len(scores) or Kind.UNUSED in vocabulary.kinds:
        raise ModelFileError(
            vocabulary.source,
            "has tokens of equal score or unused ones, which a tokenizer.json cannot express: "
            "the model can only be written as GGUF",
        )
    defined.sort(key=lambda pair: (-len(pair[0]), -len(pair[1])))
    normal.sort(key=lambda pair: (-scores[pair[0] + pair[1]], -len(pair[0])))
    return defined + normal


def scores_of(vocabulary: Vocabulary, listed: Sequence[Merge]) -> npt.NDArray[np.float32]:
    """Scores float32 [V] that merge as the list does.

    ModelFileError: the list was not made from a SentencePiece model, and no scores say the same.
    """
    known = _merged(vocabulary)
    normal = {piece for piece, token in known.items() if vocabulary.kinds[token] == Kind.NORMAL}
    whole = {piece for piece in known if piece in normal or SPACE in piece}
    missing = {pair for piece in whole for pair in _cuts(piece, known)}.difference(listed)
    made = [a + b for a, b in listed if a + b in normal]
    order = [piece for piece, before in zip(made, ["", *made], strict=False) if piece != before]
    if missing or len(set(order)) != len(order):
        raise ModelFileError(
            vocabulary.source,
            "merges in an order that no SentencePiece model has, and GGUF holds such a model: "
            "put the tokenizer.model of this model beside it",
        )
    result = np.zeros(len(vocabulary), np.float32)
    result[[known[piece] for piece in normal]] = -len(order)
    result[[known[piece] for piece in order]] = -np.arange(len(order), dtype=np.float32)
    return result


def _merged(vocabulary: Vocabulary) -> dict[str, int]:
    """Ids of the pieces that merges take and make."""
    kinds = vocabulary.kinds
    return {piece: token for token, piece in enumerate(vocabulary.pieces) if kinds[token] in MERGED}


def _cuts(piece: str, known: dict[str, int]) -> Iterator[Merge]:
    """A piece cut into two pieces, everywhere that is possible."""
    for at in range(1, len(piece)):
        if piece[:at] in known and piece[at:] in known:
            yield piece[:at], piece[at:]
