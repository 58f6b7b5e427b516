"""Stages leave whole files or none: a file that was cut would be taken for the result by the next start."""

from __future__ import annotations

import ast
import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemmary.errors import GemmaryError
from gemmary.inputs.tokenizer import Tokenizer
from gemmary.recipes import language, nano, sight
from gemmary.recipes.conversation import Mixture
from gemmary.recipes.corpus import Corpus, Part
from gemmary.recipes.language import Language, Phase
from gemmary.recipes.results import in_a_sentence, leave, leave_arrays, leave_npz, leave_text
from gemmary.recipes.studies import lab
from tests.recipes import toydata
from tests.recipes.studies import library
from tests.train import shapes, toys

RECIPES = Path(nano.__file__).parent
ROOM = 500  # bytes that a file may have: all of those that are written here are longer
ARRAYS = {"a": np.arange(1000, dtype=np.float32)}


@contextmanager
def full_disk() -> Iterator[None]:
    """Whoever writes a file beyond `ROOM` bytes gets an error there, and what is before stays."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: leave(path, bytes(1000)),
        lambda path: leave_text(path, "x" * 1000),
        lambda path: leave_arrays(path, ARRAYS),
        lambda path: leave_npz(path, ARRAYS),
    ],
)
def test_a_file_is_whole_or_as_it_was(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "result"
    for before in (None, b"the old one"):
        if before is not None:
            path.write_bytes(before)
        with full_disk(), pytest.raises(GemmaryError, match="result: cannot be written: File too large"):
            write(path)
        assert list(tmp_path.iterdir()) == ([] if before is None else [path])
        assert before is None or path.read_bytes() == before
    write(path)
    assert path.stat().st_size >= 1000


def test_recipes_write_in_no_other_way() -> None:
    """The dump of pictures streams a list for people; nothing takes it for a stage's result."""
    writers = {"save_file", "write_text", "write_bytes", "savez", "savez_compressed", "save", "dump"}
    found = [
        f"{path.relative_to(RECIPES)}: {ast.unparse(node.func)}"
        for path in sorted(RECIPES.rglob("*.py"))
        if path.name not in ("results.py", "__main__.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in writers
    ]
    assert found == []


def stages(folder: Path) -> Language:
    corpus = Corpus(toydata.write(folder / "data"), seed=1, held_pages=2)
    return Language(corpus, folder / "out", 64, 300, 1)


def vocabulary(folder: Path) -> Callable[[], Any]:
    made = stages(folder)
    return lambda: made.tokenizer(700)


def rows(folder: Path) -> Callable[[], Any]:
    made = stages(folder)
    tokenizer = Tokenizer.from_model(library.vocabulary())
    phase = Phase("all", Part("all", 2_000, 0.1, Mixture()), toys.plan(1))
    return lambda: made.rows(phase, tokenizer)


def weights(folder: Path) -> Callable[[], Any]:
    text, tower = shapes.text(), shapes.tower()
    return lambda: sight.learnt(text, tower, None, shapes.plan(1), folder / "out")  # type: ignore[arg-type]


def shared_vocabulary(folder: Path) -> Callable[[], Any]:
    made = lab.Lab(library.write(folder / "data"), folder / "out", lab.QUICK)
    return lambda: made.tokenizer


class Done:
    """A trainer that has nothing to do."""

    def __init__(self, *_: object) -> None:
        pass

    def run(self) -> bool:
        """At the end of its plan."""
        return True


@pytest.mark.parametrize("stage", [vocabulary, rows, weights, shared_vocabulary])
def test_a_stage_on_a_full_disk_leaves_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Callable[[Path], Callable[[], Any]]
) -> None:
    monkeypatch.setattr(sight, "Trainer", Done)
    (tmp_path / "out").mkdir()
    work = stage(tmp_path)
    with full_disk(), pytest.raises(GemmaryError, match="cannot be written"):
        work()
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_the_command_ends_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = toydata.write(tmp_path / "data"), tmp_path / "out"
    monkeypatch.setattr(language, "train_vocabulary", lambda texts, size: bytes(1000))
    monkeypatch.setattr("sys.argv", ["nano", "--data", str(data), "--out", str(out)])
    with full_disk(), pytest.raises(SystemExit) as ended:
        nano.main()
    assert ended.value.code == f"{out / 'tokenizer.model'}: cannot be written: File too large"


def test_errors_of_the_system_are_sentences_too(tmp_path: Path) -> None:
    for error, said in (
        (
            OSError(errno.ENOSPC, "No space left on device", str(tmp_path)),
            f"{tmp_path}: No space left on device",
        ),
        (OSError("the disk is gone"), "the disk is gone"),
    ):
        with pytest.raises(SystemExit) as ended, in_a_sentence():
            raise error
        assert ended.value.code == said
    with pytest.raises(ValueError, match="ours"), in_a_sentence():
        raise ValueError("ours")  # a mistake in the code keeps its traceback
