"""Models that are not written in another number format: why, and what is left then."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from gemmary.config import Rope
from gemmary.errors import GemmaryError, UnsupportedModelError
from gemmary.formats import FormatError
from gemmary.weights import target
from gemmary.weights.requantize import convert, quantize

from .models import WIDE, source_folder, toy_folder, writers

ROOT = Path(__file__).parents[2]
folder = pytest.fixture(toy_folder, scope="module")


# ---- failures leave nothing


@pytest.mark.parametrize("name", ["new.gguf", "new"])
@pytest.mark.parametrize("calls", [1, 4])
def test_an_interrupted_run_leaves_nothing(folder: Path, tmp_path: Path, name: str, calls: int) -> None:
    left = calls

    def interrupt(done: int, total: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writers(folder, tmp_path)[name](progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["new.gguf", "new"])
def test_an_interrupted_run_leaves_what_was_there(folder: Path, tmp_path: Path, name: str) -> None:
    write = writers(folder, tmp_path)[name]
    write()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(progress=interrupt, force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    write(force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own: writing itself fails, halfway."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from gemmary.errors import GemmaryError\n"
        "from tests.weights.models import writers\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "for write in writers(Path(sys.argv[1]), Path(sys.argv[2])).values():\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        write()\n"
        "    except GemmaryError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, folder, tmp_path], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.count("cannot be written: File too large") == 2, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["new.gguf", "new"])
def test_a_disk_without_room_is_noticed_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(target.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1000))
    with pytest.raises(GemmaryError, match=r"new.*: needs 0\.\d\d GB, and its disk has 0\.00 GB left"):
        writers(folder, tmp_path)[name]()
    assert list(tmp_path.iterdir()) == []


# ---- values and models that cannot be written


@pytest.mark.parametrize(
    ("value", "body", "error", "message"),
    [
        (1e6, "f16", UnsupportedModelError, "'layers.1.up' holds values beyond 65,504.*take bf16"),
        (np.nan, "q4_0", FormatError, "'layers.1.up': Q4_0 cannot hold infinity or NaN"),
        (3e38, "int4", FormatError, "'layers.1.up': values this large overflow"),
    ],
)
def test_values_that_do_not_fit(
    tmp_path: Path, value: float, body: str, error: type[GemmaryError], message: str
) -> None:
    source = source_folder(tmp_path / "in", format="F32")
    stored = safetensors.torch.load_file(source / "model.safetensors")
    stored["model.layers.1.mlp.up_proj.weight"][95, 255] = value
    safetensors.torch.save_file(stored, source / "model.safetensors")
    with pytest.raises(error, match=message):
        quantize(source, tmp_path / "a.gguf", body)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_config_that_gguf_cannot_express(tmp_path: Path) -> None:
    scaled = source_folder(tmp_path / "scaled", replace(WIDE, query_scalar=99))
    local = source_folder(tmp_path / "local", replace(WIDE, rope_local=Rope(1e4, 2.0)))
    for source, message in ((scaled, "query scale of 99"), (local, "rope factor for local layers")):
        with pytest.raises(UnsupportedModelError, match=message):
            quantize(source, tmp_path / "a.gguf", "q4_0")
        convert(source, tmp_path / "folder", "f32", force=True)
    assert not (tmp_path / "a.gguf").exists()


# ---- where it goes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone/a.gguf", "there is no folder .*gone: make it first"),
        ("here.gguf", "is there already: give another name, or say --force"),
        ("full", "is there already"),
        ("a.safetensors", "such a model is a folder"),
        ("source", "is the source itself"),
        ("link", "is the source itself"),
        ("source/../source", "is the source itself"),
    ],
)
def test_targets_that_are_refused(folder: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "here.gguf").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    (tmp_path / "source").symlink_to(folder)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(GemmaryError, match=message):
        convert(tmp_path / "source", tmp_path / name, "bf16")
    assert {path.name for path in tmp_path.iterdir()} == {"here.gguf", "full", "source", "link"}
    assert (tmp_path / "here.gguf").read_text() == "mine"


def test_force_deletes_no_folder_of_other_things(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/config.json").write_text("{}")
    (tmp_path / "full/thesis.txt").write_text("mine")
    with pytest.raises(GemmaryError, match=r"holds more than a model .*'thesis\.txt'"):
        convert(folder, tmp_path / "full", "bf16", force=True)
    assert (tmp_path / "full/thesis.txt").read_text() == "mine"
    (tmp_path / "other").symlink_to(tmp_path / "full")
    (tmp_path / "dir.gguf").mkdir()
    (tmp_path / "file").touch()
    for name in ("other", "dir.gguf", "file"):
        with pytest.raises(GemmaryError, match="which the result cannot replace"):
            convert(folder, tmp_path / name, "bf16", force=True)


def test_quantize_writes_gguf_only(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GemmaryError, match=r"a name that ends in \.gguf"):
        quantize(folder, tmp_path / "new", "q4_0")
    with pytest.raises(GemmaryError, match=r"cannot be opened"):
        quantize(tmp_path / "absent.gguf", tmp_path / "a.gguf", "q4_0")
