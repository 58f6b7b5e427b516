"""The vocabulary has Gemma's layout and settings."""

from __future__ import annotations

import pytest

from gemmary.inputs.sentencepiece_model import read_model
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.inputs.vocabulary import Kind, Vocabulary
from gemmary.recipes.everyday import everyday_tasks
from gemmary.train import vocabulary

SIZE = 800


@pytest.fixture(scope="module")
def model() -> bytes:
    texts = [f"{task.task}: {task.command} {' '.join(task.asked)}" for task in everyday_tasks()]
    return vocabulary.train_vocabulary(texts, SIZE)


@pytest.fixture(scope="module")
def pieces(model: bytes) -> Vocabulary:
    return read_model(model, "test")


@pytest.mark.parametrize(
    ("id", "piece"),
    [
        (0, "<pad>"), (1, "<eos>"), (2, "<bos>"), (3, "<unk>"), (4, "<mask>"), (5, "[multimodal]"),
        (6, "<unused0>"), (104, "<unused98>"), (105, "<start_of_turn>"), (106, "<end_of_turn>"), (107, "\n"),
        (108, "\n\n"), (137, "\n" * 31), (138, "▁▁"), (139, "▁▁▁"), (167, "▁" * 31), (168, "<table>"),
        (238, "<0x00>"), (248, "<0x0A>"), (493, "<0xFF>"), (SIZE - 3, "<start_of_image>"),
        (SIZE - 2, "<end_of_image>"), (SIZE - 1, "<image_soft_token>"),
    ],
)  # fmt: skip
def test_first_and_last_ids_are_gemmas(pieces: Vocabulary, id: int, piece: str) -> None:
    assert len(pieces) == SIZE
    assert pieces.pieces[id] == piece


def test_marks_are_control_pieces_and_runs_are_text(pieces: Vocabulary) -> None:
    control = {i for i, kind in enumerate(pieces.kinds) if kind in (Kind.CONTROL, Kind.UNKNOWN)}
    assert control == {*range(107), SIZE - 3, SIZE - 2, SIZE - 1}
    assert {pieces.kinds[i] for i in range(107, 238)} == {Kind.USER_DEFINED}
    assert {pieces.kinds[i] for i in range(238, 494)} == {Kind.BYTE}


def test_text_comes_back_whatever_it_is(model: bytes) -> None:
    tokenizer = Tokenizer.from_model(model)
    for text in ("a  b\n\n c ", " lead", "<start_of_turn>user", "汉字 😀", "x" * 50, "1234", "\ttab"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert not set(tokenizer.encode("<start_of_turn><eos><image_soft_token>")) & tokenizer.controls


def test_digits_are_split(model: bytes) -> None:
    tokenizer = Tokenizer.from_model(model)
    assert len(tokenizer.encode("2024")) == 4
