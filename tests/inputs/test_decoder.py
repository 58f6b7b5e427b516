"""The worker that decodes pictures: warm, alone, short of everything, and never in the way."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gemmary.errors import ImageError
from gemmary.inputs import decoderprocess
from gemmary.inputs.decoder import ANSWER, REQUEST, Fault
from gemmary.inputs.decoderprocess import FOLDERS, START, DecoderProcess

from . import trained
from .drawn import encoded, picture

PICTURE = picture(40, 30)
DATA = encoded(PICTURE)
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits or signals")


def same(found: object) -> bool:
    return bool((np.asarray(found) == np.asarray(PICTURE)).all())


def until(done: Callable[[], bool]) -> bool:
    """Whether `done` comes true within a minute: others may use this machine too."""
    end = time.monotonic() + 60
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return done()


def pid(decoder: DecoderProcess) -> int:
    assert decoder._process is not None
    return decoder._process.pid


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def decoder() -> object:
    found = DecoderProcess()
    yield found
    found.close()


def test_one_worker_stays(decoder: DecoderProcess) -> None:
    assert decoder._process is None, "nothing starts before the first picture"
    assert same(decoder.decode(DATA))
    first = pid(decoder)
    assert all(same(decoder.decode(DATA)) for _ in range(20)) and pid(decoder) == first
    with pytest.raises(ImageError):
        decoder.decode(b"GIF89a nonsense")
    assert same(decoder.decode(DATA)) and pid(decoder) == first, "a bad picture costs no worker"
    decoder.close()
    assert not alive(first)
    assert same(decoder.decode(DATA)), "closed is not for ever"


def test_an_idle_worker_that_dies_is_replaced(decoder: DecoderProcess) -> None:
    decoder.decode(DATA)
    process = decoder._process
    assert process is not None
    process.kill()
    process.wait()
    assert same(decoder.decode(DATA)) and pid(decoder) != process.pid


@POSIX
def test_killed_in_the_middle(decoder: DecoderProcess) -> None:
    """The picture is a typed error, the next one is fine, and nothing is left behind."""
    decoder.decode(DATA)
    before = os.listdir("/dev/fd")
    for _ in range(5):
        decoder.decode(DATA)
        process = decoder._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)  # so that it surely has not answered yet
        threading.Timer(0.05, process.kill).start()
        with pytest.raises(ImageError, match="the decoder stopped"):
            decoder.decode(DATA)
        assert decoder._process is None
    assert same(decoder.decode(DATA))
    assert len(os.listdir("/dev/fd")) <= len(before)


@POSIX
def test_a_worker_that_hangs_is_ended(decoder: DecoderProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder.decode(DATA)
    monkeypatch.setattr(decoderprocess, "WALL_SECONDS", 0.2)
    os.kill(pid(decoder), signal.SIGSTOP)
    with pytest.raises(ImageError, match="too long"):
        decoder.decode(DATA)
    monkeypatch.undo()
    assert same(decoder.decode(DATA))


def test_no_worker_to_be_had(decoder: DecoderProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ImageError, match="could not be started"):
        decoder.decode(DATA)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\0" * 5, ANSWER.pack(99, 0, 0), ANSWER.pack(0, 0, 5), ANSWER.pack(0, 1 << 31, 1 << 31),
        ANSWER.pack(0, 32768, 32768), ANSWER.pack(0, 100, 100) + b"x" * 29_999,
    ],
)  # fmt: skip
def test_a_worker_is_not_believed(
    answer: bytes, decoder: DecoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in the hands of whoever made a picture: sizes that cannot be, and too few pixels."""
    script = f"import sys; sys.stdin.buffer.read({REQUEST.size}); sys.stdout.buffer.write({answer!r})"
    monkeypatch.setattr(decoderprocess, "START", script)
    with pytest.raises(ImageError, match="the decoder stopped"):
        decoder.decode(DATA)


def test_a_warm_worker_costs_little(decoder: DecoderProcess) -> None:
    """At most 30 ms more than decoding here; the best of many, for others may use this machine too."""
    data = encoded(picture(1920, 1080), "JPEG")

    def best(decode: Callable[[], object]) -> float:
        times = []
        for _ in range(10):
            start = time.perf_counter()
            decode()
            times.append(time.perf_counter() - start)
        return min(times)

    here = best(lambda: np.array(Image.open(io.BytesIO(data)).convert("RGB")))
    assert best(lambda: decoder.decode(data)) - here < 0.03


def test_threads_take_turns(decoder: DecoderProcess) -> None:
    pictures = [picture(30 + number, 20, number) for number in range(8)]
    files = [encoded(image) for image in pictures]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(decoder.decode, files * 5))
    assert all((a == np.asarray(b)).all() for a, b in zip(found, pictures * 5, strict=True))


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=trained.ROOT, capture_output=True, text=True, timeout=100,
        input=DATA.hex(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


IN_A_PROGRAM = """
import os, signal, sys, time
from gemmary.inputs import decoderprocess
from gemmary.inputs.decoderprocess import decode
data = bytes.fromhex(sys.stdin.read())
assert decode(data).shape == (30, 40, 3)
worker = decoderprocess.DECODER._process.pid
"""


@POSIX
@pytest.mark.parametrize("end", ["pass", "os._exit(0)", "sys.stdout.flush(); os.kill(os.getpid(), 9)"])
def test_the_worker_ends_with_its_parent(end: str) -> None:
    script = IN_A_PROGRAM + f"print(worker)\nsys.stdout.flush()\n{end}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=trained.ROOT, capture_output=True, text=True, input=DATA.hex()
    )
    worker = int(done.stdout)
    assert until(lambda: not alive(worker))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_a_worker_of_its_own() -> None:
    """And the parent's worker ends with the parent, although the child still runs."""
    script = (
        IN_A_PROGRAM
        + """
read, write = os.pipe()
child = os.fork()
if not child:
    own = decode(data).shape == (30, 40, 3) and decoderprocess.DECODER._process.pid != worker
    os.write(write, b"y" if own else b"n")
    time.sleep(100)
assert os.read(read, 1) == b"y"
assert decode(data).shape == (30, 40, 3) and decoderprocess.DECODER._process.pid == worker
print(worker, child, flush=True)
os._exit(0)
"""
    )
    worker, child = map(int, run_detached(script).split())
    try:
        assert until(lambda: not alive(worker)) and alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def run_detached(script: str) -> str:
    """The first line of a program whose children live on."""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=trained.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(DATA.hex())
        process.stdin.close()
        return process.stdout.readline()


@POSIX
def test_ctrl_c_is_for_the_chat(decoder: DecoderProcess) -> None:
    decoder.decode(DATA)
    first = pid(decoder)
    os.kill(first, signal.SIGINT)
    assert same(decoder.decode(DATA)) and pid(decoder) == first


@POSIX
def test_ctrl_c_in_the_middle_leaves_no_half_answer() -> None:
    out = run(
        IN_A_PROGRAM
        + """
import threading
os.kill(worker, signal.SIGSTOP)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    decode(data)
except KeyboardInterrupt:
    print(decode(data).shape, decoderprocess.DECODER._process.pid != worker)
"""
    )
    assert out == "(30, 40, 3) True\n"


WORKER = """
import sys
sys.path += sys.argv[1:]
from gemmary.inputs import decoder
decoder.rehearse()
decoder.confine()
"""


def in_the_worker(script: str) -> str:
    """What `script` prints where decoders run."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", WORKER + script, *FOLDERS], capture_output=True, text=True
    )
    return done.stdout + done.stderr.strip().split("\n")[-1]


def test_text_does_not_wait_for_pillow() -> None:
    print_loaded = "import sys, gemmary.inputs.turns, gemmary.inputs.marked; print('PIL' in sys.modules)"
    assert run(print_loaded) == "False\n"


def test_the_worker_is_light() -> None:
    heavy = in_the_worker("print({'numpy', 'torch', 'numba', 'site'} & set(sys.modules))")
    assert heavy == "set()\n"
    assert START.count("serve()") == 1


@POSIX
@pytest.mark.parametrize(
    ("deed", "fault"),
    [
        ("open('/etc/passwd')", "Too many open files"),
        ("import socket; socket.socket()", "Too many open files"),
        ("import ctypes", "Too many open files"),
        ("bytearray(3 << 30)", "MemoryError"),
    ],
)
def test_the_worker_can_do_little(deed: str, fault: str) -> None:
    if fault == "MemoryError" and sys.platform == "darwin":
        pytest.skip("macOS does not limit addresses")
    assert fault in in_the_worker(deed)


@POSIX
def test_the_time_of_a_picture_is_limited(monkeypatch: pytest.MonkeyPatch, decoder: DecoderProcess) -> None:
    """A decoder that turns in circles is ended by the system, however many came before."""
    script = START.replace("serve()", "") + (
        "from gemmary.inputs import decoder; decoder.CPU_SECONDS = 1\n"
        "decoder.answer = lambda answers, data: [None for _ in iter(int, 1)]\n"
        "serve()"
    )
    monkeypatch.setattr(decoderprocess, "START", script)
    with pytest.raises(ImageError, match="too long"):
        decoder.decode(DATA)


@POSIX
def test_when_memory_fails(monkeypatch: pytest.MonkeyPatch, decoder: DecoderProcess) -> None:
    """A typed error and a fresh worker."""
    if sys.platform == "darwin":
        pytest.skip("macOS does not limit addresses")
    script = START.replace("serve()", "") + (
        "from gemmary.inputs import decoder; decoder.MAX_MEMORY = 120 << 20; serve()"
    )
    monkeypatch.setattr(decoderprocess, "START", script)
    large = encoded(picture(200, 150).resize((8000, 6000)), "JPEG")
    assert same(decoder.decode(DATA))
    first = pid(decoder)
    with pytest.raises(ImageError, match=r"memory|the decoder stopped"):
        decoder.decode(large)
    assert same(decoder.decode(DATA)) and pid(decoder) != first


def test_every_fault_has_a_sentence() -> None:
    assert set(decoderprocess.SENTENCES) == set(Fault) - {Fault.NONE}
