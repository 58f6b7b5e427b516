"""A folder in which every field that ever ran code in some loader is set: nothing runs, nothing leaves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import seeds

PICKLE = b"cos\nsystem\n(S'touch %s'\ntR."  # a pickle that runs a command
HOSTILE = {
    "auto_map": {
        "AutoConfig": "evil.Config",
        "AutoModel": "evil.Model",
        "AutoModelForCausalLM": "evil--evil.Model",
    },
    "trust_remote_code": True,
    "custom_pipelines": {"text-generation": {"impl": "evil.Pipeline"}},
    "_attn_implementation_internal": "evil/kernels",
    "_attn_implementation": "evil/kernels",
    "attn_implementation": "evil/kernels",
    "_name_or_path": "http://127.0.0.1:9/evil",
    "architectures": ["evil.Model", "__import__('os').system('false')"],
    "tokenizer_class": "evil.Tokenizer",
    "processor_class": "evil.Processor",
    "transformers_version": "$(false)",
    "torch_dtype": "evil.dtype",
    "base_model_name_or_path": "../../evil",
    "generation_config": {"custom_generate": "evil/generate"},
}

# Runs in a child: what the interpreter does while a folder is opened is told by its audit events.
WATCH = """
import os, sys
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.errors import GemmaryError
folder = os.path.realpath(sys.argv[1])
found, watching = [], False
def hook(event, arguments):
    if not watching:
        return
    if event in ("exec", "compile", "import", "pickle.find_class", "marshal.loads", "ctypes.dlopen"):
        found.append((event, str(arguments)[:80]))
    if event.split(".")[0] in ("socket", "subprocess", "urllib") or event in ("os.system", "os.exec"):
        found.append((event, str(arguments)[:80]))
    if event == "open" and isinstance(arguments[0], int):
        return  # a descriptor that was opened, and told, before
    if event == "open" and not os.path.realpath(str(arguments[0])).startswith(folder + os.sep):
        found.append((event, str(arguments)[:80]))
sys.addaudithook(hook)
watching = True
try:
    checkpoint = open_checkpoint(sys.argv[1])
    for name in checkpoint.tensors:
        checkpoint.tensors[name].raw.sum()
    outcome = "opened"
except GemmaryError as error:
    outcome = str(error)
watching = False
print(found)
print(outcome)
"""


def watch(folder: Path, *options: str) -> tuple[list[object], str]:
    command = [sys.executable, *options, "-c", WATCH, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, outcome = done.stdout.splitlines()
    return eval(found), outcome


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = seeds.write_smallest_folder(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(seeds.smallest_json() | HOSTILE))
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).write_bytes(PICKLE % os.fsencode(tmp_path / "ran"))
    for name in (
        "evil.py",
        "configuration_gemma3.py",
        "modeling_gemma3.py",
        "sitecustomize.py",
        "__init__.py",
    ):
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for name in (
        "tokenizer_config.json",
        "generation_config.json",
        "adapter_config.json",
        "processor_config.json",
    ):
        (folder / name).write_text(json.dumps(HOSTILE))
    return folder


@pytest.mark.parametrize("options", [(), ("-O",)], ids=["plain", "-O"])
def test_nothing_runs_and_nothing_outside_is_opened(hostile: Path, options: tuple[str, ...]) -> None:
    found, outcome = watch(hostile, *options)
    assert (found, outcome) == ([], "opened")
    assert not (hostile.parent / "ran").exists()


@pytest.mark.parametrize("field", HOSTILE)
def test_each_field_alone(hostile: Path, field: str) -> None:
    """In this process: it only has to open; the watched run above covers what happens meanwhile."""
    from gemmary.weights.checkpoint import open_checkpoint

    (hostile / "config.json").write_text(json.dumps(seeds.smallest_json() | {field: HOSTILE[field]}))
    assert len(open_checkpoint(hostile).tensors) == 15


def test_pickled_weights_alone_are_refused_unread(hostile: Path) -> None:
    (hostile / "model.safetensors").unlink()
    found, outcome = watch(hostile)
    assert found == []
    assert "a pickle, which can run code: it is not read" in outcome


def test_links_and_indices_that_lead_out_open_nothing(hostile: Path, tmp_path: Path) -> None:
    weights = (hostile / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = hostile / "model.safetensors.index.json"
    for shard in ("../outside.safetensors", str(weights), "/proc/self/environ"):
        index.write_text(json.dumps({"weight_map": {"model.norm.weight": shard}}))
        found, outcome = watch(hostile)
        assert found == []
        assert "is not a bare file name" in outcome
    index.unlink()
    (hostile / "model.safetensors").symlink_to(weights)
    found, outcome = watch(hostile)
    assert found == []
    assert "link to a file outside of its folder" in outcome


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    """Its control: code is compiled and a file elsewhere is opened on purpose."""
    folder = seeds.write_smallest_folder(tmp_path / "model")
    script = WATCH.replace(
        "checkpoint = open", "compile('1', 'x', 'eval'); open('/dev/null'); checkpoint = open"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    assert [event for event, _ in eval(done.stdout.splitlines()[0])] == ["compile", "open"]
