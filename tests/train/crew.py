"""Several processes for the tests of sharded training, forked from one server that has torch already."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from gemmary.errors import GemmaryError
from gemmary.train.company import Company, torchrun
from gemmary.train.loop import Trainer
from gemmary.train.sharded import ShardedGradients
from gemmary.train.text_task import TextTask
from tests.train import toys

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.train.crew"])
Work = Callable[..., None]


def crew(count: int, work: Work, *arguments: Any) -> list[int]:
    """`work(company, *arguments)` by `count` processes, as torchrun starts them; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        SERVER.Process(target=_begin, args=(rank, count, port, work, arguments)) for rank in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(400)  # with a compiler, on a busy machine
        process.kill()
        process.join()
    return [process.exitcode or 0 for process in started]


def _begin(rank: int, count: int, port: int, work: Work, arguments: Sequence[Any]) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    with torchrun() as company:
        work(company, *arguments)


def trainer(
    company: Company, folder: Path, steps: int, changes: dict[str, Any], shards: int | None
) -> Trainer:
    """The toy's trainer; the same plan and data for any number of processes."""
    torch.manual_seed(0)
    how = toys.plan(steps, **changes)
    task = TextTask(toys.model(), toys.rows(), how)
    gradients = ShardedGradients(task, company, how.low, shards) if company.size > 1 else None
    return Trainer(task, how, folder, gradients, company)


def train(
    company: Company, folder: Path, steps: int, changes: dict[str, Any], shards: int | None = None
) -> None:
    """Train the toy, from its last checkpoint on."""
    trainer(company, folder, steps, changes, shards).run()


def train_and_lose(company: Company, folder: Path, steps: int, lost: int) -> None:
    """The last process ends without a word in step `lost`; the others write their error to a file."""
    mine = trainer(company, folder, steps, {}, None)
    honest = mine.gradients.accumulate

    def accumulate(parts: Sequence[Any]) -> Any:
        if mine.step == lost and company.rank == company.size - 1:
            os._exit(9)
        return honest(parts)

    mine.gradients.accumulate = accumulate  # type: ignore[method-assign]
    try:
        mine.run()
    except Exception as error:
        (folder / f"error-{company.rank}").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        sys.exit(1)


def refused(company: Company, folder: Path, changes: dict[str, Any], shards: int | None) -> None:
    """Try to train; every process writes why it may not."""
    with pytest.raises(GemmaryError) as error:
        trainer(company, folder / "run", 4, changes, shards).run()
    (folder / str(company.rank)).write_text(str(error.value), encoding="utf-8")


def resave(company: Company, source: Path, target: Path, steps: int, changes: dict[str, Any]) -> None:
    """Load the last checkpoint of `source` and write it in `target`, with this number of processes."""
    mine = trainer(company, source, steps, changes, None)
    with nullcontext(mine._writer()) as writer:
        mine._resume(writer)
    mine.folder = target
    mine._save(mine._writer())


def main() -> None:
    """What torchrun starts: 200 steps, or 40 where the run's folder has a file "short"."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with torchrun() as company:
        folder.mkdir(exist_ok=True)
        (folder / f"pid-{company.rank}").write_text(str(os.getpid()))
        train(company, folder, 40 if (folder / "short").exists() else 200, {"checkpoint_every": 4})


if __name__ == "__main__":
    main()
