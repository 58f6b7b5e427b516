"""Tokenizers with Gemma's settings and layout, trained here: the real one may not be copied.

Everything is made with the reference libraries alone, so that tests compare Gemmary with something else.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

ROOT = Path(__file__).parents[2]
TAGS = [
    f"<{end}{tag}>"
    for tags in (
        "table caption thead tbody tfoot tr th td",
        "h1 h2 h3 h4 h5 h6 blockquote",
        "strong em b i u s sub sup code p ul ol li a div span pre kbd dl dd footer",
    )
    for end in ("", "/")
    for tag in tags.split()
]
MARKS = ["<mask>", "[multimodal]", *(f"<unused{i}>" for i in range(99)), "<start_of_turn>", "<end_of_turn>"]
RUNS = [*("\n" * n for n in range(1, 32)), *("▁" * n for n in range(2, 32))]
LATE = [*("\t" * n for n in range(1, 32)), "<start_of_image>", "<end_of_image>", "<unused99>", "<unused100>"]
CONTROLS = [
    "<pad>", "<eos>", "<bos>", "<unk>", *MARKS,
    "<start_of_image>", "<end_of_image>", "<unused99>", "<unused100>",
]  # fmt: skip
CONTROL = re.compile("|".join(map(re.escape, CONTROLS)))
USER_DEFINED = 4
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}  # of added tokens


def data() -> Path:
    """The folder with texts, or skip."""
    folder = Path(os.environ.get("GEMMARY_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "multilingual" / "udhr").is_dir():
        pytest.skip("no texts: set GEMMARY_DATA to a folder with multilingual/udhr")
    return folder


@cache
def declarations(length: int) -> tuple[str, ...]:
    """The beginnings of the Universal Declaration of Human Rights in 388 languages."""
    files = sorted((data() / "multilingual" / "udhr").glob("*.txt"))
    return tuple(path.read_text(encoding="utf-8")[:length] for path in files)


@cache
def pages(length: int) -> tuple[str, ...]:
    """Markdown pages in 39 languages: code, brackets, newlines."""
    files = sorted((data() / "multilingual").glob("*.jsonl"))
    texts = [
        "".join(json.loads(line)["text"] for line in list(path.open(encoding="utf-8"))[:40]) for path in files
    ]
    return tuple(text[:length] for text in texts)


def sources() -> list[str]:
    """Texts that are always here: these tests, without the control strings in them."""
    files = sorted((ROOT / "tests" / "inputs").glob("*.py"))
    return [CONTROL.sub("", path.read_text(encoding="utf-8")) for path in files]


def train(texts: Iterable[str], size: int, words: bool = True) -> bytes:
    """A SentencePiece model; control pieces but four are user-defined, as in the official file.

    `words=False`: pieces may reach across spaces, which Gemma's do not.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(text.replace("\t", " ") for text in texts),  # tabs are added, not learned
        model_writer=model, model_type="bpe", vocab_size=size - len(LATE),
        pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>",
        user_defined_symbols=[*MARKS, *RUNS, *TAGS], split_digits=True, byte_fallback=True,
        split_by_whitespace=words, normalization_rule_name="identity", add_dummy_prefix=False,
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, character_coverage=0.9995,
        num_threads=2, minloglevel=2, max_sentence_length=1 << 20,
    )  # fmt: skip
    return model.getvalue() + b"".join(piece(late, 0.0, USER_DEFINED) for late in LATE)


def piece(text: str, score: float, kind: int) -> bytes:
    """One more piece: a protobuf message that is appended to another one adds to its lists."""
    name = text.encode()
    body = bytes((10, len(name))) + name + b"\x15" + struct.pack("<f", score) + bytes((24, kind))
    return bytes((10, len(body))) + body


def reference(model: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def rows(model: bytes) -> list[tuple[str, float, int]]:
    """Piece, score and type of every id, as the library tells them."""
    backend = reference(model)
    added = {*MARKS, *RUNS, *TAGS, *LATE}
    return [
        (
            backend.id_to_piece(i),
            backend.get_score(i),
            2 if backend.is_unknown(i)
            else 3 if backend.is_control(i)
            else 6 if backend.is_byte(i)
            else 4 if backend.id_to_piece(i) in added
            else 1,
        )
        for i in range(backend.get_piece_size())
    ]  # fmt: skip


def as_json(model: bytes) -> dict[str, Any]:
    """The tokenizer.json that Hugging Face's rules make of a SentencePiece model."""
    table = rows(model)
    ids = {text: token for token, (text, _, _) in enumerate(table)}
    merges = [
        (-score, -index, index - len(text), text[:index], text[index:])
        for text, score, _ in table
        for index in range(1, len(text))
        if text[:index] in ids and text[index:] in ids
    ]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    special = {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"}
    added = [
        {"id": token, "content": text, **FLAGS, "special": text in special}
        for token, (text, _, kind) in enumerate(table)
        if kind in (2, 3, 4)
    ]
    part = lambda name: {"Sequence": {"id": name, "type_id": 0}}  # noqa: E731
    soft = {"id": len(table), "content": "<image_soft_token>", **FLAGS, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [*added, soft], "normalizer": replace,
        "pre_tokenizer": {
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, part("A")],
            "pair": [part("A"), part("B")],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": ids, "merges": [[left, right] for *_, left, right in sorted(merges)],
        },
    }  # fmt: skip
