"""The table of formats, and that looking into it costs no compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from gemmary.errors import GemmaryError
from gemmary.formats import FORMATS, Format, FormatError, from_ggml_id
from tests.formats.oracle import by_name

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=by_name)
def test_sizes_are_those_of_ggml(fmt: Format) -> None:
    kind = GGMLQuantizationType[fmt.name]
    assert (fmt.ggml_id, fmt.block, fmt.nbytes) == (kind.value, *GGML_QUANT_SIZES[kind])
    assert FORMATS[fmt.name] is fmt
    assert from_ggml_id(fmt.ggml_id) is fmt


def test_groups_share_a_scale() -> None:
    assert {f.name for f in FORMATS.values() if f.group == 0} == {"F32", "F16", "BF16"}
    assert {f.name for f in FORMATS.values() if f.group == 16} == {"Q6_K"}
    assert {f.group for f in FORMATS.values()} == {0, 16, 32}


@pytest.mark.parametrize(
    ("name", "columns", "nbytes"),
    [("Q4_0", 1152, 648), ("Q6_K", 2560, 2100), ("Q4_K", 0, 0), ("BF16", 7, 14), ("F32", 7, 28)],
)
def test_row_bytes(name: str, columns: int, nbytes: int) -> None:
    assert FORMATS[name].row_bytes(columns) == nbytes


@pytest.mark.parametrize(("name", "columns"), [("Q4_0", 1151), ("Q4_K", 1152), ("Q8_0", -32), ("F16", -1)])
def test_row_that_is_no_whole_number_of_blocks(name: str, columns: int) -> None:
    with pytest.raises(FormatError, match=f"{columns} values .* {name}") as caught:
        FORMATS[name].row_bytes(columns)
    assert isinstance(caught.value, (GemmaryError, ValueError))


@pytest.mark.parametrize("ggml_id", [10, 16, 31, -1, 2**32 - 1])
def test_unknown_id_names_what_can_be_read(ggml_id: int) -> None:
    with pytest.raises(GemmaryError, match=rf"ggml type {ggml_id} .*Q4_0.*Q6_K") as caught:
        from_ggml_id(ggml_id)
    assert isinstance(caught.value, ValueError)


def test_import_starts_no_compiler() -> None:
    probe = "import sys, gemmary.formats; print({'numba', 'llvmlite', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
