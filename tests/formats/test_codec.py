"""Whole tensors: bit for bit what the `gguf` package reads and writes, and clear words for what cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gemmary.formats import FORMATS, Format, FormatError, decode, encode, encode_channels
from tests.formats.oracle import (
    QUANTIZED,
    WRITTEN,
    by_name,
    decoded,
    encoded,
    random_bytes,
    same_bits,
)

every_format = pytest.mark.parametrize("fmt", FORMATS.values(), ids=by_name)
quantized = pytest.mark.parametrize("fmt", QUANTIZED, ids=by_name)
written = pytest.mark.parametrize("fmt", WRITTEN, ids=by_name)
written_blocks = pytest.mark.parametrize("fmt", [f for f in WRITTEN if f.group], ids=by_name)

SCALES = np.array([0, -0.0, 6e-8, -6e-5, 1, -1, 65504, np.inf, -np.inf, np.nan], np.float16).view(np.uint16)


def hard_values(largest: float) -> NDArray[np.float32]:
    """Blocks at the corners of the quantizers: [blocks, 32], finite, and up to +-largest."""
    draw = np.random.default_rng(3)
    normal = draw.standard_normal((64, 32)).astype(np.float32)
    whole = draw.integers(-8, 8, (64, 32)).astype(np.float32)  # full of ties in magnitude and of x.5
    signs = np.where(draw.random((8, 32)) < 0.5, -1, 1).astype(np.float32)
    one = np.eye(32, dtype=np.float32)
    zeros = np.zeros((1, 32), np.float32)
    # 2^-120: the scale's inverse is still finite. 2^-17 to 2^-26: the scale is a subnormal half, or just not.
    small = [normal[:8] * np.float32(2.0**-e) for e in (17, 20, 22, 24, 25, 26, 27, 60, 120)]
    large = [normal[:8] / np.abs(normal[:8]).max() * np.float32(largest / 2**e) for e in range(6)]
    edge = [signs, -signs, largest * signs, largest * one - 1, whole + 0.5, whole / 127, whole / 15]
    same = [zeros, -zeros, zeros + 3, zeros - 3, one, -one, one - 5, 5 - one]
    every = np.concatenate([normal, whole, *small, *large, *edge, *same], dtype=np.float32)
    return every[np.random.default_rng(7).permutation(len(every))]


@every_format
@pytest.mark.parametrize("shape", [(1, 256), (37, 512), (3, 2560)])
def test_any_bytes_decode_as_gguf_does(fmt: Format, shape: tuple[int, int]) -> None:
    raw = random_bytes(fmt, *shape, seed=sum(shape))
    ours = decode(fmt, raw, *shape)
    assert ours.dtype == np.float32
    assert same_bits(ours, decoded(fmt, raw))


@quantized
def test_hard_scales_decode_as_gguf_does(fmt: Format) -> None:
    """Every pair of zero, subnormal, huge, infinite and NaN where a block keeps its one or two halves."""
    raw = random_bytes(fmt, SCALES.size**2, fmt.block)
    at = 208 if fmt.name == "Q6_K" else 0
    raw[:, at : at + 2] = np.repeat(SCALES, SCALES.size).view(np.uint8).reshape(-1, 2)
    if fmt.name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K"):
        raw[:, 2:4] = np.tile(SCALES, SCALES.size).view(np.uint8).reshape(-1, 2)
    assert same_bits(decode(fmt, raw, len(raw), fmt.block), decoded(fmt, raw))


@every_format
def test_a_read_only_file_map_decodes(fmt: Format, tmp_path: Path) -> None:
    raw = random_bytes(fmt, 5, 256)
    (tmp_path / "tensor").write_bytes(b"\0" * 7 + raw.tobytes())  # 7: no alignment to lean on
    mapped = np.memmap(tmp_path / "tensor", np.uint8, "r", offset=7)
    assert same_bits(decode(fmt, mapped, 5, 256), decoded(fmt, raw))


@every_format
def test_values_are_the_callers_own(fmt: Format) -> None:
    raw = random_bytes(fmt, 2, 256)
    before = raw.copy()
    decode(fmt, raw, 2, 256)[:] = 0
    assert np.array_equal(raw, before) and raw.flags.writeable


@every_format
def test_no_rows_are_no_error(fmt: Format) -> None:
    assert decode(fmt, np.empty(0, np.uint8), 0, 256).shape == (0, 256)
    if fmt in WRITTEN:
        assert encode(fmt, np.empty((0, 256), np.float32)).shape == (0, fmt.row_bytes(256))


@every_format
def test_bytes_that_do_not_fit_the_shape(fmt: Format) -> None:
    raw = random_bytes(fmt, 4, 256)
    for bad in (raw.reshape(-1)[:-1], np.append(raw, np.uint8(0)), raw[::2], raw.view(np.int8)):
        with pytest.raises(FormatError, match=f"4 x 256 values in {fmt.name} need {raw.size} contiguous"):
            decode(fmt, bad, 4, 256)
    with pytest.raises(FormatError, match="contiguous"):
        decode(fmt, raw.T, 4, 256)
    with pytest.raises(FormatError):
        decode(fmt, raw, -4, 256)
    with pytest.raises(FormatError):
        decode(fmt, raw, -4, -256)


@written
def test_values_encode_as_gguf_does(fmt: Format) -> None:
    values = np.random.default_rng(4).standard_normal((50, 384)).astype(np.float32)
    assert np.array_equal(encode(fmt, values), encoded(fmt, values))
    assert np.array_equal(
        encode(fmt, values[::2, ::-1][:, :64]), encoded(fmt, values[::2, ::-1][:, :64].copy())
    )


@written
def test_hard_values_encode_as_gguf_does(fmt: Format) -> None:
    # The largest that a scale, and an offset where there is one, can carry as a half; beyond that for floats.
    largest = {"Q4_0": 8 * 65504, "Q5_0": 16 * 65504, "Q8_0": 127 * 65504, "Q4_1": 65504, "Q5_1": 65504}
    values = hard_values(largest.get(fmt.name, 1e38))
    ours, theirs = encode(fmt, values), encoded(fmt, values)
    different = (ours != theirs).any(axis=1)
    assert not different.any(), values[different][0]


@written
def test_what_was_read_is_written_back(fmt: Format) -> None:
    """Values that a format holds exactly keep their values; floats keep every bit."""
    raw = encode(fmt, np.random.default_rng(5).standard_normal((20, 256)).astype(np.float32))
    values = decode(fmt, raw, 20, 256)
    again = decode(fmt, encode(fmt, values), 20, 256)
    if fmt.group:
        size = np.abs(values).reshape(-1, 32).max(axis=1)
        assert (np.abs(again - values).reshape(-1, 32).max(axis=1) <= size * 2.0**-10).all()
    else:
        assert same_bits(again, values)


STEPS = {"Q4_0": 8, "Q4_1": 15, "Q5_0": 16, "Q5_1": 31, "Q8_0": 127}


@written_blocks
def test_error_of_a_round_trip(fmt: Format) -> None:
    """Half a step, a whole one where +peak has no code; and 2^-11 of what the halves scale and offset."""
    values = np.random.default_rng(6).standard_normal((200, 256)).astype(np.float32)
    error = np.abs(decode(fmt, encode(fmt, values), 200, 256) - values).reshape(-1, 32).max(axis=1)
    block = values.reshape(-1, 32)
    size = np.abs(block).max(axis=1)
    reach = block.max(axis=1) - block.min(axis=1) if fmt.name.endswith("_1") else size
    share = 1.0 if fmt.name in ("Q4_0", "Q5_0") else 0.5
    bound = share * reach / STEPS[fmt.name] + (reach + size) * 2.0**-11
    assert (error <= bound).all()
    assert (error >= bound / 8).all()  # the bound is no accident


@written_blocks
def test_least_subnormals_become_zero(fmt: Format) -> None:
    """1 / scale is infinite there; no code may come from infinity times zero."""
    values = np.array([[0, -0.0, 1e-45, -1e-45, 3e-41, -3e-41, *[1e-40] * 26]], np.float32)
    raw = encode(fmt, values)
    assert not raw[:, 4 if fmt.name.endswith("_1") else 2 :].any()
    assert not decode(fmt, raw, 1, 32).any()


@pytest.mark.parametrize("name", ["Q4_1", "Q5_1"])
def test_zeros_of_both_signs_as_least_value(name: str) -> None:
    """NumPy's minimum of 0.0 and -0.0 depends on the machine, so only values can be compared."""
    values = np.tile(np.array([0.0, -0.0, -0.0, 1.0], np.float32), (1, 8))
    fmt = FORMATS[name]
    assert np.array_equal(decode(fmt, encode(fmt, values), 1, 32), decoded(fmt, encoded(fmt, values)))


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_floats_keep_infinity_and_nan(name: str) -> None:
    values = np.array([[np.inf, -np.inf, np.nan, 1e38, -0.0]], np.float32)
    back = decode(FORMATS[name], encode(FORMATS[name], values), 1, 5)[0]
    assert back[0] == np.inf and back[1] == -np.inf and np.isnan(back[2]) and np.signbit(back[4])
    assert back[3] == np.inf if name == "F16" else np.isclose(back[3], 1e38, rtol=2.0**-8)


@written_blocks
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_blocks_refuse_what_is_not_finite(fmt: Format, bad: float) -> None:
    values = np.zeros((2, 64), np.float32)
    values[1, 40] = bad
    with pytest.raises(FormatError, match=f"{fmt.name} cannot hold infinity or NaN"):
        encode(fmt, values)


@written_blocks
@pytest.mark.parametrize("value", [3e38, -3e38, 1e8])
def test_blocks_refuse_what_overflows_their_scale(fmt: Format, value: float) -> None:
    values = np.zeros((2, 64), np.float32)
    values[1, 40] = value
    with pytest.raises(FormatError, match=f"overflow the 16-bit scales of {fmt.name}"):
        encode(fmt, values)


@pytest.mark.parametrize("name", ["Q4_1", "Q5_1"])
def test_blocks_refuse_what_overflows_their_offset(name: str) -> None:
    with pytest.raises(FormatError, match="overflow the 16-bit scales"):
        encode(FORMATS[name], np.full((1, 32), -70000, np.float32))


@pytest.mark.parametrize("name", ["Q4_K", "Q5_K"])
def test_k_quants_are_read_not_written(name: str) -> None:
    with pytest.raises(FormatError, match=rf"{name} is read, not written: .*Q4_0.*Q8_0.*Q6_K") as caught:
        encode(FORMATS[name], np.zeros((1, 256), np.float32))
    assert isinstance(caught.value, ValueError)


@written
def test_only_float32_matrices_are_encoded(fmt: Format) -> None:
    for bad in (np.zeros((2, 32)), np.zeros(32, np.float32), np.zeros((1, 2, 32), np.float32)):
        with pytest.raises(FormatError, match="only a float32 matrix"):
            encode(fmt, bad)  # type: ignore[arg-type]


@written_blocks
def test_rows_that_do_not_divide_into_blocks(fmt: Format) -> None:
    with pytest.raises(FormatError, match=f"33 values does not divide into {fmt.name} blocks of 32"):
        encode(fmt, np.zeros((32, 33), np.float32))
    with pytest.raises(FormatError, match="does not divide"):
        decode(fmt, np.zeros(33 * fmt.nbytes, np.uint8), 32, 33)


# ---- Q6_K: written by a search of our own, so its error counts, as an independent reader sees it


def six_bits(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` through our Q6_K, as the gguf package reads it."""
    return decoded(FORMATS["Q6_K"], encode(FORMATS["Q6_K"], values))


def test_error_of_q6_k() -> None:
    """Six bits and a scale for 16 values: a hundredth of what four bits lose, and far from eight."""
    values = np.random.default_rng(8).standard_normal((300, 512)).astype(np.float32)
    losses = {
        name: np.square(decode(FORMATS[name], encode(FORMATS[name], values), 300, 512) - values).mean()
        for name in ("Q4_0", "Q5_0", "Q6_K", "Q8_0")
    }
    assert np.square(six_bits(values) - values).mean() == losses["Q6_K"]
    assert losses["Q8_0"] < losses["Q6_K"] < losses["Q5_0"] / 5 and losses["Q6_K"] < losses["Q4_0"] / 20
    assert losses["Q6_K"] < 3.1e-4  # llama.cpp's own search: 3.0e-4 to 3.1e-4 on normal values


@pytest.mark.parametrize("size", [0.01, 1.0, 1e3])
def test_q6_k_keeps_small_groups_beside_large_ones(size: float) -> None:
    """Each group of 16 has a scale of its own, in steps of a 128th of the largest."""
    draw = np.random.default_rng(9)
    values = draw.standard_normal((50, 16, 16)).astype(np.float32)
    values *= np.float32(size) * np.geomspace(1, 1 / 100, 16, dtype=np.float32)[None, :, None]
    error = np.abs(six_bits(values.reshape(50, 256)).reshape(values.shape) - values).max(2)
    largest = np.abs(values).max(2)
    # Half a step of the group, and half a step between scales, which the largest value takes whole.
    assert (error <= 0.55 * largest / 31 + 0.5 / 128 * largest.max(1, keepdims=True) * 1.1).all()


def test_q6_k_of_corners() -> None:
    grid = np.random.default_rng(10).integers(-32, 32, (4, 256)).astype(np.float32)
    grid[:, ::16] = -32  # every group reaches its end, so that scale 1 is the best there is
    cases = np.concatenate([np.zeros((1, 256), np.float32), np.full((1, 256), 5, np.float32), grid])
    assert np.allclose(six_bits(cases), cases, rtol=2.0**-10, atol=0)
    assert not six_bits(np.full((1, 256), 1e-30, np.float32)).any()
    large = np.full((1, 256), 1e8, np.float32)
    assert np.allclose(six_bits(large), large, rtol=0.02)


# ---- int4 per channel


def channels(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` through int4 with one scale a row, as any reader of Q4_0 sees them."""
    return decoded(FORMATS["Q4_0"], encode_channels(values))


def test_channels_have_one_scale_a_row() -> None:
    values = np.random.default_rng(11).standard_normal((40, 320)).astype(np.float32)
    heads = encode_channels(values).reshape(40, 10, 18)[:, :, :2]
    assert (heads == heads[:, :1]).all()
    assert len({row.tobytes() for row in heads[:, 0]}) > 30
    assert np.array_equal(channels(values), decode(FORMATS["Q4_0"], encode_channels(values), 40, 320))


@pytest.mark.parametrize("least", [-8, -7])
def test_weights_on_the_grid_of_int4_are_kept(least: int) -> None:
    """Gemma's quantization-aware training leaves q * scale, q from -7 (absmax / 7) or -8."""
    draw = np.random.default_rng(12)
    codes = draw.integers(least, 8, (64, 256)).astype(np.float32)
    codes[:, 0], codes[:, 1] = least, draw.choice([-7, 7], 64)
    scale = (2.0 ** draw.integers(-9, 2, (64, 1)) * draw.choice([1, 1.25, 1.5], (64, 1))).astype(np.float32)
    assert np.array_equal(channels(codes * scale), codes * scale)


def test_error_of_channels() -> None:
    """No more than the plain scale absmax / 7, and by far less where one value sticks out."""
    values = np.random.default_rng(13).standard_normal((100, 1024)).astype(np.float32)
    values[50:, 7] = 12
    plain = np.abs(values).max(1, keepdims=True) / np.float32(7)
    loss = np.square(channels(values) - values).mean(1)
    naive = np.square(np.clip(np.rint(values / plain), -8, 7) * plain - values).mean(1)
    assert (loss <= naive * 1.001).all()
    assert loss[50:].mean() < naive[50:].mean() / 2
    assert (
        loss[:50].mean()
        > np.square(
            decode(FORMATS["Q4_0"], encode(FORMATS["Q4_0"], values[:50]), 50, 1024) - values[:50]
        ).mean()
    )


def test_channels_of_corners() -> None:
    values = np.zeros((3, 64), np.float32)
    values[1], values[2, 5] = 1e-30, -3
    assert np.allclose(channels(values), np.where(np.abs(values) > 1, values, 0), rtol=2.0**-11, atol=0)
    for bad, message in ((np.nan, "cannot hold infinity or NaN"), (3e38, "overflow the 16-bit scales")):
        values[1, 40] = bad
        with pytest.raises(FormatError, match=message):
            encode_channels(values)
    with pytest.raises(FormatError, match="33 values does not divide"):
        encode_channels(np.zeros((2, 33), np.float32))
    with pytest.raises(FormatError, match="only a float32 matrix"):
        encode_channels(np.zeros(32, np.float32))
    assert encode_channels(np.zeros((0, 64), np.float32)).shape == (0, 36)
