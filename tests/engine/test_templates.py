"""Chat templates that come with a model are data: never run, whatever they say, and never waited for.

Prompts are written by our own code (inputs/turns.py); nothing of the package imports a template engine, as
tests/house/test_dependencies.py sees.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

import gemmary
from gemmary.weights.requantize import quantize

ASK = [{"role": "user", "content": "abc"}]
REACH = (
    "{{ cycler.__init__.__globals__.os.system('touch RAN') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__.__builtins__.open('RAN', 'w') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ messages|attr('__class__') }}",
    "{% import 'os' as os %}{{ os.system('touch RAN') }}",
    "{% include '/etc/passwd' %}",
    "{{ lipsum.__globals__['os'].popen('touch RAN').read() }}",
    "{{ raise_exception('stop') }}",
    "{% for m in messages %}{{ m.content }}<end_of_turn><start_of_turn>model{% endfor %}",
)
BOMBS = (
    "{{ 'a' * 10**12 }}",
    "{% for a in range(10**9) %}{% for b in range(10**9) %}x{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ range(10**12)|list }}",
    "{% if a %}" * 6000 + "{% endif %}" * 6000,
    "{{ 2 ** 10 ** 10 }}",
    "{" * 100_000,
)
FEW = (REACH[0], BOMBS[1])


@pytest.mark.parametrize(
    "templates", [FEW, pytest.param(REACH + BOMBS, marks=pytest.mark.long)], ids=["few", "all"]
)
def test_a_template_changes_nothing(
    templates: tuple[str, ...], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each of the places where folders keep one, and in a GGUF file."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "model"
    shutil.copytree(folder, source)
    with gemmary.load(source, threads=1, context=64) as model:
        expected = list(model.prompt(ASK).ids)
    for template in templates:
        (source / "chat_template.jinja").write_text(template)
        for name in ("chat_template.json", "tokenizer_config.json"):
            (source / name).write_text(json.dumps({"chat_template": template}))
        quantize(source, tmp_path / "new.gguf", "q8_0", force=True)
        for path in (source, tmp_path / "new.gguf"):
            started = time.process_time()
            with gemmary.load(path, threads=1, context=64) as model:
                assert list(model.prompt(ASK).ids) == expected
            assert time.process_time() - started < 2
    assert not (tmp_path / "RAN").exists()
