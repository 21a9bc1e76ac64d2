"""Processes: how long a mount by hand takes, what a service uses, what the delaying proxy carries."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

MIB = 1 << 20


def sshfs(mountpoint: str, file: str, *argv: str) -> float:
    """Milliseconds of a command that mounts, until it answers or that file is read; it is unmounted again."""
    Path(mountpoint).mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    subprocess.run([*argv, mountpoint], check=True, stdin=subprocess.DEVNULL)
    os.stat(mountpoint)  # noqa: PTH116 - a bare call
    if file:
        assert Path(mountpoint, file).read_bytes()
    elapsed = 1000 * (time.perf_counter() - begin)
    _unmount(mountpoint)
    return elapsed


def sshfs_all(directory: str, count: str, *argv: str) -> float:
    """Milliseconds until so many such commands, begun at once, have mounted."""
    points = [Path(directory, str(number)) for number in range(int(count))]
    for point in points:
        point.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    running = [subprocess.Popen([*argv, str(point)], stdin=subprocess.DEVNULL) for point in points]
    failed = sum(process.wait() != 0 for process in running)
    for point in points:
        point.stat()
    elapsed = 1000 * (time.perf_counter() - begin)
    for point in points:
        _unmount(str(point))
    assert not failed, f"{failed} of {count} failed"
    return elapsed


def _unmount(mountpoint: str) -> None:
    """A mount may be looked at by somebody for a moment."""
    end = time.monotonic() + 10
    while subprocess.run(["umount", "--", mountpoint], stderr=subprocess.DEVNULL).returncode:
        assert time.monotonic() < end, f"{mountpoint} stays mounted"
        time.sleep(0.05)


def _members(unit: str) -> list[int]:
    """The main process of a unit and its descendants."""
    main = subprocess.run(["systemctl", "show", "-p", "MainPID", "--value", unit], capture_output=True, text=True)
    pids = [int(main.stdout)]
    assert pids[0], f"{unit} does not run"
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text("ascii").split())
    return pids


def memory(unit: str) -> float:
    """MiB of memory (PSS) of a unit's processes."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text("ascii") for pid in _members(unit)]
    lines = [line for rollup in rollups for line in rollup.splitlines() if line.startswith("Pss:")]
    return sum(int(line.split()[1]) for line in lines) / 1024


def processor(unit: str, seconds: str) -> float:
    """Per cent of one processor that a unit's processes, and those they start, use in so many seconds."""
    before, begin = _used(unit), time.monotonic()
    time.sleep(float(seconds))
    return 100 * (_used(unit) - before) / (time.monotonic() - begin)


def _used(unit: str) -> float:
    """Seconds until now, to the nanosecond; of processes that have ended to the hundredth."""
    seconds = 0.0
    for pid in _members(unit):
        ended = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[13:15]
        seconds += sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")
        tasks = Path(f"/proc/{pid}/task").iterdir()
        seconds += sum(int((task / "schedstat").read_text("ascii").split()[0]) for task in tasks) / 1e9
    return seconds


def stream(proxy: str, milliseconds: str, rate: str, size: str) -> float:
    """MiB/s of a plain TCP stream through the proxy, from its first byte on: what the proxy itself carries."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    with socket.create_server(("127.0.0.1", ports[1])) as source:
        argv = [sys.executable, proxy, str(ports[0]), str(ports[1]), str(float(milliseconds) / 2), rate]
        process = subprocess.Popen(argv)
        try:
            threading.Thread(target=_pour, args=(source, int(size)), daemon=True).start()
            return _drain(ports[0], int(size))
        finally:
            process.kill()
            process.wait()


def _pour(source: socket.socket, size: int) -> None:
    connection, _ = source.accept()
    with connection:
        block = bytes(MIB)
        for _ in range(size):
            connection.sendall(block)
        connection.recv(1)


def _drain(port: int, size: int) -> float:
    end = time.monotonic() + 10
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            assert time.monotonic() < end, "the proxy does not listen"
            time.sleep(0.02)
    with connection:
        left, buffer = size * MIB, bytearray(MIB)
        left -= connection.recv_into(buffer)
        begin = time.perf_counter()
        while left > 0 and (count := connection.recv_into(buffer)):
            left -= count
        assert left == 0, "the proxy has lost something"
        return size / (time.perf_counter() - begin)
