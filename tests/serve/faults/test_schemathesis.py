"""Schemathesis over /openapi.json with all its checks: what is valid and what is not, by its own reading."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis
import pytest

import gemmary
from tests.serve.server import running

schemathesis = pytest.importorskip(
    "schemathesis", reason="schemathesis is not installed: see docs/RELIABILITY.md"
)

# A body that fits its schema may still be refused with a sentence: fields can contradict each other, schemas
# of users need not be schemas, a random text is no picture.
ANSWERED = ["200", "400", "404", "422", "429"]
REFUSED = ["400", "401", "403", "404", "405", "408", "413", "415", "422", "429", "431"]
POSTS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/messages/count_tokens", "/tokenize",
         "/detokenize")  # fmt: skip
GETS = ("/health", "/v1/models")


@pytest.fixture(scope="module")
def small() -> Any:
    """A context that is soon full: answers without a limit end soon."""
    with gemmary.load(threads=1, streams=4, queue=64, context=64) as model, running(model) as url:
        yield url, model


def check(small: tuple[str, gemmary.Model], path: str, examples: int) -> None:
    url, model = small
    config = schemathesis.Config.from_dict({
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ANSWERED},
            "negative_data_rejection": {"expected-statuses": REFUSED},
        },
    })  # fmt: skip
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    statuses: Counter[int] = Counter()
    method = "GET" if path in GETS else "POST"

    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=schema[path][method].as_strategy() | negative(schema[path][method]))
    def run(case: Any) -> None:
        statuses[case.call_and_validate(base_url=url, timeout=120).status_code] += 1

    run()
    print(path, dict(statuses))
    assert statuses[200] > 0
    if examples > 100 and method == "POST":
        assert statuses[400] > examples / 10
    runner, scheduler = model._runner, model.scheduler
    assert runner is not None
    assert scheduler is not None
    assert (scheduler.running, scheduler.waiting) == (0, 0)

    def held() -> int:
        runner.snapshots.clear()
        return runner.pages.bytes_used

    assert model._thread.run(held) == 0


def negative(operation: Any) -> Any:
    """Bodies that do not fit."""
    if operation.method.upper() == "GET":
        return operation.as_strategy()
    return operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)


def test_some(small: tuple[str, gemmary.Model]) -> None:
    check(small, "/v1/chat/completions", 12)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("path", [*GETS, *POSTS])
def test_five_thousand(small: tuple[str, gemmary.Model], path: str) -> None:
    check(small, path, 5000)
