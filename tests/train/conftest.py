"""Files for the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.data.toyfiles import write


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with files to learn from."""
    write(tmp_path / "files")
    return tmp_path
