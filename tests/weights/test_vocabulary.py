from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemmary.errors import ModelFileError, UnsupportedModelError
from gemmary.weights.vocabulary import vocabulary_from_gguf, vocabulary_metadata

from .seeds import vocabulary

PATH = Path("some.gguf")
# A little of Gemma's vocabulary, with the kinds of pieces that files mistype.
PIECES = (
    *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]", "<unused0>", "<start_of_turn>"),
    *("<end_of_turn>", "\n", "\n\n", "▁▁", "<table>", "</h1>", "<0x00>", "<0xFF>", "▁the", "<unused>"),
    *("<start_of_image>", "<end_of_image>", "<unused6241>", "<image_soft_token>", "user", "<start_of_turn"),
)
CONTROLS = {
    *("<pad>", "<eos>", "<bos>", "<mask>", "[multimodal]", "<unused0>", "<start_of_turn>", "<end_of_turn>"),
    *("<start_of_image>", "<end_of_image>", "<unused6241>", "<image_soft_token>"),
}


def metadata(**changes: Any) -> dict[str, Any]:
    types = [6 if piece.startswith("<0x") else 2 if piece == "<unk>" else 4 for piece in PIECES]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece.encode() for piece in PIECES],
        "tokenizer.ggml.scores": np.arange(len(PIECES), dtype=np.float32),
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 8,
    } | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def test_mistyped_control_pieces_are_repaired_by_name_and_nothing_else() -> None:
    read = vocabulary_from_gguf(metadata(), PATH)
    assert {piece for piece, kind in zip(read.tokens, read.types, strict=True) if kind == 3} == CONTROLS
    assert {piece for piece, kind in zip(read.tokens, read.types, strict=True) if kind == 6} == {
        "<0x00>",
        "<0xFF>",
    }
    assert read.types[PIECES.index("<unk>")] == 2
    # Newlines, spaces and tags must go on matching in text.
    assert all(read.types[PIECES.index(piece)] == 4 for piece in ("\n", "\n\n", "▁▁", "<table>", "</h1>"))


@pytest.mark.parametrize(("eos", "stops"), [(1, (1, 8)), (8, (1, 8)), (7, (1, 7, 8))])
def test_both_ends_stop_whichever_the_file_names(eos: int, stops: tuple[int, ...]) -> None:
    assert vocabulary_from_gguf(metadata(eos_token_id=eos), PATH).stops == stops


def test_written_and_read_again() -> None:
    before = vocabulary(40)
    keys = vocabulary_metadata(before)
    keys["tokenizer.ggml.tokens"] = [token.encode() for token in before.tokens]
    after = vocabulary_from_gguf(keys, PATH)
    assert after.tokens == before.tokens
    assert after.scores.tolist() == before.scores.tolist()
    assert after.types.tolist() == before.types.tolist()
    assert (after.bos, after.eos, after.unknown, after.padding, after.add_bos) == (2, 1, 3, 0, True)
    assert keys["tokenizer.ggml.add_space_prefix"] is False


COUNT = len(PIECES)
MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no tokens": (metadata(tokens=None), "tokens is None, but must be an array of texts"),
    "tokens as numbers": (metadata(tokens=np.zeros(COUNT)), "must be an array of texts"),
    "not UTF-8": (metadata(tokens=[b"\xff"] * COUNT), "not UTF-8"),
    "token twice": (metadata(tokens=[b"a"] * COUNT), "twice"),
    "scores of bytes": (metadata(scores=np.zeros(COUNT, np.int8)), "scores must be an array of float32"),
    "scores of float64": (metadata(scores=np.zeros(COUNT)), "scores must be an array of float32"),
    "no scores": (metadata(scores=None), "scores must be an array of float32"),
    "scores too short": (
        metadata(scores=np.zeros(COUNT - 1, np.float32)),
        "score",
    ),
    "score NaN": (metadata(scores=np.full(COUNT, np.nan, np.float32)), "score"),
    "types of bytes": (metadata(token_type=np.ones(COUNT, np.int8)), "token_type must be an array of int32"),
    "types as floats": (
        metadata(token_type=np.ones(COUNT, np.float32)),
        "token_type must be an array of int32",
    ),
    "types as texts": (metadata(token_type=[b"1"] * COUNT), "token_type must be an array of int32"),
    "types too long": (metadata(token_type=np.ones(COUNT + 1, np.int32)), "type"),
    "type 0": (metadata(token_type=np.zeros(COUNT, np.int32)), "type"),
    "type 7": (metadata(token_type=np.full(COUNT, 7, np.int32)), "type"),
    "byte <0x-1>": (
        metadata(
            tokens=[b"<0x-1>", *(b"%d" % i for i in range(1, COUNT))], token_type=np.full(COUNT, 6, np.int32)
        ),
        "token 0 is a byte by type, but named '<0x-1>'",
    ),
    "bos beyond": (metadata(bos_token_id=COUNT), f"bos_token_id is {COUNT}, but must be a whole number"),
    "bos -1": (metadata(bos_token_id=-1), "bos_token_id is -1"),
    "eos true": (metadata(eos_token_id=True), "eos_token_id is True"),
    "unknown beyond": (metadata(unknown_token_id=1 << 32), "unknown_token_id"),
    "padding a text": (metadata(padding_token_id="0"), "padding_token_id"),
    "add_bos a number": (metadata(add_bos_token=1), "add_bos_token is 1, but must be true or false"),
    "no model": (metadata(model=None), "tokenizer.ggml.model is None, but must be a text"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_vocabularies_are_told(name: str) -> None:
    values, sentence = MALFORMED[name]
    with pytest.raises(ModelFileError, match=sentence):
        vocabulary_from_gguf(values, PATH)


def test_other_tokenizers_are_unsupported() -> None:
    with pytest.raises(UnsupportedModelError, match="the tokenizer is 'gpt2'"):
        vocabulary_from_gguf(metadata(model="gpt2"), PATH)
