"""LangChain's ChatOpenAI and the llm command, unmodified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

import gemmary

QUESTION = "How do I list the contents of a tar archive?"
ASK = [{"role": "user", "content": QUESTION}]


class City(BaseModel):
    """What is known of a city."""

    size: Literal["small", "large"]


@tool
def look_up(name: Literal["red", "blue"]) -> str:
    """What a colour means."""
    return name


@pytest.fixture
def chain(url: str) -> ChatOpenAI:
    options: Any = {"api_key": "none", "max_retries": 0, "seed": 7, "max_tokens": 40}
    return ChatOpenAI(model="test", base_url=f"{url}/v1", **options)


def test_langchain_invokes_and_streams(chain: ChatOpenAI, bundled: gemmary.Model) -> None:
    expected = bundled.chat(ASK, seed=7, max_tokens=40)
    said = chain.invoke(QUESTION)
    assert said.content == expected.text
    assert said.usage_metadata["output_tokens"] == expected.usage.completion_tokens  # type: ignore[index]
    whole = AIMessageChunk(content="")
    for chunk in chain.stream(QUESTION, stream_usage=True):
        whole += chunk  # type: ignore[assignment]
    assert whole.content == expected.text
    assert whole.usage_metadata == said.usage_metadata


def test_langchain_binds_tools(chain: ChatOpenAI) -> None:
    bound = chain.bind_tools([look_up], tool_choice="required", parallel_tool_calls=False)
    said = bound.invoke(QUESTION)
    (call,) = said.tool_calls
    assert call["name"] == "look_up"
    assert call["args"]["name"] in ("red", "blue")
    streamed = AIMessageChunk(content="")
    for chunk in bound.stream(QUESTION):
        streamed += chunk  # type: ignore[assignment]
    assert [c["args"] for c in streamed.tool_calls] == [call["args"]]
    result = ToolMessage("a colour", tool_call_id=call["id"])
    history = [SystemMessage("Be brief."), HumanMessage(QUESTION), said, result]
    assert chain.invoke(history).response_metadata["finish_reason"] in ("stop", "length")


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_gets_structured_output(chain: ChatOpenAI, method: Any) -> None:
    assert isinstance(chain.with_structured_output(City, method=method).invoke(QUESTION), City)


@pytest.fixture
def llm_home(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: gemmary\n  model_name: test\n  api_base: {url}/v1\n  supports_schema: true\n"
        "  supports_tools: true\n"
    )
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.setenv("LLM_LOAD_PLUGINS", "")
    return


@pytest.mark.usefixtures("llm_home")
def test_llm_prompts(bundled: gemmary.Model) -> None:
    from llm.cli import cli

    expected = bundled.chat(ASK, seed=7, max_tokens=24).text
    options = ["-m", "gemmary", "-o", "seed", "7", "-o", "max_tokens", "24", "--key", "none", "--no-log"]
    for more in ([], ["--no-stream"]):
        done = CliRunner().invoke(cli, ["prompt", QUESTION, *options, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert done.stdout.rstrip("\n") == expected.rstrip("\n")
    properties = '"properties": {"old": {"const": "yes"}}, "required": ["old"], "additionalProperties": false'
    schema = f'{{"type": "object", {properties}}}'
    done = CliRunner().invoke(cli, ["prompt", QUESTION, *options, "--schema", schema, "--no-stream"])
    assert json.loads(done.stdout)["old"] == "yes", done.output
