"""What is measured, and what legacyhost is to reach; the targets are ratios to a rival of the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .world import BIG, FAR, LEGACYHOST, LOCAL, RCLONE, RCLONE_SID, SMALL, SSH, SSHFS, World

Measure = Callable[[World, str], float]
RCLONES = (RCLONE, RCLONE_SID)
MOUNTS = (LEGACYHOST, SSHFS, *RCLONES)


@dataclass(frozen=True)
class Target:
    """``legacyhost`` is to be at least, or at most, ``ratio`` times what ``against`` has; without that, so much."""

    sign: str
    ratio: float
    against: str = ""


@dataclass(frozen=True)
class Row:
    """One thing that is measured. ``unit`` says which way is better: what ends in "/s" shall be large."""

    key: str
    text: str
    unit: str
    subjects: Sequence[str]
    measure: Measure
    targets: Sequence[Target] = ()
    #: Whether it is part of a quick run; how often at most, where once takes long.
    quick: bool = True
    rounds: int = 99


def _read(distance: int, size: int, name: str = "big") -> Measure:
    def measure(world: World, subject: str) -> float:
        if subject == SSH:
            return world.probe("command", size, *world.ssh("cat", f"data/{name}"))
        place = world.place(subject, distance)
        world.forget()
        return world.probe("read", f"{place}/{name}", size)

    return measure


def _reread(world: World, subject: str) -> float:
    place = world.place(subject)
    world.probe("read", f"{place}/big", BIG)
    return world.probe("read", f"{place}/big", BIG)


def _write(distance: int, size: int) -> Measure:
    return lambda world, subject: world.probe("write", f"{world.place(subject, distance)}/new-{subject}", size)


def _cold(name: str, folder: str, *arguments: object) -> Measure:
    """With nothing kept by the kernel."""

    def measure(world: World, subject: str) -> float:
        place = world.place(subject)
        world.forget()
        return world.probe(name, f"{place}/{folder}".rstrip("/"), *arguments)

    return measure


def _first_mount(world: World, subject: str) -> float:
    """Of an account nobody has a connection to."""
    if subject == SSHFS:
        return _by_hand(world)
    world.create_once(subject, "first")
    elapsed = world.probe("mount", world.socket(subject), "first")
    world.probe("unmount", world.socket(subject), "first")
    return elapsed


def _by_hand(world: World) -> float:
    world.machine.run(["mkdir", "-p", "/mnt/by-hand"])
    elapsed = world.probe("sshfs", "/mnt/by-hand", *world.sshfs("data"))
    world.machine.run(["umount", "/mnt/by-hand"])
    return elapsed


def _further_mount(world: World, subject: str) -> float:
    """While another volume of the account is mounted."""
    if subject == SSHFS:
        return _by_hand(world)
    world.place(subject)
    return _first_mount(world, subject)


def _many(world: World, subject: str) -> float:
    count = 50
    if subject == SSHFS:
        world.machine.run(["mkdir", "-p", "/mnt/many"])
        return world.probe("sshfs_all", "/mnt/many", count, *world.sshfs("data"))
    for number in range(count):
        world.create_once(subject, f"many{number}")
    elapsed = world.probe("mount_all", world.socket(subject), "many", count)
    for number in range(count):
        world.probe("unmount", world.socket(subject), f"many{number}")
    return elapsed


def _unmount(world: World, subject: str) -> float:
    _first_mount(world, subject)
    world.probe("mount", world.socket(subject), "first")
    return world.probe("unmount", world.socket(subject), "first")


def _calls(rpc: str, count: int, keep: str) -> Measure:
    def measure(world: World, subject: str) -> float:
        place = world.place(subject)
        body = f'{{"Name":"{place.rpartition("/")[2]}"}}'
        return world.probe("calls", world.socket(subject), rpc, body, count, keep)

    return measure


def _memory(calls: int) -> Measure:
    def measure(world: World, subject: str) -> float:
        if calls:
            _calls("VolumeDriver.Get", calls, "close")(world, subject)
        unit = "legacyhost@sshfs.service" if subject == LEGACYHOST else f"{subject}.service"
        return world.probe("memory", unit)

    return measure


def _start(world: World, subject: str) -> float:
    """A plugin of its own, without volumes."""
    if subject == LEGACYHOST:
        argv = ["/usr/bin/legacyhost", "serve", "bench"]
        world.machine.run(["cp", "-n", "/etc/legacyhost/sshfs.toml", "/etc/legacyhost/bench.toml"])
        return world.probe("start", "/run/bench.sock", *argv)
    argv = [f"/opt/{subject}", "serve", "docker", "--config=/dev/null", "--base-dir=/mnt/start"]
    return world.probe("start", "/run/bench.sock", *argv, "--cache-dir=/var/cache/start")


def _idle(world: World, subject: str) -> float:
    world.place(subject)
    return world.probe("processor", "legacyhost@sshfs.service", 20)


def _at_least(ratio: float, against: str = SSHFS) -> Target:
    return Target("≥", ratio, against)


def _at_most(ratio: float, against: str = "") -> Target:
    return Target("≤", ratio, against)


ROWS = (
    Row(
        "read", "sequential read", "MiB/s", (*MOUNTS, SSH, LOCAL), _read(0, BIG), [_at_least(1.6), _at_least(0.9, SSH)]
    ),
    *(
        Row(
            f"read-{far}ms",
            f"sequential read, {far} ms round trip",
            "MiB/s",
            MOUNTS,
            _read(far, FAR, "medium"),
            [_at_least(5)],
        )
        for far in (10, 50)
    ),
    Row("write", "sequential write, fsync at the end", "MiB/s", (*MOUNTS, LOCAL), _write(0, 128), [_at_least(1.2)]),
    Row("write-10ms", "the same, 10 ms round trip", "MiB/s", (LEGACYHOST, SSHFS), _write(10, 32), [_at_least(1.0)]),
    Row("reread", "re-read of an unchanged file", "MiB/s", (LEGACYHOST, SSHFS), _reread, [_at_least(20)]),
    Row(
        "create",
        "files of 4 KiB created",
        "files/s",
        MOUNTS,
        lambda world, subject: world.probe("create", world.place(subject), 20 if subject in RCLONES else 300),
        [_at_least(1.0), _at_least(10, RCLONE)],
    ),
    Row("open-read", "small files opened and read", "files/s", MOUNTS, _cold("open_read", "small"), [_at_least(1.0)]),
    Row("stat", "files looked at", "files/s", MOUNTS, _cold("stat", "looked", SMALL), [_at_least(1.0)]),
    Row("walk", "tree walk, as npm makes one", "entries/s", MOUNTS, _cold("walk", "tree"), [_at_least(1.0)]),
    Row(
        "tar",
        "tar x of 600 files",
        "runs/s",
        (LEGACYHOST, SSHFS),
        lambda world, subject: world.probe("run_in", world.place(subject), "tar", "xof", "/root/tree.tar"),
        [_at_least(1.0)],
    ),
    Row(
        "clone",
        "git clone of 600 files",
        "runs/s",
        (LEGACYHOST, SSHFS),
        lambda world, subject: world.probe(
            "run_in", world.place(subject), "git", "clone", "-q", "--no-hardlinks", "/root/repository", "clone"
        ),
        [_at_least(1.0)],
    ),
    Row(
        "sqlite",
        "SQLite transactions",
        "transactions/s",
        (LEGACYHOST, SSHFS),
        lambda world, subject: world.probe("sqlite", world.place(subject), 100),
        [_at_least(1.0)],
    ),
    Row(
        "mount-first",
        "Mount, first volume of an account",
        "ms",
        (LEGACYHOST, SSHFS, *RCLONES),
        _first_mount,
        [_at_most(1.15, SSHFS)],
    ),
    Row("mount-further", "Mount, further volume", "ms", (LEGACYHOST, SSHFS), _further_mount, [_at_most(0.15, SSHFS)]),
    Row(
        "mount-50",
        "50 volumes at once",
        "ms",
        (LEGACYHOST, SSHFS),
        _many,
        [_at_most(0.3, SSHFS)],
        quick=False,
        rounds=3,
    ),
    Row("unmount", "Unmount", "ms", (LEGACYHOST, *RCLONES), _unmount, [_at_most(50)]),
    Row(
        "get",
        "Get, one connection",
        "calls/s",
        (LEGACYHOST, *RCLONES),
        _calls("VolumeDriver.Get", 2000, "keep"),
        [_at_least(0.7, RCLONE)],
    ),
    Row(
        "path",
        "Path, one connection",
        "calls/s",
        (LEGACYHOST, *RCLONES),
        _calls("VolumeDriver.Path", 2000, "keep"),
        [_at_least(0.7, RCLONE)],
    ),
    Row(
        "path-each",
        "Path, a connection for each call",
        "calls/s",
        (LEGACYHOST, *RCLONES),
        _calls("VolumeDriver.Path", 2000, "close"),
    ),
    Row("start", "exec to the first answered Activate", "ms", (LEGACYHOST, *RCLONES), _start, [_at_most(150)]),
    Row("memory", "memory (PSS), idle", "MiB", (LEGACYHOST, *RCLONES), _memory(0), [_at_most(30)]),
    Row(
        "memory-used",
        "memory after 10,000 calls",
        "MiB",
        (LEGACYHOST, *RCLONES),
        _memory(10_000),
        quick=False,
        rounds=1,
    ),
    Row("idle", "processor used while idle", "%", (LEGACYHOST,), _idle, [_at_most(0.1)], rounds=1),
)
