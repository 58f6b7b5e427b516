"""Checkpoints of many processes: each writes the rows that it has, and the lead commits all files at once.

As in checkpoint.py there is a temporary name, a SHA-256 of every file, a rename, and nothing pickled
(torch.distributed.checkpoint pickles its metadata). Every process must see the same folder. What one process
wrote, many can read, and the other way round.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
from safetensors import SafetensorError
from torch import nn
from torch.distributed.tensor import DTensor

from ..errors import GemmaryError
from . import checkpoint, tensor_files
from .checkpoint import Checkpoint
from .company import Company
from .row_shard import first_replica, local, rows_here
from .snapshot import AVERAGE, MODEL, OPTIMIZER
from .tensor_files import TensorFiles

Tensor = torch.Tensor
NOTHING = bytes(32)  # in place of a SHA-256, until there is one


def save(folder: Path, held: Checkpoint, keep: int, every: int, company: Company) -> Path:
    """`checkpoint.save` by all processes together; of tensors that are not sharded, the lead's are written.

    CheckpointError, for all of them: one could not write. LostWorkerError: one is gone.
    """
    final = folder / f"{checkpoint.PREFIX}{held.step:08d}"
    names = [tensor_files.name_of(place, company.size) for place in range(company.size)]
    with _all_or_none(final, company):
        if company.lead:
            checkpoint.begin(final)
    digest = NOTHING
    with _all_or_none(final, company):
        path = checkpoint.temporary(final) / names[company.rank]
        _write(path, held.tensors, company)
        digest = bytes.fromhex(checkpoint.forced(path))
    digests = [found.hex() for found in company.digests(digest)]
    with _all_or_none(final, company):
        if company.lead:
            checkpoint.commit(final, held, dict(zip(names, digests, strict=True)))
            checkpoint.prune(final, keep, every)
    return final


@contextmanager
def _all_or_none(final: Path, company: Company) -> Iterator[None]:
    """What fails for one process fails for all, so that none waits for it."""
    fault: Exception | None = None
    try:
        yield
    except (OSError, SafetensorError) as error:
        fault = error
    if company.any(fault is not None):
        raise checkpoint.not_written(final, fault or "another process could not write its part") from fault


def _write(path: Path, tensors: Mapping[str, Tensor], company: Company) -> None:
    mine = {
        name: tensor
        for name, tensor in tensors.items()
        if (first_replica(tensor) if isinstance(tensor, DTensor) else company.lead)
    }
    cut = {name: (rows_here(t)[0], t.shape[0]) for name, t in mine.items() if isinstance(t, DTensor)}
    tensor_files.write(path, {name: local(tensor) for name, tensor in mine.items()}, cut)


class ShardedWriter:
    """`Writer` of many processes. GemmaryError: `background`, which one process alone can do."""

    def __init__(self, folder: Path, keep: int, every: int, background: bool, company: Company) -> None:
        if background:
            raise GemmaryError(
                "several processes write checkpoints between two steps; set the plan's background to false"
            )
        self._folder, self._keep, self._every, self._company = folder, keep, every, company

    def __enter__(self) -> ShardedWriter:
        return self

    def save(self, held: Checkpoint) -> None:
        """Write. CheckpointError: it cannot be written."""
        save(self._folder, held, self._keep, self._every, self._company)

    def wait(self) -> None:
        """Nothing is ever pending."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def load_latest(
    folder: Path,
    module: nn.Module,
    company: Company,
    warn: Callable[[str], None] | None = None,
    upto: float = math.inf,
) -> Checkpoint | None:
    """`checkpoint.load_latest` by all processes together: tensors cut as the parameters of `module` are.

    Each process verifies its share of the files, and reads only the rows that it keeps.
    """
    report = warn or (lambda text: print(text, file=sys.stderr))
    tried = 0
    while (step := company.told(_newest(folder, upto, tried))) >= 0:
        path = folder / f"{checkpoint.PREFIX}{step:08d}"
        problem = checkpoint.fault(path, company.rank, company.size)
        if problem is not None:
            report(f"{path}: {problem}; trying the checkpoint before it")
        if not company.any(problem is not None):
            return _read(path, module)
        tried += 1
    if tried:
        raise checkpoint.none_intact(folder)
    return None


def _newest(folder: Path, upto: float, but: int) -> int:
    """The step of the newest checkpoint but so many; -1 where there is none."""
    found = checkpoint.committed(folder, upto)[but:]
    return checkpoint.step_of(found[0]) if found else -1


def _read(path: Path, module: nn.Module) -> Checkpoint:
    parameters = dict(module.named_parameters())
    step, state = checkpoint.state_of(path)
    with TensorFiles(path) as files:
        tensors = {name: _tensor(files, name, parameters.get(_parameter(name))) for name in files.names}
    return Checkpoint(step, tensors, state)


def _parameter(name: str) -> str:
    """The parameter that a tensor is, or is a state of (snapshot.py)."""
    if name.startswith(OPTIMIZER):
        return name.removeprefix(OPTIMIZER).rpartition(".")[0]
    return name.removeprefix(AVERAGE).removeprefix(MODEL)


def _tensor(files: TensorFiles, name: str, like: Tensor | None) -> Tensor:
    """As `like` is cut, if it has the shape of that; else whole."""
    if not isinstance(like, DTensor) or files.shape(name) != tuple(like.shape):
        return files.whole(name)
    rows = files.rows(name, *rows_here(like)).to(local(like).device)
    return DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
