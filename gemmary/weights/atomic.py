"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import GemmaryError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` when the block ends without an error.

    It is written under a temporary name in the same folder, forced to disk, then renamed; the folder is
    forced to disk too, so that after a power cut there is the old file or the new one. On any error the
    temporary file is removed and what was at `path` stays. OSErrors (disk full, ...) become GemmaryErrors.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with _created(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise GemmaryError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new, empty folder to fill that becomes `path` when the block ends without an error.

    On any error it is removed with all that is in it, and what was at `path` stays. A folder that was at
    `path` is deleted once the new one is whole: whether that is right is for the caller to know. OSErrors
    become GemmaryErrors.
    """
    mark = secrets.token_hex(4)
    temporary, old = (path.with_name(f".{path.name}.{mark}.{end}") for end in ("part", "old"))
    try:
        temporary.mkdir()
        yield temporary
        _sync_folder(temporary)
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise GemmaryError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _created(path: Path) -> BinaryIO:
    # "x" never follows a link that someone laid; permissions follow the umask, as for any new file.
    return open(path, "xb")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
