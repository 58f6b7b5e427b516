"""`import gemmary` costs nothing: whoever only wants `--help` or the errors does not wait for a compiler."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROBE = """
import sys, time
start = time.perf_counter()
import gemmary
took = time.perf_counter() - start
import json
print(json.dumps({"seconds": took, "modules": sorted(sys.modules)}))
"""


def fresh_import() -> tuple[float, set[str]]:
    """Seconds that `import gemmary` takes in a new process, and the modules it leaves behind."""
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    return answer["seconds"], set(answer["modules"])


def test_import_is_light() -> None:
    runs = [fresh_import() for _ in range(5)]
    assert min(seconds for seconds, _ in runs) <= 0.3
    assert runs[0][1] & {"torch", "numba", "llvmlite", "transformers"} == set()
