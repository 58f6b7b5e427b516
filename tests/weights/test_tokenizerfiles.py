"""Tokenizers between folders and GGUF files: the same ids for every text, in every reader."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from gemmary.errors import ModelFileError
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.hub import bundled
from gemmary.weights.requantize import convert, quantize
from gemmary.weights.save import write_gguf
from gemmary.weights.tokenizerfiles import chat_template, read_vocabulary
from gemmary.weights.vocabulary import Vocabulary
from tests.inputs import trained
from tests.inputs.test_tokenizer import CORNERS

from .models import TEMPLATE, WIDE, model, source_folder
from .seeds import TINY, random_tensors, vocabulary

# "▁" itself is a space to SentencePiece, and none to a tokenizer.json (tests/inputs/test_tokenizer.py).
TEXTS = [text for text in [*CORNERS, *trained.sources()] if "▁" not in text]


def of_gguf(path: Path) -> Tokenizer:
    found = open_checkpoint(path).vocabulary
    assert isinstance(found, Vocabulary)
    return Tokenizer.from_vocabulary(found.tokens, found.scores, found.types)


@pytest.mark.parametrize("files", [("tokenizer.model",), ("tokenizer.json",)])
def test_a_gguf_file_has_the_ids_of_the_folder(tmp_path: Path, files: tuple[str, ...]) -> None:
    quantize(source_folder(tmp_path / "in", files=files), tmp_path / "a.gguf", "q8_0")
    ours, expected = of_gguf(tmp_path / "a.gguf"), trained.reference(model()).encode
    assert [ours.encode(text) for text in TEXTS] == [expected(text) for text in TEXTS]
    found = open_checkpoint(tmp_path / "a.gguf").vocabulary
    assert isinstance(found, Vocabulary)
    assert (found.bos, found.eos, found.unknown, found.padding) == (2, 1, 3, 0)
    assert found.add_bos and not found.add_eos
    assert len(found.tokens) == 1500 + files.count("tokenizer.json")  # the picture's soft token is only there


def test_transformers_has_the_ids_of_the_gguf_file(tmp_path: Path) -> None:
    quantize(source_folder(tmp_path / "in", replace(WIDE, vocab=1500)), tmp_path / "a.gguf", "q8_0")
    convert(tmp_path / "a.gguf", tmp_path / "out", "bf16")
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path / "out"), of_gguf(tmp_path / "a.gguf")
    for text in TEXTS:
        assert theirs(text).input_ids == [2, *ours.encode(text)]
        assert theirs.decode(theirs(text).input_ids, skip_special_tokens=True) == text
    assert (len(theirs), theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (1500, 2, 1, 0)
    chat = theirs.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert chat == "<bos><start_of_turn>x"
    assert theirs(chat, add_special_tokens=False).input_ids[:2] == [2, ours.start_of_turn]
    own = [Tokenizer.from_model(tmp_path / "out/tokenizer.model")]
    own.append(Tokenizer.from_json(tmp_path / "out/tokenizer.json"))
    for text in TEXTS:
        assert [tokenizer.encode(text) for tokenizer in own] == [ours.encode(text)] * 2


def test_the_bundled_model_as_a_folder(tmp_path: Path) -> None:
    convert(bundled(), tmp_path / "nano", "bf16")
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path / "nano"), of_gguf(bundled())
    for text in (text for text in TEXTS if "<image_soft_token>" not in text):
        assert theirs(text, add_special_tokens=False).input_ids == ours.encode(text)
    config = json.loads((tmp_path / "nano/config.json").read_text())
    assert config["eos_token_id"] == [1, ours.end_of_turn] and config["bos_token_id"] == 2
    generation = json.loads((tmp_path / "nano/generation_config.json").read_text())
    assert generation["eos_token_id"] == config["eos_token_id"]
    assert chat_template(open_checkpoint(tmp_path / "nano")) == chat_template(open_checkpoint(bundled()))


def test_files_go_from_folder_to_folder_as_they_are(tmp_path: Path) -> None:
    names = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    source = source_folder(tmp_path / "in", files=names)
    convert(source, tmp_path / "out", "f32")
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *names,
        "config.json",
        "model.safetensors",
    }


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
def test_where_folders_keep_the_chat_template(tmp_path: Path, name: str) -> None:
    folder = source_folder(tmp_path / "in", files=("tokenizer.model", name))
    assert chat_template(open_checkpoint(folder)) == TEMPLATE
    (folder / name).write_bytes(b"\xff")
    with pytest.raises(ModelFileError, match=f"{name}: is not UTF-8"):
        chat_template(open_checkpoint(folder))
    if name != "chat_template.jinja":
        (folder / name).write_bytes(b'{"chat_template": [[}')
        with pytest.raises(ModelFileError, match=f"{name}: is not JSON"):
            chat_template(open_checkpoint(folder))
        (folder / name).write_bytes(b'["chat_template"]')
        assert chat_template(open_checkpoint(folder)) is None
    (folder / name).unlink()
    assert chat_template(open_checkpoint(folder)) is None


# ---- what cannot be exact is refused


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    folder = source_folder(tmp_path / "in", files=())
    with pytest.raises(ModelFileError, match=r"has no tokenizer: put tokenizer\.model or tokenizer\.json"):
        quantize(folder, tmp_path / "a.gguf", "q8_0")
    convert(folder, tmp_path / "out", "f16")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    folder = source_folder(tmp_path / "in", replace(WIDE, vocab=1000))
    with pytest.raises(ModelFileError, match="a tokenizer of 1,500 tokens, but an embedding of 1,000 rows"):
        quantize(folder, tmp_path / "a.gguf", "q8_0")


def test_rows_of_control_tokens_may_be_missing(tmp_path: Path) -> None:
    """tokenizer.json names the picture's soft token, for which text-only models have no row."""
    folder = source_folder(tmp_path / "in", replace(WIDE, vocab=1500), files=("tokenizer.json",))
    found = read_vocabulary(open_checkpoint(folder))
    assert len(found.tokens) == len(found.scores) == len(found.types) == 1500


def test_merges_that_no_scores_express(tmp_path: Path) -> None:
    folder = source_folder(tmp_path / "in", files=("tokenizer.json",))
    root = json.loads((folder / "tokenizer.json").read_text())
    root["model"]["merges"].sort()
    (folder / "tokenizer.json").write_text(json.dumps(root))
    with pytest.raises(ModelFileError, match=r"put the tokenizer\.model of this model beside it"):
        quantize(folder, tmp_path / "a.gguf", "q8_0")


def test_scores_that_no_merges_express(tmp_path: Path) -> None:
    words = vocabulary(TINY.vocab)
    words.tokens[8:13] = ["a", "b", "c", "ab", "bc"]
    flat = replace(words, scores=np.zeros(TINY.vocab, np.float32))
    write_gguf(tmp_path / "a.gguf", TINY, random_tensors(TINY), flat)
    with pytest.raises(ModelFileError, match="can only be written as GGUF"):
        convert(tmp_path / "a.gguf", tmp_path / "out", "bf16")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]
    quantize(tmp_path / "a.gguf", tmp_path / "b.gguf", "q8_0")


def test_a_tokenizer_that_is_not_gemmas(tmp_path: Path) -> None:
    folder = source_folder(tmp_path / "in", files=("tokenizer.model",))
    data = model().replace(b"<bos>", b"<b0s>")
    (folder / "tokenizer.model").write_bytes(data)
    with pytest.raises(ModelFileError, match="without <bos> or <eos>"):
        quantize(folder, tmp_path / "a.gguf", "q8_0")
