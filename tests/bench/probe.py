"""What is measured, as a program of its own inside the machine: ``probe.py NAME [ARGUMENT…]`` prints one number.

Only the standard library: it runs with whatever Python the machine has.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

MIB = 1 << 20
BLOCK = os.urandom(MIB)


def _mebibytes_a_second(size: int, begin: float) -> float:
    return size / (time.perf_counter() - begin)


def read(path: str, size: str) -> float:
    """MiB/s, from the beginning to the end of a file, 128 KiB at a time."""
    begin, left = time.perf_counter(), int(size) * MIB
    with Path(path).open("rb", buffering=0) as file:
        while data := file.read(1 << 17):
            left -= len(data)
    assert left == 0, "the file has another size"
    return _mebibytes_a_second(int(size), begin)


def write(path: str, size: str) -> float:
    """MiB/s, with fsync at the end."""
    begin = time.perf_counter()
    with Path(path).open("wb", buffering=0) as file:
        for _ in range(int(size)):
            file.write(BLOCK)
        os.fsync(file.fileno())
    rate = _mebibytes_a_second(int(size), begin)
    Path(path).unlink()
    return rate


def command(size: str, *argv: str) -> float:
    """MiB/s of a command that prints so many MiB."""
    begin = time.perf_counter()
    ran = subprocess.run(argv, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    assert ran.returncode == 0, argv
    return _mebibytes_a_second(int(size), begin)


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


def open_read(directory: str) -> float:
    """Files of a directory a second, opened and read."""
    names = sorted(os.listdir(directory))  # noqa: PTH208 - names
    begin = time.perf_counter()
    for name in names:
        Path(directory, name).read_bytes()
    return len(names) / (time.perf_counter() - begin)


def stat(directory: str, count: str) -> float:
    """``stat`` of files that were never listed, a second."""
    begin = time.perf_counter()
    for number in range(int(count)):
        Path(directory, str(number)).stat()
    return int(count) / (time.perf_counter() - begin)


def walk(directory: str) -> float:
    """Entries a second of a tree, each with its status, as npm and du look at one."""
    begin, count = time.perf_counter(), 0
    for top, folders, files in os.walk(directory):
        for name in (*folders, *files):
            os.lstat(os.path.join(top, name))  # noqa: PTH118 - as little as can be beside the call
            count += 1
    return count / (time.perf_counter() - begin)


def run_in(directory: str, *argv: str) -> float:
    """How often a second a command could be run in a new directory there."""
    here = Path(directory, f"run-{os.getpid()}")
    here.mkdir()
    begin = time.perf_counter()
    ran = subprocess.run(argv, cwd=here, capture_output=True, text=True)
    rate = 1 / (time.perf_counter() - begin)
    assert ran.returncode == 0, f"{argv}: {ran.stderr[-500:]}"
    shutil.rmtree(here)
    return rate


def sqlite(directory: str, count: str) -> float:
    """Transactions a second, each an insert."""
    path = Path(directory, f"{os.getpid()}.db")
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute("CREATE TABLE t (x)")
        begin = time.perf_counter()
        for number in range(int(count)):
            database.execute("INSERT INTO t VALUES (?)", (number,))
        rate = int(count) / (time.perf_counter() - begin)
    database.close()
    path.unlink()
    return rate


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _call(connection: _Connection, rpc: str, body: object, keep: bool) -> bytes:
    headers = {"Connection": "keep-alive"} if keep else {"Connection": "close"}
    connection.request("POST", f"/{rpc}", json.dumps(body), headers)
    reply = connection.getresponse()
    content = reply.read()
    assert reply.status == 200, content
    return content


def mount(plugin: str, name: str, mount_id: str = "bench") -> float:
    """Milliseconds of one call of Mount."""
    return _milliseconds(plugin, "VolumeDriver.Mount", {"Name": name, "ID": mount_id})


def unmount(plugin: str, name: str, mount_id: str = "bench") -> float:
    """Milliseconds of one call of Unmount."""
    return _milliseconds(plugin, "VolumeDriver.Unmount", {"Name": name, "ID": mount_id})


def volume(plugin: str, name: str, *options: str) -> float:
    """Milliseconds of one call of Create."""
    opts = dict(option.split("=", 1) for option in options)
    return _milliseconds(plugin, "VolumeDriver.Create", {"Name": name, "Opts": opts})


def _milliseconds(plugin: str, rpc: str, body: object) -> float:
    begin = time.perf_counter()
    _call(_Connection(plugin), rpc, body, keep=False)
    return 1000 * (time.perf_counter() - begin)


def mount_all(plugin: str, prefix: str, count: str) -> float:
    """Milliseconds until all of so many volumes, asked for at once, are mounted."""
    threads = [threading.Thread(target=mount, args=(plugin, f"{prefix}{n}")) for n in range(int(count))]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1000 * (time.perf_counter() - begin)


def sshfs(mountpoint: str, *argv: str) -> float:
    """Milliseconds of a command that mounts, until the mount has answered."""
    begin = time.perf_counter()
    subprocess.run([*argv, mountpoint], check=True, stdin=subprocess.DEVNULL)
    os.statvfs(mountpoint)
    return 1000 * (time.perf_counter() - begin)


def sshfs_all(directory: str, count: str, *argv: str) -> float:
    """Milliseconds until so many such commands, begun at once, have mounted."""
    points = [Path(directory, str(number)) for number in range(int(count))]
    for point in points:
        point.mkdir(exist_ok=True)
    begin = time.perf_counter()
    running = [subprocess.Popen([*argv, str(point)], stdin=subprocess.DEVNULL) for point in points]
    assert not any(process.wait() for process in running)
    elapsed = 1000 * (time.perf_counter() - begin)
    for point in points:
        subprocess.run(["umount", "--", str(point)], check=True)
    return elapsed


def calls(plugin: str, rpc: str, body: str, count: str, keep: str) -> float:
    """Calls a second, on one connection or each on its own."""
    connection, content = _Connection(plugin), json.loads(body)
    begin = time.perf_counter()
    for _ in range(int(count)):
        _call(connection, rpc, content, keep == "keep")
        if keep != "keep":
            connection.close()
    return int(count) / (time.perf_counter() - begin)


def slowest(plugin: str, rpc: str, body: str, count: str) -> float:
    """Milliseconds that one call in a hundred takes or more, each on a connection of its own."""
    content, times = json.loads(body), []
    for _ in range(int(count)):
        begin = time.perf_counter()
        _call(_Connection(plugin), rpc, content, keep=False)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.quantiles(times, n=100)[98]


def start(address: str, *argv: str) -> float:
    """Milliseconds from the start of a plugin until it has answered Activate; its socket is there before."""
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        shell = ["sh", "-c", 'exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"', "sh", *argv]
        begin = time.perf_counter()
        nowhere = subprocess.DEVNULL
        with subprocess.Popen(shell, stdin=listener.fileno(), stdout=nowhere, stderr=nowhere) as process:
            try:
                _call(_Connection(address), "Plugin.Activate", {}, keep=False)
                return 1000 * (time.perf_counter() - begin)
            finally:
                process.terminate()


def memory(unit: str) -> float:
    """MiB of memory (PSS) of a unit's processes."""
    main = subprocess.run(["systemctl", "show", "-p", "MainPID", "--value", unit], capture_output=True, text=True)
    pids = [main.stdout.strip()]
    for pid in pids:
        pids += Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def processor(unit: str, seconds: str) -> float:
    """Per cent of one processor that a unit's processes use in so many seconds."""

    def used() -> float:
        main = subprocess.run(["systemctl", "show", "-p", "MainPID", "--value", unit], capture_output=True, text=True)
        pids = [main.stdout.strip()]
        for pid in pids:
            pids += Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        stats = [Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split() for pid in pids]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")

    before = used()
    time.sleep(float(seconds))
    return 100 * (used() - before) / float(seconds)


def checksum(path: str) -> float:
    """Of a file, so that what was measured was the file."""
    return float(int(hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12], 16))


if __name__ == "__main__":
    print(globals()[sys.argv[1]](*sys.argv[2:]))
