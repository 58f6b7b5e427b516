"""Spoilt model files, each given by (kind, seed, index) alone, so that a failure is one line to repeat."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from . import seeds, towers

LENGTHS = (0, 1, 2, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1)
# Pieces of JSON that readers disagree about, or that sizes must not be.
TRAPS = (
    "0", "-0", "1", "-1", "2", "2.0", "2e0", "1e3", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "true",
    "false", "null", '""', '"2"', "[]", "{}", "[[]]", '{"a":1,"a":1}', "9" * 19, "9" * 5000, "02", "0x2",
    "1_0", str(1 << 31), str(1 << 32), str(1 << 63), str(1 << 64), '"\\ud800"', '"\\u0000"',
    "[" * 2000 + "]" * 2000,
    "'2'", "2,", ",2", "/**/2", "\ufeff2", "\u00a02", " \t\n2",
)  # fmt: skip


def mutant(kind: str, seed: int, index: int) -> bytes:
    """The `index`-th spoilt file of a kind: "gguf", "mmproj", "safetensors", "index" or "config"."""
    rng = random.Random(f"{kind}/{seed}/{index}")
    if kind in ("gguf", "mmproj"):
        return _gguf(rng, _gguf_seed(rng) if kind == "gguf" else _mmproj_seed(rng))
    return {"safetensors": _safetensors, "index": _index, "config": _config}[kind](rng)


def _gguf(rng: random.Random, file: seeds.Marked) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice((_flip, _flip, _length, _length, _type, _splice, _cut, _overwrite, _count))(rng, file)
    return bytes(file.data)


def _gguf_seed(rng: random.Random) -> seeds.Marked:
    """Files with every type of metadata, several alignments and formats."""
    keys = seeds.smallest_metadata()
    if rng.random() < 0.5:
        keys |= {
            "x.bytes": ("[B", [1, 2, 3]), "x.truths": ("[?", [True, False]), "x.longs": ("[q", [-1, 1 << 40]),
            "x.reals": ("[d", [0.5]), "x.none": ("[s", []), "x.small": ("b", -3), "x.text": ("s", "für alle"),
            "gemma3.rope.scaling.type": ("s", "linear"), "gemma3.rope.scaling.factor": ("f", 8.0),
            "gemma3.attention.sliding_window_pattern": ("[?", [True]), "x.long": ("Q", 1 << 50),
        }  # fmt: skip
    align = rng.choice((32, 32, 64, 8))
    if align != 32:
        keys["general.alignment"] = ("I", align)
    formats = rng.choice((("F32",), ("Q4_0", "F16", "BF16"), ("Q8_0", "Q5_1", "Q4_1")))
    return seeds.smallest_gguf(keys, formats, align)


def _mmproj_seed(rng: random.Random) -> seeds.Marked:
    """The smallest picture half, in several formats."""
    keys, shapes = towers.smallest_mmproj()
    if rng.random() < 0.5:
        del keys["clip.vision.projector.scale_factor"]  # it is 4 then too
    formats = rng.choice((("F32",), ("F16", "BF16"), ("F32", "F16")))
    return seeds.smallest_gguf(keys, formats, shapes=shapes)


def _flip(rng: random.Random, file: seeds.Marked) -> None:
    where = rng.randrange(min(len(file.data), file.cuts[-15]) if rng.random() < 0.9 else len(file.data))
    file.data[where] ^= 1 << rng.randrange(8)


def _length(rng: random.Random, file: seeds.Marked) -> None:
    where, size = rng.choice(file.lengths)
    if where + size > len(file.data):
        return
    old = int.from_bytes(file.data[where : where + size], "little")
    new = rng.choice((*LENGTHS, old + 1, old - 1, old * 2, len(file.data), rng.randrange(1 << 20)))
    file.data[where : where + size] = (new % (1 << 8 * size)).to_bytes(size, "little")


def _type(rng: random.Random, file: seeds.Marked) -> None:
    where = rng.choice(file.types)
    if where + 4 <= len(file.data):
        struct.pack_into("<I", file.data, where, rng.choice((*range(16), 30, 99, 1 << 31)))


def _splice(rng: random.Random, file: seeds.Marked) -> None:
    """A whole record copied over another place, inserted, or taken out."""
    which = rng.randrange(len(file.cuts) - 1)
    begin, end = file.cuts[which : which + 2]
    record = file.data[begin:end]
    place = rng.choice(file.cuts)
    if rng.random() < 0.3:
        del file.data[begin:end]
    elif rng.random() < 0.5:
        file.data[place:place] = record
    else:
        file.data[place : place + len(record)] = record


def _cut(rng: random.Random, file: seeds.Marked) -> None:
    if rng.random() < 0.7:
        del file.data[rng.randrange(len(file.data)) :]
    else:
        file.data += rng.randbytes(rng.choice((1, 31, 32, 4096)))


def _overwrite(rng: random.Random, file: seeds.Marked) -> None:
    size = rng.choice((1, 4, 8, 64))
    where = rng.randrange(max(1, len(file.data) - size))
    file.data[where : where + size] = rng.randbytes(size)


def _count(rng: random.Random, file: seeds.Marked) -> None:
    """A key or tensor more or less than there are."""
    if len(file.data) >= 24:
        where = rng.choice((8, 16))
        count = int.from_bytes(file.data[where : where + 8], "little")
        struct.pack_into("<Q", file.data, where, (count + rng.choice((-1, 1))) % (1 << 64))


def _safetensors(rng: random.Random) -> bytes:
    header, data = seeds.smallest_header(dtype=rng.choice(("F32", "F16", "BF16")))
    if rng.random() < 0.5:
        header = {"__metadata__": {"format": "pt"}, **header}
    names = [name for name in header if name != "__metadata__"]
    if rng.random() < 0.3:  # still sound: the header's order is free
        header = dict(rng.sample(list(header.items()), len(header)))
    text = json.dumps(header)
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        text = _trap(rng, text, names)
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    length = len(raw) if rng.random() < 0.9 else rng.choice((*LENGTHS, len(raw) - 1, len(raw) + 1))
    raw = bytearray(struct.pack("<Q", length)) + raw + data
    return _bytes(rng, raw)


def _trap(rng: random.Random, text: str, names: list[str]) -> str:
    """JSON with one token changed for another, repeated, or taken out."""
    numbers = _numbers(text)
    choice = rng.randrange(6)
    if choice <= 2 and numbers:
        begin, end = rng.choice(numbers)
        value = int(text[begin:end][:30])
        near = (str(value + 1), str(value - 1), str(value * 2), str(value + (1 << 32)))
        return text[:begin] + rng.choice((*TRAPS, *near)) + text[end:]
    if choice == 3:
        old, new = rng.choice(names), rng.choice((*names, "__metadata__", "", "\u0000", "ü", "a" * 1000))
        return text.replace(json.dumps(old), json.dumps(new), 1)
    if choice == 4:
        word = rng.choice(('"dtype"', '"shape"', '"data_offsets"', '"BF16"', '"F16"', '"F32"'))
        other = rng.choice(
            ('"dtype"', '"shape"', '"BF16"', '"F64"', '"F4"', '"I8"', '"\\u0042F16"', "null", '"bf16"')
        )
        return text.replace(word, other, 1)
    where = rng.randrange(len(text))
    return text[:where] + rng.choice((*'{}[],:" \\', *TRAPS)) + text[where + rng.randrange(2) :]


def _numbers(text: str) -> list[tuple[int, int]]:
    """Where the numbers of lists stand."""
    places, begin = [], None
    for index, letter in enumerate(text):
        if letter.isdigit() and (begin is not None or text[index - 1] in "[ "):
            begin = index if begin is None else begin
        elif begin is not None:
            places.append((begin, index))
            begin = None
    return places


def _bytes(rng: random.Random, raw: bytearray) -> bytes:
    chance = rng.random()
    if chance < 0.1:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif chance < 0.15:
        del raw[rng.randrange(len(raw)) :]
    elif chance < 0.2:
        raw += rng.randbytes(rng.choice((1, 8)))
    return bytes(raw)


def _index(rng: random.Random) -> bytes:
    """A model.safetensors.index.json beside one shard, a.safetensors."""
    names = list(seeds.smallest_header()[0])
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "a.safetensors")})
    shards = ("../a.safetensors", "b.safetensors", "/dev/zero", "a.safetensors/", "", "A.safetensors")
    for _ in range(rng.choice((0, 1, 2))):
        change: Callable[[str], str] = rng.choice((
            lambda text: _trap(rng, text, names),
            lambda text: text.replace('"a.safetensors"', json.dumps(rng.choice(shards)), 1),
            lambda text: text.replace("weight_map", rng.choice(("weights", "metadata")), 1),
        ))  # fmt: skip
        text = change(text)
    return _bytes(rng, bytearray(text.encode("utf-8", "surrogatepass")))


def _config(rng: random.Random) -> bytes:
    values: dict[str, Any] = seeds.smallest_json()
    if rng.random() < 0.5:
        vision = {"hidden_size": 32, "image_size": 56, "patch_size": 14, "num_attention_heads": 2}
        values = {
            "model_type": "gemma3",
            "text_config": values,
            "vision_config": vision,
            "mm_tokens_per_image": 4,
        }
    text = json.dumps(values)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        text = _field(rng, text)
    return _bytes(rng, bytearray(text.encode("utf-8", "surrogatepass")))


def _field(rng: random.Random, text: str) -> str:
    """One value of a JSON text for a trap, or one key for another."""
    starts = [index for index in range(len(text)) if text.startswith(": ", index)]
    if not starts or rng.random() < 0.1:
        where = rng.randrange(len(text))
        return text[:where] + rng.choice((*'{}[],:" \\', *TRAPS)) + text[where + rng.randrange(2) :]
    begin = rng.choice(starts) + 2
    end = min(place for mark in ",}]" if (place := text.find(mark, begin)) >= 0)
    return (
        text[:begin] + rng.choice((*TRAPS, '"gemma3"', '"linear"', '"yarn"', "16", "32", "0.5")) + text[end:]
    )
