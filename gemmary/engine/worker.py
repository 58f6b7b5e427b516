"""Work in a process of its own: asked and answered in JSON lines, and gone without a trace afterwards.

The other side is measure.py or llama_side.py. A worker that dies (no memory, say) is an error with a
sentence, not the end of this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import GemmaryError

_PACKAGE = Path(__file__).parents[1]


class WorkerError(GemmaryError):
    """A worker ended before it answered; the message says why, as far as that is known."""


class Worker(AbstractContextManager["Worker"]):
    """A running program. `about` is the first line that it said."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Start it in this environment and wait for its first line; WorkerError when that does not come."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the worker
        # A group of its own: Ctrl-C is for this process, which then ends the worker.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=env, process_group=0,
        )  # fmt: skip
        try:
            self.about = self._read()
        except BaseException:
            self.close()
            raise

    def ask(self, task: str, **arguments: object) -> dict[str, Any]:
        """Have a task done; the answer. WorkerError when none comes."""
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(json.dumps({"do": task, **arguments}) + "\n")
                stdin.flush()
        except BrokenPipeError:
            pass  # _read says why
        return self._read()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise WorkerError(self._why())
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return dict(answer)

    def _why(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "the system stopped it, most likely because memory ran out"
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return f"it ended early: {last or f'exit code {code}'}"


def measuring(job: Mapping[str, object]) -> Worker:
    """A worker that has loaded the model of a job: {"path"} or {"size", "body", "table"}, and, where wanted,
    "context" and "threads". Its tasks are the methods of measure.Subject."""
    # -P: a folder that happens to have a `gemmary` in it is not searched.
    command = [sys.executable, "-P", "-m", "gemmary.engine.measure", json.dumps(job)]
    search = [str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]  # this very package
    return Worker(command, os.environ | {"PYTHONPATH": os.pathsep.join(search)})
