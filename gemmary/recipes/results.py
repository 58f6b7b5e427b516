"""What stages leave. A file is whole or not there, so that whoever finds one may take it for the result."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from ..errors import GemmaryError
from ..weights.atomic import replacing

Weights = Mapping[str, npt.NDArray[np.float32]]


def leave(path: Path, content: bytes) -> None:
    """Write a file. GemmaryError: it cannot be written."""
    with replacing(path) as file:
        file.write(content)


def leave_text(path: Path, text: str) -> None:
    """Write a file in UTF-8. GemmaryError: it cannot be written."""
    leave(path, text.encode())


def leave_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name as safetensors. GemmaryError: it cannot be written."""
    leave(path, save(dict(arrays)))


def leave_npz(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name as NumPy does. GemmaryError: it cannot be written."""
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """For the block of a command: what a user can mend (a full disk, ...) ends it with a sentence."""
    try:
        yield
    except GemmaryError as error:
        sys.exit(str(error))
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        sys.exit(f"{where}{error.strerror or error}")
