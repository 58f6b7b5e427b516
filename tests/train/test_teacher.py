"""A teacher gives the same targets online and from disk, and a student learns the same from both."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gemmary.errors import GemmaryError
from gemmary.train.loop import Trainer
from gemmary.train.loss import mean_loss
from gemmary.train.packing import Rows
from gemmary.train.sampling import Distillation
from gemmary.train.target_shard import TargetsError
from gemmary.train.teacher import OnlineTeacher
from gemmary.train.teacher_cache import CachedTeacher, write_targets
from tests.train import toys

COUNTS = Distillation(draws=256, reading="counts", replacement=True, seed=3)
HOWS = {"counts": COUNTS, "renormalised": Distillation(draws=16, seed=3, temperature=1.5)}
FILE = 5 * toys.ROW  # tokens: five rows a file


def teacher(how: Distillation, seed: int = 11) -> OnlineTeacher:
    """A sharp teacher: some tokens are nearly certain."""
    model = toys.model(seed=seed)
    with torch.no_grad():
        model.norm.weight.fill_(3.0)
    return OnlineTeacher(model, how, chunk=50)


def cached(folder: Path, how: Distillation, data: Rows) -> CachedTeacher:
    write_targets(folder, teacher(how), data, tokens=FILE)
    return CachedTeacher(folder, how, data)


def spread_out(teacher: OnlineTeacher | CachedTeacher, rows: Rows) -> torch.Tensor:
    ids, amounts = teacher.sampled(rows)
    return torch.zeros(len(ids), toys.TOY.vocab).scatter_add(1, ids, amounts)


@pytest.mark.parametrize("name", HOWS)
def test_targets_from_disk_are_those_online_in_any_order(tmp_path: Path, name: str) -> None:
    how, data = HOWS[name], toys.rows()
    disk, online = cached(tmp_path, how, data), teacher(how)
    assert len(list(tmp_path.iterdir())) == -(-len(data) // 5) > 2
    for chosen in (np.array([7, 0, 12, 3]), slice(4, 6)):
        rows = data.take(chosen)  # type: ignore[arg-type]
        mine, theirs = spread_out(disk, rows), spread_out(online, rows)
        torch.testing.assert_close(mine, theirs, rtol=0 if name == "counts" else 2e-3, atol=1e-7)
        assert torch.allclose(mine.sum(-1), torch.ones(()))
    assert disk.vocabulary == toys.TOY.vocab


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainer.model.parameters()]


@pytest.mark.parametrize("name", HOWS)
def test_a_student_learns_the_same_from_disk(tmp_path: Path, name: str) -> None:
    how, data = replace(HOWS[name], share=0.75), toys.rows()
    plan = toys.plan(4, distill=how, z=1e-4)
    cached(tmp_path / "disk", HOWS[name], data)  # how much the teacher counts is not its business
    runs = {
        "online": Trainer(toys.model(), data, plan, tmp_path / "a", teacher(how)),
        "disk": Trainer(
            toys.model(), data, plan, tmp_path / "b", CachedTeacher(tmp_path / "disk", how, data)
        ),
    }
    for trainer in runs.values():
        assert trainer.run()
    pairs = list(zip(weights(runs["online"]), weights(runs["disk"]), strict=True))
    if name == "counts":
        assert all(torch.equal(a, b) for a, b in pairs)
    assert all(torch.allclose(a, b, atol=1e-2) for a, b in pairs)


def divergence(student: torch.nn.Module, how: Distillation, data: Rows) -> float:
    """Mean KL from teacher to student over the tokens of `data`."""
    step = data.step()[0]
    with torch.no_grad():
        p, q = (
            (model(step) @ model.table.weight.T).log_softmax(-1) for model in (teacher(how).model, student)
        )
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_a_student_comes_nearer_to_its_teacher(tmp_path: Path) -> None:
    held = toys.rows(seed=9)
    plan = toys.plan(12, distill=COUNTS)
    trainer = Trainer(toys.model(), toys.rows(), plan, tmp_path, teacher(COUNTS))
    before = divergence(trainer.model, COUNTS, held)
    assert trainer.run()
    assert divergence(trainer.model, COUNTS, held) < 0.7 * before
    assert mean_loss(trainer.model, held) > 2  # from the teacher, who knows nothing of the texts


def test_writing_goes_on_behind_what_is_there(tmp_path: Path) -> None:
    data = toys.rows()
    write_targets(tmp_path / "whole", teacher(COUNTS), data, tokens=FILE)
    cut = tmp_path / "cut"
    write_targets(cut, teacher(COUNTS), data, tokens=FILE)
    names = sorted(path.name for path in cut.iterdir())
    kept, damaged, lost = (cut / name for name in names[:3])
    before = kept.stat().st_mtime_ns
    damaged.write_bytes(damaged.read_bytes()[:-1])
    lost.unlink()
    said: list[str] = []
    write_targets(cut, teacher(COUNTS), data, tokens=FILE, warn=said.append)
    assert len(said) == 1 and damaged.name in said[0]
    assert kept.stat().st_mtime_ns == before
    assert sorted(path.name for path in cut.iterdir()) == names
    assert all((cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)


def test_a_full_disk_leaves_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    honest = os.fsync

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(descriptor)

    with monkeypatch.context() as broken, pytest.raises(GemmaryError, match="No space left"):
        broken.setattr(os, "fsync", full)
        write_targets(tmp_path, teacher(COUNTS), toys.rows(), tokens=FILE)
    assert [path.name for path in tmp_path.iterdir()] == ["targets-00000.bin"]
    with pytest.raises(TargetsError, match="files are missing, targets-00001"):
        CachedTeacher(tmp_path, COUNTS, toys.rows())
    cached(tmp_path, COUNTS, toys.rows())


@pytest.mark.parametrize(
    "change, fault",
    [({"seed": 4}, "seed"), ({"draws": 255}, "draws"), ({"temperature": 2.0}, "temperature")],
)
def test_other_draws_are_refused(tmp_path: Path, change: dict[str, int], fault: str) -> None:
    data = toys.rows()
    cached(tmp_path, COUNTS, data)
    other = replace(COUNTS, **change)
    with pytest.raises(TargetsError, match=f"made with another {fault}"):
        CachedTeacher(tmp_path, other, data)
    with pytest.raises(TargetsError, match=f"made with another {fault}"):
        write_targets(tmp_path, teacher(other), data, tokens=FILE)


def test_other_data_and_another_teacher_are_refused(tmp_path: Path) -> None:
    data = toys.rows()
    cached(tmp_path, COUNTS, data)
    with pytest.raises(TargetsError, match="another data"):
        CachedTeacher(tmp_path, COUNTS, toys.rows(seed=1))
    with pytest.raises(TargetsError, match="another teacher"):
        write_targets(tmp_path, teacher(COUNTS, seed=12), data, tokens=FILE)


def test_damage_is_found_when_the_file_is_used(tmp_path: Path) -> None:
    data = toys.rows()
    cached(tmp_path, COUNTS, data)
    victim = tmp_path / "targets-00002.bin"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 4
    victim.write_bytes(content)
    disk = CachedTeacher(tmp_path, COUNTS, data)
    disk.sampled(data.take(slice(0, 10)))
    with pytest.raises(TargetsError, match=r"00002.bin: it changed since it was written"):
        disk.sampled(data.take(slice(0, 11)))


def test_more_draws_than_a_byte_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 256 draws"):
        write_targets(tmp_path, teacher(replace(COUNTS, draws=257)), toys.rows())


def test_a_run_needs_the_teacher_that_its_plan_names(tmp_path: Path) -> None:
    data = toys.rows()
    for plan, given in (
        (toys.plan(2), teacher(COUNTS)),
        (toys.plan(2, distill=COUNTS), None),
        (toys.plan(2, distill=COUNTS), teacher(HOWS["renormalised"])),
    ):
        with pytest.raises(ValueError, match="as Plan"):
            Trainer(toys.model(), data, plan, tmp_path, given)
    small = toys.model(replace(toys.TOY, vocab=40))
    with pytest.raises(GemmaryError, match="the teacher knows 48 ids, the student 40"):
        Trainer(small, data, toys.plan(2, distill=COUNTS), tmp_path, teacher(COUNTS))


def test_a_run_does_not_go_on_with_another_teacher(tmp_path: Path) -> None:
    plan = toys.plan(4, distill=COUNTS)
    Trainer(toys.model(), toys.rows(), plan, tmp_path, teacher(COUNTS)).run()
    with pytest.raises(GemmaryError, match="another teacher"):
        Trainer(toys.model(), toys.rows(), plan, tmp_path, teacher(COUNTS, seed=12)).run()
