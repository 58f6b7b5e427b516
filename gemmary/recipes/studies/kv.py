"""What keys and values take: memory by length of the text, at true sizes (report, figures 5 and 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...config import GEMMA3_4B, SIZES, Config
from ...engine.memory import number_bytes
from ...engine.runner import MAX_CHUNK
from ...model.pages import Pages, Sequence, pages_needed
from ...ops.contract import PAGE, LayerPages
from ...ops.numba.pagestore import CODES, pages
from .figure import Figure, Point, Series
from .study import Findings, Points, Runs, Study, table

NAME = "kv"
MB = 1e6
LENGTHS = tuple(1024 * n for n in (1, 4, 8, 16, 32, 64, 128))
FIVE = {
    "global layers only": (1, 1024),
    "1:1, window 4096": (2, 4096),
    "1:1, window 1024": (2, 1024),
    "3:1, window 4096": (4, 4096),
    "3:1, window 1024": (4, 1024),
}
SIX = {"global layers only": (1, 1024), "5:1, window 1024": (6, 1024)}
OWN = ("1b", "4b", "12b", "27b")
READ_OFF = {"global layers only": "1,750", "3:1, window 1024": "450"}  # of figure 5, in MB
THEIRS = (
    "Figure 5: at 32K tokens a 2B model with global layers only has some 1.75 GB of keys and values, 60 %"
    " on top of its weights, and under 15 % with 3:1 and a window of 1024. Figure 6: at 128K, 7 GB with "
    "global layers only and 1.1 GB with 5:1 and a window of 1024."
)
LIMITS = (
    "The shape of the report's 2B is not given there; 26 layers, 4 key/value heads of 256 and one byte a "
    "number (Gemma 2 2B, in 8 bits) meet what can be read off. Figures 5 and 6 count tokens only: no "
    "page, no step, no scale. Our own bytes count all three."
)


@dataclass(frozen=True)
class Shape:
    """What keys and values depend on; of `layers` every `every`-th is global."""

    layers: int
    kv_heads: int
    head_dim: int
    every: int
    window: int

    def bytes(self, tokens: int, number: float = 1) -> float:
        """Of keys and values of `tokens`: all of them on global layers, a window of them on local ones."""
        everywhere = self.layers // self.every
        kept = everywhere * tokens + (self.layers - everywhere) * min(tokens, self.window)
        return 2 * self.kv_heads * self.head_dim * kept * number


def of_report(every: int, window: int) -> Shape:
    """The report's 2B, with a global layer every so many."""
    return Shape(layers=26, kv_heads=4, head_dim=256, every=every, window=window)


def study(title: str, quick: bool) -> Study:
    """Exact: no seeds. Quick: shorter texts in our own pool."""
    longest = 4096 if quick else 131_072

    def measure(variant: str, seed: int) -> Points:
        if variant == "figure 5":
            return {name: of_report(*how).bytes(32_768) / MB for name, how in FIVE.items()}
        if variant == "figure 6":
            return {
                _point(name, n): of_report(*how).bytes(n) / MB for name, how in SIX.items() for n in LENGTHS
            }
        config = SIZES[variant]
        held = pool_bytes(config, [n for n in LENGTHS if n <= min(longest, config.context)])
        return {_point("pages", n): count / MB for n, count in held.items()} | {
            _point("all global", n): 2 * config.layers * config.kv_heads * config.head_dim * n
            * number_bytes(config, "int8") / MB
            for n in held
        }  # fmt: skip

    settings = {"report": of_report(6, 1024).__dict__, "page": PAGE, "longest": longest, "numbers": "int8"}
    return Study(NAME, title, THEIRS, settings, ("figure 5", "figure 6", *OWN), measure, find, exact=True)


def _point(name: str, tokens: int) -> str:
    return f"{name} at {tokens // 1024}K"


class _Storage:
    """The one entry of the op table that a pool needs: memory that is never touched costs nothing."""

    def pages(self, count: int, kv_heads: int, head_dim: int) -> LayerPages:
        return pages(count, kv_heads, head_dim, CODES)


def pool_bytes(config: Config, lengths: list[int]) -> Mapping[int, int]:
    """Bytes of the pages, in int8, that our pool holds for one text, as it grows in chunks to each length."""
    longest = max(lengths)
    capacity = tuple(pages_needed(config, kind, longest, MAX_CHUNK) for kind in (0, 1))
    storage: Any = _Storage()
    pool, text = Pages(storage, config, (capacity[0], capacity[1])), Sequence()
    held: dict[int, int] = {}
    for length in lengths:
        while text.length < length:
            count = min(MAX_CHUNK, length - text.length)
            pool.reserve(text, count)
            pool.commit(text, count)
        held[length] = pool.bytes_used
    return held


def find(runs: Runs) -> Findings:
    """The report's bars and curves to the megabyte, and our own pool's."""
    return Findings(
        (_curves(runs), _own_curves(runs)), (_bars(runs), _lines(runs), _own(runs)), _said(runs), LIMITS
    )


def _one(runs: Runs, variant: str, point: str) -> float:
    return runs.values(variant, point)[0]


def _curves(runs: Runs) -> Figure:
    series = [
        Series(name, tuple(Point(n, _one(runs, "figure 6", _point(name, n))) for n in LENGTHS))
        for name in SIX
    ]
    return Figure(
        "Keys and values of a 2B model, one byte a number", "tokens", "MB", tuple(series), _ticks(LENGTHS),
        log_x=True, log_y=True,
    )  # fmt: skip


def _own_curves(runs: Runs) -> Figure:
    series = [
        Series(size, tuple(Point(n, _one(runs, size, _point("pages", n))) for n in _lengths(runs, size)))
        for size in OWN
    ]
    longest = max((_lengths(runs, size) for size in OWN), key=len)
    return Figure(
        "Pages that Gemmary holds for one text, int8", "tokens", "MB", tuple(series), _ticks(longest),
        log_x=True, log_y=True,
    )  # fmt: skip


def _lengths(runs: Runs, size: str) -> list[int]:
    return [n for n in LENGTHS if _point("pages", n) in runs.points(size)]


def _ticks(lengths: tuple[int, ...] | list[int]) -> tuple[tuple[float, str], ...]:
    return tuple((float(n), f"{n // 1024}K") for n in lengths)


def _bars(runs: Runs) -> tuple[tuple[str, ...], ...]:
    lines = ((name, f"{_one(runs, 'figure 5', name):.0f}", READ_OFF.get(name, "")) for name in FIVE)
    return table(("figure 5, 32K tokens", "MB, computed", "MB, read off the figure"), lines)


def _lines(runs: Runs) -> tuple[tuple[str, ...], ...]:
    head = ("figure 6", *(f"{n // 1024}K" for n in LENGTHS))
    lines = ((name, *(f"{_one(runs, 'figure 6', _point(name, n)):.0f}" for n in LENGTHS)) for name in SIX)
    return table(head, lines)


def _own(runs: Runs) -> tuple[tuple[str, ...], ...]:
    head = ("Gemmary's pages, int8, MB", *(f"{n // 1024}K" for n in LENGTHS))

    def cells(size: str) -> tuple[str, ...]:
        held = _lengths(runs, size)
        return tuple(f"{_one(runs, size, _point('pages', n)):.0f}" if n in held else "" for n in LENGTHS)

    return table(head, ((size, *cells(size)) for size in OWN))


def _said(runs: Runs) -> tuple[str, ...]:
    whole, short = (_one(runs, "figure 5", name) for name in READ_OFF)
    last = LENGTHS[-1]
    ends = [_one(runs, "figure 6", _point(name, last)) for name in SIX]
    length = _lengths(runs, "4b")[-1]
    held, everywhere = (_one(runs, "4b", _point(name, length)) for name in ("pages", "all global"))
    exact = Shape(GEMMA3_4B.layers, 4, 256, 6, GEMMA3_4B.window).bytes(
        length, number_bytes(GEMMA3_4B, "int8")
    )
    return (
        f"At 32K tokens {whole:,.0f} MB with global layers only and {short:,.0f} MB with 3:1 and a window of "
        f"1024, where the figure shows 1.75 and 0.45 GB; at 128K {ends[0]:,.0f} and {ends[1]:,.0f} MB (5:1), "
        "where it shows 7 and 1.1 GB.",
        f"Gemmary's own pages for a text of {length // 1024}K tokens at 4B take {held:,.0f} MB in int8, "
        f"scales counted: {100 * (held * MB / exact - 1):.1f} % above the bare arithmetic, which knows no "
        f"pages; with global layers only they would take {everywhere:,.0f} MB.",
    )
