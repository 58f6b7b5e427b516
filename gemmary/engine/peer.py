"""llama.cpp beside us: which Python has it, a process that runs it, and a file that both can read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..config import Config
from ..errors import GemmaryError
from ..weights.synthetic import Layout, RandomTensors, write_random
from .worker import Worker

NAME = "llama.cpp"
VARIABLE = "GEMMARY_LLAMA_PYTHON"
_VOCABULARY = 16_000_000  # bytes of a file beyond its tensors


def find() -> str:
    """The Python that has llama-cpp-python: the one that the environment names, or this one.

    GemmaryError when it has not.
    """
    python = os.environ.get(VARIABLE) or sys.executable
    try:
        found = subprocess.run([python, "-c", "import llama_cpp"], capture_output=True).returncode == 0
    except OSError:
        found = False
    if not found:
        raise GemmaryError(
            f"{NAME} is not in {python}: pip install llama-cpp-python there, or name a Python that has it in "
            f"the environment variable {VARIABLE}"
        )
    return python


def llama(python: str, job: Mapping[str, object]) -> Worker:
    """A worker that has loaded job["path"] in llama.cpp; tasks as those of measure.Subject."""
    return Worker([python, str(Path(__file__).with_name("llama_side.py")), json.dumps(job)], environment())


def environment() -> dict[str, str]:
    """The environment without what steers OpenMP: that is set for our kernels; llama.cpp has its defaults."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}


def file_bytes(config: Config, layout: Layout) -> int:
    """About how large a GGUF file of random weights is."""
    return RandomTensors(config, layout).nbytes + _VOCABULARY


@contextmanager
def random_file(config: Config, layout: Layout) -> Iterator[Path]:
    """A GGUF file of random weights in the folder for temporary files, deleted at the end of the block.

    GemmaryError when there is no room for it.
    """
    needed = file_bytes(config, layout)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        raise GemmaryError(
            f"a file of {needed / 1e9:.1f} GB does not fit into {tempfile.gettempdir()}, where "
            f"{free / 1e9:.1f} GB are free: name another folder in the environment variable TMPDIR"
        )
    with tempfile.TemporaryDirectory(prefix="gemmary-bench-") as folder:
        path = Path(folder) / f"{config.name}.gguf"
        write_random(path, config, layout)
        yield path
