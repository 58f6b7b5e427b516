"""Calls of functions: found in the answer, shaped as OpenAI's API has them, ready to be sent back."""

from __future__ import annotations

import json
from typing import Any

import pytest

import gemmary
from gemmary.engine.answer import Answer
from gemmary.engine.generate import generate
from gemmary.engine.request import Request, Run
from gemmary.engine.sampling import Sampler, Sampling
from gemmary.engine.transcript import Transcript
from gemmary.inputs.stream import StopStrings

TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "now", "parameters": {"type": "object"}},
    }
]
ASK = [{"role": "user", "content": "abc"}]
ONE = '{"name": "weather", "parameters": {"city": "Zürich"}}'


class Script:
    """A constraint that lets the model say one text and nothing else."""

    def __init__(self, ids: list[int], vocab: int) -> None:
        self._ids = list(ids)
        self._vocab = vocab

    def allowed(self) -> Any:
        import numpy as np

        mask = np.zeros(self._vocab, np.bool_)
        mask[self._ids[0]] = True
        return mask

    def accept(self, token: int) -> bool:
        assert token == self._ids.pop(0)
        return not self._ids


def saying(
    model: gemmary.Model,
    text: str,
    tools: bool = False,
    stop: str | tuple[str, ...] = (),
    cut: int | None = None,
) -> Answer:
    """An answer of the real engine whose text is known; `cut`: only so many of its tokens."""
    ids, vocab = [2, 5, 6], model.config.vocab
    script = Script(model.tokenizer.encode(text)[:cut], vocab)
    request = Request(ids, Sampler(Sampling(), ids, vocab, None), model.tokenizer.stops, constraint=script)
    run = Run()
    draws = generate(model._admit(request), model._thread, request, run)
    return Answer(draws, Transcript(model.tokenizer, request, run, StopStrings(stop), tools))


def test_a_call_is_found(model: gemmary.Model) -> None:
    reply = saying(model, ONE, tools=True).reply()
    assert reply.finish_reason == "tool_calls"
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("weather", {"city": "Zürich"})]
    assert reply.text == ONE


def test_the_message_has_openais_shape_and_can_be_sent_back(model: gemmary.Model) -> None:
    message = saying(model, ONE, tools=True).reply().message
    assert (message["role"], message["content"]) == ("assistant", None)
    (call,) = message["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Zürich"}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "rain"}
    text = model.tokenizer.decode(model.prompt([*ASK, message, result]).ids)
    assert text.count("Zürich") == 1  # once, not as text and as a call
    assert "Result of weather:\nrain" in text


def test_ids_of_calls_differ_between_turns(model: gemmary.Model) -> None:
    """Or results of an earlier turn would be taken for those of a later one."""
    ids = {saying(model, ONE, tools=True).reply().message["tool_calls"][0]["id"] for _ in range(3)}
    assert len(ids) == 3


def test_several_calls(model: gemmary.Model) -> None:
    reply = saying(model, f"[{ONE}, {ONE}]", tools=True).reply()
    assert len(reply.tool_calls) == len(reply.message["tool_calls"]) == 2


@pytest.mark.parametrize(("text", "tools"), [(ONE, False), ("It rains.", True), ('{"name": 5}', True)])
def test_what_is_no_call_stays_text(model: gemmary.Model, text: str, tools: bool) -> None:
    reply = saying(model, text, tools=tools).reply()
    assert (reply.finish_reason, reply.tool_calls) == ("stop", ())
    assert reply.message == {"role": "assistant", "content": text}


def test_a_stream_tells_of_calls_on_its_last_piece(model: gemmary.Model) -> None:
    *before, last = saying(model, ONE, tools=True).stream()
    assert last.finish_reason == "tool_calls"
    assert all(piece.finish_reason is None for piece in before)
    assert "".join(piece.text for piece in [*before, last]) == ONE


def test_a_call_in_front_of_a_stop_string_counts(model: gemmary.Model) -> None:
    reply = saying(model, ONE + "###abc", tools=True, stop="###").reply()
    assert (reply.text, reply.finish_reason) == (ONE, "tool_calls")


def test_stop_strings_over_every_cut_into_tokens(model: gemmary.Model) -> None:
    """The same text in single bytes, letters and words; stop strings inside, across and at the end."""
    text = "ab cd word7 efé word8 xyz"
    for stop in ("cd", "d wo", "word7", "é", "f", "xyz", "z", "7 efé w", "nothing"):
        expected = text.split(stop)[0]
        answer = saying(model, text, tools=False, stop=(stop, "nor this"))
        pieces = list(answer.stream())
        assert "".join(piece.text for piece in pieces) == expected
        assert pieces[-1].finish_reason == "stop"


@pytest.mark.parametrize(("cut", "expected"), [(2, "a\ufffd"), (3, "a\ufffd"), (4, "a€"), (5, "a€b")])
def test_a_character_that_was_begun_shows_once_and_at_the_end(
    model: gemmary.Model, cut: int, expected: str
) -> None:
    """ "€" is three tokens here: nothing of it is seen before the third, or before the answer is over."""
    reply = saying(model, "a€b", cut=cut).reply()
    assert (reply.text, len(reply.ids)) == (expected, cut)
    assert reply.text == model.tokenizer.decode(reply.ids)
    pieces = [piece.text for piece in saying(model, "a€b", cut=cut).stream()]
    assert "".join(pieces) == expected
    assert all("\ufffd" not in piece for piece in pieces[:-1])


def test_chat_with_tools_tells_the_model_about_them(model: gemmary.Model) -> None:
    with_tools = model.chat(ASK, tools=TOOLS, max_tokens=2, seed=1)
    without = model.chat(ASK, max_tokens=2, seed=1)
    assert with_tools.usage.prompt_tokens > without.usage.prompt_tokens + 50
    assert model.prompt(ASK, tools=TOOLS).ids[:3] == model.prompt(ASK).ids[:3]


@pytest.mark.parametrize("tools", [5, "weather", [5], [{}], [{"function": {}}], {"a": 1}], ids=repr)
def test_senseless_tools(model: gemmary.Model, tools: Any) -> None:
    with pytest.raises(gemmary.errors.PromptError, match="tool"):
        model.chat(ASK, tools=tools)
