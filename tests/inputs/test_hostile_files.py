"""Tokenizer files that are damaged or made to harm: typed errors, bounded work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemmary.errors import ModelFileError
from gemmary.inputs.tokenizer import MAX_FILE, Tokenizer
from gemmary.inputs.vocabulary import MAX_PIECE, MAX_PIECES

from . import trained

SETTINGS = bytes((18, 5, 24, 2, 0x98, 2, 1)) + bytes((26, 6, 24, 0, 32, 0, 40, 1))  # trainer and normalizer


def tiny_rows() -> list[tuple[str, float, int]]:
    """A whole vocabulary of 300 pieces, so that damage is likely to hit something that matters."""
    named = [("<pad>", 0.0, 3), ("<eos>", 0.0, 3), ("<bos>", 0.0, 3), ("<unk>", 0.0, 2)]
    marks = [
        (mark, 0.0, 4) for mark in ("<start_of_turn>", "<end_of_turn>", "<unused0>", "\n", "\n\n", "<td>")
    ]
    learned = [*"▁t he ▁the in ing an and ▁and".split(), *"▁the<>0123456789ading", "ö", "👍"]
    normal = [(text, -float(i), 1) for i, text in enumerate(dict.fromkeys(learned))]
    return [*named, *marks, *((f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)), *normal]


def tiny_model(rows: list[tuple[str, float, int]] | None = None) -> bytes:
    return b"".join(trained.piece(*row) for row in rows or tiny_rows()) + SETTINGS


def tiny_json() -> dict[str, Any]:
    root = trained.as_json(tiny_model())
    root["added_tokens"] = [
        {**trained.FLAGS, "id": i, "content": text, "special": kind != 4}
        for i, (text, _, kind) in enumerate(tiny_rows())
        if kind in (2, 3, 4)
    ]
    return root


def run(kind: str, first: int, count: int) -> dict[str, int]:
    """`count` damaged files in a process with little memory; its dying words name the file."""
    seed = tiny_model() if kind == "model" else json.dumps(tiny_json()).encode()
    job = {"kind": kind, "seed": seed.hex(), "first": first, "count": count, "limit": 2048}
    done = subprocess.run(
        [sys.executable, "-m", "tests.inputs.mutants"], cwd=trained.ROOT, input=json.dumps(job), text=True,
        capture_output=True, timeout=600, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = done.stdout.split("\n")
    assert done.returncode == 0, f"{kind} {lines[-2:]}: {done.stderr[-2000:]}"
    result: dict[str, int] = json.loads(lines[-2])
    return result


@pytest.mark.parametrize("kind", ["model", "json"])
def test_damaged_files(kind: str) -> None:
    result = run(kind, 0, 300)
    assert result["refused"] > 100 and result["used"] > 10, "the damage is too mild or too hard to tell much"
    assert result["mebibytes"] < 200


@pytest.mark.long
@pytest.mark.parametrize("kind", ["model", "json"])
@pytest.mark.parametrize("first", range(1_000, 21_000, 5_000))
def test_more_damaged_files(kind: str, first: int) -> None:
    assert run(kind, first, 5_000)["mebibytes"] < 200


def test_the_seeds_are_sound(tmp_path: Path) -> None:
    model, parsed = Tokenizer.from_model(tiny_model()), load_json(tmp_path, tiny_json())
    text = "the thing and\n\n\n<td> and <eos>"
    assert model.encode(text) == trained.reference(tiny_model()).encode(text) == parsed.encode(text)


def load_json(folder: Path, value: object) -> Tokenizer:
    path = folder / "tokenizer.json"
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return Tokenizer.from_json(path)


def sequence(part: object) -> dict[str, object]:
    return {"type": "Sequence", "normalizers": [part]}


def added(token: int, text: str, **other: object) -> dict[str, object]:
    return {**trained.FLAGS, "id": token, "content": text, "special": True, **other}


SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
REGEX = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x"}
PARTS: list[tuple[str, object]] = [
    *(("normalizer", value) for value in (None, REGEX, sequence(REGEX), {"type": "NFKC"}, [])),
    ("normalizer", {"type": "Replace", "pattern": {"String": ""}, "content": "▁"}),
    *(("pre_tokenizer", value) for value in ({**SPLIT, "pattern": {"Regex": "(a+)+$"}}, "x")),
    *(("pre_tokenizer", value) for value in ({"type": "ByteLevel"}, {**SPLIT, "invert": True}, [SPLIT])),
    *(("decoder", value) for value in ({"type": "WordPiece"}, [{}])),
    ("decoder", {"type": "Sequence", "decoders": [REGEX]}),
    *(("model", value) for value in (None, [], {})),
    *(("model.type", value) for value in ("Unigram", None)),
    *(("model.byte_fallback", value) for value in (False, 1, None)),
    ("model.dropout", 0.5), ("model.ignore_merges", True),
    ("model.continuing_subword_prefix", "##"), ("model.end_of_word_suffix", "</w>"),
    *(("model.vocab", value) for value in ({}, [], {"a": 0}, {"a": "0"}, {"a": True}, {"a": 0.0})),
    *(("model.merges", value) for value in (None, {}, ["a b c"], ["ab"], [["i", "n"], "i n"], [[[], []]])),
    *(("model.merges", [pair]) for pair in (["t", "nothing"], ["a"], ["a", 1], ["a", "b", "c"])),
    ("model.merges", [["\ud800", "a"]]),
    *(("added_tokens", value) for value in ({}, None, [5], [{"id": 0}])),
    ("added_tokens", [added(0, "<pad>")] * 2), ("added_tokens", [added(0, "")]),
    ("added_tokens", [added(7, "<pad>")]), ("added_tokens", [added(True, "<eos>")]),
    ("added_tokens", [added(5_000_000, "new")]), ("added_tokens", [added(0, "<pad>", lstrip=True)]),
    ("added_tokens", [added(0, "<pad>", special=1)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), PARTS)
def test_json_of_another_kind(name: str, value: object, tmp_path: Path) -> None:
    root = tiny_json()
    place, _, key = name.rpartition(".")
    (root[place] if place else root)[key] = value
    with pytest.raises(ModelFileError, match=r"tokenizer\.json: "):
        load_json(tmp_path, root)


TEXTS = {
    "empty": b"", "panic": b'{"decoder":[}}}', "cut": json.dumps({"model": 1}).encode()[:-1],
    "list": b"[]", "number": b"5", "null": b"null", "deep": b"[" * 200_000, "deep groups": b'{"a":' * 100_000,
    "latin": b'{"\xff": 1}',
    "mark": b"\xef\xbb\xbf{}", "wide": "{}".encode("utf-16"), "twice": b'{"model": {}, "model": {}}',
    "digits": b'{"version": ' + b"9" * 5_000 + b"}", "nan": b'{"model": NaN}',
    "surrogate": b'{"model": "\\ud800"}',
    "many lists": b"[" + b"[]," * 4_500_000 + b"[]]",
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_that_is_no_tokenizer_json(text: bytes, tmp_path: Path) -> None:
    start = time.process_time()
    with pytest.raises(ModelFileError):
        load_json(tmp_path, text)
    assert time.process_time() - start < 2


def test_a_regular_expression_in_the_file_is_never_run(tmp_path: Path) -> None:
    """It would hang: "(a+)+$" on a{40}! needs 2^40 steps."""
    root = tiny_json()
    root["normalizer"] = sequence(REGEX)
    start = time.process_time()
    with pytest.raises(ModelFileError, match="its normalizer is of another kind"):
        load_json(tmp_path, root).encode("a" * 40 + "!")
    assert time.process_time() - start < 2


def test_a_panic_of_the_library_becomes_a_model_file_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tokenizers

    class PanicException(BaseException):
        """pyo3's: not an Exception."""

    def panic(*_: object, **__: object) -> None:
        raise PanicException("the library broke")

    monkeypatch.setattr(tokenizers.models, "BPE", panic)
    with pytest.raises(ModelFileError, match="the library broke"):
        load_json(tmp_path, tiny_json())


def test_an_interrupt_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tokenizers

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tokenizers.models, "BPE", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_json(tmp_path, tiny_json())


@pytest.mark.parametrize("text", ["ö", "he", "▁the"])
def test_special_pieces_that_text_could_be_merged_to_stay_out_of_reach(text: str, tmp_path: Path) -> None:
    """Of one letter, which needs no merge; a whole; a part of others."""
    root = tiny_json()
    token = root["model"]["vocab"][text]
    root["added_tokens"].append(added(token, text))
    ours, words = load_json(tmp_path, root), "the ö he tthe"
    assert token not in ours.encode(words) and ours.decode(ours.encode(words)) == words


def test_old_merges_are_read(tmp_path: Path) -> None:
    new, root = load_json(tmp_path, tiny_json()), tiny_json()
    root["model"]["merges"] = [" ".join(pair) for pair in root["model"]["merges"] if "\n" not in pair]
    assert load_json(tmp_path, root).encode("the thing and") == new.encode("the thing and")


def field(number: int, value: int | bytes) -> bytes:
    """A protobuf field; lengths and numbers below 2^14."""

    def varint(n: int) -> bytes:
        return bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7))

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


MODELS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a BPE model"),
    "unigram": (tiny_model() + field(2, field(3, 1)), "not a BPE model"),
    "no byte fallback": (tiny_model() + field(2, field(35, 0)), "no byte fallback"),
    "suffix": (tiny_model() + field(2, field(24, 1)), "behind words"),
    "dummy prefix": (tiny_model() + field(3, field(3, 1)), "a space in front"),
    "removes spaces": (tiny_model() + field(3, field(4, 1)), "removes spaces"),
    "plain spaces": (tiny_model() + field(3, field(5, 0)), "does not mark spaces"),
    "character map": (tiny_model() + field(3, field(2, b"\x10\0\0\0" + b"\xff" * 16)), "rewrites characters"),
    "output map": (tiny_model() + field(5, field(2, b"x")), "rewrites characters of its output"),
    "no settings": (tiny_model()[: -len(SETTINGS)], "not a BPE model"),
    "text": (b"{}" * 50, "damaged"),
    "not UTF-8": (tiny_model() + b"\x0a\x04\x0a\x02\xff\xfe", "damaged"),
    "length beyond the end": (tiny_model() + b"\x0a\x7f", "damaged"),
    "length of 2^63": (tiny_model() + b"\x0a" + b"\xff" * 8 + b"\x7f", "damaged"),
    "endless number": (tiny_model() + b"\xff" * 50, "damaged"),
    "group": (tiny_model() + b"\x0b\x0c", "damaged"),
    "piece as number": (tiny_model() + b"\x08\x05", "damaged"),
    "settings as number": (tiny_model() + b"\x10\x05", "damaged"),
    "empty piece": (tiny_model() + trained.piece("", 0.0, 1), "empty"),
    "long piece": (tiny_model() + field(1, field(1, b"x" * (MAX_PIECE + 1))), "longer than"),
    "twice": (tiny_model() + trained.piece("<bos>", 0.0, 3), "twice"),
    "kind 0": (tiny_model() + trained.piece("x", 0.0, 0), "not 1 to 6"),
    "kind 7": (tiny_model() + trained.piece("x", 0.0, 7), "not 1 to 6"),
    "kind of 64 bits": (
        tiny_model() + field(1, field(1, b"x") + b"\x18" + b"\xff" * 9 + b"\x01"), "not 1 to 6",
    ),
    "score nan": (tiny_model() + trained.piece("x", float("nan"), 1), "score"),
    "score inf": (tiny_model() + trained.piece("x", float("inf"), 1), "score"),
    "two unknowns": (tiny_model() + trained.piece("x", 0.0, 2), "cannot be used"),
    "no unknown": (tiny_model([row for row in tiny_rows() if row[2] != 2]), "is unknown"),
    "no bytes": (tiny_model([row for row in tiny_rows() if row[2] != 6]), "cannot be used"),
    "one byte less": (tiny_model([row for row in tiny_rows() if row[0] != "<0x0A>"]), "cannot be used"),
    "zero in a symbol": (tiny_model() + trained.piece("a\0b", 0.0, 4), "cannot be used"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "fault"), MODELS.values(), ids=MODELS)
def test_models_of_another_kind(data: bytes, fault: str) -> None:
    with pytest.raises(ModelFileError, match=f"tokenizer.model: .*{fault}"):
        Tokenizer.from_model(data)


def test_model_cut_short_anywhere() -> None:
    data = tiny_model()
    for end in range(0, len(data), 7):
        with pytest.raises(ModelFileError):
            Tokenizer.from_model(data[:end])


def test_unknown_fields_are_skipped() -> None:
    extra = field(4, b"self test") + field(200, 5) + b"\xc9\x0c" + b"\0" * 8 + b"\xcd\x0c" + b"\0" * 4
    ours = Tokenizer.from_model(extra + tiny_model() + extra)
    assert ours.encode("the thing") == Tokenizer.from_model(tiny_model()).encode("the thing")


@pytest.mark.parametrize(
    "change",
    [
        lambda t, s, k: ([], [], []),
        lambda t, s, k: (t[:-1], s, k), lambda t, s, k: (t, s[:-1], k), lambda t, s, k: (t, s, k[:-1]),
        lambda t, s, k: (t, [*s[:-1], "1"], k), lambda t, s, k: (t, [*s[:-1], None], k),
        lambda t, s, k: (t, [s], k), lambda t, s, k: (t, [*s[:-1], s], k),
        lambda t, s, k: (t, s, [*k[:-1], k]),
        lambda t, s, k: (t, s, [*k[:-1], 1.0]), lambda t, s, k: (t, s, [*k[:-1], 2**70]),
        lambda t, s, k: (t, s, [k]),
        lambda t, s, k: (t, s, np.array(k, np.float32)), lambda t, s, k: (t, s, [k == 1 for k in k]),
        lambda t, s, k: (t, np.full(len(t), np.inf), k), lambda t, s, k: (t, [1e300] * len(t), k),
        lambda t, s, k: ([*t[:-1], "\ud800"], s, k), lambda t, s, k: ([*t[:-1], 5], s, k),
        lambda t, s, k: ([*t[:-1], b"x"], s, k), lambda t, s, k: ([*t[:-1], "x" * 600], s, k),
        lambda t, s, k: (["x"] * (MAX_PIECES + 1), s, k),
    ],
)  # fmt: skip
def test_lists_that_are_no_vocabulary(change: Callable[..., tuple[Any, Any, Any]]) -> None:
    tokens, scores, kinds = map(list, zip(*tiny_rows(), strict=True))
    with pytest.raises(ModelFileError, match=r"weights\.gguf: "):
        Tokenizer.from_vocabulary(*change(tokens, scores, kinds), source="weights.gguf")


def test_lists_as_arrays() -> None:
    tokens, scores, kinds = map(list, zip(*tiny_rows(), strict=True))
    ours = Tokenizer.from_vocabulary(tokens, np.array(scores, np.float32), np.array(kinds, np.int32))
    assert ours.encode("the thing") == Tokenizer.from_model(tiny_model()).encode("the thing")


def test_files_that_are_too_long_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    for load in (Tokenizer.from_model, Tokenizer.from_json):
        with pytest.raises(ModelFileError, match="has more than 64 MiB"):
            load(path)


def test_pipes_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for load in (Tokenizer.from_model, Tokenizer.from_json):
        with pytest.raises(ModelFileError, match="is not a file"):
            load(tmp_path / "pipe")
