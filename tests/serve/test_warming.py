"""A model has answered once before anybody may ask it, and nobody can tell."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

import gemmary
from gemmary.engine.memory import Estimate
from gemmary.serve.models import Models, Source
from gemmary.serve.warming import warm
from tests.serve.whole import HTTP, free_port, served

SIZE = Estimate(100, 10, 1)
CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


def test_before_the_server_is_ready_and_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gemmary.serve")
    port, seen = free_port(), list[str]()
    loaded: list[gemmary.Model] = []

    def load(memory: int) -> gemmary.Model:
        model = gemmary.load(threads=1, streams=2, queue=4)
        generate = model.generate

        def watched(*given: Any, **more: Any) -> Any:
            never = dict.fromkeys(model.tokenizer.stops, -1e6)  # of a white picture it might say nothing
            reply = generate(*given, **more | {"logit_bias": never})
            health = httpx.get(f"http://127.0.0.1:{port}/health").json()["status"]
            seen.append(f"{health} {len(reply.ids) > 0}")
            return reply

        model.generate = watched  # type: ignore[method-assign]
        loaded.append(model)
        return model

    models = Models(sources={"one": Source(load, lambda: SIZE)})
    with served(models, port=port) as (url, _):
        assert set(seen) == {"loading True"}
        (model,), (line,) = loaded, [record for record in caplog.records if record.message == "warm"]
        assert vars(line)["model"] == "one" and vars(line)["seconds"] >= 0
        scheduler, snapshots = model.scheduler, model._runner.snapshots  # type: ignore[union-attr]
        assert scheduler is not None and scheduler.pages.counts[0] == 0
        assert (scheduler.steps, scheduler.tokens_read, scheduler.tokens_written) == (0, 0, 0)
        assert (len(snapshots), snapshots.hits, snapshots.misses) == (0, 0, 0)
        told = HTTP.get(f"{url}/metrics").text
        assert 'gemmary_pages_used{model_name="one"} 0.0' in told and "generation_tokens_total{" not in told
        asked = HTTP.post(url + CHAT, json=ASK).json()
        assert asked["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    models.close()


def test_a_fault_is_told_and_the_model_served(
    bundled: gemmary.Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> object:
        raise ValueError("of a kernel")

    runner = bundled._runner
    assert runner is not None
    with monkeypatch.context() as patched:
        patched.setattr(runner, "together", broken)
        warm(bundled, "one")
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "the first answer failed" in told[0].message and vars(told[0])["model"] == "one"
    assert any("broken" in record.message for record in told), "the log says where"
    with served(bundled) as (url, _):
        assert HTTP.post(url + CHAT, json=ASK).status_code == 200


@pytest.mark.long
def test_who_has_eyes_sees(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tests.engine.seeing import build

    build(tmp_path)
    caplog.set_level(logging.INFO, "gemmary.serve")
    with gemmary.load(tmp_path, threads=1, streams=2, queue=4) as model:
        runner = model._runner
        assert runner is not None and runner.eyes is not None
        seen: list[int] = []
        ready = runner.eyes.ready
        runner.eyes.ready = lambda numbers, *rest: seen.extend(numbers) or ready(numbers, *rest)  # type: ignore[method-assign,func-returns-value]
        warm(model, "eyes")
    assert seen and [record.message for record in caplog.records] == ["warm"]
