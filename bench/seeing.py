"""From a question about a picture to the first token, through the public face.

    python bench/seeing.py [1b 4b]

Text and tower have random weights at true shapes: Q4_0 with a Q8_0 table, and an F16 mmproj beside it. Asked
are a picture, then another question about it in a new conversation, then a wide one with four crops. Each
size runs in a process of its own; the last line is JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from workers.contest import LAYOUTS, OURS, arguments, finish, random_file, said

from gemmary.config import SIZES, VisionConfig
from gemmary.engine.worker import Worker
from gemmary.weights.savevision import write_mmproj
from gemmary.weights.synthetictower import synthetic_tower

LAYOUT = "Q4_0, table Q8_0"
WORKER = Path(__file__).parent / "workers" / "seeing_side.py"


def main() -> None:
    given = arguments("time to the first token with a picture", "1b 4b")
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    for size in given.sizes:
        with random_file(size, LAYOUTS[LAYOUT]) as file:
            tower = synthetic_tower(VisionConfig(), text_width=SIZES[size].width)
            write_mmproj(file.with_name("mmproj.gguf"), tower.config, tower.tensors)
            with Worker([sys.executable, str(WORKER), json.dumps({"path": str(file)})], os.environ) as side:
                about = said({OURS: side})
                side.ask("warm")
                row = {"size": size, "load_seconds": side.about["load_seconds"], **side.ask("look")}
        rows.append(row)
        print(
            f"{size:>5}  a picture {row['picture']:.1f} s, the same again {row['again']:.2f} s, with "
            f"{row['crops']} crops {row['pan_and_scan']:.1f} s  peak {row['peak_bytes'] / 1e6:.0f} MB",
            flush=True,
        )
    finish("seeing", rows, about)


if __name__ == "__main__":
    main()
