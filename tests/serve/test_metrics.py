"""GET /metrics is what Prometheus reads, and its numbers change as they should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import gemmary
from tests.serve.asked import application, client
from tests.serve.whole import HTTP, served

CHAT = "/v1/chat/completions"
HISTOGRAMS = ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds",
              "request_prefill_time_seconds", "request_decode_time_seconds", "request_prompt_tokens",
              "request_generation_tokens")  # fmt: skip
LONG = "Tell me how to list the contents of a tar archive, step by step, please: " * 3


def body(text: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0, **more}


def numbers(text: str) -> dict[str, float]:
    """name{labels} -> value of all samples but those of buckets."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()) if key != "le")
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def of(found: dict[str, float], name: str, **labels: str) -> float:
    said = ",".join(f"{key}={value}" for key, value in sorted({"model_name": "test", **labels}.items()))
    return found.get(f"{name}{{{said}}}", 0.0)


@pytest.fixture(scope="module")
def base(bundled: gemmary.Model) -> Iterator[str]:
    with served(bundled) as (url, _):
        yield url


def scrape(base: str) -> dict[str, float]:
    answer = HTTP.get(f"{base}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return numbers(answer.text)


def test_numbers_change_as_they_should(base: str) -> None:
    before = scrape(base)
    used = [
        HTTP.post(base + CHAT, json=body(LONG, 5, cache_salt="metrics")).json()["usage"] for _ in range(2)
    ]
    HTTP.post(base + CHAT, json={"messages": []})
    after = scrape(base)

    def grown(name: str, **labels: str) -> float:
        return of(after, name, **labels) - of(before, name, **labels)

    prompt = sum(each["prompt_tokens"] for each in used)
    made = sum(each["completion_tokens"] for each in used)
    cached = sum(each["prompt_tokens_details"]["cached_tokens"] for each in used)
    assert cached > 0, "the second answer begins from what the first has read"
    for prefix in ("gemmary_", "vllm:"):
        assert grown(prefix + "prompt_tokens_total") == prompt == grown(prefix + "prefix_cache_queries_total")
        assert grown(prefix + "prefix_cache_hits_total") == cached
        assert grown(prefix + "generation_tokens_total") == made
        assert grown(prefix + "request_success_total", finished_reason="length") == 2
        for name in HISTOGRAMS:
            assert grown(f"{prefix}{name}_count") == 2, name
        assert grown(prefix + "inter_token_latency_seconds_count") == made - 2
        assert 0 < of(after, prefix + "kv_cache_usage_perc") < 1
    assert 0 < of(after, "gemmary_pages_used") < of(after, "gemmary_pages_total")
    path = f"gemmary_http_requests_total{{path={CHAT},status=%d}}"
    assert after[path % 200] - before.get(path % 200, 0) == 2
    assert after[path % 400] - before.get(path % 400, 0) == 1


@pytest.mark.long
def test_running_and_waiting_are_told(base: str) -> None:
    async def asking() -> None:
        async with httpx.AsyncClient(base_url=base, timeout=60) as http:
            answers = [asyncio.ensure_future(http.post(CHAT, json=body(LONG, 200, n=1))) for _ in range(8)]
            running = waiting = 0.0
            while not any(answer.done() for answer in answers) and not (running and waiting):
                found = numbers((await http.get("/metrics")).text)
                running = max(running, of(found, "gemmary_num_requests_running"))
                waiting = max(waiting, of(found, "vllm:num_requests_waiting"))
            await asyncio.gather(*answers)
            assert running >= 1 and waiting >= 1  # four streams, eight who ask
            found = numbers((await http.get("/metrics")).text)
            assert of(found, "gemmary_num_requests_running") == of(found, "vllm:num_requests_waiting") == 0

    asyncio.run(asking())


def test_a_client_that_goes_is_counted(base: str) -> None:
    before = of(scrape(base), "gemmary_request_success_total", finished_reason="abort")
    with HTTP.stream(
        "POST", base + CHAT, json=body(LONG, 900, stream=True, ignore_eos=True), timeout=60
    ) as answer:
        next(answer.iter_lines())
    for _ in range(200):
        after = of(scrape(base), "gemmary_request_success_total", finished_reason="abort")
        if after > before:
            break
    assert after == before + 1


def test_paths_that_do_not_exist_make_no_series(bundled: gemmary.Model) -> None:
    async def asking() -> str:
        async with client(application(bundled)) as http:
            for number in range(5):
                await http.get(f"/canary-{number}")
            return (await http.get("/metrics")).text

    text = asyncio.run(asking())
    assert "canary" not in text and 'path="-",status="404"' in text
