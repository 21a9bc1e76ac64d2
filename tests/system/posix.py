"""What a program may expect of a directory: cases run inside a machine, ``posix.py DIRECTORY`` prints how each ended.

Each is a function that gets an empty directory and returns what it has seen; what that is on a local disk stands in
test_posix.py, with what is known to be otherwise on a volume. Only the standard library: it runs with the machine's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

CASES: dict[str, Callable[[Path], object]] = {}


def case(function: Callable[[Path], object]) -> Callable[[Path], object]:
    CASES[function.__name__] = function
    return function


def error_of(action: Callable[[], object]) -> str:
    """The name of the error it fails with, "none" otherwise."""
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "none"


@case
def exclusive_create(here: Path) -> object:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(here / "f", flags))
    return error_of(lambda: os.open(here / "f", flags))


@case
def open_truncates(here: Path) -> object:
    (here / "f").write_text("long content")
    os.close(os.open(here / "f", os.O_WRONLY | os.O_TRUNC))
    return (here / "f").stat().st_size


@case
def read_and_write_in_the_middle(here: Path) -> object:
    (here / "f").write_bytes(b"0123456789")
    descriptor = os.open(here / "f", os.O_RDWR)
    os.pwrite(descriptor, b"xy", 3)
    seen = os.pread(descriptor, 4, 2).decode()
    os.close(descriptor)
    return [seen, (here / "f").read_text()]


@case
def append_in_turns(here: Path) -> object:
    """Two processes' descriptors of one host, each at the end of what the other has written."""
    one, other = (os.open(here / "f", os.O_CREAT | os.O_APPEND | os.O_WRONLY) for _ in range(2))
    for number in range(4):
        os.write(one if number % 2 else other, str(number).encode())
        os.fsync(one if number % 2 else other)
    os.close(one)
    os.close(other)
    return (here / "f").read_text()


@case
def truncate_shorter_and_longer(here: Path) -> object:
    (here / "f").write_bytes(b"x" * 100)
    os.truncate(here / "f", 10)
    os.truncate(here / "f", 20)
    return [(here / "f").read_bytes() == b"x" * 10 + b"\0" * 10, (here / "f").stat().st_size]


@case
def truncate_what_is_open(here: Path) -> object:
    with (here / "f").open("w+b") as file:
        file.write(b"x" * 100)
        file.flush()
        os.ftruncate(file.fileno(), 5)
        return [os.fstat(file.fileno()).st_size, (here / "f").stat().st_size]


@case
def rename_over_what_is_there(here: Path) -> object:
    (here / "new").write_text("new")
    (here / "old").write_text("old")
    with (here / "old").open() as before:
        (here / "new").rename(here / "old")
        return [(here / "old").read_text(), before.read(), (here / "new").exists()]


@case
def rename_a_directory(here: Path) -> object:
    (here / "d").mkdir()
    (here / "d" / "f").touch()
    (here / "d").rename(here / "e")
    (here / "full").mkdir()
    (here / "full" / "x").touch()
    return [(here / "e" / "f").exists(), error_of(lambda: (here / "e").rename(here / "full"))]


@case
def unlink_while_open(here: Path) -> object:
    with (here / "f").open("w+") as file:
        file.write("content")
        file.flush()
        (here / "f").unlink()
        file.write(" and more")
        file.seek(0)
        seen = [file.read(), (here / "f").exists()]
    return [*seen, sorted(path.name for path in here.iterdir())]


@case
def errors(here: Path) -> object:
    (here / "d").mkdir()
    (here / "d" / "f").touch()
    return {
        "rmdir of what is not empty": error_of((here / "d").rmdir),
        "unlink of a directory": error_of(lambda: os.unlink(here / "d")),  # noqa: PTH108 - the call itself
        "open of what is not there": error_of((here / "no").open),
        "a file as a directory": error_of((here / "d" / "f" / "x").open),
        "write to a directory": error_of(lambda: os.open(here / "d", os.O_WRONLY)),
        "mkdir of what is there": error_of((here / "d").mkdir),
        "rmdir of a file": error_of((here / "d" / "f").rmdir),
        "a name of 256 bytes": error_of((here / ("x" * 256)).touch),
    }


@case
def links(here: Path) -> object:
    (here / "f").write_text("content")
    (here / "relative").symlink_to("f")
    (here / "dangling").symlink_to("nowhere")
    return [
        (here / "relative").read_text(),
        os.readlink(here / "dangling"),  # noqa: PTH115 - the text itself
        error_of((here / "dangling").open),
    ]


@case
def links_out_of_the_volume(here: Path) -> object:
    """With an absolute one a server could have the container's own files read."""
    made = [
        error_of(lambda: (here / "absolute").symlink_to("/etc/hostname")),
        error_of(lambda: (here / "up").symlink_to("../x")),
    ]
    read = [error_of(partial(os.readlink, here / name)) for name in ("absolute", "up")]
    return [made, read]


@case
def hard_links(here: Path) -> object:
    (here / "f").write_text("content")
    os.link(here / "f", here / "g")
    (here / "f").unlink()
    return (here / "g").read_text()


@case
def memory_maps(here: Path) -> object:
    (here / "f").write_bytes(b"x" * 8192)
    with (here / "f").open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        shared[4096:4100] = b"here"
        shared.flush()
        seen = os.pread(file.fileno(), 4, 4096).decode()
    with (here / "f").open("rb") as content, mmap.mmap(content.fileno(), 0, prot=mmap.PROT_READ) as private:
        return [seen, private[4096:4100].decode(), private[0:1].decode()]


def _try_lock(path: Path, kind: str) -> str:
    """What another process gets."""
    program = (
        "import fcntl, sys\n"
        "f = open(sys.argv[1], 'r+')\n"
        "try: getattr(fcntl, sys.argv[2])(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: print('refused')\n"
        "else: print('granted')\n"
    )
    return subprocess.run([sys.executable, "-c", program, path, kind], capture_output=True, text=True).stdout.strip()


@case
def locks(here: Path) -> object:
    """Between processes of one host."""
    seen = {}
    for kind in ("flock", "lockf"):
        with (here / "f").open("w") as file:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX)
            while_held = _try_lock(here / "f", kind)
            getattr(fcntl, kind)(file, fcntl.LOCK_UN)
            seen[kind] = [while_held, _try_lock(here / "f", kind)]
    return seen


@case
def synced(here: Path) -> object:
    with (here / "f").open("wb") as file:
        file.write(b"x" * 100_000)
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
        return os.fstat(file.fileno()).st_size


@case
def sparse_files(here: Path) -> object:
    with (here / "f").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    with (here / "f").open("rb") as file:
        begin = file.read(4096)
    return [(here / "f").stat().st_size, begin == b"\0" * 4096, (here / "f").stat().st_blocks * 512 < 1 << 20]


@case
def names(here: Path) -> object:
    wanted = ["x" * 255, "é☃", "e\u0301", "\u00e9", "a\nb", "a\\b", "a b", "A", "a", "*", "-rf", "…", "\udcff"]
    for name in wanted:
        (here / name).write_text("x")
    return sorted(path.name for path in here.iterdir()) == sorted(wanted)


@case
def modes(here: Path) -> object:
    old = os.umask(0o027)
    (here / "f").touch(0o666)
    (here / "d").mkdir(0o777)
    os.umask(old)
    seen = [oct(stat.S_IMODE((here / name).stat().st_mode)) for name in ("f", "d")]
    (here / "f").chmod(0o640)
    return [*seen, oct(stat.S_IMODE((here / "f").stat().st_mode))]


@case
def times(here: Path) -> object:
    (here / "f").touch()
    os.utime(here / "f", (1_000_000, 2_000_000))
    set_to = (here / "f").stat()
    (here / "f").write_text("changed")
    return [set_to.st_atime, set_to.st_mtime, (here / "f").stat().st_mtime > 2_000_000]


@case
def change_of_owner(here: Path) -> object:
    """Accepted by the default chown=ignore, and does nothing."""
    (here / "f").touch()
    return error_of(lambda: os.chown(here / "f", 12345, 12345))


@case
def a_listing_while_it_changes(here: Path) -> object:
    for number in range(100):
        (here / f"stays-{number}").touch()
    seen = set()
    with os.scandir(here) as listing:
        for number, entry in enumerate(listing):
            seen.add(entry.name)
            (here / f"new-{number}").touch()
            if number > 150:
                break
    return len([name for name in seen if name.startswith("stays-")])


@case
def many_files_and_a_deep_tree(here: Path) -> object:
    for number in range(2000):
        (here / f"{number}").touch()
    deep = here.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "f").write_text("deep")
    seen = [len(list(here.iterdir())), (deep / "f").read_text()]
    shutil.rmtree(here / "d")
    return [*seen, (here / "d").exists()]


@case
def free_space(here: Path) -> object:
    found = os.statvfs(here)
    return [found.f_blocks > 0, found.f_bavail > 0]


@case
def a_database(here: Path) -> object:
    """Four processes write; nothing is lost and nothing is broken."""
    path = here / "db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (process INTEGER, number INTEGER)")
        database.commit()
    program = (
        "import sqlite3, sys\n"
        "d = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
        "for n in range(25): d.execute('INSERT INTO t VALUES (?, ?)', (int(sys.argv[2]), n))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, path, str(number)]) for number in range(4)]
    ended = [process.wait(120) for process in running]
    with contextlib.closing(sqlite3.connect(path)) as database:
        (check,) = database.execute("PRAGMA integrity_check").fetchone()
        (count,) = database.execute("SELECT count(*) FROM t").fetchone()
    return [ended, check, count]


@case
def a_tree_from_an_archive(here: Path) -> object:
    (here / "source" / "d" / "e").mkdir(parents=True)
    for number in range(100):
        (here / "source" / "d" / f"{number}").write_text(f"{number}\n" * number)
    (here / "source" / "d" / "e" / "link").symlink_to("target")
    (here / "source" / "d" / "run").touch(0o755)
    subprocess.run(["tar", "-C", here / "source", "-cf", here / "a.tar", "."], check=True)
    (here / "copy").mkdir()
    subprocess.run(["tar", "-C", here / "copy", "-xf", here / "a.tar"], check=True)
    return subprocess.run(["diff", "-r", "--no-dereference", here / "source", here / "copy"]).returncode


@case
def writers_side_by_side(here: Path) -> object:
    """Four processes write a file of 32 MiB, each its part."""
    part = 8 << 20
    (here / "f").touch()
    program = (
        "import os, sys\n"
        "d = os.open(sys.argv[1], os.O_WRONLY); n = int(sys.argv[2])\n"
        "for k in range(0, 8 << 20, 65536): os.pwrite(d, bytes([n]) * 65536, n * (8 << 20) + k)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, here / "f", str(number)]) for number in range(4)]
    ended = [process.wait(120) for process in running]
    data = (here / "f").read_bytes()
    return [ended, [data[n * part : (n + 1) * part] == bytes([n]) * part for n in range(4)]]


def main(directory: Path) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for name, function in CASES.items():
        here = directory / name
        here.mkdir()
        try:
            seen[name] = function(here)
        except Exception as error:  # noqa: BLE001 - what it is is the result
            seen[name] = f"{type(error).__name__}: {error}"
    return seen


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
