"""The vocabulary that a GGUF file carries (ggml, docs/gguf.md), and where a folder keeps its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import ModelFileError, UnsupportedModelError
from ..inputs import vocabulary as pieces
from .fields import Fields, shown

Number = TypeVar("Number", np.int32, np.float32)
PREFIX = "tokenizer.ggml."


@dataclass(frozen=True)
class Vocabulary:
    """Pieces of a SentencePiece BPE model by id, with control pieces typed as such whatever the file says.

    `scores` float32 [V]; `types` int32 [V], numbered as inputs.vocabulary.Kind. `padding` and `unknown` are
    None where the file names none.
    """

    tokens: list[str]
    scores: npt.NDArray[np.float32]
    types: npt.NDArray[np.int32]
    bos: int
    eos: int
    unknown: int | None = None
    padding: int | None = None
    add_bos: bool = True
    add_eos: bool = False

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """Ids that end a turn: files disagree on whether it is `<eos>` or `<end_of_turn>` (spec, 6.3)."""
        named = {self.tokens.index(name) for name in ("<eos>", "<end_of_turn>") if name in self.tokens}
        return tuple(sorted({self.eos} | named))


@dataclass(frozen=True)
class TokenizerFiles:
    """Where a Hugging Face folder keeps its tokenizer: tokenizer.model, tokenizer.json; None where absent."""

    model: Path | None
    json: Path | None


def vocabulary_from_gguf(metadata: Mapping[str, object], path: Path) -> Vocabulary:
    """The vocabulary in a GGUF file's metadata.

    ModelFileError: arrays of the wrong element type or length, ids outside, a token twice.
    UnsupportedModelError: another kind of tokenizer.
    """
    ours = {key.removeprefix(PREFIX): value for key, value in metadata.items() if key.startswith(PREFIX)}
    keys = Fields(ours, path, PREFIX)
    model = keys.text("model")
    if model != "llama":
        raise UnsupportedModelError(
            f"{path}: the tokenizer is {shown(model)}; Gemma 3 has a SentencePiece one"
        )
    checked = pieces.Vocabulary(
        path, _tokens(keys), _array(keys, "token_type", np.int32), _array(keys, "scores", np.float32)
    )
    types = np.array(checked.kinds, np.int32)
    _check_bytes(checked.pieces, types, path)
    last = len(checked) - 1
    return Vocabulary(
        tokens=checked.pieces,
        scores=checked.scores,
        types=types,
        bos=keys.whole("bos_token_id", last, 2, low=0),
        eos=keys.whole("eos_token_id", last, 1, low=0),
        unknown=_optional(keys, "unknown_token_id", last),
        padding=_optional(keys, "padding_token_id", last),
        add_bos=keys.flag("add_bos_token", True),
        add_eos=keys.flag("add_eos_token", False),
    )


def vocabulary_metadata(vocabulary: Vocabulary) -> dict[str, object]:
    """The metadata that says the same, for save.py."""
    ids = {
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
        "unknown_token_id": vocabulary.unknown,
        "padding_token_id": vocabulary.padding,
    }
    keys: dict[str, object] = {
        "model": "llama",
        "pre": "default",
        "tokens": vocabulary.tokens,
        "scores": vocabulary.scores.astype(np.float32),
        "token_type": vocabulary.types.astype(np.int32),
        "add_bos_token": vocabulary.add_bos,
        "add_eos_token": vocabulary.add_eos,
        "add_space_prefix": False,
    }
    keys |= {key: token for key, token in ids.items() if token is not None}
    return {PREFIX + key: value for key, value in keys.items()}


def _tokens(keys: Fields) -> list[str]:
    raw = keys.values.get("tokens")
    if not isinstance(raw, list):
        raise keys.fault("tokens", "an array of texts")
    try:
        return [token.decode("utf-8") for token in raw]
    except UnicodeDecodeError:
        raise ModelFileError(keys.path, f"{PREFIX}tokens holds a token that is not UTF-8") from None


def _array(keys: Fields, key: str, dtype: type[Number]) -> npt.NDArray[Number]:
    value = keys.values.get(key)
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        raise ModelFileError(keys.path, f"{PREFIX}{key} must be an array of {np.dtype(dtype)}")
    return value


def _optional(keys: Fields, key: str, last: int) -> int | None:
    return keys.whole(key, last, low=0) if key in keys.values else None


def _check_bytes(tokens: list[str], types: npt.NDArray[np.int32], path: Path) -> None:
    """A byte piece says which byte it is; one that does not would become a wild index somewhere."""
    for token in np.flatnonzero(types == pieces.Kind.BYTE):
        if not pieces.BYTE_NAME.fullmatch(tokens[token]):
            raise ModelFileError(path, f"token {token} is a byte by type, but named {shown(tokens[token])}")
