"""A worker's side of gemmary/engine/worker.py: it says what it is, then does a task a line, all in JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def serve(worker: Callable[..., Any]) -> None:
    """Make a worker of what argv[1] says, then do the tasks of stdin: its methods."""
    ready = worker(**json.loads(sys.argv[1]))
    print(json.dumps(ready.about()), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps(getattr(ready, task.pop("do"))(**task)), flush=True)
