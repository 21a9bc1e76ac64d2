"""What programs do with single files and directories, case by case: what is seen, and what a local disk would show.

Each case gets a directory of its own. It runs without pytest, inside a machine, by way of posix_load.py. Nothing else
uses the mount meanwhile: what is seen at once of others' changes depends on that.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import shutil
import socket
import stat
import struct
import subprocess
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
BLOCK = 4096
#: A moment in the past, in seconds; and flags of renameat2(2).
MOMENT, NOREPLACE, EXCHANGE = 1_000_000_000, 1, 2


@dataclass(frozen=True)
class Place:
    """A directory as the programs see it, and as the server does; on a local disk these are the same."""

    here: Path
    there: Path


class Seen(dict[str, tuple[Any, Any]]):
    """By the name of an observation: what was found, and what a local file system shows. All of it can be JSON."""

    def __call__(self, what: str, found: object, local: object) -> None:
        assert what not in self, what
        self[what] = (found, local)


Case = Callable[[Place, Seen], Iterator[None] | None]
#: All cases, by name. One that is a generator goes on, at each yield, when nothing known before may be used any more.
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def outcome(function: Callable[..., object], *arguments: object) -> Any:
    """What a call returned ("ok" for nothing and for paths), or the name of its error."""
    try:
        result = function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok" if result is None or isinstance(result, Path) else result


def opening(path: Path, flags: int, mode: int = 0o666) -> str:
    """As `outcome`, of open(2)."""
    result = outcome(os.open, path, flags, mode)
    if isinstance(result, int):
        os.close(result)
        return "ok"
    return str(result)


def begin(function: Callable[[], object]) -> Callable[[], Any]:
    """Have another process do that; returns what waits for it, and gives its outcome."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writing, json.dumps(outcome(function)).encode())
        finally:
            os._exit(0)
    os.close(writing)

    def end() -> Any:
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        os.waitpid(pid, 0)
        return json.loads(told or b'"it ended without a word"')

    return end


def elsewhere(function: Callable[[], object]) -> Any:
    """The outcome in another process."""
    return begin(function)()


def libc(name: str, *arguments: object) -> None:
    """A function of the C library's that returns 0. Raises OSError."""
    if getattr(LIBC, name)(*arguments):
        raise OSError(ctypes.get_errno(), name)


def settled(function: Callable[[], object], wanted: object) -> object:
    """What that gives in the end: for what happens some time after a file was closed."""
    deadline = time.monotonic() + 20
    while (found := function()) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def unnumbered(directory: Path) -> list[str]:
    """As `names`, with what is named by FUSE without its number."""
    hidden = ".fuse_hidden"
    return [hidden if name.startswith(hidden) else name for name in names(directory)]


@case
def exclusive_create(at: Place, seen: Seen) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    file, link = at.here / "file", at.here / "link"
    link.symlink_to("nowhere")
    seen("new", opening(file, flags), "ok")
    seen("existing", opening(file, flags), "EEXIST")
    seen("dangling link", opening(link, flags), "EEXIST")
    (at.here / "directory").mkdir()
    seen("directory", opening(at.here / "directory", flags), "EEXIST")
    seen("without create", opening(at.here / "missing", os.O_WRONLY), "ENOENT")


@case
def open_modes(at: Place, seen: Seen) -> None:
    file = at.here / "file"
    file.write_bytes(b"0123456789")
    fd = os.open(file, os.O_RDWR)
    seen("read, then write", (os.read(fd, 3), os.write(fd, b"xy"))[1], 2)
    seen("position", os.lseek(fd, 0, os.SEEK_CUR), 5)
    os.lseek(fd, 0, os.SEEK_SET)
    seen("O_RDWR", os.read(fd, 100).decode(), "012xy56789")
    os.close(fd)
    fd = os.open(file, os.O_WRONLY)
    seen("reading O_WRONLY", outcome(os.read, fd, 1), "EBADF")
    os.close(fd)
    fd = os.open(file, os.O_RDONLY)
    seen("writing O_RDONLY", outcome(os.write, fd, b"x"), "EBADF")
    os.close(fd)
    os.close(os.open(file, os.O_WRONLY | os.O_TRUNC))
    seen("O_TRUNC", (file.stat().st_size, file.read_bytes().decode()), [0, ""])
    seen("O_DIRECTORY of a file", opening(file, os.O_RDONLY | os.O_DIRECTORY), "ENOTDIR")
    seen("O_DIRECTORY", opening(at.here, os.O_RDONLY | os.O_DIRECTORY), "ok")
    (at.here / "link").symlink_to("file")
    seen("O_NOFOLLOW", opening(at.here / "link", os.O_RDONLY | os.O_NOFOLLOW), "ELOOP")
    seen("O_SYNC", opening(file, os.O_WRONLY | os.O_SYNC), "ok")
    seen("O_TMPFILE", opening(at.here, os.O_RDWR | os.O_TMPFILE), "ok")


@case
def append(at: Place, seen: Seen) -> None:
    file = at.here / "log"
    file.write_bytes(b"begin\n")
    one, other = (os.open(file, os.O_WRONLY | os.O_APPEND) for _ in range(2))
    for number in range(50):
        os.write(one, f"one {number}\n".encode())
        os.write(other, f"other {number}\n".encode())
    lines = ["begin", *(f"{who} {number}" for number in range(50) for who in ("one", "other"))]
    seen("two descriptors", file.read_text().splitlines() == lines, True)
    os.pwrite(one, b"end\n", 0)
    seen("pwrite", file.read_text().splitlines() == [*lines, "end"], True)
    os.close(one)
    os.close(other)

    def write(who: str) -> None:
        with file.open("ab", buffering=0) as log:
            for number in range(100):
                log.write(f"{who} {number}\n".encode())

    for end in [begin(partial(write, who)) for who in ("first", "second")]:
        end()
    written = file.read_text().splitlines()[len(lines) + 1 :]
    expected = [[f"{who} {number}" for number in range(100)] for who in ("first", "second")]
    found = [[line for line in written if line.startswith(who)] for who in ("first", "second")]
    seen("two processes", (found == expected, len(written)), [True, 200])
    seen("on the server", (at.there / "log").read_bytes() == file.read_bytes(), True)


@case
def overwriting(at: Place, seen: Seen) -> None:
    file = at.here / "file"
    content = bytearray(os.urandom(5 * BLOCK + 100))
    file.write_bytes(content)
    fd = os.open(file, os.O_RDWR)
    for offset, data in ((10, b"x"), (BLOCK - 1, b"yy"), (3 * BLOCK, os.urandom(BLOCK)), (len(content) - 3, b"end++")):
        seen(f"pwrite at {offset}", os.pwrite(fd, data, offset), len(data))
        content[offset : offset + len(data)] = data
        seen(f"pread at {offset}", os.pread(fd, len(data), offset) == data, True)
    seen("writev", os.pwritev(fd, [b"a", b"bc"], 100), 3)
    content[100:103] = b"abc"
    os.fsync(fd)
    seen("whole", file.read_bytes() == content, True)
    seen("on the server", (at.there / "file").read_bytes() == content, True)
    seen("past the end", os.pread(fd, 10, len(content) + 5).decode(), "")
    os.close(fd)


@case
def truncating(at: Place, seen: Seen) -> None:
    file = at.here / "file"
    file.write_bytes(b"x" * 10_000)
    os.truncate(file, 5000)
    seen("shorter", (file.stat().st_size, file.read_bytes() == b"x" * 5000), [5000, True])
    os.truncate(file, 9000)
    seen("longer", file.read_bytes() == b"x" * 5000 + bytes(4000), True)
    fd = os.open(file, os.O_RDWR)
    os.ftruncate(fd, 100)
    seen("ftruncate", (os.fstat(fd).st_size, file.stat().st_size), [100, 100])
    os.pwrite(fd, b"y", 200)
    seen("written behind it", os.pread(fd, 1000, 0) == b"x" * 100 + bytes(100) + b"y", True)
    os.ftruncate(fd, 0)
    os.write(fd, b"new")
    os.close(fd)
    seen("at last", (at.there / "file").read_bytes().decode(), "new")
    fd = os.open(file, os.O_RDONLY)
    seen("ftruncate O_RDONLY", outcome(os.ftruncate, fd, 0), "EINVAL")
    os.close(fd)
    seen("of a directory", outcome(os.truncate, at.here, 0), "EISDIR")


@case
def renaming_files(at: Place, seen: Seen) -> None:
    new, old = at.here / "new", at.here / "old"
    old.write_bytes(b"old")
    new.write_bytes(b"newer")
    fd = os.open(old, os.O_RDONLY)
    new.rename(old)
    seen("over existing", old.read_bytes().decode(), "newer")
    seen("listing", unnumbered(at.here), ["old"])
    seen("replaced, still open", os.pread(fd, 100, 0).decode(), "old")
    seen("its size", os.fstat(fd).st_size, 3)
    os.close(fd)
    seen("closed", settled(lambda: names(at.here), ["old"]), ["old"])
    fd = os.open(old, os.O_RDWR)
    old.rename(new)
    os.write(fd, b"WRITE")
    os.close(fd)
    seen("renamed while open", new.read_bytes().decode(), "WRITE")
    seen("over itself", outcome(new.rename, new), "ok")
    seen("missing", outcome(old.rename, new), "ENOENT")
    other = at.here / "other"
    other.write_bytes(b"other")
    for what, flags, local in (("noreplace", NOREPLACE, "EEXIST"), ("exchange", EXCHANGE, "ok")):
        words = (-100, bytes(new), -100, bytes(other), flags)
        seen(what, outcome(libc, "renameat2", *words), local)


@case
def renaming_directories(at: Place, seen: Seen) -> None:
    one, two, full, file = (at.here / name for name in ("one", "two", "full", "file"))
    for directory in (one, two, full):
        (directory / "below").mkdir(parents=True)
    (one / "below" / "file").write_text("content")
    (two / "below").rmdir()
    file.touch()
    (one / "below" / "file").stat()
    seen("over an empty one", outcome(one.rename, two), "ok")
    seen("content", (two / "below" / "file").read_text(), "content")
    seen("old name", outcome((one / "below" / "file").stat), "ENOENT")
    seen("over a full one", outcome(two.rename, full), "ENOTEMPTY")
    seen("over a file", outcome(two.rename, file), "ENOTDIR")
    seen("a file over it", outcome(file.rename, two), "EISDIR")
    seen("into itself", outcome(two.rename, two / "below" / "deeper"), "EINVAL")
    (two / "below" / "file").rename(at.here / "moved")
    seen("to another directory", (names(two / "below"), names(at.here)), [[], ["file", "full", "moved", "two"]])


@case
def unlinking_while_open(at: Place, seen: Seen) -> None:
    directory = at.here / "directory"
    directory.mkdir()
    file = directory / "file"
    file.write_bytes(b"content")
    fd = os.open(file, os.O_RDWR)
    file.unlink()
    seen("name", outcome(file.stat), "ENOENT")
    seen("create again", opening(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "ok")
    file.unlink()
    seen("read", os.pread(fd, 100, 0).decode(), "content")
    seen("write", outcome(os.pwrite, fd, b"CON", 0), 3)
    seen("written", os.pread(fd, 100, 0).decode(), "CONtent")
    seen("size", os.fstat(fd).st_size, 7)
    seen("links", os.fstat(fd).st_nlink, 0)
    seen("listing", unnumbered(directory), [])
    seen("rmdir", outcome(directory.rmdir), "ok")
    os.close(fd)
    seen("closed", settled(lambda: outcome(directory.rmdir), "ENOENT"), "ENOENT")


@case
def removing_directories(at: Place, seen: Seen) -> None:
    directory = at.here / "directory"
    (directory / "below").mkdir(parents=True)
    seen("full", outcome(directory.rmdir), "ENOTEMPTY")
    (directory / "below").rmdir()
    seen("empty", outcome(directory.rmdir), "ok")
    seen("missing", outcome(directory.rmdir), "ENOENT")
    directory.mkdir()
    seen("made again", names(directory), [])


@case
def symbolic_links(at: Place, seen: Seen) -> None:
    (at.here / "directory").mkdir()
    (at.here / "file").write_text("content")
    targets = {
        "relative": "file",
        "dangling": "nowhere",
        "upwards": "../file",
        "absolute": str(at.here / "file"),
        "loop": "loop",
    }
    for name, target in targets.items():
        below = at.here / "directory" if name == "upwards" else at.here
        link = below / name
        seen(f"{name}: made", outcome(link.symlink_to, target), "ok")
        seen(f"{name}: is a link", link.is_symlink(), True)
        seen(f"{name}: readlink", outcome(os.readlink, link), target)
        local = {"dangling": "ENOENT", "loop": "ELOOP"}.get(name, "content")
        seen(f"{name}: read", outcome(link.read_text), local)
        seen(f"{name}: on the server", str((at.there / link.relative_to(at.here)).readlink()), target)
    (at.here / "relative").write_text("written")
    seen("written through it", (at.here / "file").read_text(), "written")
    (at.here / "relative").unlink()
    seen("unlink", (at.here / "file").exists(), True)
    (at.here / "dir").symlink_to("directory")
    seen("to a directory", names(at.here / "dir"), ["upwards"])
    seen("size", (at.here / "dir").lstat().st_size, len("directory"))


@case
def hard_links(at: Place, seen: Seen) -> Iterator[None]:
    one, two = at.here / "one", at.here / "two"
    one.write_bytes(b"content")
    seen("made", outcome(os.link, one, two), "ok")
    seen("read", two.read_bytes().decode(), "content")
    seen("count", one.stat().st_nlink, 2)
    seen("same inode", one.stat().st_ino == two.stat().st_ino, True)
    seen("on the server", (at.there / "one").stat().st_nlink, 2)
    one.write_bytes(b"CONTENT and more")
    os.utime(one, (MOMENT, MOMENT))
    yield
    seen("written by the other name", two.read_bytes().decode(), "CONTENT and more")
    one.write_bytes(b"content AND MORE")
    os.utime(one, (MOMENT, MOMENT))
    seen("same size and time", two.read_bytes().decode(), "content AND MORE")
    one.unlink()
    seen("one less", two.stat().st_size, 16)
    seen("of a directory", outcome(os.link, at.here, at.here / "three"), "EPERM")


@case
def mapping(at: Place, seen: Seen) -> None:
    file = at.here / "file"
    content = os.urandom(3 * BLOCK)
    file.write_bytes(content)
    fd = os.open(file, os.O_RDWR)
    with mmap.mmap(fd, 0, mmap.MAP_PRIVATE) as private:
        seen("private", private[:] == content, True)
        private[0:4] = b"MINE"
        seen("private write", file.read_bytes() == content, True)
    with mmap.mmap(fd, 0, mmap.MAP_SHARED) as shared:
        shared[BLOCK : BLOCK + 4] = b"ours"
        seen("read(2)", os.pread(fd, 4, BLOCK).decode(), "ours")
        shared.flush()
        seen("msync", (at.there / "file").read_bytes()[BLOCK : BLOCK + 4].decode(), "ours")

        def write() -> None:
            with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as same:
                same[10:15] = b"child"

        elsewhere(write)
        seen("another process", shared[10:15].decode(), "child")
        os.pwrite(fd, b"write", 20)
        seen("write(2)", shared[20:25].decode(), "write")
    os.close(fd)
    wanted = bytearray(content)
    wanted[10:15], wanted[20:25], wanted[BLOCK : BLOCK + 4] = b"child", b"write", b"ours"
    seen("closed", (at.there / "file").read_bytes() == wanted, True)


@case
def locks(at: Place, seen: Seen) -> None:
    for name in ("here", "there"):  # as another process sees it, of this host and of the server
        file = at.here / f"{name}.lock"
        file.touch()
        path = getattr(at, name) / file.name
        descriptor = os.open(file, os.O_RDWR)

        def exclusively(function: Callable[..., None], path: Path = path) -> None:
            with path.open("r+b") as opened:
                function(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)

        for kind, lock in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
            lock(descriptor, fcntl.LOCK_EX)
            seen(f"{kind} held, {name}", elsewhere(partial(exclusively, lock)), "EAGAIN")
            lock(descriptor, fcntl.LOCK_UN)
            seen(f"{kind} released, {name}", elsewhere(partial(exclusively, lock)), "ok")
        os.close(descriptor)
    with (at.here / "ranges").open("w+b") as held:
        fcntl.lockf(held, fcntl.LOCK_EX, 10, 0)

        def part(start: int) -> None:
            with (at.here / "ranges").open("r+b") as opened:
                fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, start)

        seen("same range", elsewhere(lambda: part(5)), "EAGAIN")
        seen("other range", elsewhere(lambda: part(10)), "ok")
    with (at.here / "ranges").open("r+b") as one, (at.here / "ranges").open("r+b") as two:
        whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
        fcntl.fcntl(one, fcntl.F_OFD_SETLK, whole)
        taken = outcome(lambda: str(type(fcntl.fcntl(two, fcntl.F_OFD_SETLK, whole))))
        seen("of open files", taken, "EAGAIN")


@case
def syncing(at: Place, seen: Seen) -> None:
    file = at.here / "file"
    fd = os.open(file, os.O_CREAT | os.O_RDWR, 0o644)
    for name in ("fsync", "fdatasync"):
        content = os.urandom(300_000)
        os.pwrite(fd, content, 0)
        seen(name, outcome(getattr(os, name), fd), "ok")
        seen(f"{name}: on the server", (at.there / "file").read_bytes() == content, True)
    os.close(fd)
    fd = os.open(at.here, os.O_RDONLY | os.O_DIRECTORY)
    seen("directory", outcome(os.fsync, fd), "ok")
    os.close(fd)


@case
def sparse_files(at: Place, seen: Seen) -> None:
    file = at.here / "file"
    fd = os.open(file, os.O_CREAT | os.O_RDWR, 0o644)
    far = 5 << 30
    seen("write at 5 GiB", os.pwrite(fd, b"end", far), 3)
    seen("size", os.fstat(fd).st_size, far + 3)
    seen("hole", os.pread(fd, BLOCK, far // 2) == bytes(BLOCK), True)
    seen("end", os.pread(fd, 100, far).decode(), "end")
    seen("room on the server", (at.there / "file").stat().st_blocks < 1000, True)
    seen("room as seen here", file.stat().st_blocks < 1000, True)
    seen("SEEK_DATA", outcome(os.lseek, fd, 0, os.SEEK_DATA) > 0, True)
    seen("SEEK_HOLE", outcome(os.lseek, fd, 0, os.SEEK_HOLE), 0)
    os.ftruncate(fd, 0)
    seen("posix_fallocate", outcome(os.posix_fallocate, fd, 0, 100_000), "ok")
    seen("its size", os.fstat(fd).st_size, 100_000)
    long = ctypes.c_int64
    os.pwrite(fd, b"x" * 2 * BLOCK, 0)
    seen("fallocate", outcome(libc, "fallocate", fd, 0, long(0), long(200_000)), "ok")
    seen("punch a hole", outcome(libc, "fallocate", fd, 3, long(0), long(BLOCK)), "ok")
    os.close(fd)


@case
def long_names(at: Place, seen: Seen) -> None:
    longest = "n" * 255
    (at.here / longest).write_text("long")
    seen("255 bytes", ((at.here / longest).read_text(), names(at.here)), ["long", [longest]])
    seen("255 bytes of UTF-8", outcome((at.here / ("ü" * 127)).touch), "ok")
    for length in (256, 1000):
        seen(f"{length} bytes: create", opening(at.here / ("n" * length), os.O_CREAT | os.O_WRONLY), "ENAMETOOLONG")
        seen(f"{length} bytes: mkdir", outcome((at.here / ("n" * length)).mkdir), "ENAMETOOLONG")
        seen(f"{length} bytes: stat", outcome((at.here / ("n" * length)).stat), "ENAMETOOLONG")
    seen("a long path", outcome((at.here / ("n/" * 3000)).stat), "ENAMETOOLONG")


@case
def odd_names(at: Place, seen: Seen) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zürich é") for form in ("NFC", "NFD"))
    odd = [
        composed,
        decomposed,
        "new\nline",
        "back\\slash",
        "quote'\"",
        " space ",
        "-rf",
        "%s*?[",
        "日本語 😀",
        "~",
        "...",
    ]
    odd += ["\udcff\udce9", "tab\t\x01\x7f", "Case", "case", "CASE", ":", "a:b@c"]
    for number, name in enumerate(odd):
        (at.here / name).write_text(str(number))
    seen("listed", names(at.here) == sorted(odd), True)
    seen("content", [(at.here / name).read_text() for name in odd], [str(number) for number in range(len(odd))])
    seen("on the server", names(at.there) == sorted(odd), True)
    for name in odd:
        (at.here / name).rename(at.here / f"{name} ")
        (at.here / f"{name} ").unlink()
    seen("removed", names(at.there), [])


@case
def modes(at: Place, seen: Seen) -> None:
    file, directory = at.here / "file", at.here / "directory"
    file.touch()
    for mode in (0o644, 0o400, 0o777, 0o600, 0o4755, 0o2755, 0o1644):
        file.chmod(mode)
        seen(f"chmod {mode:o}", (oct(stat.S_IMODE(file.stat().st_mode))), oct(mode))
        seen(f"on the server {mode:o}", oct(stat.S_IMODE((at.there / "file").stat().st_mode)), oct(mode))
    for umask in (0o022, 0o077, 0):
        os.umask(umask)
        path = at.here / f"umask{umask}"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
        seen(f"created with umask {umask:o}", oct(stat.S_IMODE(path.stat().st_mode)), oct(0o666 & ~umask))
        (at.here / f"directory{umask}").mkdir()
        found = oct(stat.S_IMODE((at.here / f"directory{umask}").stat().st_mode))
        seen(f"directory with umask {umask:o}", found, oct(0o777 & ~umask))
    os.umask(0o022)
    directory.mkdir()
    directory.chmod(0o1777)
    seen("sticky directory", oct(stat.S_IMODE(directory.stat().st_mode)), oct(0o1777))
    fd = os.open(at.here / "readonly", os.O_CREAT | os.O_WRONLY, 0o400)
    seen("written while it is made read-only", outcome(os.write, fd, b"x"), 1)
    os.close(fd)
    file.write_text("content")
    file.chmod(0)
    seen("root reads without a right", outcome(file.read_text), "content")


@case
def owners(at: Place, seen: Seen) -> None:
    file = at.here / "file"
    file.touch()
    account = at.here.stat().st_uid
    seen("made by root", file.stat().st_uid == account, True)
    seen("chown", outcome(os.chown, file, 1234, 1234), "ok")
    seen("afterwards", file.stat().st_uid == account, False)
    seen("chown of a directory", outcome(os.chown, at.here, -1, 1234), "ok")
    os.chown(file, account, account)

    def as_nobody() -> None:
        os.chdir(at.here)  # whose way there is for root only
        os.setuid(65534)
        Path("nobody's").touch()

    seen("made by nobody", elsewhere(as_nobody), "EACCES")


@case
def times(at: Place, seen: Seen) -> None:
    file = at.here / "file"
    file.write_text("content")
    os.utime(file, (MOMENT + 5, MOMENT))
    found = file.stat()
    seen("seconds", (found.st_atime, found.st_mtime), [MOMENT + 5, MOMENT])
    seen("on the server", (at.there / "file").stat().st_mtime, MOMENT)
    os.utime(file, ns=(1, MOMENT * 10**9 + 123_456_789))
    seen("below a second", file.stat().st_mtime_ns, MOMENT * 10**9 + 123_456_789)
    for year, moment in (("1969", -86400), ("2100", 4_102_444_800)):
        seen(f"of {year}", (outcome(os.utime, file, (moment, moment)), file.stat().st_mtime), ["ok", moment])
    os.utime(file, (MOMENT, MOMENT))
    before = int(time.time())
    os.utime(file)
    seen("now", file.stat().st_mtime >= before, True)
    os.utime(file, (MOMENT, MOMENT))
    timespecs = struct.pack("qqqq", 0, (1 << 30) - 2, MOMENT + 7, 0)  # UTIME_OMIT, and a time
    seen("only mtime", outcome(libc, "utimensat", -100, bytes(file), timespecs, 0), "ok")
    seen("mtime is set", file.stat().st_mtime, MOMENT + 7)
    seen("atime is left alone", file.stat().st_atime == MOMENT, True)
    with file.open("ab") as opened:
        opened.write(b"more")
        opened.flush()
        seen("written", os.fstat(opened.fileno()).st_mtime >= before, True)
    seen("closed", (at.there / "file").stat().st_mtime >= before, True)
    seen("mtime is the server's", int(file.stat().st_mtime) == int((at.there / "file").stat().st_mtime), True)
    os.utime(at.here, (MOMENT, MOMENT))
    (at.here / "another").touch()
    seen("of the directory", at.here.stat().st_mtime >= before, True)
    os.utime(file, (MOMENT, MOMENT))
    seen("change time", file.stat().st_ctime >= before, True)
    (at.here / "link").symlink_to("file")
    os.utime(at.here / "link", (MOMENT + 9, MOMENT + 9), follow_symlinks=False)
    seen("of a link", (at.here / "link").lstat().st_mtime == MOMENT + 9, True)
    seen("not of its target", file.stat().st_mtime, MOMENT)


@case
def errors(at: Place, seen: Seen) -> None:
    file, directory, missing = at.here / "file", at.here / "directory", at.here / "missing"
    file.write_text("content")
    (directory / "below").mkdir(parents=True)
    seen("open missing", opening(missing, os.O_RDONLY), "ENOENT")
    seen("below missing", opening(missing / "x", os.O_CREAT | os.O_WRONLY), "ENOENT")
    seen("below a file", opening(file / "x", os.O_RDONLY), "ENOTDIR")
    seen("write a directory", opening(directory, os.O_WRONLY), "EISDIR")
    seen("create a directory", opening(directory, os.O_CREAT | os.O_WRONLY), "EISDIR")
    seen("read a directory", outcome(directory.read_bytes), "EISDIR")
    seen("mkdir existing", outcome(directory.mkdir), "EEXIST")
    seen("mkdir over a file", outcome(file.mkdir), "EEXIST")
    seen("mkdir below missing", outcome((missing / "x").mkdir), "ENOENT")
    seen("rmdir a file", outcome(file.rmdir), "ENOTDIR")
    seen("unlink a directory", outcome(directory.unlink), "EISDIR")
    seen("unlink missing", outcome(missing.unlink), "ENOENT")
    seen("list a file", outcome(os.listdir, file), "ENOTDIR")
    seen("list missing", outcome(os.listdir, missing), "ENOENT")
    seen("link over existing", outcome(os.link, file, directory), "EEXIST")
    seen("link of missing", outcome(os.link, missing, at.here / "x"), "ENOENT")
    seen("symlink over existing", outcome(file.symlink_to, "x"), "EEXIST")
    seen("readlink of a file", outcome(os.readlink, file), "EINVAL")
    seen("slash behind a file", outcome(os.stat, f"{file}/"), "ENOTDIR")
    seen("chmod missing", outcome(missing.chmod, 0o600), "ENOENT")
    seen("truncate missing", outcome(os.truncate, missing, 0), "ENOENT")
    seen("truncate below zero", outcome(os.truncate, file, -1), "EINVAL")
    seen("directory as a file's rename", outcome(directory.rename, missing / "x"), "ENOENT")


@case
def special_files(at: Place, seen: Seen) -> None:
    seen("fifo", outcome(os.mkfifo, at.here / "fifo"), "ok")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(at.here)
        seen("socket", outcome(server.bind, "socket"), "ok")
        os.chdir("/")
    seen("mknod of a file", outcome(os.mknod, at.here / "file", 0o600 | stat.S_IFREG), "ok")
    seen("extended attributes", outcome(os.setxattr, at.here, "trusted.test", b"x"), "ok")


@case
def programs(at: Place, seen: Seen) -> None:
    program, script = at.here / "true", at.here / "script"
    shutil.copy("/usr/bin/sleep", program)
    seen("binary", subprocess.run([program, "0"]).returncode, 0)
    script.write_text("#!/bin/sh\necho from the volume\n")
    seen("not executable", outcome(subprocess.run, [script]), "EACCES")
    script.chmod(0o755)
    seen("script", subprocess.run([script], capture_output=True, text=True).stdout, "from the volume\n")
    running = subprocess.Popen([program, "60"])
    seen("written while it runs", opening(program, os.O_WRONLY), "ETXTBSY")
    running.kill()
    running.wait()


@case
def copying(at: Place, seen: Seen) -> None:
    source, target, sent = (at.here / name for name in ("source", "target", "sent"))
    content = os.urandom(1_000_000)
    source.write_bytes(content)
    with source.open("rb") as reading, target.open("wb") as writing:
        seen("copy_file_range", os.copy_file_range(reading.fileno(), writing.fileno(), len(content)), len(content))
    seen("copied", (at.there / "target").read_bytes() == content, True)
    with source.open("rb") as reading, sent.open("wb") as writing:
        seen("sendfile", os.sendfile(writing.fileno(), reading.fileno(), 0, len(content)), len(content))
    seen("sent", (at.there / "sent").read_bytes() == content, True)


@case
def own_changes(at: Place, seen: Seen) -> None:
    """What this host does is seen by it at once, whatever it has looked at before."""
    file, other = at.here / "file", at.here / "other"
    seen("before", (file.exists(), names(at.here)), [False, []])
    file.write_text("12345")
    seen("created", (file.stat().st_size, names(at.here)), [5, ["file"]])
    with file.open("a") as opened:
        opened.write("678")
        opened.flush()
        seen("grown, while open", file.stat().st_size, 8)
    file.chmod(0o600)
    seen("chmod", oct(file.stat().st_mode & 0o777), "0o600")
    file.rename(other)
    seen("renamed", (file.exists(), other.exists(), names(at.here)), [False, True, ["other"]])
    other.unlink()
    seen("removed", (other.exists(), names(at.here)), [False, []])
    other.mkdir()
    seen("now a directory", (other.is_dir(), names(at.here)), [True, ["other"]])


@case
def space(at: Place, seen: Seen) -> None:
    here, there = os.statvfs(at.here), os.statvfs(at.there)
    seen("size", here.f_blocks * here.f_frsize == there.f_blocks * there.f_frsize, True)
    seen("room", here.f_bavail > 0, True)
    seen("longest name", here.f_namemax, 255)
