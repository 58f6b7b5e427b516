"""Compiled code is kept, safely: whatever happens to the folder, results are right; trouble is told once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gemmary.formats import codecache

ROOT = Path(__file__).parents[2]
# Products in a few formats; all of them share the names and the signatures of their compiled functions.
WORK = """
import hashlib, sys
from gemmary.formats import FORMATS
from tests.ops.numba.played import product
from tests.ops.numba.test_linear import activations, packed
names = sys.argv[1].split()
found = {name: product(packed(FORMATS[name], 20, 256), activations(3, 256)).tobytes() for name in names}
print(hashlib.sha256(b"".join(found[name] for name in sorted(names))).hexdigest())
"""
FORBID = """
from numba.core import compiler
def refused(*args, **kwargs):
    raise RuntimeError("something was compiled")
compiler.compile_extra = refused
"""
NAMES = "Q4_0 Q8_0 Q6_K"


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(cache)}


def started(cache: Path, before: str = "", names: str = NAMES) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", before + WORK, names], cwd=ROOT, env=environment(cache), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed, and its complaints."""
    out, err = process.communicate(timeout=110)
    assert process.returncode == 0, err
    return out.strip(), err


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache folder after one start, and the right result."""
    cache = tmp_path_factory.mktemp("cache")
    out, err = ended(started(cache))
    assert err == ""
    return cache, out


@pytest.fixture
def copy(filled: tuple[Path, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled[0], tmp_path / "copy"))


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("gemmary/kernels/*/*"))


def test_the_second_start_compiles_nothing(filled: tuple[Path, str], tmp_path: Path) -> None:
    assert ended(started(filled[0], FORBID)) == (filled[1], "")
    process = started(tmp_path, FORBID)
    assert "something was compiled" in process.communicate(timeout=100)[1], "this test can fail"


def test_only_the_owner_reads(filled: tuple[Path, str]) -> None:
    kernels = filled[0] / "gemmary" / "kernels"
    assert {path.stat().st_mode & 0o777 for path in (kernels, *kernels.iterdir())} == {0o700}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def strange_pickle(path: Path) -> None:
    """What unpickling would run."""
    path.write_bytes(b"cos\n_exit\n(I77\ntR.")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [flip, cut, empty, garbage, strange_pickle, folder],
)
@pytest.mark.long
def test_damaged_files_are_compiled_again(
    damage: Callable[[Path], None], filled: tuple[Path, str], copy: Path
) -> None:
    assert len(files(copy)) > 5
    for path in files(copy):
        damage(path)
    out, err = ended(started(copy))
    assert out == filled[1]
    if damage is folder:
        assert err.count("cannot be kept") == 1
    else:
        assert err == ""
        assert ended(started(copy, FORBID)) == (filled[1], "")


@pytest.mark.long
def test_files_under_each_others_names_are_not_taken(filled: tuple[Path, str], copy: Path) -> None:
    """Numba's own cache can leave that behind when two processes fill it at once."""
    kernels = [path for path in files(copy) if "strips" in path.name]
    assert len(kernels) == 3
    contents = [path.read_bytes() for path in kernels]
    for path, content in zip(kernels, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    assert ended(started(copy)) == (filled[1], "")


@pytest.mark.long
def test_code_that_others_could_have_put_there_is_not_run(filled: tuple[Path, str], copy: Path) -> None:
    kernels = copy / "gemmary" / "kernels"
    stay = "import os, pathlib\npathlib.Path.chmod = lambda *_: None\n"  # as in a folder of somebody else
    kernels.chmod(0o777)
    process = started(copy, stay + FORBID)
    assert "something was compiled" in process.communicate(timeout=100)[1]
    assert ended(started(copy, stay))[0] == filled[1]


@pytest.mark.long
def test_two_processes_at_once(filled: tuple[Path, str], tmp_path: Path) -> None:
    orders = (NAMES, " ".join(reversed(NAMES.split())))
    both = [started(tmp_path, names=names) for names in orders]
    assert [ended(process) for process in both] == [(filled[1], "")] * 2
    assert ended(started(tmp_path, FORBID)) == (filled[1], "")
    assert not [path for path in files(tmp_path) if not path.name.endswith(".code")], (
        "something was left over"
    )


# As on a file system that is mounted for reading only, and as on one that has no room left.
READ_ONLY = """
import builtins, errno, os, tempfile
def fails(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
plain = builtins.open
def guarded(path, mode="r", *args, **kwargs):
    return fails() if "w" in mode and "gemmary/kernels" in str(path) else plain(path, mode, *args, **kwargs)
builtins.open = guarded
os.utime = os.mkdir = os.chmod = tempfile.TemporaryFile = fails
"""
FULL = """
import builtins
plain = builtins.open
def guarded(path, mode="r", *args, **kwargs):
    if "w" in mode and "gemmary/kernels" in str(path):
        plain(path, mode).close()
        return plain("/dev/full", mode, buffering=0)
    return plain(path, mode, *args, **kwargs)
builtins.open = guarded
"""


@pytest.mark.parametrize("trouble", [READ_ONLY, FULL], ids=["read-only", "full"])
@pytest.mark.long
def test_a_folder_that_takes_nothing(trouble: str, filled: tuple[Path, str], tmp_path: Path) -> None:
    """Everything is compiled, and one sentence says so."""
    out, err = ended(started(tmp_path / "new", trouble))
    assert out == filled[1]
    assert err.count("compiled code cannot be kept in ") == 1
    assert "set XDG_CACHE_HOME to a folder that can be written" in err
    assert files(tmp_path / "new") == [] or trouble is FULL


@pytest.mark.parametrize("trouble", [READ_ONLY, FULL], ids=["read-only", "full"])
def test_a_folder_that_takes_nothing_more(trouble: str, filled: tuple[Path, str]) -> None:
    """What it has is used, and there is nothing to complain about."""
    assert ended(started(filled[0], trouble + FORBID)) == (filled[1], "")


@pytest.mark.long
def test_no_folder_at_all(filled: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("this is no folder")
    out, err = ended(started(tmp_path / "file"))
    assert out == filled[1]
    assert err.count("cannot be kept") == 1


DAY = 24 * 3600


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    codecache.code_cache.cache_clear()
    yield tmp_path / "gemmary" / "kernels"
    codecache.code_cache.cache_clear()


def aged(folder: Path, days: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "kernel.code").touch()
    os.utime(folder, (time.time() - days * DAY,) * 2)
    return folder


def test_folders_that_nobody_uses_are_dropped(kernels: Path) -> None:
    old, used = aged(kernels / ("0" * 16), 31), aged(kernels / ("1" * 16), 29)
    others = [aged(kernels / "something", 400), aged(kernels.parent / ("2" * 16), 400)]
    made = codecache.code_cache()
    assert made.parent == kernels and made.is_dir()
    assert not old.exists()
    assert all(folder.exists() for folder in (used, *others))


def test_a_folder_in_use_stays_young(kernels: Path) -> None:
    made = aged(kernels / codecache.fingerprint(), 100)
    assert codecache.code_cache() == made
    assert made.stat().st_mtime > time.time() - DAY
    assert (made / "kernel.code").exists()
