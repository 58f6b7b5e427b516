"""The ARM path without an ARM: what it compiles to, and its bits in an emulator beside this processor's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemmary.ops.numba import instructions
from gemmary.ops.numba.emit import LANES
from gemmary.ops.numba.floatrows import BYTES
from gemmary.ops.numba.instructions import chosen
from gemmary.ops.numba.isa import generic, neon, neon_i8mm
from gemmary.ops.numba.strips import LAYOUTS
from gemmary.ops.numba.tile import TOKEN_BYTES
from tests.ops.numba import cross

BLOCKS = 3
COLUMNS = 3 * LANES + 5  # of float rows: whole vectors and a rest
DOTPROD = cross.Target("aarch64-linux-gnu", features="+dotprod")
I8MM = cross.Target("aarch64-linux-gnu", features="+dotprod,+i8mm")
PLAIN_ARM = cross.Target("aarch64-linux-gnu")
EMULATED = [
    pytest.param(neon, DOTPROD, "neoverse-n1", id="neon"),
    pytest.param(neon_i8mm, I8MM, "max", id="i8mm"),
    pytest.param(generic, PLAIN_ARM, "cortex-a57", id="generic", marks=pytest.mark.long),
]
CALLS = {"bl", "blr", "call", "jalr"}


def counted(target: cross.Target, isa: Any) -> dict[str, Counter[str]]:
    """How often each function has each instruction."""
    listed = cross.assembly(target, isa)
    return {name: Counter(line.split()[0] for line in lines) for name, lines in listed.items()}


@pytest.mark.long
@pytest.mark.parametrize(("target", "isa"), [(DOTPROD, neon), (I8MM, neon_i8mm)], ids=["dotprod", "i8mm"])
def test_quantized_tiles_are_dot_products(target: cross.Target, isa: Any) -> None:
    """16 rows x 32 columns x tokens, 16 or 32 products an instruction, and no other product of integers."""
    for name, count in counted(target, isa).items():
        if name.startswith("tile"):
            tokens = int(name[-1])
            matrix = isa is neon_i8mm and tokens > 1
            assert (count["sdot"], count["smmla"]) == ((0, 16 * tokens) if matrix else (32 * tokens, 0)), name
        assert not {"smull", "umull", "smlal", "mla", "saddlp"} & set(count)


@pytest.mark.parametrize(
    ("target", "isa"),
    [
        (DOTPROD, neon),
        pytest.param(I8MM, neon_i8mm, marks=pytest.mark.long),
        pytest.param(PLAIN_ARM, generic, marks=pytest.mark.long),
    ],
)
def test_nothing_calls_a_library(target: cross.Target, isa: Any) -> None:
    found = counted(target, isa)
    assert all(found.values())
    assert not [name for name, count in found.items() if CALLS & set(count)]


def a_mac_without_words(monkeypatch: pytest.MonkeyPatch, i8mm: bool) -> None:
    def no_words() -> None:
        raise RuntimeError

    monkeypatch.setattr(instructions.binding, "get_host_cpu_features", no_words)
    monkeypatch.setattr(neon.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(neon.sys, "platform", "darwin")
    monkeypatch.setattr(neon, "_mac_says", lambda name: i8mm and name == "hw.optional.arm.FEAT_I8MM")


@pytest.mark.parametrize(("i8mm", "path"), [(False, neon), (True, neon_i8mm)])
def test_a_mac_gets_its_path_though_llvm_is_silent(
    monkeypatch: pytest.MonkeyPatch, i8mm: bool, path: Any
) -> None:
    a_mac_without_words(monkeypatch, i8mm)
    assert instructions.choose(None, instructions.features()) is path


@pytest.mark.parametrize(
    ("words", "path"),
    [({}, generic), ({16: 1 << 20}, neon), ({16: 1 << 20, 26: 1 << 13}, neon_i8mm)],
)
def test_linux_says_what_llvm_does_not(monkeypatch: pytest.MonkeyPatch, words: Any, path: Any) -> None:
    """The bits are those of the kernel's arch/arm64/include/uapi/asm/hwcap.h."""
    monkeypatch.setattr(instructions.binding, "get_host_cpu_features", lambda: {"neon": True})
    monkeypatch.setattr(neon.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(neon.sys, "platform", "linux")
    monkeypatch.setattr(neon, "_linux_says", lambda word: words.get(word, 0))
    assert instructions.choose(None, instructions.features()) is path


def strip(form: str, rng: np.random.Generator) -> np.ndarray:
    """A random strip: any codes, finite scales."""
    layout = LAYOUTS[form]
    raw = rng.integers(0, 256, (BLOCKS, layout.nbytes), dtype=np.uint8)
    halves = layout.header or layout.nbytes % 64 or 64
    raw[:, :halves] = rng.normal(0, 0.1, (BLOCKS, halves // 2)).astype(np.float16).view(np.uint8)
    return raw


def activations(tokens: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Tiles of rounded activations, as `tile` wants them."""
    codes = rng.integers(-127, 128, (columns // 32, 8, tokens, 4), dtype=np.int8)
    scales = rng.normal(1, 0.3, (columns // 32, tokens)).astype(np.float32)
    halves = -codes.reshape(-1, 2, 4, tokens, 4).sum((2, 4), np.int32)
    parts = (codes, scales, halves.sum(1, np.int32), halves)
    flat = [np.ascontiguousarray(part).view(np.uint8).reshape(columns // 32, -1) for part in parts]
    return np.concatenate(flat, 1)


def stored(form: str, values: np.ndarray) -> np.ndarray:
    if form == "F16":
        return values.astype(np.float16)
    return values if form == "F32" else (values.view(np.uint32) >> 16).astype(np.uint16)


def all_calls() -> cross.Calls:
    """Every function on random numbers; none gives a NaN, whose sign is each processor's own choice."""
    rng, calls = np.random.default_rng(0), cross.Calls()
    for form, layout in LAYOUTS.items():
        w = calls.place(strip(form, rng))
        for tokens in cross.TOKENS:
            x = calls.place(activations(tokens, BLOCKS * layout.columns, rng))
            out = calls.place(np.zeros((tokens, LANES), np.float32))
            calls.add(f"tile_{form}_{tokens}", w, x, out, BLOCKS, 4 * LANES, addresses=3)
    for form in BYTES:
        for rows, tokens in cross.SHAPES:
            w = calls.place(stored(form, rng.normal(size=(rows, COLUMNS)).astype(np.float32)))
            x = calls.place(rng.normal(size=(tokens, COLUMNS)).astype(np.float32))
            out = calls.place(np.zeros((tokens, rows), np.float32))
            calls.add(f"rows_{form}_{rows}_{tokens}", w, x, out, COLUMNS, 4 * rows, addresses=3)
    some = np.concatenate([rng.normal(0, 30, 8000), [0, -0.0, 1e-40, 1e4, -1e4, np.inf] * 16])
    values = calls.place(some.astype(np.float32))
    for name in ("exp", "gelu"):
        out = calls.place(np.zeros(len(some), np.float32))
        for i in range(0, len(some), LANES):
            calls.add(name, values + 4 * i, out + 4 * i, addresses=2)
    for i in range(64):
        size = cross.TOKENS[i % 4]
        to = calls.place(np.zeros(size * TOKEN_BYTES, np.uint8))
        for member in range(size):
            calls.add("round", values + 128 * (i + member), to, size, member, addresses=2)
    return calls


@pytest.fixture(scope="module")
def here() -> np.ndarray:
    """What this machine's own path makes of it."""
    return all_calls().run_here(cross.compiled(cross.HOST, chosen))


@pytest.mark.skipif(cross.lacking() is not None, reason=f"needs an emulator of ARM: {cross.lacking()}")
@pytest.mark.parametrize(("isa", "target", "cpu"), EMULATED)
def test_arm_gives_the_same_bits(
    isa: Any, target: cross.Target, cpu: str, here: np.ndarray, tmp_path: Path
) -> None:
    program = cross.link(target, isa, tmp_path)
    got = all_calls().run_emulated(program, list(cross.bodies(isa)), cpu)
    differing = np.flatnonzero(got != here)
    assert here.any() and not len(differing), f"{len(differing)} bytes, the first at {differing[:1]}"
