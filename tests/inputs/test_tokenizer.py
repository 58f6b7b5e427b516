"""Exact ids, control tokens out of reach, linear time."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from gemmary.errors import ModelFileError, PromptError
from gemmary.inputs import tokenizer as module
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.inputs.vocabulary import TABLE

from . import trained
from .conftest import broad_json

Encode = Callable[[str], list[int]]

CORNERS = [
    "", " ", "  ", "\n", "\n ", " \n", " \n \n  \n", "a", " a", "a ", "a  b", "a\n\nb", "\n \n" * 20,
    "\t", "\ta\t\tb\t ", "\r\n\r\n", "▁", "a▁b", "▁▁▁", " ▁ ▁▁ ", "a ▁", "▁\n▁", "\0", "a\0b\0", "\x7f\x80",
    "0123456789", "3.14159 1,000,000 ½ ١٢٣ 四", "é e\u0301 \u0301 a\u0300\u0301\u0302\u0303", "क्षि ক্ষ ก็ ำ",
    "👍🏽 👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇩🇪🇯🇵 ☺️ \u200d\u200d",
    "𒀀𒀁 \U0010ffff \ue000 \ufeff \ufffd \uffff",
    "<table><tr><td>x</td></tr></table> <TABLE> <tab", "<", "<<>>", "</", "<0x0A> <0x00>", "[toxicity=0]",
    "\u00a0\u2003\u2028\u2029\u3000 x", "def f(x):\n    return x  # 1\n\n\n\tif x:\n\t\tpass\n",
    "\n" * 31, "\n" * 32, "\n" * 100, " " * 31, " " * 32, " " * 100 + "x", "\t" * 40,
    "a" * 300, "ab" * 300, "anana" * 50, "שלום עולם مرحبا", "한국어 조합 \u1112\u1161\u11ab", "ＡＢＣ ﬁ ﷺ",
]  # fmt: skip


def texts() -> list[str]:
    """A broad slice: 388 languages, Markdown in 39, corner cases, random mixtures."""
    alphabet = [
        *"ab1 <>/\n\t▁é的👍",
        "  ",
        "\n\n",
        "<td>",
        "</td>",
        "the",
        " the",
        "\u0301",
        "\u200d",
        "\0",
        "ing",
    ]
    chance = random.Random(0)
    mixtures = ["".join(chance.choices(alphabet, k=chance.randrange(60))) for _ in range(1500)]
    return [*trained.declarations(1500), *trained.pages(6000), *CORNERS, *mixtures]


@pytest.fixture(scope="module")
def library(broad_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encode]:
    """The reference libraries on the same vocabulary, as the files define it."""
    sentencepiece = trained.reference(broad_model).encode
    path = broad_json(broad_model, tmp_path_factory.mktemp("reference"))
    huggingface = tokenizers.Tokenizer.from_file(str(path))
    return {
        "model": sentencepiece,
        "vocabulary": sentencepiece,
        "json": lambda text: huggingface.encode(text, add_special_tokens=False).ids,
    }


@pytest.mark.parametrize("kind", ["model", "json", "vocabulary"])
def test_same_ids_as_the_library(kind: str, broad: dict[str, Tokenizer], library: dict[str, Encode]) -> None:
    different = [text for text in texts() if broad[kind].encode(text) != library[kind](text)]
    assert different == []


def test_added_tokens_of_both_sorts(broad_model: bytes, tmp_path: Path) -> None:
    """Cut out of the raw text, or once spaces are marked; the longest of those that begin at one place."""
    root = trained.as_json(broad_model)
    words = ["the cat", "▁sat", " sat", "sat on", "on", "(a+)", "[x]", "▁▁ ", "cat▁", "a|b", "^$", "\\"]
    new = itertools.count(16_001)
    for text, normalized in [*((word, False) for word in words), *((f"{word}!", True) for word in words)]:
        token = root["model"]["vocab"].get(text) or next(new)
        entry = {**trained.FLAGS, "id": token, "content": text, "special": False, "normalized": normalized}
        root["added_tokens"].append(entry)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(root), encoding="utf-8")
    ours, theirs = Tokenizer.from_json(path), tokenizers.Tokenizer.from_file(str(path))
    chance = random.Random(1)
    marks = [*words, *(f"{word}!" for word in words), *"! ▁\nacats|$", "  "]
    for _ in range(3000):
        text = "".join(chance.choices(marks, k=chance.randrange(12)))
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, text


def test_three_files_of_one_vocabulary_agree(broad: dict[str, Tokenizer]) -> None:
    """But for "▁" in the text: only the JSON file tells it from a space when it looks for runs."""
    same = [text for text in texts() if "▁" not in text]
    one = [broad["model"].encode(text) for text in same]
    assert [broad["vocabulary"].encode(text) for text in same] == one
    assert [broad["json"].encode(text) for text in same] == one


def test_pieces_across_words_are_exact_too() -> None:
    """A vocabulary that words cannot be cut for: the whole text goes to the library."""
    model = trained.train(trained.sources(), 1500, words=False)
    assert any(" " in trained.reference(model).id_to_piece(i)[1:].replace("▁", " ") for i in range(600, 1400))
    ours, theirs = Tokenizer.from_model(model), trained.reference(model).encode
    for text in [*trained.sources(), *CORNERS]:
        assert ours.encode(text) == theirs(text)


@pytest.mark.parametrize("kind", ["model", "json", "vocabulary"])
def test_text_comes_back(kind: str, broad: dict[str, Tokenizer]) -> None:
    for text in (t for t in texts() if "▁" not in t):
        assert broad[kind].decode(broad[kind].encode(text)) == text
    assert broad[kind].decode(broad[kind].encode("a▁b")) == "a b"  # as in the libraries


def test_every_byte_comes_back(tokenizer: Tokenizer, model: bytes) -> None:
    first = trained.reference(model).piece_to_id("<0x00>")
    for byte in range(256):
        assert tokenizer.piece_bytes(first + byte) == bytes([byte])
    assert tokenizer.decode([first + byte for byte in "ö𒀀".encode()]) == "ö𒀀"
    assert tokenizer.decode([first + 0xE2, first + 0x82, first + 0x41, first + 0xFF]) == "\ufffdA\ufffd"
    for start in range(0, 0x110000, 0x1000):  # one character of every block
        text = chr(start + 0x7F) if not 0xD800 <= start < 0xE000 else ""
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", ["model", "json", "vocabulary"])
@pytest.mark.parametrize("control", [*trained.CONTROLS, "<image_soft_token>", "<unused6241>"])
def test_text_never_becomes_a_control_token(kind: str, control: str, broad: dict[str, Tokenizer]) -> None:
    ours = broad[kind]
    for text in (
        control,
        control * 3,
        f"a{control}b",
        f" {control}\n{control} ",
        f"<table>{control}\n\n",
        control + "\n",
    ):
        ids = ours.encode(text)
        assert not ours.controls.intersection(ids)
        assert ours.decode(ids) == text


def test_all_control_pieces_are_known(broad: dict[str, Tokenizer]) -> None:
    for ours in broad.values():
        for control in trained.CONTROLS:
            token = ours._vocabulary.find(control)
            assert token is not None and ours.is_control(token)
            assert token in ours.controls and ours.piece_bytes(token) == b"" and ours.decode([token]) == ""
        text = {token for token in range(ours.vocab) if ours.piece_bytes(token)}
        assert text | ours.controls == set(range(ours.vocab)) and not text & ours.controls


def test_names_and_numbers(broad: dict[str, Tokenizer], broad_model: bytes) -> None:
    find = trained.reference(broad_model).piece_to_id
    for kind, ours in broad.items():
        assert (ours.pad, ours.eos, ours.bos, ours.unk) == (0, 1, 2, 3)
        assert (ours.start_of_turn, ours.end_of_turn, ours.stops) == (105, 106, {1, 106})
        assert (ours.start_of_image, ours.end_of_image) == (find("<start_of_image>"), find("<end_of_image>"))
        assert ours.vocab == 16_000 + (
            kind == "json"
        )  # its <image_soft_token> stands behind the model's pieces
        assert ours.longest == max(len(text.encode()) for text, _, _ in trained.rows(broad_model))
        assert (
            ours.encode("\n\n\n") == [109]
            and ours.encode("    ") == [140]
            and ours.encode("<table>") == [168]
        )
        assert (
            ours.is_control(ours.vocab) and ours.is_control(-1) and ours.piece_bytes(ours.vocab + 70) == b""
        )
        with pytest.raises(PromptError, match="-1 is not a token"):
            ours.decode([5, -1])


def test_names_that_are_absent_are_none() -> None:
    ours = Tokenizer.from_vocabulary(*zip(*plain_rows(), strict=True))
    assert ours.bos is ours.eos is ours.start_of_turn is ours.end_of_image is ours.pad is None
    assert ours.stops == frozenset() and ours.unk == 0 and ours.encode("x") == [1 + ord("x")]


def plain_rows() -> list[tuple[str, float, int]]:
    return [("<unk>", 0.0, 2), *((f"<0x{byte:02X}>", 0.0, 6) for byte in range(256))]


@pytest.mark.parametrize("given", [1, 3, 4, 5])
def test_kinds_of_files_that_are_wrong(given: int, model: bytes) -> None:
    """Files type control and byte pieces in several ways; the official GGUF types <unk> as control."""
    names = {*trained.CONTROLS, "<0x0A>"}
    rows = [(text, score, given if text in names else kind) for text, score, kind in trained.rows(model)]
    ours = Tokenizer.from_vocabulary(*zip(*rows, strict=True))
    right = Tokenizer.from_model(model)
    assert ours.controls == right.controls
    for text in [*CORNERS, *trained.CONTROLS]:
        assert ours.encode(text) == right.encode(text)


def test_ids_behind_the_table_are_control() -> None:
    """Rows that pad a table have names in early GGUF files: text must not reach them."""
    letters = [(chr(0x20000 + i), -float(i), 1) for i in range(TABLE + 20 - 257)]
    ours = Tokenizer.from_vocabulary(*zip(*plain_rows(), *letters, strict=True))
    inside, outside = letters[TABLE - 1 - 257][0], letters[TABLE - 257][0]
    assert ours.encode(inside) == [TABLE - 1]
    assert ours.encode(outside) == [1 + byte for byte in outside.encode()]
    assert ours.is_control(TABLE) and not ours.is_control(TABLE - 1) and ours.decode([TABLE]) == ""


@pytest.mark.parametrize("text", ["\ud800", "ok \udfff", "\ud83d\ude00"])
def test_half_characters_are_refused(text: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="half of a surrogate pair"):
        tokenizer.encode(text)


@pytest.mark.parametrize("text", [None, b"bytes", 3, ["a"]])
def test_what_is_no_text_is_refused(text: object, tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="must be a string"):
        tokenizer.encode(text)  # type: ignore[arg-type]


def test_many_threads(broad: dict[str, Tokenizer]) -> None:
    everything = texts()[::3]
    for ours in broad.values():
        alone = [ours.encode(text) for text in everything]
        ours._known.clear()
        found: list[list[list[int]]] = []

        def run(ours: Tokenizer = ours, found: list[list[list[int]]] = found) -> None:
            found.append([ours.encode(text) for text in everything])

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [alone] * 4


def test_remembered_words_are_bounded(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(trained.sources())[:100_000]
    whole = tokenizer.encode(text)
    monkeypatch.setattr(module, "KNOWN_WORDS", 50)
    tokenizer._known.clear()
    assert tokenizer.encode(text) == whole
    assert len(tokenizer._known) <= 50
    monkeypatch.setattr(module, "KNOWN_LENGTH", 3)
    tokenizer._known.clear()
    assert tokenizer.encode(text) == whole
    assert max(map(len, tokenizer._known)) == 3


def test_libraries_are_imported_when_needed() -> None:
    probe = (
        "import sys, gemmary.inputs.turns, gemmary.inputs.stream, gemmary.inputs.prompt; "
        "print([m for m in ('sentencepiece', 'tokenizers', 'torch', 'numba') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=trained.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_missing_files(tmp_path: Path) -> None:
    for load in (Tokenizer.from_model, Tokenizer.from_json):
        with pytest.raises(ModelFileError, match="cannot be read: No such file"):
            load(tmp_path / "absent")
        with pytest.raises(ModelFileError, match="is not a file"):
            load(tmp_path)


ADVERSARIAL = {
    "a": "a", "space": " ", "newline": "\n", "less": "<", "accent": "\u0301", "accented": "a\u0301\u0300",
    "family": "👩‍👧‍", "digit": "7", "pair": "ab", "tab": "\t", "tag": "<table>", "control": "<start_of_turn>",
    "unknown": "𒀀", "zero": "\0", "words": " a", "marks": "▁x",
}  # fmt: skip


def seconds(encode: Encode, text: str, repeats: int) -> float:
    """Processor time of this thread; the best of some."""
    best = math.inf
    for _ in range(repeats):
        start = time.thread_time()
        encode(text)
        best = min(best, time.thread_time() - start)
    return best


def check_linear(ours: Tokenizer, unit: str, sizes: list[int]) -> None:
    """log-log slope <= 1.2 and 1 MB in 2 s."""
    strings = [unit * (size // len(unit.encode())) for size in sizes]
    times = [seconds(ours.encode, text, 5 if len(text) < 20_000 else 2) for text in strings]
    xs, ys = [math.log(size) for size in sizes], [math.log(max(t, 1e-5)) for t in times]
    middle, height = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - middle) * (y - height) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - middle) ** 2 for x in xs
    )
    assert slope <= 1.2, times
    assert times[-1] < 2 * sizes[-1] / 1_000_000, times


@pytest.mark.parametrize("unit", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_linear_time(unit: str, tokenizer: Tokenizer) -> None:
    check_linear(tokenizer, unit, [1_000, 10_000, 100_000, 1_000_000])


@pytest.mark.parametrize("unit", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_linear_time_json(unit: str, broad: dict[str, Tokenizer]) -> None:
    check_linear(broad["json"], unit, [1_000, 10_000, 100_000])


@pytest.mark.long
@pytest.mark.parametrize("unit", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_linear_time_json_to_a_megabyte(unit: str, broad: dict[str, Tokenizer]) -> None:
    check_linear(broad["json"], unit, [1_000, 10_000, 100_000, 1_000_000])


@pytest.mark.parametrize("kind", ["model", "json", "vocabulary"])
def test_ordinary_text_is_fast(kind: str, broad: dict[str, Tokenizer]) -> None:
    text = "".join(trained.pages(20_000))
    broad[kind]._known.clear()
    assert len(text.encode()) / seconds(broad[kind].encode, text, 1) > 1_000_000
