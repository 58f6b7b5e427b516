"""Random models: true shapes, official sizes, the same bytes each time, and files that others read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemmary.config import NANO, SIZES
from gemmary.weights.checkpoint import open_checkpoint
from gemmary.weights.hub import parse
from gemmary.weights.names import is_norm
from gemmary.weights.synthetic import Layout, RandomTensors, random_checkpoint, write_random

OFFICIAL = Layout("Q4_0", "F16")
LAYOUTS = [Layout("Q4_0", "Q8_0"), OFFICIAL, Layout("Q8_0", "Q8_0"), Layout("Q4_K_M", "Q6_K")]


@pytest.mark.parametrize("size", ["1b", "4b", "12b", "27b"])
def test_the_official_layout_has_the_bytes_of_the_official_file(size: str) -> None:
    reference = parse(size)
    assert reference is not None
    downloaded = reference.preferred.download_bytes
    assert downloaded is not None
    published = downloaded - 2 * SIZES[size].vision_parameters  # which come in a file of their own
    assert RandomTensors(SIZES[size], OFFICIAL).nbytes == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_values_are_finite_and_of_a_sane_size(layout: Layout) -> None:
    tensors = random_checkpoint(NANO, layout).tensors
    assert tensors.nbytes == sum(len(tensors[name].raw) for name in tensors)
    for name in tensors:
        values = tensors[name].values()
        if is_norm(name):
            assert (values == 1).all()
        else:
            assert np.isfinite(values).all() and 0.003 < values.std() < 0.2, name


def test_a_look_up_gives_the_same_bytes_again_and_no_two_tensors_are_alike() -> None:
    tensors = RandomTensors(NANO, OFFICIAL)
    first, again, other = (tensors[f"layers.{layer}.q"].raw for layer in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert tensors.seconds > 0


def test_k_quants_are_mixed_as_in_llama_cpps_files() -> None:
    """Q4_K_M of the 4B: Q6_K for the table and for half of values and downs, Q4_K for the rest."""
    formats = Layout("Q4_K_M", "Q6_K").formats(SIZES["4b"])
    assert formats["embed"].name == "Q6_K"
    for part in ("v", "down"):
        more = [layer for layer in range(34) if formats[f"layers.{layer}.{part}"].name == "Q6_K"]
        # llama.cpp: the first and the last eighth, and each third between them
        assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29, 30, 31, 32, 33]
    rest = {formats[f"layers.{layer}.{part}"].name for layer in range(34) for part in ("q", "k", "o", "gate")}
    assert rest == {"Q4_K"}


def test_rows_that_do_not_divide_take_the_formats_that_llama_cpp_takes() -> None:
    formats = Layout("Q4_K_M", "Q6_K").formats(SIZES["1b"])  # 1152 is no multiple of 256
    assert (formats["embed"].name, formats["layers.0.q"].name) == ("Q8_0", "Q5_0")
    assert (formats["layers.0.v"].name, formats["layers.0.down"].name) == ("Q8_0", "Q6_K")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_written_file_holds_the_same_bytes(layout: Layout, tmp_path: Path) -> None:
    write_random(tmp_path / "m.gguf", NANO, layout)
    written, made = open_checkpoint(tmp_path / "m.gguf"), RandomTensors(NANO, layout)
    assert list(written.tensors) == list(made) and written.tensors.nbytes == made.nbytes
    for name in made:
        assert np.array_equal(written.tensors[name].raw, made[name].raw)
