"""An engine that hangs is noticed, told, and forgiven when it goes on."""

from __future__ import annotations

import threading

import pytest

import gemmary
from tests.serve.whole import HTTP, served, wait_for

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "temperature": 0}


@pytest.mark.parametrize("stream", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_step_that_hangs(
    bundled: gemmary.Model, stream: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scheduler, go_on, entered = bundled.scheduler, threading.Event(), threading.Event()
    assert scheduler is not None
    together = scheduler._runner.together

    def hanging(*given: object) -> object:
        entered.set()
        go_on.wait(60)
        return together(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(scheduler._runner, "together", hanging)
    with served(bundled, hang=0.3) as (url, _):
        try:
            answer = HTTP.post(url + CHAT, json={**ASK, "stream": stream}, timeout=60)
            assert entered.is_set()
            if stream:
                assert answer.status_code == 200
                assert '"code":"hung"' in answer.text and answer.text.endswith("data: [DONE]\n\n")
            else:
                assert answer.status_code == 503 and answer.json()["error"]["code"] == "hung"
            assert HTTP.get(f"{url}/health").json() == {"status": "hung"}
            assert HTTP.post(url + CHAT, json=ASK).status_code == 503
            assert HTTP.get(f"{url}/metrics").status_code == 200
        finally:
            go_on.set()
        wait_for(url)
        assert HTTP.post(url + CHAT, json=ASK, timeout=60).status_code == 200
    assert "hanging" in capfd.readouterr().err, "the log shows where the engine is"


def test_an_answer_that_takes_too_long(bundled: gemmary.Model) -> None:
    with served(bundled, answer_time=0.2) as (url, _):
        late = HTTP.post(
            url + CHAT, json={**ASK, "max_tokens": 900, "logit_bias": {"1": -100, "106": -100}}, timeout=60
        )
        assert (late.status_code, late.json()["error"]["code"]) == (408, "answer_time")
