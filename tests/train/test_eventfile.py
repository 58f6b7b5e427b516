"""TensorBoard reads what we write, and a run that went on or back has every step once."""

from __future__ import annotations

import errno
import io
import math
import struct
from pathlib import Path

import pytest

from gemmary.train.eventfile import EventFile, crc32c


def scalars(folder: Path, name: str) -> dict[int, float]:
    """What TensorBoard itself finds, step by step."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    events = found.Scalars(name)
    assert len({event.step for event in events}) == len(events)
    return {event.step: event.value for event in events}


def test_checksums_are_castagnolis() -> None:
    """The vectors of RFC 3720, appendix B.4, and the usual one."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_tensorboard_reads_every_step(tmp_path: Path) -> None:
    events = EventFile(tmp_path, 0)
    for step in (1, 2, 127, 128, 1_000_000):
        events.add(step, {"loss": 1 / step, "rate": math.nan})
    assert scalars(tmp_path, "loss") == pytest.approx({s: 1 / s for s in (1, 2, 127, 128, 1_000_000)})
    assert all(map(math.isnan, scalars(tmp_path, "rate").values()))


def test_a_run_that_goes_on_has_no_step_twice(tmp_path: Path) -> None:
    killed = EventFile(tmp_path, 0)
    for step in range(1, 8):
        killed.add(step, {"loss": 1.0})
    later = EventFile(tmp_path, 5)
    for step in range(6, 8):
        later.add(step, {"loss": 2.0})
    later.back(6)
    later.add(7, {"loss": 3.0})
    assert scalars(tmp_path, "loss") == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 3}


def test_a_full_disk_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = EventFile(tmp_path, 0)
    events.add(1, {"loss": 1.0})
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()

    class Full(io.FileIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            return super().write(data[:10])

    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", lambda self, mode, buffering: Full(self, mode))
        with pytest.raises(OSError, match="a part"):
            events.add(2, {"loss": 2.0})
    assert path.read_bytes() == whole
    events.add(3, {"loss": 3.0})
    assert scalars(tmp_path, "loss") == {1: 1, 3: 3}


def test_no_disk_at_all_is_an_oserror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    events = EventFile(tmp_path, 0)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space"):
        events.add(1, {"loss": 1.0})


def test_records_are_framed_as_tfrecord_says(tmp_path: Path) -> None:
    """Lengths lead from record to record to the end of the file, whoever reads."""
    events = EventFile(tmp_path, 0)
    events.add(1, {"a name": 0.5})
    (path,) = tmp_path.iterdir()
    data, at, records = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        records.append(data[at + 12 : at + 12 + length])
        at += length + 16
    assert at == len(data) and len(records) == 3
    assert b"brain.Event:2" in records[0] and b"a name" + b"\x15" + struct.pack("<f", 0.5) in records[2]
