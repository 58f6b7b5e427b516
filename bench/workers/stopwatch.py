"""Starts a program, and says as JSON when its first word came and how much memory it held.

    python stopwatch.py COMMAND...

A process of its own, with nothing imported: on Linux, the peak of a child begins with that of its parent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Run the command to its end."""
    started = time.perf_counter()
    process = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    if process.stdout is None:
        raise RuntimeError("the process has no output")
    said = process.stdout.read(1)
    seconds = time.perf_counter() - started
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not said or process.returncode:
        raise SystemExit(f"{' '.join(sys.argv[1:4])} ... said nothing, or failed")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
