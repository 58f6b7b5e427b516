"""The openai client, unmodified: what it gets is what model.chat says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

import gemmary

ASK = [{"role": "user", "content": "How do I list the contents of a tar archive?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "unit": {"$ref": "#/$defs/Unit"},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
            "$defs": {"Unit": {"enum": ["C", "F"]}},
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


class City(BaseModel):
    """A schema, as the client's helpers make it."""

    size: Literal["small", "large"]
    old: bool


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, **options: Any) -> Any:
    given: dict[str, Any] = {"model": "test", "messages": ASK, "seed": 7, "max_tokens": 24} | options
    return client.chat.completions.create(**given)


@pytest.mark.parametrize(
    ("asked", "means"),
    [
        ({}, {}),
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"stop": "tar"}, {"stop": "tar"}),
        ({"stop": ["list", "z"], "presence_penalty": 1.5}, {"stop": ["list", "z"], "presence_penalty": 1.5}),
        ({"logit_bias": {"300": 100}}, {"logit_bias": {300: 100.0}}),
        ({"top_p": 0.5, "extra_body": {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.3}},
         {"top_p": 0.5, "top_k": 5, "min_p": 0.1, "repeat_penalty": 1.3}),
        ({"max_tokens": None, "max_completion_tokens": 3, "frequency_penalty": -0.5},
         {"max_tokens": 3, "frequency_penalty": -0.5}),
    ],
    ids=lambda value: ",".join(value),
)  # fmt: skip
def test_whole(
    client: openai.OpenAI, bundled: gemmary.Model, asked: dict[str, Any], means: dict[str, Any]
) -> None:
    said = ask(client, **asked)
    expected = bundled.chat(ASK, **{"seed": 7, "max_tokens": 24, **means})
    assert said.choices[0].message.content == expected.text
    assert said.choices[0].finish_reason == expected.finish_reason
    assert said.usage.completion_tokens == expected.usage.completion_tokens
    assert said.usage.prompt_tokens == expected.usage.prompt_tokens


def test_streamed(client: openai.OpenAI, bundled: gemmary.Model) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    expected = bundled.chat(ASK, seed=7, max_tokens=24)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == expected.text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == expected.finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == expected.usage.completion_tokens
    assert len({c.id for c in chunks}) == 1


def test_several_answers_have_seeds_in_a_row(client: openai.OpenAI, bundled: gemmary.Model) -> None:
    steps = bundled.scheduler.tokens_read  # type: ignore[union-attr]
    conversation = [{"role": "user", "content": "Write a poem about a long road and a small dog."}]
    said = ask(client, messages=conversation, n=3, temperature=5.0)
    read = bundled.scheduler.tokens_read - steps  # type: ignore[union-attr]
    texts = [bundled.chat(conversation, seed=7 + i, temperature=5.0, max_tokens=24).text for i in range(3)]
    assert [choice.message.content for choice in said.choices] == texts
    assert len(set(texts)) > 1
    assert read < 2 * said.usage.prompt_tokens, "the prompt was read more than once"
    streamed = ["", "", ""]
    for chunk in ask(client, messages=conversation, n=3, temperature=5.0, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


def test_logprobs(client: openai.OpenAI, bundled: gemmary.Model) -> None:
    expected = bundled.chat(ASK, seed=7, max_tokens=8, logprobs=3).logprobs
    assert expected is not None
    given = ask(client, max_tokens=8, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert [entry.token for entry in given] == [entry.text for entry in expected]
    assert [entry.logprob for entry in given] == pytest.approx([entry.logprob for entry in expected])
    assert [[t.token for t in e.top_logprobs] for e in given] == [[t[1] for t in e.top] for e in expected]
    assert b"".join(bytes(e.bytes) for e in given).decode() == "".join(e.text for e in expected)
    chunks = ask(client, max_tokens=8, logprobs=True, stream=True)
    streamed = [e for c in chunks if c.choices[0].logprobs for e in c.choices[0].logprobs.content]
    assert [entry.logprob for entry in streamed] == pytest.approx([entry.logprob for entry in expected])


def test_an_answer_fits_a_schema(client: openai.OpenAI) -> None:
    said = client.chat.completions.parse(
        model="test", messages=ASK, response_format=City, seed=1, max_tokens=60
    )  # type: ignore[arg-type]
    assert isinstance(said.choices[0].message.parsed, City)
    text = ask(client, response_format={"type": "json_object"}, max_tokens=200).choices[0]
    assert text.finish_reason == "length" or isinstance(json.loads(text.message.content), dict)


def test_a_function_must_be_called(client: openai.OpenAI) -> None:
    said = ask(client, tools=[WEATHER, CLOCK], tool_choice="required", max_tokens=200).choices[0]
    assert said.message.content is None
    assert said.finish_reason == "tool_calls"
    assert said.message.tool_calls
    assert all(call.function.name in ("get_weather", "clock") for call in said.message.tool_calls)
    choice = {"type": "function", "function": {"name": "get_weather"}}
    named = ask(client, tools=[WEATHER, CLOCK], tool_choice=choice, parallel_tool_calls=False, max_tokens=200)
    assert named.choices[0].finish_reason == "tool_calls"
    (call,) = named.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"city", "unit"}
    assert arguments["unit"] in ("C", "F")
    history = [*ASK, named.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "12"}]
    assert ask(client, messages=history, tools=[WEATHER], max_tokens=4).usage.completion_tokens > 0


def test_arguments_grow(client: openai.OpenAI) -> None:
    """The helper of the client puts the pieces together."""
    options: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 200, "seed": 3}
    options["parallel_tool_calls"] = False
    with client.chat.completions.stream(model="test", messages=ASK, **options) as stream:
        events = list(stream)
        final = stream.get_final_completion().choices[0]
    grown = [e for e in events if e.type == "tool_calls.function.arguments.delta"]
    assert len(grown) > 3, "the arguments came in one piece"
    whole = ask(client, **options).choices[0]
    calls = [(c.function.name, c.function.arguments) for c in whole.message.tool_calls]
    assert [(c.function.name, c.function.arguments) for c in final.message.tool_calls] == calls
    assert final.finish_reason == "tool_calls"


def test_tools_that_are_not_called_leave_the_text(client: openai.OpenAI, bundled: gemmary.Model) -> None:
    expected = bundled.chat(ASK, tools=[WEATHER], seed=7, max_tokens=24)
    assert ask(client, tools=[WEATHER]).choices[0].message.content == expected.text
    text = "".join(c.choices[0].delta.content or "" for c in ask(client, tools=[WEATHER], stream=True))
    assert text == expected.text
    without = bundled.chat(ASK, seed=7, max_tokens=24)
    assert ask(client, tools=[WEATHER], tool_choice="none").choices[0].message.content == without.text


def test_many_at_once(url: str, bundled: gemmary.Model) -> None:
    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            asks = [
                client.chat.completions.create(model="test", messages=ASK, seed=seed, max_tokens=10)  # type: ignore[arg-type]
                for seed in range(6)
            ]
            streams = [
                client.chat.completions.create(
                    model="test", messages=ASK, seed=seed, max_tokens=10, stream=True  # type: ignore[arg-type]
                )
                for seed in range(2)
            ]  # fmt: skip
            whole = [said.choices[0].message.content for said in await asyncio.gather(*asks)]
            for stream in await asyncio.gather(*streams):
                whole.append("".join([c.choices[0].delta.content or "" async for c in stream]))  # type: ignore[attr-defined]
            return whole

    seeds = [*range(6), 0, 1]
    said = asyncio.run(all_of_them())
    assert said == [bundled.chat(ASK, seed=seed, max_tokens=10).text for seed in seeds]


def test_completions(client: openai.OpenAI, bundled: gemmary.Model) -> None:
    expected = bundled.generate("To list files,", seed=5, max_tokens=10)
    options: dict[str, Any] = {"model": "test", "seed": 5, "max_tokens": 10}
    said = client.completions.create(prompt="To list files,", logprobs=2, **options)
    assert said.choices[0].text == expected.text
    assert len(said.choices[0].logprobs.token_logprobs) == expected.usage.completion_tokens
    stream = client.completions.create(prompt="To list files,", stream=True, **options)
    assert "".join(chunk.choices[0].text for chunk in stream) == expected.text
    several = client.completions.create(prompt=["To list files,", "A dog"], n=2, echo=True, **options)
    texts = [
        text + bundled.generate(text, seed=seed, max_tokens=10).text
        for text in ("To list files,", "A dog")
        for seed in (5, 6)
    ]
    assert [choice.text for choice in several.choices] == texts
    ids = [2, *bundled.tokenizer.encode("A dog")]
    assert client.completions.create(prompt=ids, **options).choices[0].text == texts[2][len("A dog") :]


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == client.models.retrieve("test").id == "test"
    with pytest.raises(openai.NotFoundError, match="no model of this name"):
        client.models.retrieve("gpt-4/turbo")


def test_errors_are_those_that_the_client_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        ask(client, messages=[{"role": "user", "content": "word " * 5000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as missing:
        ask(client, model="other")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as strange:
        ask(client, extra_body={"temprature": 1})
    assert strange.value.param == "temprature"
    with pytest.raises(openai.UnprocessableEntityError) as schema:
        ask(
            client,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
        )
    assert schema.value.code == "invalid_schema"
