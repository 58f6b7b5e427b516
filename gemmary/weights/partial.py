"""One large file from the hub, in ranges: what has arrived stays, also when the program ends.

huggingface_hub forgets an unfinished file when its process ends, and a model is gigabytes. So large files
grow in `blobs/<sha256>.incomplete` of the shared cache, are checked against the hub's SHA-256, and only then
get their name.

HTTPError is that of the HTTP library below huggingface_hub, under whichever name it goes there.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import WeakFileLock, build_hf_headers, get_session, hf_raise_for_status

from ..errors import GemmaryError
from .hub import cache, storage

RETRIES = 5  # in a row without a single new byte
PAUSE = 1.0  # seconds before the first retry; it doubles
BLOCK = 1 << 20
LOCK_SECONDS = 1.0


class DownloadError(GemmaryError):
    """A download that cannot go on. The message says what to do; what has arrived stays."""


@dataclass(frozen=True)
class LargeFile:
    """A file of a repository at one commit, whose SHA-256 the hub knows."""

    repo: str
    commit: str
    name: str
    size: int
    sha256: str

    @property
    def blob(self) -> Path:
        """Where it is in the cache when it is whole."""
        return storage(self.repo) / "blobs" / self.sha256

    @property
    def part(self) -> Path:
        """Where it grows; huggingface_hub's own tools know such files as unfinished."""
        return self.blob.with_name(f"{self.sha256}.incomplete")

    @property
    def arrived(self) -> int:
        """Bytes that are on this machine."""
        if self.blob.is_file():
            return self.size
        return min(self.part.stat().st_size, self.size) if self.part.is_file() else 0


def fetch(file: LargeFile, tell: Callable[[int], object]) -> None:
    """Complete `file` in the cache; `tell(bytes)` is called as it grows.

    DownloadError: it arrived damaged, or another program is at it. HTTPError, OSError: see their kinds.
    """
    lock = cache() / ".locks" / storage(file.repo).name / f"{file.sha256}.lock"
    for folder in (file.blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with WeakFileLock(lock, timeout=LOCK_SECONDS):
            if not file.blob.is_file():
                _complete(file, tell)
    except TimeoutError:  # of the lock; those of the network are HTTPErrors
        raise DownloadError(f"{file.repo}: another program is downloading it; wait for it to end") from None


def _complete(file: LargeFile, tell: Callable[[int], object]) -> None:
    with file.part.open("a+b") as out:
        arrived = _fill(out, file, tell)
        out.flush()
        os.fsync(out.fileno())
    if arrived != file.sha256:
        file.part.unlink()
        raise DownloadError(f"{file.repo}: {file.name} arrived damaged; pull it again")
    file.part.replace(file.blob)


def _fill(out: BinaryIO, file: LargeFile, tell: Callable[[int], object]) -> str:
    """Append what is missing, however often the connection breaks; the SHA-256 of all that is there."""
    digest = hashlib.sha256()
    out.seek(0)
    while block := out.read(BLOCK):
        digest.update(block)
    failures = 0
    while (have := out.tell()) < file.size:
        fault = None
        try:
            for chunk in _chunks(file, have):
                if chunk is None:
                    out.seek(out.truncate(0))
                    digest = hashlib.sha256()
                else:
                    out.write(chunk)
                    digest.update(chunk)
                    tell(out.tell())
        except HTTPError as error:
            fault = error
        failures = 0 if out.tell() > have else failures + 1
        _pause(file, failures, fault)
    return digest.hexdigest()


def _chunks(file: LargeFile, have: int) -> Iterator[bytes | None]:
    """The bytes from `have` on; None first when the server can only send all from the beginning."""
    url = hf_hub_url(file.repo, file.name, revision=file.commit)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes={have}-"}
    wait = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=wait, follow_redirects=True) as response:
        hf_raise_for_status(response)
        if have and response.status_code != 206:
            yield None
        yield from response.iter_bytes()


def _pause(file: LargeFile, failures: int, fault: Exception | None) -> None:
    """Wait before the next try, if there is to be one."""
    refused = isinstance(fault, HfHubHTTPError) and fault.response.status_code < 500
    if refused or failures > RETRIES:
        raise fault or DownloadError(f"{file.repo}: the hub sends nothing of {file.name}; try again later")
    if failures:
        time.sleep(PAUSE * 2 ** (failures - 1))
