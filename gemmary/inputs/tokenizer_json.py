"""Gemma's tokenizer.json <-> Vocabulary, merges, and the pieces that are cut out of text first.

The `tokenizers` library never sees the file: it would run regular expressions that stand in it, and panic on
some damaged ones. The JSON is read here, every part is compared with the few shapes that Gemma's files have,
and the library gets plain lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import ModelFileError
from .merges import merges_of
from .vocabulary import MAX_PIECES, SILENT, SPACE, Kind, Vocabulary

MAX_CUTS = 1 << 13  # characters together; Gemma 3's have 2,200
MAX_MERGES = 1 << 21  # Gemma 3 has about 515,000
MAX_OPENERS = 1 << 22  # each `{` or `[` becomes an object of 64 bytes: bounded before they are made

MARK_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
SPLIT_SPACES = {  # finds nothing once spaces are marked
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
DECODERS = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
# Parts that may stand in a file, and the values that mean what Gemma's mean. What is absent counts as null.
NORMALIZERS = (MARK_SPACES, {"type": "Sequence", "normalizers": [MARK_SPACES]})
SPLITTERS = (None, SPLIT_SPACES)
OUTPUTS = (None, {"type": "Sequence", "decoders": DECODERS})
MODEL = {
    "type": ("BPE",),
    "dropout": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (True,),
    "ignore_merges": (None, False),
}


@dataclass(frozen=True)
class Cut:
    """A piece that is cut out of text before anything else; `normalized`: once spaces are marked."""

    piece: str
    normalized: bool


@dataclass(frozen=True)
class TokenizerJson:
    """What a tokenizer.json says, checked."""

    vocabulary: Vocabulary
    merges: list[tuple[str, str]]
    cuts: list[Cut]


def read_json(data: bytes, source: object) -> TokenizerJson:
    """The content of a Gemma tokenizer.json; ModelFileError when it is damaged or not Gemma's kind."""
    root = _mapping(_parsed(data, source), source, "the file")
    model = _mapping(root.get("model"), source, "model")
    _expect(root.get("normalizer"), NORMALIZERS, source, "normalizer")
    _expect(root.get("pre_tokenizer"), SPLITTERS, source, "pre_tokenizer")
    _expect(root.get("decoder"), OUTPUTS, source, "decoder")
    for name, values in MODEL.items():
        _expect(model.get(name), values, source, f"model.{name}")
    added = _added(root.get("added_tokens", []), source)
    ids = _ids(_mapping(model.get("vocab"), source, "model.vocab"), added, source)
    vocabulary = _vocabulary(ids, added, source)
    silent = {vocabulary.pieces[token] for token in vocabulary.controls()}
    _check_bytes(set(vocabulary.pieces) - silent, source)
    cuts = [Cut(piece, bool(a["normalized"])) for piece, a in added.items() if piece not in silent]
    if sum(len(cut.piece) for cut in cuts) > MAX_CUTS:
        raise ModelFileError(source, "holds more added tokens than a tokenizer needs")
    return TokenizerJson(vocabulary, _merges(model.get("merges"), silent, source), cuts)


def write_json(vocabulary: Vocabulary) -> bytes:
    """A tokenizer.json that gives the ids of a SentencePiece model, in the layout of Gemma's.

    ModelFileError when it cannot: see `merges_of`.
    """
    pieces, kinds = vocabulary.pieces, vocabulary.kinds
    text, start = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": token, "content": pieces[token], **plain, "special": kind in SILENT}
        for token, kind in enumerate(kinds)
        if kind in SILENT or kind == Kind.USER_DEFINED
    ]
    root = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": MARK_SPACES, "pre_tokenizer": SPLIT_SPACES,
        "post_processor": {
            "type": "TemplateProcessing", "single": [start, text],
            "pair": [start, text, start, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "<bos>": {"id": "<bos>", "ids": [vocabulary.find("<bos>")], "tokens": ["<bos>"]}
            },
        },
        "decoder": {"type": "Sequence", "decoders": DECODERS},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {piece: token for token, piece in enumerate(pieces)}, "merges": merges_of(vocabulary),
        },
    }  # fmt: skip
    return json.dumps(root, ensure_ascii=False, separators=(",", ":")).encode()


def segmenter(parsed: TokenizerJson) -> Callable[[str], list[int]]:
    """The `tokenizers` library's encoder without control pieces: no text can reach one.

    Of the library only the BPE model runs: its pipeline around it takes three times as long, and grows faster
    than the text. The order is the pipeline's: cut raw text, mark spaces, cut again, merge.
    """
    from tokenizers import models

    vocabulary = parsed.vocabulary
    silent = vocabulary.controls()
    ids = {piece: token for token, piece in enumerate(vocabulary.pieces) if token not in silent}
    with _guarded(vocabulary.source):
        model = models.BPE(ids, parsed.merges, byte_fallback=True, cache_capacity=0)
    raw = {cut.piece: ids[cut.piece] for cut in parsed.cuts if not cut.normalized}
    marked = {cut.piece.replace(" ", SPACE): ids[cut.piece] for cut in parsed.cuts if cut.normalized}
    raw_knife, marked_knife = _knife(raw), _knife(marked)

    def segment(text: str) -> list[int]:
        found: list[int] = []
        for index, part in enumerate(raw_knife.split(text)):
            if index % 2:  # what the knife found stands between what it left
                found.append(raw[part])
            else:
                found += merge(part.replace(" ", SPACE))
        return found

    def merge(text: str) -> list[int]:
        found: list[int] = []
        for index, part in enumerate(marked_knife.split(text)):
            found += [marked[part]] if index % 2 else [token.id for token in model.tokenize(part)]
        return found

    return segment


def _knife(pieces: Iterable[str]) -> re.Pattern[str]:
    """Finds the longest of `pieces` wherever one begins. They are taken literally."""
    endings: dict[str, list[str]] = {}
    for piece in sorted(pieces, key=len, reverse=True):
        endings.setdefault(piece[0], []).append(re.escape(piece[1:]))
    starts = [f"{re.escape(start)}(?:{'|'.join(rest)})" for start, rest in endings.items()]
    return re.compile(f"({'|'.join(starts)})" if starts else r"(\Z.)")


@contextmanager
def _guarded(source: object) -> Iterator[None]:
    """Turn what the library raises into ModelFileError: panics of Rust too, which are not Exceptions."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ModelFileError(source, f"cannot be used as a tokenizer: {error}") from error
        raise


def _parsed(data: bytes, source: object) -> object:
    if data.count(b"{") + data.count(b"[") > MAX_OPENERS:
        raise ModelFileError(source, "holds more lists and groups than a tokenizer needs")
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise ModelFileError(source, "is nested too deeply") from None
    except ValueError as error:
        raise ModelFileError(source, f"is not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two programs must not read one file in two ways."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in a group")
    return result


def _mapping(value: object, source: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelFileError(source, f"is not a tokenizer.json: {name} is not a group of named values")
    return value


def _expect(value: object, allowed: tuple[object, ...], source: object, name: str) -> None:
    if not any(value == fine and type(value) is type(fine) for fine in allowed):
        raise ModelFileError(source, f"is not a Gemma tokenizer: its {name} is of another kind")


def _added(entries: object, source: object) -> dict[str, dict[str, Any]]:
    """The added tokens by piece."""
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    result: dict[str, dict[str, Any]] = {}
    for entry in entries if isinstance(entries, list) else [None]:
        entry = _mapping(entry, source, "an added token")
        piece, token = entry.get("content"), entry.get("id")
        if type(piece) is not str or not piece or piece in result or type(token) is not int:
            raise ModelFileError(source, "holds an added token without a text and an id of its own")
        if any(type(entry.get(flag)) is not bool for flag in flags) or any(entry[f] for f in flags[:3]):
            raise ModelFileError(source, "holds an added token with rules that Gemma's do not have")
        result[piece] = entry
    return result


def _ids(vocab: dict[str, Any], added: dict[str, dict[str, Any]], source: object) -> dict[str, int]:
    """Ids by piece, those of added tokens included."""
    ids = dict(vocab)
    for piece, entry in added.items():
        if ids.setdefault(piece, entry["id"]) != entry["id"]:
            raise ModelFileError(source, "gives an added token two ids")
    if set(map(type, ids.values())) != {int} or len(ids) > MAX_PIECES:
        raise ModelFileError(source, "holds no list of tokens with their ids, or far too long a one")
    if set(ids.values()) != set(range(len(ids))):
        raise ModelFileError(source, "does not number its tokens 0, 1, 2 and so on")
    return ids


def _vocabulary(ids: dict[str, int], added: dict[str, dict[str, Any]], source: object) -> Vocabulary:
    pieces = sorted(ids, key=ids.__getitem__)
    kinds = [Kind.NORMAL] * len(pieces)
    for piece, entry in added.items():
        kinds[ids[piece]] = Kind.CONTROL if entry["special"] else Kind.USER_DEFINED
    return Vocabulary(source, pieces, kinds, [0.0] * len(pieces))


def _check_bytes(text: set[str], source: object) -> None:
    """Every text can be written: with `text`, the pieces that are not control pieces."""
    for byte in range(256):
        if f"<0x{byte:02X}>" not in text and not (byte < 128 and chr(byte) in text):
            raise ModelFileError(source, f"has no token for the byte {byte}")


def _merges(value: object, silent: set[str], source: object) -> list[tuple[str, str]]:
    """Pairs in order of rank; those that make or take a control piece, which text never holds, left out."""
    if not isinstance(value, list) or len(value) > MAX_MERGES:
        raise ModelFileError(source, "holds no list of merges, or far too long a one")
    if set(map(type, value)) <= {str}:
        value = [merge.split(" ") for merge in value]
    if set(map(type, value)) - {list} or set(map(len, value)) - {2}:
        raise ModelFileError(source, "holds a merge that is not a pair of tokens")
    if set(map(type, (piece for pair in value for piece in pair))) - {str}:
        raise ModelFileError(source, "holds a merge that is not a pair of tokens")
    return [(a, b) for a, b in value if not {a, b, a + b} & silent]
