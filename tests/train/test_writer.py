"""A checkpoint written beside the training is the one that the training had, or a sentence says why not."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from gemmary.train import checkpoint, tensor_files
from gemmary.train.checkpoint import Checkpoint, CheckpointError, load_latest
from gemmary.train.writer import Writer
from tests.train import toys


def made(step: int) -> Checkpoint:
    return Checkpoint(step, {"a": torch.full((50,), float(step))}, {"note": step})


class Gate:
    """Holds every write until it is opened."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.open, self.writing, self.most, self._now = threading.Event(), threading.Event(), 0, 0
        honest = tensor_files.write

        def write(target: Path, given: Mapping[str, torch.Tensor]) -> None:
            self._now += 1
            self.most = max(self.most, self._now)
            self.writing.set()
            assert self.open.wait(60)
            honest(target, given)
            self._now -= 1

        patch.setattr(tensor_files, "write", write)


def test_what_changes_while_it_is_written_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    given = made(1)
    with Writer(tmp_path, 2, 1, background=True) as writer:
        writer.save(given)
        assert gate.writing.wait(60)
        given.tensors["a"].fill_(-1.0)
        assert load_latest(tmp_path) is None  # a kill at this point leaves what was there before
        gate.open.set()
    found = load_latest(tmp_path)
    assert found is not None and torch.equal(found.tensors["a"], made(1).tensors["a"])


def test_one_is_in_flight_at_most_and_the_end_waits_for_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    with Writer(tmp_path, 2, 1, background=True) as writer:
        writer.save(made(1))
        threading.Timer(0.1, gate.open.set).start()
        for step in (2, 3, 4):
            writer.save(made(step))
            assert (tmp_path / f"step-{step - 1:08d}").exists()
    assert gate.most == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize("background", [False, True])
def test_files_are_the_same_bytes(tmp_path: Path, background: bool) -> None:
    checkpoint.save(tmp_path / "plain", made(7))
    with Writer(tmp_path / "writer", 2, 1, background) as writer:
        writer.save(made(7))
    for path in (tmp_path / "plain/step-00000007").iterdir():
        assert (tmp_path / "writer/step-00000007" / path.name).read_bytes() == path.read_bytes()


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One good checkpoint, then no room for another."""
    checkpoint.save(tmp_path, made(1))

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_fault_of_the_thread_is_raised_at_the_next_save(tmp_path: Path, full: None) -> None:
    writer = Writer(tmp_path, 2, 1, background=True)
    with (
        pytest.raises(CheckpointError, match=r"step-00000002: cannot be written .* free some disk space"),
        writer,
    ):
        writer.save(made(2))
        writer.save(made(3))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_or_at_the_end(tmp_path: Path, full: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match="free some disk space"), Writer(tmp_path, 2, 1, True) as writer:
        writer.save(made(2))
    with pytest.raises(KeyError), Writer(tmp_path, 2, 1, True) as writer:
        writer.save(made(2))
        raise KeyError("greater trouble")
    assert "free some disk space" in capsys.readouterr().err
    found = load_latest(tmp_path)
    assert found is not None and found.step == 1


def test_a_run_that_writes_beside_itself_is_the_same_run(tmp_path: Path) -> None:
    for background in (False, True):
        folder = tmp_path / str(background)
        torch.manual_seed(0)  # whose state is in the checkpoint
        assert toys.trainer(folder, 9, layers=1, background=background, ema=0.9).run()
    assert toys.log(tmp_path / "True") == toys.log(tmp_path / "False")
    one, other = (load_latest(tmp_path / str(background)) for background in (False, True))
    assert one is not None and other is not None and one.state == other.state
    assert all(torch.equal(one.tensors[name], tensor) for name, tensor in other.tensors.items())
