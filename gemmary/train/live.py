"""A run as its user sees it: a few lines that stay in place on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import resource
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import torch

from .meter import Meter, duration, loss_text, power_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions
    from rich.text import Text

OFTEN = 0.2  # seconds between two pictures on a terminal
SELDOM = 20.0  # seconds between two lines in a file
SPARKS = "▁▂▃▄▅▆▇█"
BAR, PERCENT = 8, 6  # columns: of the shortest bar that says anything, of " 100 %"


class View(Protocol):
    """Shows a run between `open` and `close`; `show` is called after every step and decides what to do."""

    def open(self, meter: Meter) -> None: ...

    def show(self, meter: Meter) -> None: ...

    def close(self) -> None: ...


def view() -> View:
    """The one that suits stderr."""
    alive = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return LiveView() if alive else LineView()


class LineView:
    """A line for the first step, the last one, and every `SELDOM` seconds."""

    def __init__(self) -> None:
        self._shown: float | None = None
        self._waiting: Meter | None = None

    def open(self, meter: Meter) -> None: ...

    def show(self, meter: Meter) -> None:
        """Print the line if it is time to."""
        self._waiting = meter
        now = time.monotonic()
        if self._shown is None or now - self._shown > SELDOM:
            self._print(meter)
            self._shown = now

    def close(self) -> None:
        """The last step is always there to be read."""
        if self._waiting is not None:
            self._print(self._waiting)

    def _print(self, meter: Meter) -> None:
        self._waiting = None
        print("  ".join([f"step {meter.step}/{meter.steps}", *facts(meter)]), file=sys.stderr, flush=True)


class LiveView:
    """Lines that are drawn anew in place; what others print meanwhile appears above them.

    The cursor stays visible, so that a run that is killed leaves a terminal that works.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False)
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty())
        self._console, self._shown = console, 0.0

    def open(self, meter: Meter) -> None:
        """Draw; from here on, prints go above."""
        self._live.update(Picture(meter))
        self._live.start(refresh=True)
        self._console.show_cursor(True)

    def show(self, meter: Meter) -> None:
        """Draw, unless that was just done."""
        self._live.update(Picture(meter))
        now = time.monotonic()
        if now - self._shown >= OFTEN:
            self._shown = now
            self._live.refresh()

    def close(self) -> None:
        """The last picture stays."""
        self._live.stop()  # draws it


class Picture:
    """The lines of a moment, for any width."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        width, plain = options.max_width - 1, options.ascii_only
        lines = [Text.assemble(*_progress(self._meter, width, plain))]
        curve = self._meter.curve
        late = [] if plain else curve[len(curve) // 4 :]  # beside the first fall nothing else would be seen
        texts = facts(self._meter, sparks(late, min(32, max(8, width - 16))))
        lines += [Text(line) for line in flow(texts, width)]
        for line in lines:
            line.highlight_regex(r"loss \S+", "bold")
            line.highlight_regex(r"[\d,]+ skipped", "yellow")
            line.truncate(width)
            line.no_wrap = True
            yield line


def _progress(meter: Meter, width: int, plain: bool) -> list[tuple[str, str]]:
    """The first line, as texts with styles."""
    count = f"step {meter.step:,}/{meter.steps:,} "
    share = meter.step / max(1, meter.steps)
    room = width - len(count) - PERCENT
    done, rest = "#-" if plain else "━─"
    filled = int(share * room)
    bar = [(done * filled, "cyan"), (rest * (room - filled), "dim")] if room >= BAR else []
    return [(count, "bold"), *bar, (f" {share:.0%}"[:-1] + " %", "")]


def facts(meter: Meter, curve: str = "") -> list[str]:
    """Short texts about the run, the most wanted first; those that are not known are left out."""
    if not meter.last:
        return ["waiting for the first step"]
    speed, power, left = meter.speed, meter.power, meter.left
    busy = None if meter.utilisation is None else f"MFU {100 * meter.utilisation:.1f} %"
    found = [
        f"loss {loss_text(meter.loss)}{' ' * bool(curve)}{curve}",
        speed and f"{speed:,.0f} tokens/s",
        busy or (power and power_text(power)),
        _named("rate", meter.last.get("rate")),
        _named("norm", meter.last.get("norm")),
        f"memory {_memory() / 1e9:.1f} GB",
        meter.skipped and f"{meter.skipped:,} skipped",
        left and f"{duration(left)} left",
    ]
    return [text for text in found if text]


def _named(name: str, value: float | None) -> str | None:
    return None if value is None else f"{name} {value:.3g}"


def _memory() -> int:
    """Bytes at most so far: on the GPU where there is one in use, else of the process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def flow(texts: list[str], width: int) -> list[str]:
    """The texts in lines of at most `width` columns, two apart, none of them broken."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + 2 + len(text) <= width:
            lines[-1] += f"  {text}"
        else:
            lines.append(text)
    return lines


def sparks(values: list[float], width: int) -> str:
    """A curve in one line: means of `width` parts of the values, or fewer, between their least and most."""
    if len(values) < 2:
        return ""
    count = min(width, len(values))
    edges = [len(values) * i // count for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), max(means) - min(means) or 1.0
    return "".join(SPARKS[round((len(SPARKS) - 1) * (mean - low) / span)] for mean in means)
