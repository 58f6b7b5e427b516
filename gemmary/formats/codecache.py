"""Where compiled code is kept between starts: a folder of this user only, one for each state of the sources.

Numba's own cache looks only at the file of the function that it loads, not at what was inlined from other
files; two processes that fill it at once may leave one function's code under another's name; and it unpickles
whatever it finds. Here the folder's name carries a hash of all sources that are compiled, every function has
a file of its own, written whole or not at all, and what has not the checksum that it was written with is
compiled again. Code in the folder is executed: hence mode 0700.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile

_PACKAGE = Path(__file__).parent.parent
_COMPILED = ("formats", "ops")
_DAYS = 30  # code of sources that nobody has run for so long is dropped
_CHECKSUM = hashlib.sha256().digest_size  # bytes

_listeners: list[Callable[[], None]] = []
_complained: set[Path] = set()


def fingerprint() -> str:
    """Hash of every source that ends up in compiled code, and of the compiler."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for folder in _COMPILED:
        for file in sorted((_PACKAGE / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def code_cache() -> Path:
    """The folder, made if that is possible."""
    root = os.environ.get("XDG_CACHE_HOME")
    kernels = (Path(root) if root else Path.home() / ".cache") / "gemmary" / "kernels"
    folder = kernels / fingerprint()
    try:
        _make(folder)
    except OSError as fault:
        _complain(kernels, fault)
    with suppress(OSError):
        os.utime(folder)  # in use
    return folder


@contextmanager
def announced(listener: Callable[[], None]) -> Iterator[None]:
    """Call `listener` each time that something has to be compiled meanwhile, in whichever thread that is."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _make(folder: Path) -> None:
    """A folder of this user only, and none of those beside it that nobody uses any more."""
    kernels = folder.parent
    if not folder.is_dir():
        kernels.mkdir(parents=True, exist_ok=True, mode=0o700)
        _drop_unused(kernels)
        folder.mkdir(exist_ok=True, mode=0o700)
    for path in (kernels, folder):
        with suppress(OSError):  # then code in it is not run, see `_ours`
            if stat.S_IMODE(path.stat().st_mode) != 0o700:
                path.chmod(0o700)


def _drop_unused(kernels: Path) -> None:
    oldest = time.time() - _DAYS * 24 * 3600
    for folder in kernels.iterdir():
        if re.fullmatch("[0-9a-f]{16}", folder.name) and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def _ours(folder: Path) -> bool:
    """Whether nobody else can have put code there."""
    if not hasattr(os, "getuid"):
        return True
    about = [path.stat() for path in (folder.parent, folder)]
    return all(each.st_uid in (0, os.getuid()) and not each.st_mode & 0o022 for each in about)


def _complain(folder: Path, fault: OSError) -> None:
    """Once."""
    if folder not in _complained:
        _complained.add(folder)
        warnings.warn(
            f"compiled code cannot be kept in {folder} ({fault.strerror or fault}), so every start compiles "
            "it anew: make room there, or set XDG_CACHE_HOME to a folder that can be written",
            RuntimeWarning,
            stacklevel=3,
        )


class _Place:
    """What Numba asks about where code is kept; it calls this a locator."""

    def __init__(self, function: Any) -> None:
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: Any, _file: str) -> _Place:
        return cls(function)

    def get_cache_path(self) -> str:
        return str(code_cache())

    def ensure_cache_path(self) -> None:
        _make(code_cache())

    def get_source_stamp(self) -> str:
        return ""  # the folder's name says it

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Results(CompileResultCacheImpl):
    _locator_classes = [_Place]  # type: ignore[list-item]  # noqa: RUF012


def _checksum(key: Any, content: bytes) -> bytes:
    return hashlib.sha256(repr(key).encode() + content).digest()


class _Files(IndexDataCacheFile):
    """A file for each key: what Numba pickled, and its checksum."""

    def save(self, key: Any, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(self._file(key))) as file:
            file.write(content + _checksum(key, content))

    def load(self, key: Any) -> Any:
        """What was saved, or None if that is not there as it was written."""
        name = self._file(key)
        path = Path(self._data_path(name))
        content = path.read_bytes()
        if _checksum(key, content[:-_CHECKSUM]) != content[-_CHECKSUM:] or not _ours(path.parent):
            return None
        return self._load_data(name)  # unpickling stops before the checksum

    def _file(self, key: Any) -> str:
        place = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return f"{self._index_name.removesuffix('.nbi')}.{place}.code"


class CodeCache(FunctionCache):
    """The compiled forms of one function, kept in `code_cache()`. What goes wrong there stops nobody."""

    _impl_class = _Results

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, "")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except OSError:
            found = None
        if found is None:
            for listener in _listeners:
                listener()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as fault:
            _complain(Path(self._cache_path).parent, fault)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Everything that tells two compiled forms apart, in words that are the same in every process."""
        code = self._py_func.__code__
        return str(sig), codegen.magic_tuple(), _described(self._py_func), _source(code.co_filename)


@cache
def _source(file: str) -> str:
    """Hash of a source: tests, too, compile functions."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if Path(file).is_file() else ""


def _described(value: Any) -> Any:
    """A function by its name and by what it encloses; another value by its text."""
    function = getattr(value, "py_func", value)
    if not hasattr(function, "__qualname__"):
        return repr(value)
    enclosed = tuple(_described(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ())
    return function.__module__, function.__qualname__, enclosed
