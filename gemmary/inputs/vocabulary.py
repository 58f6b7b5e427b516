"""What each id of a Gemma tokenizer stands for, whichever file it was read from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelFileError

MAX_PIECES = 1 << 20  # Gemma 3 has 262,144
MAX_PIECE = 512  # characters; the longest of Gemma 3 has 48 bytes
TABLE = 262_144  # ids from here on are rows of padded tables and the soft token of pictures: never text
SPACE = "▁"  # how pieces write a space

CONTROL_NAME = re.compile(
    r"<(?:pad|eos|bos|unk|mask|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token"
    r"|unused[0-9]+)>|\[multimodal\]"
)
BYTE_NAME = re.compile(r"<0x[0-9A-F]{2}>")


class Kind(IntEnum):
    """What a piece may do; the numbers are SentencePiece's and GGUF's."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3  # written by the template only: never found in text, never shown
    USER_DEFINED = 4  # found in text before anything else, longest first
    UNUSED = 5
    BYTE = 6


SILENT = frozenset((Kind.CONTROL, Kind.UNKNOWN))


class Vocabulary:
    """Checked pieces by id.

    Files disagree about kinds: the official tokenizer.model and QAT files type some control pieces so that
    text could match them. Control and byte pieces are therefore known by name here, whatever the file says.

    Raises ModelFileError naming `source` when the lists cannot be the vocabulary of a tokenizer.
    """

    def __init__(
        self,
        source: object,
        pieces: Sequence[str],
        kinds: Sequence[int] | npt.NDArray[np.integer],
        scores: Sequence[float] | npt.NDArray[np.floating],
    ) -> None:
        self.source = source
        self.pieces = _pieces(source, pieces)
        self.kinds = _kinds(source, kinds, self.pieces)
        self.scores = _scores(source, scores, self.pieces)

    def __len__(self) -> int:
        return len(self.pieces)

    def find(self, piece: str) -> int | None:
        """The id of `piece`, or None."""
        return self.pieces.index(piece) if piece in self.pieces else None

    def bytes_of(self, token: int) -> bytes:
        """What `token` adds to the output: nothing for control pieces, one byte for byte pieces."""
        kind, piece = self.kinds[token], self.pieces[token]
        if kind in SILENT:
            return b""
        if kind == Kind.BYTE:
            return bytes((int(piece[3:5], 16),))
        return piece.replace(SPACE, " ").encode()

    def controls(self) -> frozenset[int]:
        """Ids that text can never become."""
        return frozenset(i for i, kind in enumerate(self.kinds) if kind in SILENT)

    def splits_into_words(self) -> bool:
        """Whether no piece reaches from a word into the next.

        That is so when "▁" stands only at the front of pieces and newlines only among themselves. Merges make
        pieces, so nothing merges across such a border, and words can be tokenised one by one.
        """
        return not any(
            " " in piece
            or ("\n" in piece and piece.strip("\n"))
            or (SPACE in piece[1:] and SPACE in piece.lstrip(SPACE))
            for piece in self.pieces
        )


def _pieces(source: object, pieces: Sequence[str]) -> list[str]:
    result = list(pieces)
    if not 0 < len(result) <= MAX_PIECES:
        raise ModelFileError(source, f"holds {len(result):,} tokens; a tokenizer has 1 to {MAX_PIECES:,}")
    try:
        "".join(result).encode()
        lengths = [len(piece) for piece in result]
    except (TypeError, UnicodeEncodeError):
        raise ModelFileError(source, "holds a token that is not Unicode text") from None
    if len(set(result)) != len(result):
        raise ModelFileError(source, "lists the same token twice")
    if not 0 < min(lengths) <= max(lengths) <= MAX_PIECE:
        raise ModelFileError(source, f"holds a token that is empty or longer than {MAX_PIECE} characters")
    return result


def _kinds(source: object, kinds: Sequence[int] | npt.NDArray[np.integer], pieces: list[str]) -> list[int]:
    """The kinds as the file gives them, with control and byte pieces set right."""
    given = _numbers(kinds)
    if given.shape != (len(pieces),) or given.dtype.kind not in "iu":
        raise ModelFileError(source, "does not give each token a type")
    if given.min() < Kind.NORMAL or given.max() > Kind.BYTE:
        raise ModelFileError(source, "gives a token a type that is not 1 to 6")
    result: list[int] = given.tolist()
    for token, piece in enumerate(pieces):
        if piece[0] in "<[" and result[token] != Kind.UNKNOWN:
            if CONTROL_NAME.fullmatch(piece):
                result[token] = Kind.CONTROL
            elif BYTE_NAME.fullmatch(piece):
                result[token] = Kind.BYTE
    if Kind.UNKNOWN not in result and "<unk>" in pieces:  # GGUF files call it a control piece
        result[pieces.index("<unk>")] = Kind.UNKNOWN
    result[TABLE:] = [Kind.CONTROL] * len(result[TABLE:])
    return result


def _scores(
    source: object, scores: Sequence[float] | npt.NDArray[np.floating], pieces: list[str]
) -> npt.NDArray[np.float32]:
    given = _numbers(scores)
    if given.shape != (len(pieces),) or given.dtype.kind not in "iuf":
        raise ModelFileError(source, "does not give each token a score")
    with np.errstate(over="ignore"):
        result = given.astype(np.float32)
    if not np.isfinite(result).all():
        raise ModelFileError(source, "gives a token a score that is not a finite number")
    return result


def _numbers(values: object) -> npt.NDArray[Any]:
    """`values` as an array; lists that are none become an empty one."""
    try:
        return np.asarray(values)
    except ValueError:
        return np.empty(0)
