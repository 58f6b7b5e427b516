"""The names and parameters that users rely on: design, section 6. What is said here may grow, not change."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import gemmary
from gemmary import errors
from gemmary.engine.options import Options

ROOT = Path(__file__).parents[2]
SAMPLING = (
    "stream=False, max_tokens=None, temperature=1.0, top_k=64, top_p=0.95, min_p=0.0, repeat_penalty=1.0, "
    "presence_penalty=0.0, frequency_penalty=0.0, logit_bias=None, seed=None, stop=(), schema=None, "
    "tools=None, pan_and_scan=False, logprobs=None, progress=None, speculate=True"
)
CALLS: list[tuple[Callable[..., Any], str]] = [
    (
        gemmary.load,
        "source=None, device='auto', mmproj=None, adapter=None, context=None, threads=None, dtype=None, "
        "draft=None, cache=None, streams=None, queue=64, memory=None",
    ),
    (gemmary.estimate, "source=None, context=None, batch=1, cache=None"),
    (gemmary.Model.prompt, "self, messages, pan_and_scan=False, tools=None, strict=False"),
    (gemmary.Model.chat, f"self, messages, {SAMPLING}"),
    (gemmary.Model.generate, f"self, prompt, {SAMPLING}"),
    (gemmary.Model.logits, "self, prompt, rows=None"),
    (gemmary.Model.score, "self, prompt, continuation"),
    (gemmary.Model.encode_image, "self, image"),
    (gemmary.Model.close, "self"),
]
FIELDS = {
    gemmary.Reply: "text ids message tool_calls finish_reason usage timings logprobs",
    gemmary.Piece: "text ids finish_reason logprobs usage timings",
    gemmary.Prompt: "ids pixels",
}
TREE = {
    "ModelFileError": "GemmaryError",
    "UnsupportedModelError": "GemmaryError",
    "PromptError": "GemmaryError",
    "ContextFullError": "PromptError",
    "ImageError": "GemmaryError",
    "MemoryBudgetError": "GemmaryError",
}


def parameters(call: Callable[..., Any]) -> str:
    """Names and defaults, as help() shows them."""
    return ", ".join(
        p.name if p.default is p.empty else f"{p.name}={p.default!r}"
        for p in inspect.signature(call).parameters.values()
    )


@pytest.mark.parametrize(("call", "expected"), CALLS, ids=lambda value: getattr(value, "__name__", ""))
def test_parameters(call: Callable[..., Any], expected: str) -> None:
    assert parameters(call) == expected


@pytest.mark.parametrize(("kind", "names"), FIELDS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_fields(kind: type, names: str) -> None:
    assert set(names.split()) <= set(kind.__dataclass_fields__)  # type: ignore[attr-defined]


def test_errors_are_the_stated_tree() -> None:
    for name, parent in TREE.items():
        assert issubclass(getattr(errors, name), getattr(errors, parent))
    assert issubclass(errors.MemoryBudgetError, MemoryError)


def test_typed_keywords_are_those_of_the_signature() -> None:
    """Editors and mypy see `Options`; the interpreter sees the signature. They must not drift apart."""
    for call in (gemmary.Model.chat, gemmary.Model.generate):
        names = [*inspect.signature(call).parameters][3:]
        assert names == [*Options.__annotations__]
    hints = {**inspect.signature(gemmary.Model.chat).parameters}
    for name, kind in Options.__annotations__.items():
        shown = getattr(kind, "__forward_arg__", kind)
        written = hints[name].annotation.replace("Tools", "Sequence[Mapping[str, Any]]")
        assert shown == written


def test_every_public_name_is_documented() -> None:
    for name in gemmary.__all__:
        public = getattr(gemmary, name)
        assert inspect.getdoc(public), name
        if inspect.isclass(public):
            for part, member in vars(public).items():
                if not part.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                    assert inspect.getdoc(member), f"{name}.{part}"
    assert all(
        f"{name}:" in inspect.getdoc(gemmary.load)
        for name in ("source", "device", "context", "threads", "dtype")
    )  # type: ignore[operator]


def test_every_parameter_of_chat_is_explained() -> None:
    text = inspect.getdoc(gemmary.Model.chat) or ""
    names = set(Options.__annotations__) - {"pan_and_scan"}
    assert {name for name in names if name not in text} == set()


def test_names_are_listed_and_nothing_else_is_found() -> None:
    assert set(gemmary.__all__) <= set(dir(gemmary))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        gemmary.lode  # noqa: B018
    assert get_type_hints(gemmary.Model.close)["return"] is type(None)


USER = '''
from typing import assert_type
import gemmary

model = gemmary.load()
messages = [{"role": "user", "content": "Hello"}]
assert_type(model.chat(messages), gemmary.Reply)
assert_type(model.chat(messages, temperature=0, seed=1, stop="x", tools=[]), gemmary.Reply)
assert_type(model.chat(messages, stream=True, max_tokens=5), gemmary.Stream)
assert_type(model.generate([1, 2], True), gemmary.Stream)
for piece in model.generate("Hello", stream=True):
    assert_type(piece, gemmary.Piece)
with model.chat(messages, stream=True) as stream:
    next(stream).text.upper()
stream.close()
streamed: bool = bool(messages)
reply = model.chat(messages, stream=streamed)
assert_type(reply, gemmary.Reply | gemmary.Stream)
assert_type(model.score("a", "b").greedy, bool)
model.chat(messages, temprature=0)  # type: ignore[call-overload]
model.chat(messages, top_k="many")  # type: ignore[call-overload]
'''  # fmt: skip


@pytest.mark.long  # `make check` runs it, where mypy is warm
def test_types_help_users(tmp_path: Path) -> None:
    """A user's program under mypy: results are known, misspelled and mistyped keywords are found."""
    program = tmp_path / "user.py"
    program.write_text(USER)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--follow-imports=silent",
        program,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
