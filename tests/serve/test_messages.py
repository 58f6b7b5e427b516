"""Anthropic's client, unmodified."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

import gemmary

ASK: list[Any] = [{"role": "user", "content": "How do I list the contents of a tar archive?"}]
# Sampling has no parameters in this client: they are fields of the body.
GREEDY: dict[str, Any] = {"model": "test", "max_tokens": 24, "extra_body": {"temperature": 0}}
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"unit": {"enum": ["C", "F"]}}, "required": ["unit"]},
}


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_whole_and_streamed(client: anthropic.Anthropic, bundled: gemmary.Model) -> None:
    told = [{"role": "system", "content": "Be brief."}, *ASK]
    expected = bundled.chat(told, temperature=0.0, max_tokens=24)
    said = client.messages.create(messages=ASK, system="Be brief.", **GREEDY)
    assert [block.text for block in said.content] == [expected.text]  # type: ignore[union-attr]
    assert said.stop_reason == ("end_turn" if expected.finish_reason == "stop" else "max_tokens")
    read = said.usage.input_tokens + (said.usage.cache_read_input_tokens or 0)
    assert (read, said.usage.output_tokens) == (
        expected.usage.prompt_tokens, expected.usage.completion_tokens
    )  # fmt: skip
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    with client.messages.stream(messages=ASK, system=system, **GREEDY) as stream:
        assert "".join(stream.text_stream) == expected.text
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == (said.stop_reason, said.usage.output_tokens)


def test_stop_sequences(client: anthropic.Anthropic, bundled: gemmary.Model) -> None:
    expected = bundled.chat(ASK, temperature=0.0, max_tokens=24)
    word = expected.text.split()[1]
    said = client.messages.create(messages=ASK, stop_sequences=["zzzz", word], **GREEDY)
    assert (said.stop_reason, said.stop_sequence) == ("stop_sequence", word)
    assert said.content[0].text == expected.text.partition(word)[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_is_used(client: anthropic.Anthropic, choice: Any) -> None:
    options: Any = {
        "model": "test", "max_tokens": 200, "tools": [WEATHER], "extra_body": {"seed": 5},
        "tool_choice": {**choice, "disable_parallel_tool_use": True},
    }  # fmt: skip
    said = client.messages.create(messages=ASK, **options)
    (block,) = said.content
    assert (said.stop_reason, block.type, block.name) == ("tool_use", "tool_use", "get_weather")  # type: ignore[union-attr]
    assert block.input["unit"] in ("C", "F")  # type: ignore[union-attr]
    with client.messages.stream(messages=ASK, **options) as stream:
        grown = [event for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(grown) > 1
    assert final.content[0].input == block.input  # type: ignore[union-attr]
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "12 degrees", "is_error": False}  # type: ignore[union-attr]
    history: Any = [
        *ASK,
        {"role": "assistant", "content": said.content},
        {"role": "user", "content": [result]},
    ]
    last = client.messages.create(messages=history, tools=[WEATHER], **GREEDY)
    assert last.content[0].type == "text"


def test_tokens_are_counted(client: anthropic.Anthropic, bundled: gemmary.Model) -> None:
    counted = client.messages.count_tokens(model="test", messages=ASK, system="Be brief.")
    told = [{"role": "system", "content": "Be brief."}, *ASK]
    assert counted.input_tokens == len(bundled.prompt(told).ids)
    (model,) = client.models.list().data
    assert model.id == "test"


def test_errors(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(messages=ASK, model="other", max_tokens=3)
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError, match="thinking"):
        client.messages.create(
            messages=ASK, model="test", max_tokens=3, thinking={"type": "enabled", "budget_tokens": 1024}
        )
