"""Tokens a second with and without speculation: on summaries, on edits, and in a chat.

    python bench/speculation.py [MODEL [DRAFT]]

MODEL is whatever `gemmary.load` takes (the bundled one if not said), DRAFT a smaller model that guesses.
Plain and speculated answers take turns and must be equal; medians are compared, and the last line is JSON.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from typing import Any

import gemmary

ROUNDS = 3
TOKENS = 128  # of an answer, if it does not end before
CONTEXT = 1024
TEXT = (
    "The harbour of Lindholm was built in 1874, when the railway reached the coast. For sixty years coal and "
    "timber left from its two long piers, and the town around it grew from nine hundred people to eleven "
    "thousand. After the war the ships became too large for the narrow entrance. The last coal was loaded in "
    "1957; the northern pier was given to the fishermen, and the southern one stood empty until a group of "
    "teachers turned its storehouse into a museum. Today the museum of Lindholm harbour has forty thousand "
    "visitors a year, most of them in the three weeks of the summer market."
)
CODE = (
    "def total(prices, rate):\n    result = 0\n    for price in prices:\n        result = result + price\n"
    "    result = result + result * rate\n    return result\n\n\ndef average(prices):\n    result = 0\n"
    "    for price in prices:\n        result = result + price\n    return result / len(prices)\n"
)
QUESTIONS = {
    "summarising": [
        f"Summarise this text in two sentences:\n\n{TEXT}",
        f"List the years that this text names, each with what happened, in its own words:\n\n{TEXT}",
    ],
    "editing": [
        f"Write this text again, word for word, with 'Lindholm' replaced by 'Marstal':\n\n{TEXT}",
        f"Rename the variable 'result' to 'amount' in this code and answer with the whole code:\n\n{CODE}",
    ],
    "chatting": [
        "How do I find the largest files below a folder?",
        "I have three free days in autumn. What should I think of before I go hiking in the mountains?",
    ],
}
DRAWS: dict[str, dict[str, Any]] = {"temperature 0": {"temperature": 0}, "temperature 1": {"seed": 1}}


def row(model: gemmary.Model, kind: str, draw: str) -> dict[str, Any]:
    """Both ways for the questions of one kind, taking turns. A first round warms up."""
    speeds: dict[bool, list[float]] = {False: [], True: []}
    tokens = drafted = accepted = 0
    for round_ in range(ROUNDS + 1):
        said: dict[bool, list[tuple[int, ...]]] = {}
        for speculate in (False, True):
            replies = [
                model.chat(
                    [{"role": "user", "content": question}],
                    max_tokens=TOKENS,
                    speculate=speculate,
                    **DRAWS[draw],
                )
                for question in QUESTIONS[kind]
            ]
            said[speculate] = [reply.ids for reply in replies]
            tokens = sum(len(reply.ids) for reply in replies)
            if round_:
                speeds[speculate].append(tokens / sum(reply.timings.decode for reply in replies))
                drafted += sum(reply.timings.drafted_tokens for reply in replies)
                accepted += sum(reply.timings.accepted_tokens for reply in replies)
        if said[True] != said[False]:
            raise RuntimeError(f"{kind}, {draw}: the speculated answer is another one")
    plain, speculated = (statistics.median(speeds[speculate]) for speculate in (False, True))
    return {
        "kind": kind,
        "draw": draw,
        "tokens": tokens,
        "plain": plain,
        "speculated": speculated,
        "ratio": statistics.median(b / a for a, b in zip(speeds[False], speeds[True], strict=True)),
        "drafted": drafted / ROUNDS,
        "accepted": accepted / ROUNDS,
    }


def printed(result: dict[str, Any]) -> str:
    """The line for people."""
    return (
        f"{result['kind']:<12} {result['draw']:<14} {result['tokens']:>4} tokens  "
        f"{result['plain']:7.1f} tok/s plain, {result['speculated']:7.1f} guessing ({result['ratio']:.2f}x)  "
        f"drafted {result['drafted']:5.0f}, accepted {result['accepted']:5.0f}"
    )


def main() -> None:
    source, draft = (*sys.argv[1:3], None, None)[:2]
    with gemmary.load(source, context=CONTEXT, **({"draft": draft} if draft else {})) as model:
        results = []
        for kind in QUESTIONS:
            for draw in DRAWS:
                results.append(row(model, kind, draw))
                print(printed(results[-1]), flush=True)
    about = {"model": source or "bundled", "draft": draft, "version": gemmary.__version__}
    print(json.dumps({"machine": platform.processor() or platform.machine(), **about, "rows": results}))


if __name__ == "__main__":
    main()
