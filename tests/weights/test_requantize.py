"""Models in other number formats: what is written, and what is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch

from gemmary.formats import FORMATS, encode, encode_channels
from gemmary.inputs.sentencepiece_model import write_model
from gemmary.inputs.vocabulary import Vocabulary as Pieces
from gemmary.weights import recoded
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.names import is_norm, to_gguf
from gemmary.weights.requantize import BODIES, FLOATS, TABLES, convert, quantize
from gemmary.weights.save import write_folder, write_gguf
from gemmary.weights.tensor import Tensor
from gemmary.weights.vocabulary import Vocabulary

from .models import ODD, TEMPLATE, WIDE, source_folder, toy_folder
from .seeds import TINY, random_tensors, vocabulary
from .test_checkpoint import TEXT, VISION

ROOT = Path(__file__).parents[2]
Lines = list[str]
folder = pytest.fixture(toy_folder, scope="module")


def expected(values: np.ndarray, name: str) -> np.ndarray:
    """Bytes [rows, row_bytes] of a whole matrix in the format that a flag names."""
    return encode_channels(values) if name == "int4" else encode(FORMATS[name.upper()], values)


@pytest.mark.parametrize(("body", "table"), [*((b, None) for b in BODIES), *(("q4_0", t) for t in TABLES)])
def test_gguf_package_finds_the_encoded_rows(
    folder: Path, tmp_path: Path, body: str, table: str | None
) -> None:
    said: Lines = []
    quantize(folder, tmp_path / "new.gguf", body, table, tell=said.append)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "new.gguf").tensors}
    source = open_checkpoint(folder)
    rows = open_checkpoint(tmp_path / "new.gguf").config.vocab
    assert rows == 1500 and said == [] and len(theirs) == len(source.tensors)
    for name, tensor in source.tensors.items():
        their = theirs[to_gguf(name)]
        if is_norm(name):
            assert their.tensor_type.name == "F32" and np.array_equal(their.data, tensor.gain())
            continue
        form = body if name != "embed" else table or {"q4_0": "q8_0", "int4": "q8_0"}.get(body, body)
        values = tensor.values()[:rows] if name == "embed" else tensor.values()
        assert their.tensor_type.name == {"int4": "Q4_0"}.get(form, form.upper())
        assert their.data.tobytes() == expected(values, form).tobytes(), name


@pytest.mark.parametrize("to", FLOATS)
@pytest.mark.parametrize("name", ["new.gguf", "new"])
def test_floats_hold_the_rounded_values(folder: Path, tmp_path: Path, to: str, name: str) -> None:
    convert(folder, tmp_path / name, to)
    source, new = open_checkpoint(folder), open_checkpoint(tmp_path / name)
    for ours, tensor in new.tensors.items():
        before = source.tensors[ours]
        if is_norm(ours):
            assert np.array_equal(tensor.gain(), before.gain())
        else:
            form = FORMATS[to.upper()]
            wanted = encode(form, before.values()[: len(tensor.values())])
            assert tensor.format == form and tensor.raw.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("format", ["F32", "BF16", "F16"])
def test_floats_keep_their_bits_on_the_way_through_gguf_and_back(tmp_path: Path, format: str) -> None:
    first = source_folder(tmp_path / "first", replace(WIDE, vocab=1500), format)
    convert(first, tmp_path / "a.gguf", format.lower())
    convert(tmp_path / "a.gguf", tmp_path / "second", format.lower())
    convert(tmp_path / "second", tmp_path / "b.gguf", format.lower())
    one, two = open_checkpoint(first), open_checkpoint(tmp_path / "second")
    assert two.config == one.config
    for name, tensor in one.tensors.items():
        if is_norm(name):
            assert np.array_equal(two.gain(name), tensor.gain())
        else:
            assert two.tensors[name].raw.tobytes() == tensor.raw.tobytes()
    a, b = open_checkpoint(tmp_path / "a.gguf"), open_checkpoint(tmp_path / "b.gguf")
    assert all(a.tensors[name].raw.tobytes() == b.tensors[name].raw.tobytes() for name in a.tensors)
    assert isinstance(a.vocabulary, Vocabulary) and isinstance(b.vocabulary, Vocabulary)
    assert a.vocabulary.tokens == b.vocabulary.tokens
    assert np.array_equal(a.vocabulary.scores, b.vocabulary.scores)
    assert np.array_equal(a.vocabulary.types, b.vocabulary.types)


def test_slices_meet_without_a_seam(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes, whether a slice has 4,096 rows, seven or one, and whoever makes it."""
    quantize(folder, tmp_path / "whole.gguf", "q4_0", "q6_k")
    for values, threads in ((7 * 256 + 5, 3), (1, 1)):
        monkeypatch.setattr(recoded, "SLICE", values)
        monkeypatch.setattr(recoded, "THREADS", threads)
        quantize(folder, tmp_path / "sliced.gguf", "q4_0", "q6_k", force=True)
        assert (tmp_path / "sliced.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_rows_that_do_not_divide_stay_f16_and_that_is_said_once(tmp_path: Path) -> None:
    said: Lines = []
    quantize(source_folder(tmp_path / "odd", ODD), tmp_path / "a.gguf", "q8_0", "q6_k", tell=said.append)
    assert said == ["F16 for 2 of its matrices: their rows do not divide into blocks."]
    new = open_checkpoint(tmp_path / "a.gguf")
    kinds = {name: tensor.format.name for name, tensor in new.tensors.items() if not is_norm(name)}
    assert {name for name, kind in kinds.items() if kind == "F16"} == {"layers.0.down", "layers.1.down"}
    assert kinds["embed"] == "Q6_K" and set(kinds.values()) == {"F16", "Q8_0", "Q6_K"}
    narrow = source_folder(tmp_path / "narrow", replace(WIDE, width=96))
    said.clear()
    quantize(narrow, tmp_path / "b.gguf", "q8_0", "q6_k", tell=said.append)
    assert said == ["F16 for 1 of its matrices: their rows do not divide into blocks."]
    assert open_checkpoint(tmp_path / "b.gguf").tensors["embed"].format.name == "F16"


def test_a_file_that_is_quantized_already(folder: Path, tmp_path: Path) -> None:
    """What keeps its format keeps its bits, without a word; the rest is warned of, in one line."""
    said: Lines = []
    quantize(folder, tmp_path / "q4.gguf", "q4_0", "f16")
    quantize(tmp_path / "q4.gguf", tmp_path / "small.gguf", "q4_0", "q6_k", tell=said.append)
    assert said == []
    before, after = open_checkpoint(tmp_path / "q4.gguf"), open_checkpoint(tmp_path / "small.gguf")
    for name in before.tensors:
        same = before.tensors[name].raw.tobytes() == after.tensors[name].raw.tobytes()
        assert same == (name != "embed")
    quantize(tmp_path / "q4.gguf", tmp_path / "worse.gguf", "q8_0", tell=said.append)
    assert len(said) == 1 and said[0].startswith("14 of its matrices are quantized already, and quality is")
    worse = open_checkpoint(tmp_path / "worse.gguf").tensors["layers.0.up"]
    assert worse.raw.tobytes() == encode(FORMATS["Q8_0"], before.tensors["layers.0.up"].values()).tobytes()


def test_rounding_is_said(folder: Path, tmp_path: Path) -> None:
    said: Lines = []
    convert(folder, tmp_path / "a.gguf", "bf16", tell=said.append)
    convert(folder, tmp_path / "b", "f32", tell=said.append)
    assert said == []
    convert(folder, tmp_path / "c", "f16", tell=said.append)
    assert said == ["15 of its matrices are rounded to f16; --to f32 keeps every digit."]


def test_pictures_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = Gemma3Config(
        text_config=TEXT.to_dict() | {"vocab_size": 1600},
        vision_config={"model_type": "siglip_vision_model", **VISION},
        mm_tokens_per_image=4,
    )
    Gemma3ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(tmp_path / "mm")
    extra = source_folder(tmp_path / "text")
    shutil.copy(extra / "tokenizer.model", tmp_path / "mm")
    said: Lines = []
    aside = len(open_checkpoint(tmp_path / "mm").set_aside)
    quantize(tmp_path / "mm", tmp_path / "a.gguf", "q8_0", tell=said.append)
    convert(tmp_path / "mm", tmp_path / "b", "bf16", tell=said.append)
    assert said == [f"Its {aside} vision tensors are left out: the result reads text only."] * 2
    before = open_checkpoint(tmp_path / "mm")
    for name in ("a.gguf", "b"):
        after = open_checkpoint(tmp_path / name)
        assert after.set_aside == () and after.config.vision is None
        assert after.config == replace(before.config, vision=None, vocab=after.config.vocab)
    assert safetensors.torch.load_file(tmp_path / "b/model.safetensors").keys().isdisjoint(before.set_aside)


def test_what_a_model_says_of_itself_travels(folder: Path, tmp_path: Path) -> None:
    quantize(folder, tmp_path / "a.gguf", "q4_0")
    keys = {field: value.contents() for field, value in gguf.GGUFReader(tmp_path / "a.gguf").fields.items()}
    assert keys["general.name"] == "gemma-toy" and keys["tokenizer.chat_template"] == TEMPLATE
    assert keys["general.file_type"] == 2
    further = {"general.license": "gemma", "quantize.imatrix.file": "x", "general.name": "Other"}
    write_gguf(tmp_path / "b.gguf", TINY, random_tensors(TINY, "F16"), vocabulary(48), further)
    quantize(tmp_path / "b.gguf", tmp_path / "c.gguf", "q8_0")
    found = open_checkpoint(tmp_path / "c.gguf").metadata
    assert (found["general.name"], found["general.license"], found["general.file_type"]) == (
        "Other",
        "gemma",
        7,
    )
    assert "quantize.imatrix.file" not in found


def test_a_model_of_the_cache_is_called_by_its_name(tmp_path: Path) -> None:
    commit = tmp_path / "models--google--gemma-3-1b-it/snapshots" / ("a" * 40)
    quantize(source_folder(commit), tmp_path / "a.gguf", "q4_0")
    assert open_checkpoint(tmp_path / "a.gguf").metadata["general.name"] == "gemma-3-1b-it"


def test_progress_ends_at_the_bytes_of_the_tensors(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    quantize(folder, tmp_path / "a.gguf", "q8_0", progress=lambda done, total: told.append((done, total)))
    bytes_ = sum(len(tensor.raw) for tensor in open_checkpoint(tmp_path / "a.gguf").tensors.values())
    assert told[-1] == (bytes_, bytes_)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_an_empty_folder_may_be_filled(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    convert(folder, tmp_path / "empty", "bf16")
    assert open_checkpoint(tmp_path / "empty").config.vocab == WIDE.vocab
    assert not list(tmp_path.glob(".*"))


# ---- memory


@pytest.mark.long
def test_a_large_table_is_never_in_memory_whole(tmp_path: Path) -> None:
    """A table of 268 MB in float32: its slices may take a quarter of that, the file's mapped pages apart."""
    config = replace(TINY, vocab=131_072, width=512, layers=1, global_layers=())
    table = np.random.default_rng(0).integers(0x3C00, 0x3F00, (config.vocab, 512), np.uint16)
    small = random_tensors(config)
    del small["embed"]
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gemmary.weights.requantize import quantize\n"
        "def anonymous():\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    return int(status.split('RssAnon:')[1].split()[0]) * 1024\n"
        "quantize(Path(sys.argv[1]), Path(sys.argv[2]), 'q4_0', force=True)\n"  # compiles
        "before, most = anonymous(), 0\n"
        "def watch(done, total):\n"
        "    global most\n"
        "    most = max(most, anonymous())\n"
        "for to, table in (('q4_0', 'q8_0'), ('q4_0', 'f16'), ('int4', 'q6_k')):\n"
        "    quantize(Path(sys.argv[1]), Path(sys.argv[2]), to, table, True, watch)\n"
        "print(most - before)\n"
    )
    embed = Tensor("embed", table.shape, FORMATS["BF16"], table.view(np.uint8).reshape(-1))
    write_folder(tmp_path / "big", config, {"embed": embed, **small})
    many = [f"<unused{i}>" if i > 3 else ("<pad>", "<eos>", "<bos>", "<unk>")[i] for i in range(config.vocab)]
    pieces = Pieces("test", many, [3, 3, 3, 2] + [3] * (config.vocab - 4), np.zeros(config.vocab))
    (tmp_path / "big" / "tokenizer.model").write_bytes(write_model(pieces))
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "big"), str(tmp_path / "new.gguf")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    print(f"{int(done.stdout) / 1e6:.0f} MB")
    assert 0 < int(done.stdout) < 67e6
