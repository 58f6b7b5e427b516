"""Schemathesis over /openapi.json with all its checks: what is valid and what is not, by its own reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis

import gemmary
from gemmary.serve.app import create_app
from gemmary.serve.history import History
from gemmary.serve.models import Models
from tests.serve.server import serving

from .wire import pages

NEGATIVE, POSITIVE = schemathesis.GenerationMode.NEGATIVE, schemathesis.GenerationMode.POSITIVE

# A body that fits its schema may still be refused with a sentence: fields can contradict each other, schemas
# of users need not be schemas, a random text is no picture.
ANSWERED = ["200", "201", "204", "400", "404", "409", "413", "422", "429"]
REFUSED = ["400", "401", "403", "404", "405", "408", "409", "413", "415", "422", "429", "431"]
ANSWERING = (
    "POST /v1/chat/completions", "POST /v1/completions", "POST /v1/messages",
    "POST /v1/messages/count_tokens", "POST /tokenize", "POST /detokenize",
)  # fmt: skip
OTHERS = (
    "GET /health", "GET /v1/models", "GET /v1/models/{name}", "GET /models", "GET /metrics",
    "POST /models/load", "POST /models/unload", "GET /api/conversations", "POST /api/conversations",
    "GET /api/changes", "GET /api/search",
    "POST /api/import", "GET /api/conversations/{id}", "PATCH /api/conversations/{id}",
    "DELETE /api/conversations/{id}", "PUT /api/conversations/{id}/messages/{message}",
    "DELETE /api/conversations/{id}/messages/{message}", "POST /api/conversations/{id}/branch",
    "POST /api/conversations/{id}/pictures", "GET /api/conversations/{id}/pictures/{picture}",
    "GET /api/conversations/{id}/export", "GET /api/about", "GET /api/crops",
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, gemmary.Model]]:
    """A context that is soon full: answers without a limit end soon. With a history."""
    history = History(tmp_path_factory.mktemp("history") / "history.db")
    with gemmary.load(threads=1, streams=4, queue=64, context=64) as model:
        with serving(create_app(Models({"test": model}), history=history)) as url:
            yield url, model
        history.close()


def check(small: tuple[str, gemmary.Model], operation: str, examples: int) -> None:
    url, model = small
    config = schemathesis.Config.from_dict({
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ANSWERED},
            "negative_data_rejection": {"expected-statuses": REFUSED},
        },
    })  # fmt: skip
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    method, path = operation.split()
    asked, statuses = schema[path][method], Counter[int]()
    bodies = asked.as_strategy()
    known = httpx.post(f"{url}/api/conversations", json={}, timeout=60).json()["id"]
    if asked.body:
        bodies |= asked.as_strategy(generation_mode=NEGATIVE)

    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=bodies)
    def run(case: Any) -> None:
        if (
            case.meta.generation.mode is POSITIVE
            and "id" in case.path_parameters
            and case.path_parameters["id"] > "5"
        ):
            case.path_parameters["id"] = known
        statuses[case.call_and_validate(base_url=url, timeout=120).status_code] += 1

    run()
    print(operation, dict(statuses), flush=True)
    if operation in ANSWERING:
        assert statuses[200] > 0
        assert examples < 100 or statuses[400] > examples / 10
    assert httpx.get(f"{url}/health", timeout=60).status_code == 200
    scheduler = model.scheduler
    assert scheduler is not None
    assert (scheduler.running, scheduler.waiting) == (0, 0)
    assert pages(model) == 0


def test_some(small: tuple[str, gemmary.Model]) -> None:
    check(small, "POST /v1/chat/completions", 10)


def test_every_operation_is_checked(small: tuple[str, gemmary.Model]) -> None:
    document = httpx.get(f"{small[0]}/openapi.json", timeout=60).json()["paths"]
    known = {f"{method.upper()} {path}" for path, methods in document.items() for method in methods}
    assert known == {*ANSWERING, *OTHERS}


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("operation", ANSWERING)
def test_five_thousand(small: tuple[str, gemmary.Model], operation: str) -> None:
    check(small, operation, 5000)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", OTHERS)
def test_a_thousand(small: tuple[str, gemmary.Model], operation: str) -> None:
    check(small, operation, 1000)
