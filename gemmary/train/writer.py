"""Who writes checkpoints: the loop itself, or a thread beside it."""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from .checkpoint import Checkpoint, CheckpointError, save


class Writer:
    """Saves checkpoints in `folder`. `background`: tensors are copied to main memory, a thread does the rest.

    One is in flight at most. A CheckpointError of the thread is raised at the next `save`, `wait`, or the end
    of the block. Until the thread has renamed its folder, the checkpoint before it is the last good one.
    """

    def __init__(self, folder: Path, keep: int, every: int, background: bool) -> None:
        self._folder, self._keep, self._every = folder, keep, every
        self._pool = ThreadPoolExecutor(1, "checkpoint") if background else None
        self._pending: Future[Path] | None = None

    def __enter__(self) -> Writer:
        return self

    def save(self, checkpoint: Checkpoint) -> None:
        """Write, or begin to. CheckpointError: this one, or the one before it, cannot be written."""
        self.wait()
        if self._pool is None:
            save(self._folder, checkpoint, self._keep, self._every)
        else:
            self._pending = self._pool.submit(
                save, self._folder, _copied(checkpoint), self._keep, self._every
            )

    def wait(self) -> None:
        """Until what was begun is on disk. CheckpointError: it cannot be written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except CheckpointError as error:
            if kind is None:
                raise
            print(error, file=sys.stderr)  # what ended the block is the greater trouble
        finally:
            if self._pool is not None:
                self._pool.shutdown()


def _copied(checkpoint: Checkpoint) -> Checkpoint:
    tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in checkpoint.tensors.items()}
    return replace(checkpoint, tensors=tensors)
