"""The kernels' inner loops for any processor that LLVM knows, and a place to run them: here or emulated.

The emitted loops need no Numba, so they can be compiled for a machine that is not there. A program for ARM is
one static file without a C library: it reads its memory from stdin, makes the calls that are listed at its
start, and writes the memory to stdout.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from llvmlite import binding, ir

from gemmary.ops.numba.activation import round_block
from gemmary.ops.numba.elementary import emit_exp, emit_gelu
from gemmary.ops.numba.emit import I64, VF, Emitter, Value
from gemmary.ops.numba.floatrows import BYTES, emit_float_tile
from gemmary.ops.numba.strips import LAYOUTS
from gemmary.ops.numba.tile import emit_tile

TOKENS = (1, 2, 4, 8)
SHAPES = ((4, 4), (4, 1), (1, 4), (1, 1))  # rows and tokens of a float tile
ASSEMBLER, LINKER, EMULATOR = "aarch64-linux-gnu-as", "aarch64-linux-gnu-ld", "qemu-aarch64"

Body = Callable[..., None]
_CALL = ir.FunctionType(ir.VoidType(), [I64] * 5)
_MEMORY = 1 << 20
_BASE = 1 << 32  # where a program's memory lies, so that addresses can be written before it runs


def bodies(isa: Any) -> dict[str, Body]:
    """Everything that is emitted, by name: bodies of five integers."""
    found: dict[str, Body] = {}
    for form, layout in LAYOUTS.items():
        for tokens in TOKENS:
            found[f"tile_{form}_{tokens}"] = _tile(isa, layout, tokens)
    for form in BYTES:
        for shape in SHAPES:
            found["rows_{}_{}_{}".format(form, *shape)] = _rows(isa, form, shape)
    found["exp"], found["gelu"] = _lanes(emit_exp), _lanes(emit_gelu)
    found["round"] = _round
    return found


def _tile(isa: Any, layout: Any, tokens: int) -> Body:
    return lambda e, *args: emit_tile(e, isa, layout, tokens, *args)


def _rows(isa: Any, form: str, shape: tuple[int, int]) -> Body:
    return lambda e, *args: emit_float_tile(e, isa, form, shape, *args)


def _lanes(function: Callable[[Emitter, Value], Value]) -> Body:
    return lambda e, x, out, *_: e.store(function(e, e.load(VF, x)), out)


def _round(e: Emitter, x: Value, to: Value, size: Value, member: Value, _: Value) -> None:
    _signature, generate = round_block._defn(None)
    generate(SimpleNamespace(get_dummy_value=lambda: None), e.b, None, (x, to, size, member))


@dataclass(frozen=True)
class Target:
    """A processor in LLVM's words."""

    triple: str
    cpu: str = "generic"
    features: str = ""

    def machine(self) -> Any:
        """LLVM's compiler for it."""
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        target = binding.Target.from_triple(self.triple)
        return target.create_target_machine(self.cpu, self.features, opt=3, reloc="static")


HOST = Target(
    binding.get_process_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
)


@cache
def compiled(target: Target, isa: Any) -> Any:
    """An optimised module of all functions of an instruction set."""
    module = ir.Module("cross")
    module.triple = target.triple
    for name, body in bodies(isa).items():
        function = ir.Function(module, _CALL, name)
        builder = ir.IRBuilder(function.append_basic_block())
        body(Emitter(builder), *function.args)
        builder.ret_void()
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    passes = binding.create_pass_builder(
        target.machine(), binding.create_pipeline_tuning_options(speed_level=3)
    )
    passes.getModulePassManager().run(parsed, passes)
    return parsed


def assembly(target: Target, isa: Any) -> dict[str, list[str]]:
    """Each function's instructions, without labels and directives."""
    found: dict[str, list[str]] = {name: [] for name in bodies(isa)}
    lines: list[str] = []
    for line in target.machine().emit_assembly(compiled(target, isa)).splitlines():
        name = line.partition(":")[0]
        if name in found:
            lines = found[name]
        elif line.startswith("\t") and not line.startswith("\t."):
            lines.append(line.strip())
    return found


@dataclass
class Calls:
    """Calls of functions of five integers, and the memory that they work on; addresses are relative to it."""

    memory: np.ndarray = field(default_factory=lambda: np.zeros(_MEMORY, np.uint8))
    used: int = 1 << 16  # the list of calls lies before
    listed: list[tuple[str, tuple[int, ...], int]] = field(default_factory=list)

    def place(self, array: np.ndarray) -> int:
        """Where a copy of the array is."""
        at, size = self.used, array.nbytes
        self.used = (at + size + 63) // 64 * 64
        self.memory[at : at + size] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return at

    def add(self, name: str, *args: int, addresses: int) -> None:
        """Call a function; the first arguments are addresses."""
        self.listed.append((name, args + (0,) * (5 - len(args)), addresses))

    def _absolute(self, base: int) -> Iterable[tuple[str, list[int]]]:
        for name, args, addresses in self.listed:
            yield name, [base + a if i < addresses else a for i, a in enumerate(args)]

    def run_here(self, module: Any) -> np.ndarray:
        """The memory after all calls, made by this process."""
        engine = binding.create_mcjit_compiler(module, HOST.machine())
        engine.finalize_object()
        raw = np.zeros(len(self.memory) + 64, np.uint8)
        memory = raw[-raw.ctypes.data % 64 :][: len(self.memory)]
        memory[:] = self.memory
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)
        for name, args in self._absolute(memory.ctypes.data):
            kind(engine.get_function_address(name))(*args)
        return memory.copy()

    def run_emulated(self, program: Path, names: list[str], cpu: str) -> np.ndarray:
        """The memory after all calls, made by a program in the emulator."""
        words = [[names.index(name), *args] for name, args in self._absolute(_BASE)]
        memory = self.memory.copy()
        listed = np.array([len(words), *np.array(words).reshape(-1)], np.int64)
        memory[: listed.nbytes] = listed.view(np.uint8)
        given, got = program.with_suffix(".in"), program.with_suffix(".out")
        memory.tofile(given)
        with given.open("rb") as source, got.open("wb") as target:
            subprocess.run(
                [EMULATOR, "-cpu", cpu, program], stdin=source, stdout=target, check=True, timeout=100
            )
        result = np.fromfile(got, np.uint8)
        result[: listed.nbytes] = 0
        return result


def lacking() -> str | None:
    """Which tool for running ARM programs is not here."""
    missing = [tool for tool in (ASSEMBLER, LINKER, EMULATOR) if not shutil.which(tool)]
    wanted = "apt-get install qemu-user binutils-aarch64-linux-gnu (Debian, 16 MB to load)"
    return f"no {' and no '.join(missing)}: {wanted}" if missing else None


def link(target: Target, isa: Any, folder: Path) -> Path:
    """A static program for Linux on ARM with all functions of an instruction set; none may call a library."""
    program, start, loops = folder / "cross", folder / "start.o", folder / "cross.o"
    loops.write_bytes(target.machine().emit_object(compiled(target, isa)))
    table = "".join(f"    .quad {name}\n" for name in bodies(isa))
    subprocess.run([ASSEMBLER, "-o", start], input=_START + table, text=True, check=True)
    subprocess.run([LINKER, "-static", f"-Tbss={_BASE:#x}", "-o", program, start, loops], check=True)
    return program


_START = f"""
    .bss
    .balign 64
memory: .skip {_MEMORY}
    .text
    .globl _start
_start:
    ldr x19, =memory
    mov x0, #0
    mov x8, #63  // read
    bl system
    mov x21, x19
    ldr x20, [x21], #8
next:
    cbz x20, end
    sub x20, x20, #1
    ldp x9, x0, [x21], #16
    ldp x1, x2, [x21], #16
    ldp x3, x4, [x21], #16
    ldr x10, =table
    ldr x10, [x10, x9, lsl #3]
    blr x10
    b next
end:
    mov x0, #1
    mov x8, #64  // write
    bl system
    mov x0, #0
    mov x8, #93  // exit
system:
    mov x1, x19
    ldr x2, ={_MEMORY}
    svc #0
    ret
    .data
    .balign 8
table:
"""
