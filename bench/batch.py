"""Eight texts decoded in one batch, beside llama.cpp in the same run, and beside one text alone.

    GEMMARY_LLAMA_PYTHON=python-with-llama-cpp python bench/batch.py [270m 1b] [--streams 8] [--decode 16]

Ours: one step of eight sequences a token, the 64 likeliest of each row found (TopK) and the first one taken.
The peer: one `llama_batch` of eight sequence ids a token, logits of each computed, no token chosen. Speeds
count the tokens of all texts. The last line is JSON.
"""

from __future__ import annotations

from typing import Any

from workers.contest import (
    LAYOUTS,
    arguments,
    beside,
    contestants,
    finish,
    interleaved,
    random_file,
    ratio,
    said,
)

LAYOUT = "Q4_0, table Q8_0"
PAST = 64  # tokens of each text before


def main() -> None:
    given = arguments("texts in one batch", "270m 1b", streams=8, decode=16, rounds=5)
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    for size in given.sizes:
        with random_file(size, LAYOUTS[LAYOUT]) as file, contestants(file) as sides:
            about = said(sides)
            single = interleaved(sides, given.rounds, "decode", fresh=PAST, tokens=given.decode)
            batch = interleaved(
                sides, given.rounds, "batch", streams=given.streams, tokens=given.decode, past=PAST
            )
        gain = {name: batch[name] / single[name] for name in batch}
        row = {"size": size, "streams": given.streams, "single": single, "batch": batch, "gain": gain}
        rows.append(row | {"ratio": ratio(batch)})
        own = ", ".join(f"{name} {times:.2f}x" for name, times in gain.items())
        print(
            f"{size:>5}  one {beside(single)}  {given.streams} together {beside(batch)}  over one: {own}",
            flush=True,
        )
    finish("batch", rows, about)


if __name__ == "__main__":
    main()
