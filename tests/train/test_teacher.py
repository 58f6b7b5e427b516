"""A teacher gives the same targets online and from disk, and a student learns the same from both."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gemmary.errors import GemmaryError
from gemmary.train.loop import Plan, Trainer
from gemmary.train.loss import mean_loss
from gemmary.train.packing import Rows
from gemmary.train.sampling import Distillation
from gemmary.train.target_shard import TargetsError
from gemmary.train.teacher import OnlineTeacher, Teacher
from gemmary.train.teacher_cache import CachedTeacher, write_targets
from gemmary.train.text_task import TextTask
from tests.train import toys

COUNTS = Distillation(draws=256, reading="counts", replacement=True, seed=3)
HOWS = {"counts": COUNTS, "renormalised": Distillation(draws=16, seed=3, temperature=1.5)}
DATA = toys.rows(24)
FILE = 4 * toys.ROW  # tokens: four rows a file


def teacher(how: Distillation, seed: int = 11) -> OnlineTeacher:
    """A sharp teacher: some tokens are nearly certain."""
    model = toys.model(seed=seed)
    with torch.no_grad():
        model.norm.weight.fill_(3.0)
    return OnlineTeacher(model, how, chunk=50)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of targets for each way to draw."""
    folders = {name: tmp_path_factory.mktemp("targets") / name for name in HOWS}
    for name, folder in folders.items():
        write_targets(folder, teacher(HOWS[name]), DATA, tokens=FILE)
    return folders


@pytest.fixture
def folder(written: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the counts, to spoil."""
    return Path(shutil.copytree(written["counts"], tmp_path / "targets"))


def spread_out(teacher: OnlineTeacher | CachedTeacher, rows: Rows) -> torch.Tensor:
    ids, amounts = teacher.sampled(rows)
    return torch.zeros(len(ids), toys.TOY.vocab).scatter_add(1, ids, amounts)


@pytest.mark.parametrize("name", HOWS)
def test_targets_from_disk_are_those_online_in_any_order(written: dict[str, Path], name: str) -> None:
    disk, online = CachedTeacher(written[name], HOWS[name], DATA), teacher(HOWS[name])
    assert len(list(written[name].iterdir())) == -(-len(DATA) // 4) > 2
    for chosen in (np.array([9, 0, 7, 3]), slice(2, 4)):
        rows = DATA.take(chosen)  # type: ignore[arg-type]
        mine, theirs = spread_out(disk, rows), spread_out(online, rows)
        torch.testing.assert_close(mine, theirs, rtol=0 if name == "counts" else 2e-3, atol=1e-7)
        assert torch.allclose(mine.sum(-1), torch.ones(()))
    assert disk.vocabulary == toys.TOY.vocab


def test_a_teacher_who_is_sure_gives_all_of_its_mass() -> None:
    """Without replacement ids come in their order, most of them with no probability at all."""
    sure = teacher(Distillation(draws=toys.TOY.vocab))
    sure.model.table.weight.mul_(1e3)
    found = sure.sampled(DATA.take(slice(0, 1)))
    assert (found.amounts > 0).sum(-1).max() < toys.TOY.vocab
    torch.testing.assert_close(found.amounts.sum(-1), torch.ones(len(found.amounts)))


def taught(plan: Plan, folder: Path, by: Teacher) -> Trainer:
    return Trainer(TextTask(toys.model(), DATA, plan, by), plan, folder)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainer.parameters]


@pytest.mark.parametrize("name", HOWS)
def test_a_student_learns_the_same_from_disk(tmp_path: Path, written: dict[str, Path], name: str) -> None:
    how = replace(HOWS[name], share=0.75)  # how much the teacher counts is not the files' business
    plan = toys.plan(3, parts=1, workers=1, distill=how, z=1e-4)
    online = taught(plan, tmp_path / "online", teacher(how))
    disk = taught(plan, tmp_path / "disk", CachedTeacher(written[name], how, DATA))
    assert online.run() and disk.run()
    pairs = list(zip(weights(online), weights(disk), strict=True))
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
    plan = toys.plan(12, parts=1, workers=1, distill=COUNTS)
    trainer = taught(plan, tmp_path, teacher(COUNTS))
    before = divergence(trainer.task.module, COUNTS, held)
    assert trainer.run()
    assert divergence(trainer.task.module, COUNTS, held) < 0.7 * before
    assert mean_loss(trainer.task.module, held) > 2  # from the teacher, who knows nothing of the texts


def test_writing_goes_on_behind_what_is_there(written: dict[str, Path], folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    kept, damaged, lost = (folder / name for name in names[:3])
    before = kept.stat().st_mtime_ns
    damaged.write_bytes(damaged.read_bytes()[:-1])
    lost.unlink()
    said: list[str] = []
    write_targets(folder, teacher(COUNTS), DATA, tokens=FILE, warn=said.append)
    assert len(said) == 1 and damaged.name in said[0]
    assert kept.stat().st_mtime_ns == before
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all((folder / name).read_bytes() == (written["counts"] / name).read_bytes() for name in names)


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
        write_targets(tmp_path, teacher(COUNTS), DATA, tokens=FILE)
    assert [path.name for path in tmp_path.iterdir()] == ["targets-00000.bin"]
    with pytest.raises(TargetsError, match="files are missing, targets-00001"):
        CachedTeacher(tmp_path, COUNTS, DATA)


@pytest.mark.parametrize(
    "change, fault",
    [({"seed": 4}, "seed"), ({"draws": 255}, "draws"), ({"temperature": 2.0}, "temperature")],
)
def test_other_draws_are_refused(folder: Path, change: dict[str, int], fault: str) -> None:
    other = replace(COUNTS, **change)
    with pytest.raises(TargetsError, match=f"made with another {fault}"):
        CachedTeacher(folder, other, DATA)
    with pytest.raises(TargetsError, match=f"made with another {fault}"):
        write_targets(folder, teacher(other), DATA, tokens=FILE)


def test_other_data_and_another_teacher_are_refused(folder: Path) -> None:
    with pytest.raises(TargetsError, match="another data"):
        CachedTeacher(folder, COUNTS, toys.rows(seed=1))
    with pytest.raises(TargetsError, match="another teacher"):
        write_targets(folder, teacher(COUNTS, seed=12), DATA, tokens=FILE)


def test_files_that_changed_places_are_refused(folder: Path) -> None:
    (folder / "targets-00000.bin").replace(folder / "targets-00001.bin")
    with pytest.raises(TargetsError, match="cannot be read"):
        CachedTeacher(folder, COUNTS, DATA)
    shutil.copy(folder / "targets-00001.bin", folder / "targets-00000.bin")
    with pytest.raises(TargetsError, match="another number"):
        CachedTeacher(folder, COUNTS, DATA).sampled(DATA)


def test_damage_is_found_when_the_file_is_used(folder: Path) -> None:
    victim = folder / "targets-00002.bin"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 4
    victim.write_bytes(content)
    disk = CachedTeacher(folder, COUNTS, DATA)
    disk.sampled(DATA.take(slice(0, 8)))
    with pytest.raises(TargetsError, match=r"00002.bin: it changed since it was written"):
        disk.sampled(DATA.take(slice(0, 9)))


def test_more_draws_than_a_byte_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 256 draws"):
        write_targets(tmp_path, teacher(replace(COUNTS, draws=257)), DATA)


def test_a_run_needs_the_teacher_that_its_plan_names() -> None:
    for plan, given in (
        (toys.plan(2), teacher(COUNTS)),
        (toys.plan(2, distill=COUNTS), None),
        (toys.plan(2, distill=COUNTS), teacher(HOWS["renormalised"])),
    ):
        with pytest.raises(ValueError, match="as Plan"):
            TextTask(toys.model(), DATA, plan, given)
    small = toys.model(replace(toys.TOY, vocab=40))
    with pytest.raises(GemmaryError, match="the teacher knows 48 ids, the student 40"):
        TextTask(small, DATA, toys.plan(2, distill=COUNTS), teacher(COUNTS))


def test_a_run_does_not_go_on_with_another_teacher(tmp_path: Path) -> None:
    plan = toys.plan(1, parts=1, distill=COUNTS)
    taught(plan, tmp_path, teacher(COUNTS)).run()
    with pytest.raises(GemmaryError, match="another teacher"):
        taught(plan, tmp_path, teacher(COUNTS, seed=12)).run()


def test_rows_in_which_nothing_counts_have_no_targets(written: dict[str, Path]) -> None:
    rows = DATA.take(slice(0, 2))
    nothing = replace(rows, weights=np.zeros_like(rows.weights))
    for source in (
        teacher(COUNTS),
        teacher(HOWS["renormalised"]),
        CachedTeacher(written["counts"], COUNTS, DATA),
    ):
        assert len(source.sampled(nothing).ids) == 0
