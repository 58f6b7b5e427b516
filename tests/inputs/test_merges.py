"""Scores <-> merges: a vocabulary keeps its ids on the way through a tokenizer.json, and back."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import tokenizers

from gemmary.errors import ModelFileError
from gemmary.inputs.merges import merges_of, scores_of
from gemmary.inputs.sentencepiece_model import read_model
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.inputs.tokenizer_json import read_json, write_json
from gemmary.inputs.vocabulary import Vocabulary

from . import trained
from .test_tokenizer import CORNERS, texts

TOY = ["<pad>", "<eos>", "<bos>", "<unk>", "a", "b", "c", "ab", "bc", "abc"]
TOY_KINDS = [3, 3, 3, 2, 1, 1, 1, 1, 1, 1]


def toy(scores: list[float], kinds: list[int] = TOY_KINDS) -> Vocabulary:
    return Vocabulary("toy", TOY, kinds, [0.0] * 4 + [-9.0] * 3 + scores)


def compare(model: bytes, folder: Path, samples: list[str]) -> None:
    """The library on our file, and the scores that we find in it, against SentencePiece on the model."""
    expected = trained.reference(model).encode
    path = folder / "tokenizer.json"
    path.write_bytes(write_json(read_model(model, "model")))
    library = tokenizers.Tokenizer.from_file(str(path))
    parsed = read_json(path.read_bytes(), path)
    table = parsed.vocabulary
    again = Tokenizer.from_vocabulary(table.pieces, scores_of(table, parsed.merges), table.kinds)
    ours = Tokenizer.from_model(model)
    for text in samples:
        ids = ours.encode(text)
        if not trained.CONTROL.search(text):
            assert ids == expected(text)
            assert library.encode(text, add_special_tokens=False).ids == ids, text
        assert again.encode(text) == ids, text


def test_ids_stay_the_same(model: bytes, tmp_path: Path) -> None:
    chance = random.Random(2)
    mixtures = ["".join(chance.choices([*"abc e\n\tint<>", "  ", "the"], k=40)) for _ in range(500)]
    same = [text for text in [*trained.sources(), *CORNERS, *mixtures] if "▁" not in text]
    compare(model, tmp_path, same)


def test_ids_stay_the_same_in_388_languages(broad_model: bytes, tmp_path: Path) -> None:
    compare(broad_model, tmp_path, [text for text in texts() if "▁" not in text])


def test_text_begins_with_bos_where_that_is_asked_for(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(write_json(read_model(model, "model")))
    library = tokenizers.Tokenizer.from_file(str(path))
    assert library.encode("a").ids[0] == 2 and len(library.encode("a", "b").ids) == 4
    assert library.decode(library.encode("<td> a  b\n").ids) == "<td> a  b\n"
    assert library.decode(library.encode("<end_of_turn>").ids, skip_special_tokens=True) == ""


def test_the_order_is_that_of_the_scores() -> None:
    pairs = {"ab": [("a", "b")], "bc": [("b", "c")], "abc": [("ab", "c"), ("a", "bc")]}
    for scores, order in (
        ([-1.0, -2.0, -3.0], ["ab", "bc", "abc"]),
        ([-3.0, -2.0, -1.0], ["abc", "bc", "ab"]),
    ):
        found = merges_of(toy(scores))
        assert found == [
            pair for piece in order for pair in pairs[piece]
        ]  # of equal ones the left pair first
        again = scores_of(toy([0.0, 0.0, 0.0]), found)
        assert sorted(TOY[7:], key=lambda piece: -again[TOY.index(piece)]) == order


def test_scores_that_a_list_cannot_express() -> None:
    with pytest.raises(ModelFileError, match=r"equal score.*only be written as GGUF"):
        merges_of(toy([-1.0, -1.0, -3.0]))
    with pytest.raises(ModelFileError, match="unused ones"):
        merges_of(toy([-1.0, -2.0, -3.0], [*TOY_KINDS[:-1], 5]))


@pytest.mark.parametrize(
    "listed",
    [
        [("a", "b"), ("b", "c"), ("ab", "c")],  # a SentencePiece model would make abc of a and bc, too
        [("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")],  # abc in front of bc and behind it
        [],
    ],
)
def test_lists_that_no_scores_express(listed: list[tuple[str, str]]) -> None:
    with pytest.raises(ModelFileError, match=r"no SentencePiece model has.*put the tokenizer\.model"):
        scores_of(toy([0.0, 0.0, 0.0]), listed)


def test_what_is_written_is_gemmas_layout(model: bytes) -> None:
    """Part by part as Hugging Face's rules make it (trained.as_json), but for names of added tokens."""
    ours, theirs = json.loads(write_json(read_model(model, "model"))), trained.as_json(model)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        assert ours[part] == theirs[part]
    assert ours["model"].keys() == theirs["model"].keys()
    assert ours["model"]["vocab"] == theirs["model"]["vocab"]
    silent = trained.CONTROLS
    usable = [pair for pair in theirs["model"]["merges"] if not {*pair, "".join(pair)} & set(silent)]
    named = [pair for pair in usable if not trained.re.fullmatch("<0x..>", "".join(pair))]
    assert sorted(ours["model"]["merges"]) == sorted(named)
