"""What programs do with many files, with much, at the same time, and while others write; and all cases as one program.

``python3 -m system.posix_load HERE THERE KEPT`` runs every case in the directory HERE, which the server has at THERE,
and prints a line of JSON for each: its name, and what it has seen, or how it failed. KEPT: seconds for which what is
known of a file may be used without asking again.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import inspect
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .posix_cases import (
    BLOCK,
    CASES,
    LIBC,
    MOMENT,
    Place,
    Seen,
    begin,
    case,
    elsewhere,
    names,
    opening,
    outcome,
)

__all__ = ["CASES"]

MANY, WRITERS, TRANSACTIONS = 2000, 3, 20
#: Bytes of a large file.
LARGE = 300 << 20


@case
def directory_of_many(at: Place, seen: Seen) -> None:
    wanted = sorted(f"file {number}" for number in range(MANY))
    for name in wanted:
        os.close(os.open(at.here / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    seen("listed", names(at.here) == wanted, True)
    seen("on the server", names(at.there) == wanted, True)
    with os.scandir(at.here) as entries:
        seen("kinds", all(entry.is_file() and entry.stat().st_size == 0 for entry in entries), True)
    for name in wanted:
        (at.here / name).unlink()
    seen("removed", (names(at.here), names(at.there)), [[], []])


@case
def listing_while_it_changes(at: Place, seen: Seen) -> None:
    """What is there all the time is listed once, whatever comes and goes."""
    stays = {f"stays {number}" for number in range(300)}
    for name in stays:
        (at.here / name).touch()

    def change() -> None:
        for number in range(300):
            (at.here / f"comes {number}").touch()
            (at.here / f"comes {number}").unlink()

    end = begin(change)
    missed = []
    for _ in range(20):
        with os.scandir(at.here) as entries:
            found = sorted(entry.name for entry in entries if entry.name in stays)
        missed += [] if found == sorted(stays) else [found]
    seen("change", end(), "ok")
    seen("each once", missed, [])


@case
def seeking_in_a_listing(at: Place, seen: Seen) -> None:
    wanted = {".", ".."} | {f"file {number}" for number in range(200)}
    for name in wanted - {".", ".."}:
        (at.here / name).touch()
    LIBC.opendir.restype = LIBC.readdir.restype = ctypes.c_void_p
    LIBC.telldir.restype = ctypes.c_long
    opened = ctypes.c_void_p(LIBC.opendir(bytes(at.here)))

    def rest() -> Iterator[str]:
        while entry := LIBC.readdir(opened):
            yield ctypes.string_at(entry + 19).decode()  # after d_ino, d_off, d_reclen, d_type

    reading = rest()
    first = [next(reading) for _ in range(50)]
    position = ctypes.c_long(LIBC.telldir(opened))
    second = [*reading]
    seen("all", (len(first + second), set(first + second) == wanted), [len(wanted), True])
    LIBC.seekdir(opened, position)
    seen("seekdir", [*rest()] == second, True)
    LIBC.rewinddir(opened)
    seen("rewinddir", [*rest()] == first + second, True)
    LIBC.closedir(opened)


@case
def deep_tree(at: Place, seen: Seen) -> None:
    deep = at.here.joinpath(*["a directory with a name of some length, of sixty letters...."] * 40)
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    seen("2400 bytes deep", (deep / "file").read_text(), "deep")
    seen("walked", sum(1 for _ in os.walk(at.here)), 41)
    shutil.rmtree(at.here / deep.relative_to(at.here).parts[0])
    seen("removed", names(at.there), [])

    def descend() -> None:
        os.chdir(at.here)
        for _ in range(100):
            Path("d" * 60).mkdir()
            os.chdir("d" * 60)

    seen("6000 bytes deep", elsewhere(descend), "ok")


@case
def writers_side_by_side(at: Place, seen: Seen) -> None:
    file = at.here / "file"
    file.touch()

    def write(first: int) -> None:
        with file.open("r+b", buffering=0) as opened:
            for number in range(first, 400, 4):
                opened.seek(number * 3 * BLOCK // 2)  # two of them share a page
                opened.write(bytes([number % 251]) * (3 * BLOCK // 2))

    seen("written", [end() for end in [begin(partial(write, first)) for first in range(4)]], ["ok"] * 4)
    wanted = b"".join(bytes([number % 251]) * (3 * BLOCK // 2) for number in range(400))
    seen("read", file.read_bytes() == wanted, True)
    seen("on the server", (at.there / "file").read_bytes() == wanted, True)


@case
def large_file(at: Place, seen: Seen) -> None:
    block, summed = os.urandom(1 << 20), hashlib.sha256()
    with (at.here / "file").open("wb", buffering=0) as file:
        for number in range(LARGE >> 20):
            data = number.to_bytes(4, "big") + block[4:]
            summed.update(data)
            file.write(data)
    for what, path in (("on the server", at.there), ("read", at.here)):
        with (path / "file").open("rb") as file:
            seen(what, hashlib.file_digest(file, "sha256").hexdigest() == summed.hexdigest(), True)
    (at.here / "file").unlink()
    seen("removed", names(at.there), [])


@case
def full_disk(at: Place, seen: Seen) -> None:
    small = at.there / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "small", small], check=True)
    file = at.here / "small" / "file"
    for what, told in (("fsync", os.fsync), ("close", os.close)):
        fd = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.write(fd, bytes(60 << 10))
        os.fsync(fd)
        seen(f"write before {what}", outcome(os.write, fd, bytes(60 << 10)), 4 << 10)
        seen(f"told by {what}", outcome(told, fd), "ok")
        if told is os.fsync:
            outcome(os.close, fd)
    subprocess.run(["umount", "--lazy", small], check=True)


def transactions(path: Path, mode: str) -> None:
    """Writers that count, and one that dies in the middle of a transaction."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=60, isolation_level=None)

    def write(who: int) -> None:
        with contextlib.closing(connect()) as database:
            for number in range(TRANSACTIONS):
                database.execute("BEGIN IMMEDIATE")
                database.execute("UPDATE total SET value = value + 1")
                database.execute("INSERT INTO lines VALUES (?, ?, ?)", (who, number, os.urandom(3000)))
                database.execute("COMMIT")

    def die() -> None:
        database = connect()
        database.execute("PRAGMA cache_size = 2")  # so that it has written to the file before
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE total SET value = 1000")
        for number in range(50):
            database.execute("INSERT INTO lines VALUES (99, ?, ?)", (number, os.urandom(3000)))
        os._exit(0)

    with contextlib.closing(connect()) as database:
        assert database.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
        database.execute("CREATE TABLE total (value INTEGER)")
        database.execute("INSERT INTO total VALUES (0)")
        database.execute("CREATE TABLE lines (who INTEGER, number INTEGER, data BLOB, PRIMARY KEY (who, number))")
    for end in [begin(partial(write, who)) for who in range(WRITERS)]:
        assert end() == "ok"
    elsewhere(die)
    write(WRITERS)


def database(at: Place, seen: Seen, mode: str) -> None:
    transactions(at.here / "data.db", mode)
    wanted = TRANSACTIONS * (WRITERS + 1)
    for what, path in (("here", at.here), ("on the server", at.there)):
        with contextlib.closing(sqlite3.connect(path / "data.db")) as opened:
            seen(f"integrity, {what}", opened.execute("PRAGMA integrity_check").fetchall(), [["ok"]])
            counted = opened.execute("SELECT value, (SELECT count(*) FROM lines) FROM total").fetchone()
            seen(f"transactions, {what}", counted, [wanted, wanted])


@case
def database_with_a_journal(at: Place, seen: Seen) -> None:
    database(at, seen, "delete")


@case
def database_with_a_log(at: Place, seen: Seen) -> None:
    database(at, seen, "wal")


def described(top: Path) -> dict[str, list[Any]]:
    """By path: kind and mode, time in seconds, target of a link, checksum of a file."""
    found = {}
    for path in sorted(top.rglob("*")):
        facts = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(facts.st_mode) else ""
        target = str(path.readlink()) if path.is_symlink() else ""
        moment = 0 if path.is_symlink() else int(facts.st_mtime)
        found[str(path.relative_to(top))] = [oct(facts.st_mode), moment, target, content]
    return found


@case
def unpacking(at: Place, seen: Seen) -> None:
    with tempfile.TemporaryDirectory() as made:
        source = Path(made) / "tree"
        for number in range(200):
            file = source / f"directory {number % 20}" / f"file {number}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.urandom(number * 100))
            file.chmod((0o644, 0o755, 0o400, 0o4755)[number % 4])
            os.utime(file, (MOMENT + number, MOMENT + number))
        (source / "empty").mkdir()
        (source / "sticky").mkdir()
        (source / "sticky").chmod(0o1777)
        (source / "link").symlink_to("directory 1/file 1")
        (source / "dangling").symlink_to("nowhere")
        os.link(source / "directory 2" / "file 2", source / "hard")
        for directory in [source, *source.glob("*/")]:
            os.utime(directory, (MOMENT, MOMENT))
        archive = subprocess.run(["tar", "-C", source, "-c", "."], capture_output=True, check=True).stdout
        ran = subprocess.run(["tar", "-C", at.here, "-xp"], input=archive, capture_output=True)
        seen("tar x", (ran.returncode, ran.stderr.decode()), [0, ""])
        wanted = described(source)
        seen("here", described(at.here) == wanted, True)
        seen("on the server", described(at.there) == wanted, True)
        again = subprocess.run(["tar", "-C", at.here, "-c", "."], capture_output=True)
        seen("tar c", (again.returncode, again.stderr.decode()), [0, ""])
        copied = subprocess.run(["cp", "-a", at.here / "directory 1", at.here / "copy"], capture_output=True)
        seen("cp -a", (copied.returncode, copied.stderr.decode()), [0, ""])
        seen("copy", described(at.here / "copy") == described(source / "directory 1"), True)
    shutil.rmtree(at.here)
    seen("rm -r", at.there.exists(), False)


@case
def others_change_files(at: Place, seen: Seen) -> Iterator[None]:
    """Size and time say whether what was read may be used again."""
    every = ("time", "longer", "shorter", "replaced", "same time", "replaced, same time")
    for name in every:
        (at.there / name).write_text("first")
        os.utime(at.there / name, (MOMENT, MOMENT))
        assert (at.here / name).read_text() == "first"
    names(at.here)
    for name in every:
        content = {"longer": "other and more", "shorter": "oth"}.get(name, "other")
        file = at.there / (f"{name}.new" if name.startswith("replaced") else name)
        file.write_text(content)
        moment = MOMENT if name.endswith("same time") else MOMENT + 1
        os.utime(file, (moment, moment))
        file.rename(at.there / name)
    for name in ("time", "replaced", "same time", "replaced, same time"):
        seen(f"{name}: at once", (at.here / name).read_text(), "other")
    for name in ("longer", "shorter"):  # what is looked up when it is opened is not yet how far is read
        found = (at.here / name).read_text()
        seen(f"{name}: at once, as far as it goes", found in ("oth", "other", "other and more", "oth\0\0"), True)
    yield
    for name in every:
        wanted = (at.there / name).read_text()
        seen(f"{name}: later", (at.here / name).read_text(), wanted)
        seen(f"{name}: size and time", [*(at.here / name).stat()][6:9:2], [len(wanted), [*(at.there / name).stat()][8]])


@case
def others_change_open_files(at: Place, seen: Seen) -> Iterator[None]:
    """Who keeps a file open and never looks at it otherwise."""
    there, here = at.there / "file", at.here / "file"
    there.write_text("first")
    os.utime(there, (MOMENT, MOMENT))
    fd = os.open(here, os.O_RDONLY)
    seen("first", os.pread(fd, 100, 0).decode(), "first")
    there.write_text("other")
    os.utime(there, (MOMENT + 1, MOMENT + 1))
    yield
    seen("later", os.pread(fd, 100, 0).decode(), "other")
    with there.open("a") as file:
        file.write(" and more")
    yield
    seen("grown", os.pread(fd, 100, 0).decode(), "other and more")
    os.close(fd)


@case
def others_create_and_remove(at: Place, seen: Seen) -> Iterator[None]:
    for name in ("removed", "moved"):
        (at.there / name).write_text(name)
    (at.there / "directory").mkdir()
    (at.there / "directory" / "below").touch()
    before = [(at.here / name).exists() for name in ("created", "removed", "moved", "directory/below", "made")]
    seen("before", (before, names(at.here)), [[False, True, True, True, False], ["directory", "moved", "removed"]])
    (at.there / "created").write_text("created")
    (at.there / "made").mkdir()
    (at.there / "removed").unlink()
    (at.there / "moved").rename(at.there / "moved away")
    (at.there / "directory" / "below").unlink()
    (at.there / "directory").rmdir()
    (at.there / "directory").write_text("now a file")
    seen("created: at once", outcome((at.here / "created").read_text), "created")
    seen("created: not again", opening(at.here / "created", os.O_CREAT | os.O_EXCL | os.O_WRONLY), "EEXIST")
    seen("removed: at once", opening(at.here / "removed", os.O_RDONLY), "ENOENT")
    yield
    seen("listed", names(at.here), ["created", "directory", "made", "moved away"])
    found = {name: outcome((at.here / name).read_text) for name in ("created", "removed", "moved", "moved away")}
    local = {"created": "created", "removed": "ENOENT", "moved": "ENOENT", "moved away": "moved"}
    seen("later", found, local)
    seen("now a file", outcome((at.here / "directory").read_text), "now a file")
    seen("below it", outcome((at.here / "directory" / "below").stat), "ENOTDIR")
    seen("made", outcome((at.here / "made").rmdir), "ok")


@case
def others_append(at: Place, seen: Seen) -> Iterator[None]:
    """Both append: nothing is overwritten, and all is seen in the end."""
    with (at.here / "log").open("ab", buffering=0) as here, (at.there / "log").open("ab", buffering=0) as there:
        (at.there / "log").chmod(0o666)
        for number in range(20):
            here.write(f"here {number}\n".encode())
            os.fsync(here)
            there.write(f"there {number}\n".encode())
    lines = [f"{where} {number}" for number in range(20) for where in ("here", "there")]
    seen("on the server", (at.there / "log").read_text().splitlines() == lines, True)
    yield
    seen("here", (at.here / "log").read_text().splitlines() == lines, True)


class Run:
    """One case, in its directory."""

    def __init__(self, name: str, here: Path, there: Path) -> None:
        self.name, self.seen, self.error = name, Seen(), ""
        self._place = Place(here / name, there / name)
        self._rest: Iterator[None] | None = None

    def start(self) -> bool:
        """Whether there is more, later."""
        with self._told():
            self._place.here.mkdir()
            self._rest = CASES[self.name](self._place, self.seen)
        return self._rest is not None and self.go_on()

    def go_on(self) -> bool:
        """As `start`."""
        with self._told():
            assert self._rest is not None
            next(self._rest)
            return True
        return False

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever goes wrong, the other cases go on, and the test of this one says so."""
        try:
            yield
        except StopIteration:
            self._rest = None
        except Exception:  # noqa: BLE001 - see above
            self._rest, self.error = None, traceback.format_exc()

    def tell(self) -> None:
        print(json.dumps({"case": self.name, "seen": self.seen, "error": self.error}), flush=True)


def main(here: Path, there: Path, kept: float) -> None:
    """Those that wait begin; while they do, the others have their turn."""
    later = []
    for name in sorted(CASES, key=lambda name: not inspect.isgeneratorfunction(CASES[name])):
        made = Run(name, here, there)
        if made.start():
            later.append(made)
            begun = time.monotonic()
        else:
            made.tell()
    while later:
        time.sleep(max(0.0, begun + kept - time.monotonic()))
        begun = time.monotonic()
        waiting = [made for made in later if made.go_on()]
        for made in later:
            if made not in waiting:
                made.tell()
        later = waiting


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
