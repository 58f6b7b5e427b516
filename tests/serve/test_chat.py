"""POST /v1/chat/completions says what model.chat says."""

from __future__ import annotations

import openai
import pytest

import gemmary

ASK = [{"role": "user", "content": "How do I list the contents of a tar archive?"}]


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_whole(client: openai.OpenAI, bundled: gemmary.Model) -> None:
    said = client.chat.completions.create(model="test", messages=ASK, seed=7, max_tokens=24)
    expected = bundled.chat(ASK, seed=7, max_tokens=24)
    assert said.choices[0].message.content == expected.text
    assert said.choices[0].finish_reason == expected.finish_reason
    assert said.usage.completion_tokens == expected.usage.completion_tokens


def test_streamed(client: openai.OpenAI, bundled: gemmary.Model) -> None:
    stream = client.chat.completions.create(
        model="test", messages=ASK, seed=7, max_tokens=24, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    expected = bundled.chat(ASK, seed=7, max_tokens=24)
    assert text == expected.text
    assert chunks[-1].usage.completion_tokens == expected.usage.completion_tokens
