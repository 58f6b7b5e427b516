"""Draws what the tables found: decode.svg and prefill.svg by size, context.svg by length of the text.

    python bench/cpu.py | tail -1 > docs/bench/cpu.json        (and context.py alike)
    python bench/plot.py [FILE.json ...] [--to docs/bench]

Without files it draws what is saved in docs/bench. The last line is JSON: the files that were written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.drawing import COLOURS, FAINT, OURS, PEER, WIDTH, Drawing

HOME = Path(__file__).parents[1] / "docs" / "bench"
BAR, GAP = 15, 11
LEFT, RIGHT, TOP, PANEL = 150, 130, 64, 160  # room for labels, values, title; height of a panel

Rows = list[dict[str, Any]]


def bars(found: dict[str, Any], task: str) -> str:
    """Speeds by size and layout; each size has a scale of its own."""
    rows: Rows = found["rows"]
    names = [name for name in COLOURS if name in rows[0][task]]
    drawing = Drawing(f"{task.capitalize()}, tokens a second", _machine(found))
    drawing.legend(names)
    y = float(TOP)
    for size in dict.fromkeys(row["size"] for row in rows):
        own = [row for row in rows if row["size"] == size]
        scale = (WIDTH - LEFT - RIGHT) / max(max(row[task].values()) for row in own)
        drawing.text(16, y + 14, f"Gemma 3 {size.upper()}", size=13, weight=600)
        y += 26
        for row in own:
            drawing.text(LEFT - 10, y + BAR * len(names) / 2 + 4, row["layout"], anchor="end")
            for number, name in enumerate(names):
                value, top = row[task][name], y + BAR * number
                drawing.bar(LEFT, top, value * scale, BAR - 2, COLOURS[name])
                times = f" · {value / row[task][PEER]:.2f}x" if name == OURS and PEER in names else ""
                weight = 600 if name == OURS else 400
                drawing.text(LEFT + value * scale + 6, top + 11, f"{_short(value)}{times}", 11, weight=weight)
            y += BAR * len(names) + GAP
        y += 8
    return drawing.svg(y + 4)


def lines(found: dict[str, Any], task: str) -> str:
    """Speed over the length of the text, a panel a size."""
    rows: Rows = [row for row in found["rows"] if task in row]
    names = [name for name in COLOURS if name in rows[0][task]]
    drawing = Drawing(f"{task.capitalize()} by length of the text, tokens a second", _machine(found))
    drawing.legend(names)
    y = float(TOP)
    for size in dict.fromkeys(row["size"] for row in rows):
        drawing.text(16, y + 14, f"Gemma 3 {size.upper()}", size=13, weight=600)
        own = sorted((row for row in rows if row["size"] == size), key=lambda row: row["tokens"])
        _panel(drawing, own, task, names, y + 34)
        y += PANEL + 84
    drawing.text(WIDTH / 2, y - 8, "tokens before the one that is decoded", anchor="middle")
    return drawing.svg(y + 6)


def _panel(drawing: Drawing, rows: Rows, task: str, names: list[str], top: float) -> None:
    """One size: a line for each engine, a value at each point."""
    left, right = 60.0, WIDTH - 40.0
    high = _round_up(max(max(row[task].values()) for row in rows))
    for mark in range(5):
        y = top + PANEL * (1 - mark / 4)
        drawing.line([(left, y), (right, y)], FAINT)
        drawing.text(left - 8, y + 4, f"{high * mark / 4:g}", 11, anchor="end")
    across = [left + 40 + (right - left - 80) * i / max(len(rows) - 1, 1) for i in range(len(rows))]
    for x, row in zip(across, rows, strict=True):
        tokens = row["tokens"]
        drawing.text(
            x, top + PANEL + 18, f"{tokens // 1024}k" if tokens >= 1024 else str(tokens), anchor="middle"
        )
    for name in names:
        points = [
            (x, top + PANEL * (1 - row[task][name] / high)) for x, row in zip(across, rows, strict=True)
        ]
        drawing.line(points, COLOURS[name], 2)
        for (x, y), row in zip(points, rows, strict=True):
            drawing.dot(x, y, COLOURS[name])
            below = any(row[task][name] < row[task][other] for other in names)
            weight = 600 if name == OURS else 400
            drawing.text(
                x, y + (19 if below else -9), _short(row[task][name]), 11, anchor="middle", weight=weight
            )


def _short(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}"


def _machine(found: dict[str, Any]) -> str:
    machine = found["machine"]
    return f"{machine['cpu']}, {machine['threads']} threads, {found['kernels']} kernels, {found['date']}"


def _round_up(value: float) -> float:
    """The next number whose quarters are short."""
    power = 10.0 ** (len(str(int(value))) - 1)
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= value)


DRAWINGS: dict[str, list[tuple[str, Callable[[dict[str, Any], str], str], str]]] = {
    "cpu": [("decode.svg", bars, "decode"), ("prefill.svg", bars, "prefill")],
    "context": [("context.svg", lines, "decode")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="draw the tables")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", default=sorted(HOME.glob("*.json")))
    parser.add_argument("--to", type=Path, default=HOME, metavar="FOLDER")
    given = parser.parse_args()
    written = []
    for file in given.files:
        found = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
        for name, draw, task in DRAWINGS.get(found["table"], []):
            (given.to / name).write_text(draw(found, task), encoding="utf-8")
            written.append(str(given.to / name))
    if not written:
        print(f"Nothing to draw in {HOME}: save the last line of bench/cpu.py there as cpu.json")
    print(json.dumps({"table": "plot", "written": written}))


if __name__ == "__main__":
    main()
