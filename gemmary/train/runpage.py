"""The report of a run as one static HTML page: `python -m gemmary.train.runpage FOLDER` writes it again.

It is made from what lies in the folder alone: log.jsonl, run.json, history.jsonl. Whatever of that is missing
or cannot be read, there is a page, and it says so.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import GemmaryError
from ..weights.atomic import replacing
from . import about, history, log
from .about import About
from .history import Event
from .log import Log, Record
from .meter import RECENT, duration, finite, loss_text, power_text
from .plot import STYLE, Curve, plot
from .webpage import cards, document, plain_table, short

NAME, LOG = "report.html", "log.jsonl"
KNOWN = ("step", "loss", "rate", "norm", "tokens", "seconds")
NOTED, SKIPPED = 60, 20  # lines of what was noted, of steps that were skipped, at most

_STYLE = """
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr));
         gap: .5rem 1.5rem }
.say { border-left: 3px solid var(--drop); padding: .1rem 0 .1rem .8rem }
.plain td:last-child { overflow-wrap: anywhere }
.events :is(th, td) { text-align: left; vertical-align: baseline; white-space: normal }
.events :is(th, td):first-child { white-space: nowrap; overflow-wrap: normal }
.events td + td { width: 99%; overflow-wrap: anywhere }
.events .soft { margin-left: .5rem; font-size: .85rem }
.cards { grid-template-columns: repeat(auto-fit, minmax(min(45%, 200px), 1fr)) }
@media (max-width: 600px) { .plain td:first-child { width: 40% } .events .soft { display: block; margin: 0 } }
"""


def write(folder: Path) -> Path:
    """Make `folder`/report.html. GemmaryError: it cannot be written."""
    path = folder / NAME
    with replacing(path) as file:
        file.write(page(folder).encode())
    return path


def page(folder: Path) -> str:
    """The whole page about the run in `folder`."""
    found, known, events = log.read(folder / LOG), about.read(folder), history.read(folder)
    name = folder.resolve().name
    parts = [
        f"<h1>Training: {escape(name)}</h1>",
        f"<p class=soft>{escape(_state(found, known, events))}</p>",
        *(f"<p class=say>{escape(text)}</p>" for text in _warnings(found)),
        cards(_figures(found.records, known)),
        *(_plots(found.records, events) if found.records else ()),
        "<h2>What happened</h2>",
        _events(found.records, events),
        *_tables(known),
    ]
    return document(f"Training: {name}", parts, STYLE + _STYLE)


def _state(found: Log, known: About, events: Sequence[Event]) -> str:
    """One line: how far it came, and how it ended."""
    steps, step = known.plan.get("steps"), found.records[-1]["step"] if found.records else 0
    far = f"{step:,} of {steps:,} steps" if isinstance(steps, int) else f"{step:,} steps"
    if not events:
        return far
    last = events[-1]
    running = last.what.startswith(("began", "went"))
    return f"{far} · " + ("it still runs, or was cut off" if running else f"it {last.what} · {_when(last)}")


def _warnings(found: Log) -> list[str]:
    if not found.records:
        return ["The log has no step that can be read." if found.unread else "The log has no step yet."]
    texts = []
    if found.unread:
        lines = "1 line" if found.unread == 1 else f"{found.unread:,} lines"
        texts.append(f"{lines} of the log could not be read and had to be left out.")
    bad = sum(not finite(record) for record in found.records)
    if bad:
        steps, they = ("1 step", "it") if bad == 1 else (f"{bad:,} steps", "they")
        texts.append(f"In {steps} the loss or the gradient was not a finite number; {they} changed nothing.")
    return texts


def _figures(records: Sequence[Record], known: About) -> dict[str, str]:
    last = [record["loss"] for record in records[-RECENT:] if math.isfinite(record["loss"])]
    tokens = sum(record["tokens"] for record in records)
    seconds = sum(record.get("seconds", 0.0) for record in records)
    figures = {
        f"loss, mean of the last {len(last)} steps": loss_text(sum(last) / len(last)) if last else "—",
        "steps": f"{records[-1]['step']:,}" if records else "0",
        "tokens": short(tokens),
        "time": duration(seconds),
        "tokens a second": f"{tokens / seconds:,.0f}" if seconds else "—",
    }
    if known.flops and seconds:
        power = known.flops * tokens / seconds
        figures["of useful arithmetic"] = power_text(power)
        if known.peak:
            figures["of the device's peak (MFU)"] = f"{100 * power / known.peak:.1f} %"
    if known.parameters:
        figures["parameters"] = short(known.parameters)
    return figures


def _plots(records: Sequence[Record], events: Sequence[Event]) -> list[str]:
    steps = [record["step"] for record in records]
    lost = [record["step"] for record in records if not finite(record)]
    turns = [event.step for event in events if event.what.startswith("went") and event.step <= steps[-1]]
    window = max(1, min(RECENT, len(steps) // 20))

    def curve(name: str, key: str, smooth: int = 1, zero: bool = False) -> Curve:
        note = f"mean of {smooth} steps" if smooth > 1 else ""
        return Curve(name, steps, [_value(record, key) for record in records], smooth, zero, note)

    loss = plot(curve("loss", "loss", window), lost, turns, tall=True)
    others = [curve("learning rate", "rate", zero=True), curve("norm of the gradient", "norm", window)]
    speeds = [_speed(record) for record in records]
    others.append(Curve("tokens a second", steps, speeds, window, True, f"mean of {window} steps"))
    more = sorted({key for record in records for key in record if _is_curve(record, key)})
    others += [curve(key, key, window) for key in more]
    legend = _legend(bool(lost), bool(turns))
    return ["<h2>Curves</h2>", legend, loss, f"<div class=plots>{''.join(map(plot, others))}</div>"]


def _legend(lost: bool, turns: bool) -> str:
    texts = ["Lines are means over some steps, with each step's value behind them."]
    if lost:
        texts.append("An upright line is a step that was skipped.")
    if turns:
        texts.append("A dashed line is where the run went on or went back.")
    return f"<p class=soft>{' '.join(texts)}</p>"


def _is_curve(record: Record, key: str) -> bool:
    return key not in KNOWN and isinstance(record[key], float)


def _value(record: Record, key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def _speed(record: Record) -> float:
    seconds = record.get("seconds", 0.0)
    return record["tokens"] / seconds if seconds > 0 else math.nan


def _events(records: Sequence[Record], noted: Sequence[Event]) -> str:
    """A line for each thing that happened, in the order of time."""
    events = _timeline(_runs(records), noted)
    if not events:
        return "<p>Nothing was noted.</p>"
    more = len(noted) - NOTED
    rest = f"<p class=soft>and {more:,} more</p>" if more > 0 else ""
    return f"<table class=events><tr><th>step<th>what{''.join(map(_row, events))}</table>{rest}"


def _timeline(skipped: Sequence[list[int]], noted: Sequence[Event]) -> list[Event]:
    """What was noted, with the steps that were skipped where they belong."""
    shown = [Event(steps[0], _skipped(steps)) for steps in skipped[:SKIPPED]]
    if len(skipped) > SKIPPED:
        shown.append(Event(skipped[SKIPPED][0], f"and {len(skipped) - SKIPPED:,} more times"))
    events = list(noted[:NOTED])
    for event in shown:
        before = [place for place, other in enumerate(events) if other.step < event.step]
        events.insert(max(before, default=-1) + 1, event)
    return events


def _row(event: Event) -> str:
    return f"<tr><td>{event.step:,}<td>{escape(event.what)} <span class=soft>{escape(_when(event))}</span>"


def _runs(records: Sequence[Record]) -> list[list[int]]:
    """Steps that were skipped, those in a row together."""
    return [[record["step"] for record in group] for fine, group in groupby(records, key=finite) if not fine]


def _skipped(steps: list[int]) -> str:
    if len(steps) == 1:
        return "was skipped: loss or gradient not finite"
    return f"{len(steps):,} steps, up to {steps[-1]:,}, were skipped: loss or gradient not finite"


def _when(event: Event) -> str:
    return event.when.replace("T", " ").replace("+00:00", " UTC")


def _tables(known: About) -> list[str]:
    peak = None if known.peak is None else power_text(known.peak)
    machine = {"device": known.device, "its peak": peak, **known.versions, "commit": known.commit}
    cost = {
        "parameters": known.parameters,
        "operations a token": None if known.flops is None else f"{short(known.flops)}FLOP",
    }
    tables = {
        "The plan": known.plan,
        "The network": {**(known.config or {}), **cost},
        "The data": known.data,
        "The machine": machine,
    }
    return [part for name, values in tables.items() for part in _table(name, values)]


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    texts = {key.replace("_", " "): _text(value) for key, value in _flat(values).items() if value is not None}
    return [f"<h2>{name}</h2>", plain_table(texts)] if texts else []


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tables within tables as `outer inner`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= {f"{key} {inner}": inside for inner, inside in _flat(value).items()}
        else:
            found[key] = value
    return found


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.10g}" if isinstance(value, int | float) else str(value)


def main(words: Sequence[str] | None = None) -> int:
    """The command, with `words` after its name; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m gemmary.train.runpage", description=__doc__)
    parser.add_argument("folder", type=Path, help="of a run, with its log.jsonl")
    folder = parser.parse_args(words).folder
    try:
        if not (folder / LOG).exists():
            raise GemmaryError(f"{folder}: there is no {LOG}; give the folder of a run")
        print(write(folder))
    except GemmaryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
