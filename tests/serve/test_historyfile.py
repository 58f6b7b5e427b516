"""A file that is damaged, newer, read-only or full is told plainly, and nothing in it is lost."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from gemmary.serve import historyfile
from gemmary.serve.history import History
from gemmary.serve.historyfile import HistoryError, HistoryFile, default_path
from tests.serve.test_history import ME, fork, said

ROOT = Path(__file__).parents[2]


def filled(path: Path) -> str:
    history = History(path)
    id = fork(history)
    history.close()
    return id


def test_only_the_user_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.db"
    filled(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_default_path_is_the_users_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path() == tmp_path / "gemmary" / "history.db"


@pytest.mark.parametrize("where", ["head", "page", "whole"])
def test_a_damaged_file_is_kept_and_a_new_one_begun(tmp_path: Path, where: str) -> None:
    path = tmp_path / "history.db"
    filled(path)
    data = bytearray(path.read_bytes())
    if where == "head":
        data[:16] = b"something else!!"
    elif where == "page":
        data[4096 : 4096 * 4] = os.urandom(4096 * 3)
    else:
        data = bytearray(b"no database at all, but long enough to be looked at" * 100)
    path.write_bytes(data)
    history = History(path)
    (kept,) = [one for one in tmp_path.iterdir() if ".damaged-" in one.name and one.name.count("-wal") == 0]
    assert kept.read_bytes() == bytes(data)
    assert history.notice is not None and kept.name in history.notice
    assert history.recent(ME) == []
    assert fork(history)
    history.close()
    assert History(path).notice is None


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    filled(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError, match=r"newer Gemmary \(version 99"):
        History(path)
    assert path.read_bytes() == before


def test_a_full_disk_is_told_and_what_was_there_stays(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db")
    id = fork(history)
    with history._file.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    with history._file._connection() as db:
        db.execute(f"PRAGMA max_page_count = {pages + 1}")
    long = {"id": "long", "parent": None, "role": "user", "meta": {}}
    with pytest.raises(HistoryError, match="the disk is full") as caught:
        history.put(ME, id, {**long, "content": [{"type": "text", "text": "x" * 100_000}]})
    assert caught.value.status == 507
    assert len(history.get(ME, id)["messages"]) == 4


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = History(tmp_path / "history.db")
    id = fork(history)
    with history._file._connection() as db:
        db.execute("PRAGMA query_only = ON")
    with pytest.raises(HistoryError, match="cannot be written") as caught:
        history.revise(ME, id, {"title": "x"})
    assert caught.value.status == 503
    assert str(caught.value) == "the history cannot be written: check who may write there", "clients read it"
    assert caplog.messages == [f"the history {tmp_path / 'history.db'}: SQLITE_READONLY"]
    assert history.get(ME, id)["title"] == "Where is the tower?"


def test_a_place_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "history.db", Path("/proc/history.db"), tmp_path):
        with pytest.raises(HistoryError, match=r"cannot be (opened|read|written)"):
            History(path)


def test_neither_the_place_nor_what_was_said_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = HistoryFile(tmp_path / "history.db")
    for refused in (sqlite3.OperationalError("no such column: canary"), OSError(5, "at /canary"), 11, 14, 26):
        with pytest.raises(HistoryError) as caught, file.reading():
            raise coded(refused) if isinstance(refused, int) else refused
        assert str(tmp_path) not in str(caught.value) and "canary" not in str(caught.value)
        assert str(tmp_path) in caplog.messages[-1] and "column" not in caplog.messages[-1]
    assert len(caplog.messages) == 5


def coded(code: int) -> sqlite3.Error:
    error = sqlite3.DatabaseError("canary")
    error.sqlite_errorcode = code
    return error


NEXT = ["ALTER TABLE conversation ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE tag (name TEXT)", "INSERT INTO tag VALUES ('first')"]  # fmt: skip


def test_a_migration_keeps_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.db"
    id = filled(path)
    monkeypatch.setattr(historyfile, "MIGRATIONS", [*historyfile.MIGRATIONS, NEXT])
    file = HistoryFile(path)
    with file.reading() as db:
        assert db.execute("SELECT name FROM tag").fetchone()[0] == "first"
        assert db.execute("PRAGMA user_version").fetchone()[0] == 2
    file.close()
    monkeypatch.undo()
    copy = History(tmp_path / "history.db.version-1")
    assert len(copy.get(ME, id)["messages"]) == 4


@pytest.mark.parametrize("done", range(len(NEXT)))
def test_a_migration_that_is_cut_off_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    path = tmp_path / "history.db"
    id = filled(path)
    cut = [*NEXT[:done], "SELECT nothing FROM nowhere"]  # the process dies here: nothing of it may be left
    monkeypatch.setattr(historyfile, "MIGRATIONS", [historyfile.MIGRATIONS[0], cut])
    with pytest.raises(HistoryError):
        HistoryFile(path)
    monkeypatch.setattr(historyfile, "MIGRATIONS", [historyfile.MIGRATIONS[0], NEXT])
    file = HistoryFile(path)
    with file.reading() as db:
        assert db.execute("SELECT count(*) FROM tag").fetchone()[0] == 1
        assert db.execute("SELECT pinned FROM conversation WHERE id = ?", (id,)).fetchone()[0] == 0


DYING = """
import os, sys
from pathlib import Path
from gemmary.serve import historyfile
class Cut(list):
    def __iter__(self):
        for statement in self[: int(sys.argv[2])]:
            yield statement
        os._exit(9)
historyfile.MIGRATIONS.append(Cut(eval(sys.argv[3])))
historyfile.HistoryFile(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "done", [pytest.param(0, marks=pytest.mark.long), 1, pytest.param(3, marks=pytest.mark.long)]
)
def test_a_process_that_dies_in_a_migration_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    path = tmp_path / "history.db"
    id = filled(path)
    died = subprocess.run([sys.executable, "-c", DYING, path, str(done), repr(NEXT)], cwd=ROOT)
    assert died.returncode == 9
    copy = History(tmp_path / "history.db.version-1")
    assert len(copy.get(ME, id)["messages"]) == 4
    old = History(path)  # the version before still reads it
    assert old.notice is None and len(old.get(ME, id)["messages"]) == 4
    old.close()
    monkeypatch.setattr(historyfile, "MIGRATIONS", [historyfile.MIGRATIONS[0], NEXT])
    with HistoryFile(path).reading() as db:
        assert db.execute("SELECT count(*) FROM tag").fetchone()[0] == 1
        assert db.execute("SELECT count(*) FROM message").fetchone()[0] == 4


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """Told; what was acknowledged stays; with room again it goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        history = History(disk / "history.db")
        id = fork(history)
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with pytest.raises(HistoryError, match=r"the disk is full|cannot be read or written"):
            history.put(ME, id, said("long", None, "x" * 300_000))
        assert len(history.get(ME, id)["messages"]) == 4
        filler.unlink()
        history.put(ME, id, said("long", None, "x" * 3_000))
        assert len(history.get(ME, id)["messages"]) == 5
        history.close()
        assert History(disk / "history.db").notice is None
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
