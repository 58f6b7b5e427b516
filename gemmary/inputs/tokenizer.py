"""Text <-> ids."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import ModelFileError, PromptError
from .sentencepiece_model import read_model, write_model
from .tokenizer_json import read_json, segmenter
from .vocabulary import TABLE, Kind, Vocabulary

MAX_FILE = 64 << 20  # bytes; Gemma 3's tokenizer.json has 33 million
WORDS = re.compile(r"\n++|[ ▁]*+[^ ▁\n]++|[ ▁]++")  # every character belongs to exactly one word
KNOWN_WORDS = 1 << 16  # words whose ids are kept
KNOWN_LENGTH = 32  # characters

Segment = Callable[[str], list[int]]


class Tokenizer:
    """Gemma's tokenizer, from any of the three files that hold it.

    `encode` never adds <bos>, and text never becomes a control token: "<start_of_turn>" in a text is
    tokenised as the letters that it is made of. Newlines, tabs, runs of spaces and HTML tags are pieces of
    the vocabulary and match as such.

    The ids are exactly those of the sentencepiece library (`from_model`, `from_vocabulary`) or of the
    tokenizers library (`from_json`) for a text without control strings. Where no piece reaches from one word
    into the next (Gemma's are so, and it is checked), words are tokenised one by one and remembered.

    vocab: number of ids. bos, eos, pad, unk, start_of_turn, end_of_turn, start_of_image, end_of_image: ids,
    or None where the vocabulary has no such piece. soft: the id that stands for what a picture becomes,
    262144 in every Gemma 3; the first id behind the vocabulary where it does not name one. stops: what ends
    an answer. controls: ids that are never text. longest: bytes of the longest piece; a text of more than
    n * longest bytes has more than n tokens.
    All methods may be called from several threads at once.
    """

    def __init__(self, vocabulary: Vocabulary, segment: Segment) -> None:
        self._vocabulary = vocabulary
        self._segment = segment
        self._by_words = vocabulary.splits_into_words()
        self._known: dict[str, tuple[int, ...]] = {}
        find = vocabulary.find
        self.vocab = len(vocabulary)
        self.bos, self.eos, self.pad, self.unk = find("<bos>"), find("<eos>"), find("<pad>"), find("<unk>")
        self.start_of_turn, self.end_of_turn = find("<start_of_turn>"), find("<end_of_turn>")
        self.start_of_image, self.end_of_image = find("<start_of_image>"), find("<end_of_image>")
        self.soft = None if self.start_of_image is None else _soft(vocabulary)
        self.stops = frozenset(token for token in (self.eos, self.end_of_turn) if token is not None)
        self.controls = vocabulary.controls()
        self.longest = max(len(piece.encode()) for piece in vocabulary.pieces)

    @classmethod
    def from_model(cls, model: bytes | str | os.PathLike[str]) -> Tokenizer:
        """From a SentencePiece model, tokenizer.model: its bytes or its path. ModelFileError if unfit."""
        if isinstance(model, bytes):
            return cls._from_pieces(read_model(model, "tokenizer.model"))
        return cls._from_pieces(read_model(_content(model), model))

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """From a tokenizer.json of the tokenizers library. ModelFileError when it is unfit."""
        parsed = read_json(_content(path), path)
        return cls(parsed.vocabulary, segmenter(parsed))

    @classmethod
    def from_vocabulary(
        cls,
        tokens: Sequence[str],
        scores: Sequence[float] | npt.NDArray[np.floating],
        types: Sequence[int] | npt.NDArray[np.integer],
        source: object = "the vocabulary",
    ) -> Tokenizer:
        """From the lists that a GGUF file holds (ggml, docs/gguf.md); `source` names it in errors."""
        return cls._from_pieces(Vocabulary(source, tokens, types, scores))

    @classmethod
    def _from_pieces(cls, vocabulary: Vocabulary) -> Tokenizer:
        from sentencepiece import SentencePieceProcessor

        if Kind.UNKNOWN not in vocabulary.kinds:
            raise ModelFileError(vocabulary.source, "has no token for what is unknown")
        try:
            backend = SentencePieceProcessor(model_proto=write_model(vocabulary))
        except Exception as error:
            raise ModelFileError(vocabulary.source, f"cannot be used as a tokenizer: {error}") from error
        return cls(vocabulary, backend.EncodeAsIds)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without <bos>. PromptError when it is not Unicode text."""
        check_text(text)
        if not self._by_words:
            return self._segment(text)
        ids: list[int] = []
        known = self._known
        for word in WORDS.findall(text):
            found = known.get(word)
            ids += self._new_word(word) if found is None else found
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`: control tokens give nothing, bytes that are no UTF-8 give U+FFFD."""
        return b"".join(map(self.piece_bytes, ids)).decode("utf-8", "replace")

    def piece_bytes(self, token: int) -> bytes:
        """What `token` adds to the output. Ids beyond the vocabulary (rows of padded tables) add nothing."""
        if token < 0:
            raise PromptError(f"{token} is not a token: ids start at 0")
        return self._vocabulary.bytes_of(token) if token < self.vocab else b""

    def is_control(self, token: int) -> bool:
        """Whether `token` is never text: a control piece, or no piece at all."""
        return token in self.controls or not 0 <= token < self.vocab

    def _new_word(self, word: str) -> list[int]:
        ids = self._segment(word)
        if len(word) <= KNOWN_LENGTH:
            if len(self._known) >= KNOWN_WORDS:
                self._known.clear()
            self._known[word] = tuple(ids)
        return ids


def _soft(vocabulary: Vocabulary) -> int:
    """Where <image_soft_token> is, or would be: only tokenizer.json lists it."""
    found = vocabulary.find("<image_soft_token>")
    return min(len(vocabulary), TABLE) if found is None else found


def check_text(text: object) -> None:
    """PromptError unless `text` is a string of Unicode characters."""
    if not isinstance(text, str):
        raise PromptError(f"the text must be a string, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"character {error.start} of the text is half of a surrogate pair, which is no character: "
            "decode the text as UTF-8 before sending it"
        ) from None


def _content(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a regular file of at most MAX_FILE bytes."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ModelFileError(path, "is not a file")
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise ModelFileError(path, f"has more than {MAX_FILE >> 20} MiB, far more than a tokenizer needs")
    return data
