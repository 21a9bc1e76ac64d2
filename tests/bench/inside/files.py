"""What programs do with files, each as a number: how much of it a second."""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
#: What does not compress.
BLOCK = os.urandom(MIB)


def read(path: str, size: str) -> float:
    """MiB/s of so many MiB from the beginning of a file, 128 KiB at a time."""
    begin, left = time.perf_counter(), int(size) * MIB
    with Path(path).open("rb", buffering=0) as file:
        while left > 0 and (data := file.read(1 << 17)):
            left -= len(data)
    rate = int(size) / (time.perf_counter() - begin)
    assert left == 0, f"{path} has another size"
    return rate


def reread(path: str, size: str) -> float:
    """The same for the second time."""
    read(path, size)
    return read(path, size)


def write(path: str, size: str) -> float:
    """MiB/s of a new file, with fsync at the end."""
    begin = time.perf_counter()
    with Path(path).open("xb", buffering=0) as file:
        for _ in range(int(size)):
            file.write(BLOCK)
        os.fsync(file.fileno())
    # Closed, too: rclone's fsync does nothing, and its close waits for the server.
    rate = int(size) / (time.perf_counter() - begin)
    Path(path).unlink()
    return rate


def command(size: str, given: str, script: str) -> float:
    """MiB/s of a shell command that prints, or takes from a file, so many MiB."""
    begin = time.perf_counter()
    with Path(given).open("rb") as file:
        ran = subprocess.run(["sh", "-c", script], stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    rate = int(size) / (time.perf_counter() - begin)
    assert ran.returncode == 0, ran.stderr.decode("utf-8", "replace")
    return rate


def create(directory: str, count: str) -> float:
    """Files of 4 KiB a second, made one after the other."""
    here, data = Path(directory, f"create-{os.getpid()}"), BLOCK[:4096]
    here.mkdir()
    begin = time.perf_counter()
    for number in range(int(count)):
        (here / str(number)).write_bytes(data)
    rate = int(count) / (time.perf_counter() - begin)
    shutil.rmtree(here)
    return rate


def open_read(directory: str, count: str) -> float:
    """Files a second, opened and read, that were never listed."""
    begin = time.perf_counter()
    for number in range(int(count)):
        assert Path(directory, str(number)).read_bytes()
    return int(count) / (time.perf_counter() - begin)


def stat(directory: str, count: str) -> float:
    """``stat`` of files that were never listed, a second."""
    begin = time.perf_counter()
    for number in range(int(count)):
        Path(directory, str(number)).stat()
    return int(count) / (time.perf_counter() - begin)


def stat_beside(directory: str, count: str, function: str, source: str) -> tuple[float, float]:
    """Milliseconds of a ``stat`` while that function reads without end: the median, and what one in a hundred takes."""
    argv = [sys.executable, str(Path(__file__).parent), function, source]
    reader, times = subprocess.Popen(argv), []
    try:
        _wait_for(lambda: _taken(reader.pid) >= 4 * MIB, f"{source} gives nothing")
        taken, carried = _taken(reader.pid), _carried()
        for number in range(int(count)):
            begin = time.perf_counter()
            Path(directory, str(number)).stat()
            times.append(1000 * (time.perf_counter() - begin))
        _wait_for(lambda: _taken(reader.pid) > taken, f"{source} stopped")
        taken, carried = _taken(reader.pid) - taken, _carried() - carried
        assert carried > taken / 2, f"of {taken} bytes that were read, {carried} came from the server"
    finally:
        reader.kill()
        reader.wait()
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def read_on(path: str) -> None:
    """Read a file again and again until killed; what has been read is not kept in the cache."""
    with Path(path).open("rb", buffering=0) as file:
        while True:
            while file.read(1 << 17):
                os.posix_fadvise(file.fileno(), 0, file.tell(), os.POSIX_FADV_DONTNEED)
            file.seek(0)


def run_on(script: str) -> None:
    """Take what a shell command prints, again and again until killed."""
    while True:
        with subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout
            while os.read(process.stdout.fileno(), 1 << 17):
                pass
        assert process.returncode == 0, f"{script} ended with {process.returncode}"


def _taken(pid: int) -> int:
    """Bytes a process has been given by read(2)."""
    return int(Path(f"/proc/{pid}/io").read_text("ascii").split("rchar:", 1)[1].split()[0])


def _carried() -> int:
    """Bytes that have gone over loopback."""
    return int(Path("/proc/net/dev").read_text("ascii").split("lo:", 1)[1].split()[0])


def _wait_for(is_so: Callable[[], bool], problem: str) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end, problem
        time.sleep(0.01)


def walk(directory: str) -> float:
    """Entries a second of a tree, each with its status, as npm and du look at one."""
    begin, count = time.perf_counter(), 0
    for top, folders, files in os.walk(directory):
        for name in (*folders, *files):
            os.lstat(os.path.join(top, name))  # noqa: PTH118 - as little as can be beside the call
            count += 1
    assert count, f"{directory} is empty"
    return count / (time.perf_counter() - begin)


def run_in(directory: str, *argv: str) -> float:
    """Milliseconds of a command in a new directory there."""
    here = Path(directory, f"run-{os.getpid()}")
    here.mkdir()
    begin = time.perf_counter()
    ran = subprocess.run(argv, cwd=here, capture_output=True, text=True)
    elapsed = 1000 * (time.perf_counter() - begin)
    assert ran.returncode == 0, f"{argv}: {ran.stderr[-500:]}"
    shutil.rmtree(here)
    return elapsed


def sqlite(directory: str, count: str) -> float:
    """Transactions a second, each an insert, in a new database."""
    path = Path(directory, f"{os.getpid()}.db")
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("CREATE TABLE t (x)")
    begin = time.perf_counter()
    for number in range(int(count)):
        database.execute("INSERT INTO t VALUES (?)", (number,))
    rate = int(count) / (time.perf_counter() - begin)
    assert database.execute("SELECT count(*) FROM t").fetchone() == (int(count),)
    database.close()
    path.unlink()
    return rate
