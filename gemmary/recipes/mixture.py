"""A mixture of the data folder's books, help pages and declarations, as shards to train on:

    python -m gemmary.recipes.mixture --out runs/mixture

429 sources in some 390 languages: UniMax decides how often each is repeated. The benchmarks are kept out.
`--plan plan.toml` takes a plan of your own instead; report.html in the folder shows what was kept and why.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..train.data.plan import DataPlan, Source, read_plan
from ..train.data.prepare import prepare
from .results import in_a_sentence

MIXTURE = DataPlan(
    sources=(
        Source("books", ("books/*.txt",)),
        Source("tldr", ("multilingual/tldr.*.jsonl",), by_file=True),
        Source("udhr", ("multilingual/udhr/*.txt",), by_file=True),
        Source("gsm8k", ("benchmarks/gsm8k_train.jsonl",), text=("question", "answer")),
    ),
    evaluation=(
        "benchmarks/gsm8k_test.jsonl", "benchmarks/HumanEval.jsonl.gz", "benchmarks/bbh/*.json",
    ),
    vocabulary=8192,
    characters=100_000_000,
    seed=5,
)  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Prepare training data: raw files to packed shards.")
    parser.add_argument("--plan", type=Path, help="TOML; without it, a mixture of the data folder")
    parser.add_argument("--data", type=Path, help="where the plan's paths begin (or set GEMMARY_DATA)")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    arguments = parser.parse_args()
    folder = arguments.data or Path(os.environ.get("GEMMARY_DATA", "../shared/data"))
    with in_a_sentence():
        plan = read_plan(arguments.plan) if arguments.plan else MIXTURE
        report = prepare(plan, folder, arguments.out, tell=lambda line: print(line, file=sys.stderr))
    print(f"{report.total('copies'):,} documents, {report.total('tokens'):,} tokens: {arguments.out}")


if __name__ == "__main__":
    main()
