"""The processes that train together: who they are, how they agree, and what it looks like when one is lost.

`torchrun` starts one process a device and tells each its place through the environment. A run that it did not
start is a company of one, for which everything here does nothing. Agreements go through gloo, over TCP
between CPUs, so that they never wait in the queue of a device and a process that is gone has a number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from ..errors import GemmaryError

Group = distributed.ProcessGroup
PATIENCE = timedelta(minutes=10)  # a process that is silent for so long is lost


class LostWorkerError(GemmaryError):
    """A process of the run ended, or cannot be reached."""


class Company:
    """`size` processes, of which this one is number `rank`. Without a `group` it is alone."""

    def __init__(self, group: Group | None = None, patience: timedelta = PATIENCE) -> None:
        self._group, self._patience = group, patience
        self.rank = 0 if group is None else distributed.get_rank(group)
        self.size = 1 if group is None else distributed.get_world_size(group)

    @property
    def lead(self) -> bool:
        """Whether this process speaks, logs and commits checkpoints for all."""
        return self.rank == 0

    def meet(self) -> None:
        """Wait until all processes are here. LostWorkerError: some do not come; the message says which."""
        if self._group is not None:
            with self.watched():
                distributed.monitored_barrier(self._group, self._patience, wait_all_ranks=self.lead)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true for any process: the same answer for all."""
        return self.sums(float(flag))[0] > 0

    def sums(self, *values: float) -> list[float]:
        """Each value summed over the processes, in float64: the same bits for all."""
        if self._group is None:
            return list(values)
        return [sum(column) for column in zip(*self._gathered(torch.tensor(values).double()), strict=True)]

    def digests(self, digest: bytes) -> list[bytes]:
        """Every process's `digest`, in order; all are equally long."""
        if self._group is None:
            return [digest]
        return [bytes(map(int, row)) for row in self._gathered(torch.tensor(list(digest), dtype=torch.uint8))]

    def told(self, number: int) -> int:
        """The lead's `number`."""
        if self._group is None:
            return number
        return int(self._gathered(torch.tensor([number]))[0][0])

    def _gathered(self, mine: torch.Tensor) -> list[list[int | float]]:
        found = [torch.empty_like(mine) for _ in range(self.size)]
        with self.watched():
            distributed.all_gather(found, mine, group=self._group)
        return [row.tolist() for row in found]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, an operation that failed because another process is gone raises LostWorkerError."""
        try:
            yield
        except RuntimeError as error:
            if self._group is None or not _is_loss(error):
                raise
            raise LostWorkerError(
                f"process {self.rank} of {self.size} lost another one ({_first_line(error)}). Look for the "
                "first error of the other processes; then start the same command again: "
                "it goes on from the last checkpoint"
            ) from error


def _is_loss(error: RuntimeError) -> bool:
    """gloo raises plain RuntimeErrors that begin with its source file; NCCL has a class."""
    text = str(error)
    return isinstance(error, distributed.DistError) or "gloo" in text or "monitoredBarrier" in text


def _first_line(error: RuntimeError) -> str:
    return str(error).splitlines()[0].rpartition("] ")[2][:200]


@contextmanager
def torchrun(patience: timedelta = PATIENCE) -> Iterator[Company]:
    """The company that `torchrun` started; alone where it did not.

    Process LOCAL_RANK of a machine takes its CUDA device of that number, where there are any.
    LostWorkerError: not all processes came.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield Company()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(_local_device(torch.cuda.device_count()))
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=patience)
    except RuntimeError as error:
        raise LostWorkerError(f"the processes did not find each other ({_first_line(error)})") from error
    try:
        company = Company(distributed.new_group(backend="gloo", timeout=patience), patience)
        yield company
        company.meet()  # one that is ready before others must not tear down what they still use
    finally:
        distributed.destroy_process_group()


def _local_device(devices: int) -> int:
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if place >= devices:
        raise GemmaryError(
            f"this machine has {devices} CUDA devices, too few for process {place + 1}; "
            f"start torchrun with --nproc-per-node {devices}"
        )
    return place
