"""A checkpoint is whole or not there; damage is found, said, and survived."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gemmary.train import checkpoint, snapshot, tensor_files
from gemmary.train.checkpoint import Checkpoint, CheckpointError, load_latest, save
from gemmary.train.ema import Average
from gemmary.train.optimizer import Learning, optimizers
from tests.train import toys


def made(step: int) -> Checkpoint:
    tensors = {"a": torch.full((300,), float(step)), "b": torch.arange(6, dtype=torch.uint8)}
    return Checkpoint(step, tensors, {"note": f"step {step}"})


def same(found: Checkpoint | None, wanted: Checkpoint) -> bool:
    if found is None or (found.step, found.state) != (wanted.step, wanted.state):
        return False
    return all(torch.equal(found.tensors[name], wanted.tensors[name]) for name in wanted.tensors)


def test_newest_comes_back_and_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    for step in (9, 10, 100):
        save(tmp_path, made(step), keep=2)
    assert same(load_latest(tmp_path), made(100))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]


def test_those_of_the_schedule_are_not_pushed_out_by_those_of_interrupts(tmp_path: Path) -> None:
    for step in (50, 100, 110, 120):
        save(tmp_path, made(step), keep=2, every=50)
    assert sorted(path.name[-3:] for path in tmp_path.iterdir()) == ["050", "100", "120"]
    save(tmp_path, made(150), keep=2, every=50)
    assert sorted(path.name[-3:] for path in tmp_path.iterdir()) == ["100", "150"]


def test_the_one_just_written_stays_behind_a_damaged_one_of_a_later_step(tmp_path: Path) -> None:
    (save(tmp_path, made(100)) / "state.json").unlink()
    save(tmp_path, made(60), keep=2, every=50)
    assert same(load_latest(tmp_path, lambda _: None), made(60))


def test_an_earlier_one_can_be_asked_for_and_the_later_ones_dropped(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, made(step), keep=3)
    assert same(load_latest(tmp_path, upto=2), made(2))
    assert load_latest(tmp_path, upto=0) is None
    checkpoint.drop_after(tmp_path, 1)
    assert same(load_latest(tmp_path), made(1))


def test_a_folder_with_another_name_is_not_a_checkpoint(tmp_path: Path) -> None:
    shutil.copytree(save(tmp_path, made(1)), tmp_path / "step-00000009 copy")
    save(tmp_path, made(2), keep=1)
    assert same(load_latest(tmp_path), made(2))
    assert (tmp_path / "step-00000009 copy").exists()


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "swap"])
def test_damage_is_found_and_the_one_before_is_used(tmp_path: Path, name: str, damage: str) -> None:
    older, newer = (save(tmp_path, made(step)) for step in (1, 2))
    victim = newer / name
    content = bytearray(victim.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif damage == "cut":
        victim.write_bytes(content[:-3])
    elif damage == "delete":
        victim.unlink()
    else:
        shutil.copy(older / name, victim)
    said: list[str] = []
    assert same(load_latest(tmp_path, said.append), made(1))
    assert len(said) == 1 and "step-00000002" in said[0]


def flipped(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << position % 8
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_any_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    save(tmp_path, made(1))
    target = save(tmp_path, made(2)) / name
    whole = target.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 40)):
        flipped(target, position)
        found = load_latest(tmp_path, lambda _: None)
        assert same(found, made(1)), f"bit of byte {position} of {name}"
        target.write_bytes(whole)


def test_nothing_intact_is_an_error_not_a_new_beginning(tmp_path: Path) -> None:
    (save(tmp_path, made(1)) / "state.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint is intact"):
        load_latest(tmp_path, lambda _: None)


@pytest.mark.parametrize("call", ["mkdir", "save_file", "write_text", "fsync", "rename"])
def test_failure_while_writing_leaves_the_last_good_one(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, made(1))

    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        owner = {"save_file": tensor_files, "fsync": os}.get(call, Path)
        broken.setattr(owner, call, full)
        with pytest.raises(CheckpointError, match="free some disk space"):
            save(tmp_path, made(2))
    assert same(load_latest(tmp_path), made(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    save(tmp_path, made(2))
    assert same(load_latest(tmp_path), made(2))


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        save(disk, made(1))
        large = Checkpoint(2, {"a": torch.zeros(100_000)}, {})
        with pytest.raises(CheckpointError):
            save(disk, large)
        assert same(load_latest(disk), made(1))
        save(disk, made(3))
        assert same(load_latest(disk), made(3))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_unfinished_one_is_never_read_and_is_cleared_away(tmp_path: Path) -> None:
    save(tmp_path, made(1))
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".unfinished-step-00000002")
    assert same(load_latest(tmp_path), made(1))
    save(tmp_path, made(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize("change", [{"layers": 3}, {"ffn": 64}, {"width": 1, "vocab": 1, "ffn": 1}])
def test_weights_of_another_model_are_refused(change: dict[str, int]) -> None:
    one, other = toys.model(replace(toys.TOY, **change)), toys.model()
    tensors = snapshot.take(one, optimizers(one, Learning()), Average(one, 0.0))
    with pytest.raises(CheckpointError, match="another model"):
        snapshot.restore(other, optimizers(other, Learning()), Average(other, 0.0), tensors)
