"""Decode and prefill on this machine's CPU, beside llama.cpp in the same run.

    GEMMARY_LLAMA_PYTHON=python-with-llama-cpp python bench/cpu.py [270m 1b 4b] [--prefill 512] [--decode 32]

Weights are random at true shapes. Ours goes by its public face (`model.generate`, sampling included); the
peer goes by its C functions and chooses no token. The two take turns, medians are compared, and the last line
is JSON. Without the environment variable, ours is measured alone.
"""

from __future__ import annotations

from typing import Any

from workers.contest import (
    LAYOUTS,
    OURS,
    arguments,
    beside,
    contestants,
    finish,
    interleaved,
    memory,
    random_file,
    ratio,
    said,
)

PROMPT = 8  # tokens before those that are decoded


def main() -> None:
    given = arguments("decode and prefill", "270m 1b 4b", prefill=512, decode=32, rounds=5)
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    for size in given.sizes:
        for name in given.layout or LAYOUTS:
            layout = LAYOUTS[name]
            with random_file(size, layout) as file, contestants(file, face=True) as sides:
                about = said(sides)
                prefill = interleaved(sides, given.rounds, "prefill", tokens=given.prefill)
                decode = interleaved(sides, given.rounds, "decode", fresh=PROMPT, tokens=given.decode)
                row = {
                    "size": size, "layout": name, "file_bytes": file.stat().st_size,
                    "prefill": prefill, "decode": decode, "peak_bytes": memory(sides),
                    "ratio": {"prefill": ratio(prefill), "decode": ratio(decode)},
                }  # fmt: skip
            rows.append(row)
            bytes_ = row["file_bytes"]
            print(
                f"{size:>5}  {name:<17} {bytes_ / 1e6:>5.0f} MB  prefill {beside(prefill)}  decode "
                f"{beside(decode)}  {decode[OURS] * bytes_ / 1e9:.1f} GB/s",
                flush=True,
            )
    finish("cpu", rows, about)


if __name__ == "__main__":
    main()
