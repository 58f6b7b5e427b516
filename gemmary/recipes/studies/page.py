"""What a study leaves: NAME.svg, NAME.json, NAME.md, and the index of all that are in the folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...weights.atomic import replacing
from .catalogue import TITLES
from .effect import RULE
from .study import Findings, Runs, Study

INDEX = """# Studies

What the Gemma 3 report found by ablation, asked again of toys that two cores train in minutes:
`gemmary study` lists the questions, `gemmary study NAME` answers one. Toys cannot prove what holds at 2B.
They show whether an effect is there at their own scale; where a report's number is arithmetic, it is met
exactly.
Every page has its figure, its numbers beside the report's, and what it does not show; the JSON has every raw
number, the commit and the machine. Losses are in nats a token: 0.01 of them are 1 % of perplexity.

"""


def write(study: Study, runs: Runs, folder: Path, origin: Mapping[str, str]) -> Findings:
    """All files of a study into `folder`, and its index anew. GemmaryError: they cannot be written."""
    found = study.find(runs)
    folder.mkdir(parents=True, exist_ok=True)
    names = figure_names(study.name, len(found.figures))
    for name, figure in zip(names, found.figures, strict=True):
        _write(folder / name, figure.svg())
    _write(folder / f"{study.name}.json", json.dumps(as_json(study, runs, found, origin), indent=1) + "\n")
    _write(folder / f"{study.name}.md", page(study, runs, found, origin))
    _write(folder / "README.md", index(folder))
    return found


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def figure_names(name: str, count: int) -> list[str]:
    """kv.svg, kv-2.svg, ..."""
    return [f"{name}.svg" if not n else f"{name}-{n + 1}.svg" for n in range(count)]


def as_json(study: Study, runs: Runs, found: Findings, origin: Mapping[str, str]) -> dict[str, Any]:
    """Every raw number, what it depends on, and what is said of it."""
    return {
        "study": study.name,
        "title": study.title,
        "report": study.theirs,
        "found": list(found.sentences),
        "limits": found.limits,
        "rule": None if study.exact else RULE,
        **origin,
        "seconds": round(sum(run.seconds for run in runs.all), 1),
        "settings": dict(study.settings),
        "runs": [asdict(run) for run in runs.all],
    }


def page(study: Study, runs: Runs, found: Findings, origin: Mapping[str, str]) -> str:
    """The Markdown page."""
    names = figure_names(study.name, len(found.figures))
    figures = (f"![{figure.title}]({name})" for figure, name in zip(found.figures, names, strict=True))
    seconds = sum(run.seconds for run in runs.all)
    commits = ", ".join(sorted({run.commit for run in runs.all}))
    seeds = "arithmetic: no seeds" if study.exact else f"{len({run.seed for run in runs.all})} seeds"
    parts = [
        f"# {study.title}",
        "\n".join(found.sentences),
        f"The report: {study.theirs}",
        *figures,
        *(markdown_table(lines) for lines in found.tables),
        f"What this does not show: {found.limits}",
        *([] if study.exact else [f"The rule: {RULE}"]),
        f"`gemmary study {study.name}` at {commits}: {seeds}, {seconds:,.0f} s, {origin['device']}. "
        f"All numbers: [{study.name}.json]({study.name}.json).",
    ]
    return "\n\n".join(parts) + "\n"


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """A head, a rule, and the rest."""
    head, *rest = lines
    rows = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def index(folder: Path) -> str:
    """The studies whose results `folder` has, each with its sentence."""
    lines = []
    for name, title in TITLES.items():
        path = folder / f"{name}.json"
        if path.exists():
            said = " ".join(json.loads(path.read_text(encoding="utf-8"))["found"])
            lines.append(f"- [{title}]({name}.md). {said}")
    return INDEX + "\n".join(lines) + "\n"
