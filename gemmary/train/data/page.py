"""The report as one static HTML page: no script, nothing fetched, light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import groupby

from ..webpage import cards, document, plain_table, short
from .reasons import Reason
from .report import Report, SourceCount

_STYLE = """
td.wide { width: 34% }
.bar { display: block; height: .7rem; border-radius: 3px; background: var(--bar); min-width: 1px }
.bar.drop { background: var(--drop) }
details { border-bottom: 1px solid var(--line); padding: .35rem 0 } summary { cursor: pointer }
summary::marker { color: var(--soft) }
.reason { display: inline-grid; grid-template-columns: minmax(0, 22rem) 4rem minmax(4rem, 1fr); gap: 1rem;
          width: calc(100% - 1.5rem); align-items: center; vertical-align: middle }
.reason b { text-align: right; font-variant-numeric: tabular-nums }
blockquote { margin: .4rem 0 .4rem 1.2rem; padding-left: .8rem; border-left: 3px solid var(--line);
             overflow-wrap: anywhere }
.scroll { overflow-x: auto } .scroll > div { min-width: 760px } .even + details { padding: 0 0 .35rem }
.even { table-layout: fixed } .even th:first-child, .even td:first-child { width: 24% }
"""
_HEAD = (
    "source", "read", "dropped", "kept", "characters", "share of<br>the mixture", "times", "tokens",
)  # fmt: skip


def page(report: Report) -> str:
    """The whole page."""
    parts = [
        "<h1>What the model is trained on</h1>",
        f"<p class=soft>sources: {len(report.sources):,} · shards: {report.shards:,} · "
        f"pieces of the vocabulary: {report.vocabulary:,}</p>",
        _cards(report),
        "<h2>From what was read to what is trained on</h2>",
        _funnel(report),
        "<h2>What was left out, and why</h2>",
        "<p class=soft>Files, lines and documents, in the order of the stages. Open a line for examples.</p>",
        *(_reason(report, reason, count) for reason, count in report.dropped.items()),
        "<h2>Sources</h2>",
        "<p class=soft>Shares by UniMax: even among the large, none repeated more often than the plan "
        "allows. Characters are those that were kept; times is how often they are in the mixture.</p>",
        _sources(report),
        "<h2>Evaluations that were kept out</h2>",
        _evaluation(report),
        "<h2>Time</h2>",
        _times(report),
        "<h2>The plan</h2>",
        _settings(report),
    ]
    return document("Training data", parts, _STYLE)


def _cards(report: Report) -> str:
    figures = {
        "documents read": f"{report.total('read'):,}",
        "kept": f"{report.total('kept'):,}",
        "in the mixture, with repetitions": f"{report.total('copies'):,}",
        "characters of the mixture": short(report.total("drawn_characters")),
        "tokens": short(report.total("tokens")),
        "seconds": f"{sum(report.seconds.values()):,.0f}",
    }
    return cards(figures)


def _funnel(report: Report) -> str:
    read, dropped = report.total("read"), report.dropped
    refused = (Reason.SHORT, Reason.GARBLED, Reason.SYMBOLS, Reason.REPETITIVE)
    left = read - sum(dropped[reason] for reason in refused)
    steps = [("read", read), ("clean", left)]
    for name, reasons in (
        ("free of evaluations", (Reason.CONTAMINATED,)),
        ("distinct", (Reason.DUPLICATE, Reason.NEAR_DUPLICATE)),
        ("drawn", (Reason.NOT_SAMPLED,)),
    ):
        left -= sum(dropped[reason] for reason in reasons)
        steps.append((name, left))
    rows = "".join(
        f"<tr><td>{name}<td>{count:,}<td>{_percent(count, read)}<td class=wide>{_bar(count, read)}"
        for name, count in steps
    )
    return f"<table>{rows}</table>"


def _bar(part: float, whole: float, kind: str = "bar") -> str:
    return f"<span class='{kind}' style='width:{100 * part / max(whole, 1e-9):.2f}%'></span>"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %" if whole else ""


def _reason(report: Report, reason: Reason, count: int) -> str:
    most = max(report.dropped.values())
    cells = f"<span>{escape(reason)}</span><b>{count:,}</b>{_bar(count, most, 'bar drop')}"
    examples = "".join(
        f"<blockquote><span class=soft>{escape(e.source)} · {escape(e.place)}</span>"
        f"<br>{escape(e.seen) or '—'}</blockquote>"
        for e in report.examples.get(reason, [])
    )
    return f"<details><summary><span class=reason>{cells}</span></summary>{examples}</details>"


def _sources(report: Report) -> str:
    """A line for each source; sources with a common beginning before `/` fold into one."""
    total = report.total("drawn_characters")
    parts = [_table("<tr>" + "".join(f"<th>{name}" for name in _HEAD))]
    for name, group in groupby(report.sources, lambda source: source.name.split("/")[0]):
        members = list(group)
        if len(members) == 1:
            parts.append(_table(_line(members[0].name, members, total)))
            continue
        inner = "".join(_line(member.name, [member], total) for member in members)
        summary = f"{escape(name)}: {len(members):,} sources, one by one"
        parts.append(_table(_line(f"{name} ({len(members):,})", members, total)))
        parts.append(f"<details><summary class=soft>{summary}</summary>{_table(inner)}</details>")
    return f"<div class=scroll><div>{''.join(parts)}</div></div>"


def _table(lines: str) -> str:
    return f"<table class=even>{lines}</table>"


def _line(name: str, members: Iterable[SourceCount], total: int) -> str:
    members = list(members)
    read, kept = sum(m.read for m in members), sum(m.kept for m in members)
    dropped = sum(sum(m.dropped.values()) - m.dropped[Reason.NOT_SAMPLED] for m in members)
    characters, drawn = sum(m.characters for m in members), sum(m.drawn_characters for m in members)
    cells = (
        f"{read:,}", f"{dropped:,}", f"{kept:,}", short(characters), _percent(drawn, total),
        f"{drawn / characters:.2f}" if characters else "—", short(sum(m.tokens for m in members)),
    )  # fmt: skip
    return f"<tr><td>{escape(name)}" + "".join(f"<td>{cell}" for cell in cells) + "</tr>"


def _evaluation(report: Report) -> str:
    texts, runs, short = report.evaluation
    if not texts:
        return "<p>The plan names none.</p>"
    return (
        f"<p>{texts:,} texts with {runs:,} different runs of 13 words. A document that holds one of them is "
        f"left out. {short:,} of the texts are shorter than 13 words and cannot be looked for.</p>"
    )


def _times(report: Report) -> str:
    most = max(report.seconds.values(), default=0)
    rows = "".join(
        f"<tr><td>{escape(name)}<td>{seconds:,.1f} s<td class=wide>{_bar(seconds, most)}"
        for name, seconds in report.seconds.items()
    )
    return f"<table>{rows}</table>"


def _settings(report: Report) -> str:
    values = {f"source {s['name']}": s["paths"] for s in report.settings.get("sources", ())}
    values |= {name: value for name, value in report.settings.items() if name not in ("sources", "digest")}
    return plain_table({name: _value(value) for name, value in values.items()})


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "all there are" if value is None else str(value)
