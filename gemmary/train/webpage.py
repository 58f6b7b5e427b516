"""What the pages of training have in common: one static file, no script, nothing fetched, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

_STYLE = """
:root { --ink: #1d2433; --soft: #667085; --line: #e4e7ec; --paper: #fff; --wash: #f6f7f9; --bar: #4c6ef5;
        --drop: #e8590c; color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #333a47;
        --paper: #14181f; --wash: #1c222c; --bar: #748ffc; --drop: #ff922b } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1080px; padding: 2rem 1.25rem 4rem; background: var(--paper);
       color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem }
p { margin: .25rem 0 1rem }
.soft { color: var(--soft) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .75rem;
         margin: 1.5rem 0 }
.card { background: var(--wash); border-radius: 10px; padding: .75rem 1rem }
.card b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: right; font-weight: 600; color: var(--soft); font-size: .85rem; vertical-align: bottom }
td { text-align: right } th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap }
td:first-child { white-space: normal }
.plain td { text-align: left; white-space: normal } .plain td:first-child { width: 24% }
"""


def document(title: str, parts: Iterable[str], style: str = "") -> str:
    """The whole page; `parts` and `style` are trusted, `title` is text."""
    head = (
        "<meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style>"
    )
    return f"<!doctype html>\n<html lang=en>{head}\n<body>\n" + "\n".join(parts) + "\n"


def cards(figures: Mapping[str, str]) -> str:
    """The few numbers that are wanted first, by name."""
    found = "".join(f"<div class=card><b>{value}</b>{name}</div>" for name, value in figures.items())
    return f"<div class=cards>{found}</div>"


def plain_table(values: Mapping[str, str]) -> str:
    """Texts by name, a line each."""
    rows = "".join(f"<tr><td>{escape(name)}<td>{escape(value)}" for name, value in values.items())
    return f"<table class=plain>{rows}</table>"


def short(number: float) -> str:
    """12,345,678 -> 12.3 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"
