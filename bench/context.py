"""Decode at long contexts, prefill of a long text, and memory, beside llama.cpp in the same run.

    GEMMARY_LLAMA_PYTHON=python-with-llama-cpp python bench/context.py [1b] [--longest 32768] [--decode 16]

One text grows to 128, 4k, 16k and 32k tokens on either side; at each length the sides decode in turns.
llama.cpp runs with flash attention and without keeping keys outside the windows (swa_full off); its cache is
F16, ours is what the engine keeps. Tokens are counted where decoding begins. The last line is JSON.
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
    memory,
    random_file,
    said,
)

LENGTHS = (128, 4096, 16_384, 32_768)
LAYOUT = "Q4_0, table Q8_0"
PREFILL_ROUNDS = 3


def main() -> None:
    given = arguments("long contexts", "1b", longest=32_768, prefill=4096, decode=16, rounds=5)
    lengths = [length for length in LENGTHS if length <= given.longest]
    room = max(*lengths, given.prefill) + given.decode * given.rounds * len(lengths) + 64
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    for size in given.sizes:
        with random_file(size, LAYOUTS[LAYOUT]) as file, contestants(file, context=room) as sides:
            about = said(sides)
            for length in lengths:
                for side in sides.values():
                    side.ask("extend", tokens=length)
                decode = interleaved(sides, given.rounds, "decode", tokens=given.decode)
                held = memory(sides)
                rows.append({"size": size, "tokens": length, "decode": decode, "peak_bytes": held})
                print(
                    f"{size:>5} {length:>6} tokens  decode {beside(decode)}  peak",
                    _megabytes(held),
                    flush=True,
                )
            prefill = interleaved(sides, PREFILL_ROUNDS, "prefill", tokens=given.prefill)
            rows.append({"size": size, "tokens": given.prefill, "prefill": prefill})
            print(f"{size:>5} {given.prefill:>6} tokens  prefill {beside(prefill)}", flush=True)
    finish("context", rows, about)


def _megabytes(held: dict[str, float]) -> str:
    return ", ".join(f"{name} {count / 1e6:.0f} MB" for name, count in held.items())


if __name__ == "__main__":
    main()
