"""Rows come back from whichever files they lie in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gemmary.errors import ModelFileError
from gemmary.train.tensor_files import TensorFiles, name_of, write

WHOLE = torch.arange(35.0).reshape(7, 5)


def cut(folder: Path, *rows: tuple[int, int]) -> None:
    """`WHOLE` over files with so many rows each; the first file has a scalar, too."""
    for place, (first, last) in enumerate(rows):
        tensors = {"m": WHOLE[first:last], **({"step": torch.tensor(3.0)} if place == 0 else {})}
        write(folder / name_of(place, len(rows)), tensors, {"m": (first, 7)})


@pytest.mark.parametrize("rows", [((0, 7),), ((0, 4), (4, 7)), ((0, 3), (3, 6), (6, 7), (7, 7))])
def test_any_rows_from_any_files(tmp_path: Path, rows: tuple[tuple[int, int], ...]) -> None:
    cut(tmp_path, *rows)
    with TensorFiles(tmp_path) as files:
        assert sorted(files.names) == ["m", "step"]
        assert (files.shape("m"), files.shape("step")) == ((7, 5), ())
        assert torch.equal(files.whole("step"), torch.tensor(3.0))
        assert torch.equal(files.whole("m"), WHOLE)
        for first in range(8):
            for last in range(first, 8):
                assert torch.equal(files.rows("m", first, last), WHOLE[first:last])


def test_rows_that_are_nowhere_are_an_error(tmp_path: Path) -> None:
    cut(tmp_path, (0, 3), (4, 7))
    with (
        TensorFiles(tmp_path) as files,
        pytest.raises(ModelFileError, match="rows 3 to 7 of m"),
    ):
        files.whole("m")


def test_rows_beyond_the_last_file_are_missed(tmp_path: Path) -> None:
    cut(tmp_path, (0, 3), (3, 5))
    with TensorFiles(tmp_path) as files, pytest.raises(ModelFileError, match="rows 5 to 7"):
        files.whole("m")
