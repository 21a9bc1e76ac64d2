"""What is measured, and what legacyhost is to reach; the targets are ratios to a rival of the same run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .world import (
    BARE,
    FRESH,
    LEGACYHOST,
    LOCAL,
    LOOPBACK,
    NARROW,
    RCLONE,
    RCLONES,
    RELAYED,
    SFTP,
    SILENT,
    SSH,
    SSHFS,
    STUCK,
    UNIT,
    Line,
    World,
)

Measure = Callable[[World, str], float]
MOUNTS = (LEGACYHOST, SSHFS, *RCLONES)
PLUGINS = (LEGACYHOST, *RCLONES)
FILES_OF = (*MOUNTS, RELAYED, LOCAL)
HOP = (
    "what sshfs sends is looked at (chown=ignore), so one process more is woken for each request, which is what"
    f" {RELAYED} shows; over a line with a round trip it makes no difference (create-10ms)"
)
#: legacyhost itself, as it is before something is asked of it.
BEFORE = "before"
#: How many volumes are mounted at once.
MANY = 50
#: As Docker sends it.
PING = json.dumps(
    {
        "RequestMethod": "HEAD",
        "RequestUri": "/_ping",
        "RequestHeaders": {"User-Agent": "Docker-Client/20.10.24 (linux)"},
    }
)
LINES = {"0 ms": LOOPBACK, "10 ms": Line(10), "50 ms": Line(50), "10 ms and 12 MB/s": NARROW}


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
    #: How often at most, where once takes long or says enough.
    rounds: int = 99
    #: What stands in the way where a target is not met.
    limit: str = ""

    def compared(self) -> tuple[str, ...]:
        """The subjects its targets are about."""
        named = {LEGACYHOST, *(target.against for target in self.targets)}
        return tuple(subject for subject in self.subjects if self.targets and subject in named)


def _read(line: Line = LOOPBACK) -> Measure:
    def measure(world: World, subject: str) -> float:
        size = world.sizes.read if line == LOOPBACK else world.sizes.far[0 if line.delay < 20 else 1]
        if subject == SSH:
            return world.probe("files.command", size, "/dev/null", world.ssh(SSH, "cat data/big"))
        if subject == SFTP:
            return world.probe("files.command", size, "/dev/null", world.ssh(SFTP, "get data/big /dev/null"))
        return world.probe("files.read", f"{world.cold(subject, line)}/big", size)

    return measure


def _reread(world: World, subject: str) -> float:
    return world.probe("files.reread", f"{world.cold(subject)}/big", world.sizes.read)


def _write(line: Line = LOOPBACK) -> Measure:
    def measure(world: World, subject: str) -> float:
        size = world.sizes.write if line == LOOPBACK else world.sizes.write_far
        if subject == SSH:
            script = world.ssh(SSH, f"head -c {size}M >data/piped && sync data/piped && rm data/piped")
            return world.probe("files.command", size, f"{world.home}/data/big", script)
        return world.probe("files.write", f"{world.cold(subject, line)}/{world.name('new')}", size)

    return measure


def _small(function: str, folder: str) -> Measure:
    def measure(world: World, subject: str) -> float:
        count = [] if folder == "tree" else [world.sizes.small]
        return world.probe(f"files.{function}", f"{world.cold(subject)}/{folder}", *count)

    return measure


def _beside(line: Line, *, slowest: bool) -> Measure:
    """A small operation on a volume, while another one of the account reads; both numbers come of one measurement.

    ``ssh``: on a volume of sshfs's, while ssh reads as fast as the line allows, which sshfs does not where it is long.
    ``sshfs+fresh``: the same, on one that is asked again as soon as legacyhost asks again.
    """

    def measure(world: World, subject: str) -> float:
        own, other = ((subject, line, is_slowest) for is_slowest in (slowest, not slowest))
        if own not in world.kept:
            if subject in (SSH, FRESH):
                here, reader = (
                    world.cold(SSHFS if subject == SSH else FRESH, line),
                    ("files.run_on", world.cat("data/big", world.end(line))),
                )
            else:
                reader = ("files.read_on", f"{world.cold(subject, line, second=True)}/big")
                here = world.cold(subject, line)
            count = world.sizes.small if line == LOOPBACK else world.sizes.narrow
            found = world.probes("files.stat_beside", f"{here}/small", count, *reader)
            world.kept[own], world.kept[other] = reversed(found) if slowest else found
        return world.kept.pop(own)

    return measure


def _create_files(line: Line = LOOPBACK) -> Measure:
    def measure(world: World, subject: str) -> float:
        count = world.sizes.small // (10 if subject in RCLONES or line != LOOPBACK else 1)
        return world.probe("files.create", world.cold(subject, line), count)

    return measure


def _run(*argv: str) -> Measure:
    return lambda world, subject: world.probe("files.run_in", world.cold(subject, full=True), *argv)


def _sqlite(world: World, subject: str) -> float:
    return world.probe("files.sqlite", world.cold(subject, full=True), world.sizes.transactions)


def _mount(world: World, subject: str, *, is_first: bool, with_create: bool = False, file: str = "") -> float:
    """A volume that has never been mounted, of an account nobody has a connection to or of one with a mount."""
    if subject == UNIT:
        return world.probe("units.start", 1, "sandbox")
    if not is_first:
        world.cold(subject)
    end = world.account() if is_first else world.end()
    if subject == SSHFS:
        return world.probe("processes.sshfs", "/mnt/by-hand", file, *world.sshfs("" if is_first else "data", end))
    if is_first:
        world.machine.run(["install", "-d", "-o", end.user, f"/home/{end.user}/data"])
    name = world.name("mount")
    created = world.create(subject, name, end)
    elapsed = world.probe("calls.mount", world.socket(subject), name, file)
    world.probe("calls.unmount", world.socket(subject), name)
    world.probe("calls.remove", world.socket(subject), name)
    return elapsed + created * with_create


def _many(world: World, subject: str) -> float:
    if subject in (UNIT, BARE):
        return world.probe("units.start", MANY, "sandbox" if subject == UNIT else "")
    world.cold(subject)
    if subject == SSHFS:
        return world.probe("processes.sshfs_all", "/mnt/many", MANY, *world.sshfs("data", world.end()))
    _make_many(world)
    try:
        return world.probe("calls.mount_all", world.socket(subject), "many", MANY)
    finally:
        world.probe("calls.unmount_all", world.socket(subject), "many", MANY)


def _make_many(world: World) -> None:
    if world.is_first("many"):
        for number in range(MANY):
            world.create(LEGACYHOST, f"many{number}", world.end())


def _idle(world: World, subject: str) -> float:
    """While somebody has the mounts, as containers have them: elsewhere, in a mount namespace of its own."""
    _make_many(world)
    world.probe("calls.mount_all", world.socket(subject), "many", MANY)
    script = "mkdir -p /mnt/container; mount --rbind /run/legacyhost/sshfs/mounts /mnt/container; exec sleep infinity"
    container = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
    world.machine.run(["systemd-run", "--quiet", "--collect", "--unit=bench-container", *container])
    try:
        world.machine.run(["sleep", "35"])  # until the service has seen who uses what
        found = world.probe("processes.processor", "legacyhost@sshfs.service", world.sizes.idle)
        mounted = world.machine.run("grep -c '^legacyhost:sshfs:many.* fuse.sshfs ' /proc/mounts", check=False).stdout
        assert int(mounted) == MANY, f"{mounted.strip()} of {MANY} volumes are still mounted"
        return found
    finally:
        world.machine.run(["systemctl", "stop", "bench-container"])
        world.probe("calls.unmount_all", world.socket(subject), "many", MANY)


def _unmount(world: World, subject: str) -> float:
    world.place(subject)
    name = world.name("unmount")
    world.create(subject, name, world.end())
    world.probe("calls.mount", world.socket(subject), name)
    elapsed = world.probe("calls.unmount", world.socket(subject), name)
    world.probe("calls.remove", world.socket(subject), name)
    return elapsed


def _calls(rpc: str, *, keep: bool) -> Measure:
    """Of a volume that is mounted."""

    def measure(world: World, subject: str) -> float:
        world.place(subject)
        keeping = "keep" if keep else "close"
        return world.probe("calls.rate", world.socket(subject), rpc, '{"Name":"far0"}', world.sizes.calls, keeping)

    return measure


def _authorizations(*, keep: bool) -> Measure:
    """Of /_ping, by a policy of a page; Docker makes a connection for each, and asks before and after every request."""

    def measure(world: World, _subject: str) -> float:
        socket, keeping = world.socket(world.guard()), "keep" if keep else "close"
        return world.probe("calls.rate", socket, "AuthZPlugin.AuthZReq", PING, world.sizes.calls, keeping)

    return measure


def _list(count: int) -> Measure:
    def measure(world: World, subject: str) -> float:
        plugin = world.plugin(subject, count, stuck=STUCK if subject == LEGACYHOST else 0)
        number = max(world.sizes.calls * 20 // count, 20)
        return world.probe("calls.rate", world.socket(plugin), "VolumeDriver.List", "{}", number, "keep")

    return measure


def _hanging(world: World, subject: str) -> float:
    address = world.socket(world.plugin(LEGACYHOST, 1000, STUCK))
    arguments = [address, "v7", world.sizes.calls // 2]
    if subject == BEFORE:
        return world.probe("calls.slowest", *arguments)
    return world.probe("calls.slowest_beside", *arguments, SILENT, "stuck", STUCK)


def _create_volume(world: World, subject: str) -> float:
    address = world.socket(world.plugin(LEGACYHOST, 1 if subject == BEFORE else 10_000))
    options = json.dumps(world.options(LEGACYHOST, "data", world.end()))
    elapsed = 0.0
    for name in ("warm", "new"):  # the first one of a process loads what it needs
        elapsed = world.probe("calls.create", address, name, options)
        world.probe("calls.remove", address, name)
    return elapsed


def _start(count: int, *, how: str = "terminate") -> Measure:
    """A plugin whose record has so many volumes, and which was ended like that the time before."""

    def measure(world: World, subject: str) -> float:
        known = 0 if subject == BEFORE else count
        start = ["calls.start", "/run/bench.sock", how, *world.command(subject, known)]
        if subject not in RCLONES:  # of which the second is no other than the first, and takes half a minute
            world.probe(*start)
        return world.probe(*start)

    return measure


def _memory(calls: int) -> Measure:
    def measure(world: World, subject: str) -> float:
        own = LEGACYHOST if subject == BEFORE else subject
        with world.alone(own) as unit:
            if calls and subject != BEFORE:
                world.probe("calls.use", world.socket(world.plugin(own, 1)), "v0", calls)
            world.machine.run(["sleep", "2"])
            return world.probe("processes.memory", unit)

    return measure


def _proxy(world: World, subject: str) -> float:
    line = LINES[subject]
    size = 24 if line.rate else world.sizes.read * 2
    return world.probe("processes.stream", "/root/delay.py", line.delay, line.rate, size)


def _at_least(ratio: float, against: str = SSHFS) -> Target:
    return Target("≥", ratio, against)


def _at_most(ratio: float, against: str = "") -> Target:
    return Target("≤", ratio, against)


DATA = (
    Row(
        *("read", "sequential read", "MiB/s", (*MOUNTS, SSH, SFTP, LOCAL), _read()),
        targets=[_at_least(1.6), _at_least(0.9, SSH)],
        limit="OpenSSH's own sftp, without FUSE, does not reach that either: ssh cat has no questions to ask",
    ),
    Row("read-10ms", "sequential read, 10 ms round trip", "MiB/s", MOUNTS, _read(Line(10)), [_at_least(5)]),
    Row("read-50ms", "sequential read, 50 ms round trip", "MiB/s", MOUNTS, _read(Line(50)), [_at_least(5)]),
    Row(
        *("write", "sequential write, fsync at the end", "MiB/s", (*MOUNTS, RELAYED, SSH, LOCAL), _write()),
        targets=[_at_least(1.2)],
        limit="what is gained is the faster cipher's; where the processor does both ciphers equally fast, it is little",
    ),
    Row(
        *("write-10ms", "sequential write, 10 ms round trip", "MiB/s", (*MOUNTS, RELAYED), _write(Line(10))),
        targets=[_at_least(1.0)],
        limit=f"what is written is copied once more on its way, as {RELAYED} shows",
    ),
    Row("reread", "re-read of an unchanged file", "MiB/s", (*MOUNTS, LOCAL), _reread, [_at_least(20)]),
    Row(
        *("proxy", "what the delaying proxy itself carries", "MiB/s", tuple(LINES), _proxy),
        rounds=3,
    ),
)

FILES = (
    Row(
        *("create", "files of 4 KiB created", "files/s", FILES_OF, _create_files()),
        targets=[_at_least(1.0), _at_least(10, RCLONE)],
        limit=f"{HOP}. Against rclone: sshfs by hand is the measure of what there is to be had",
    ),
    Row(
        *("create-10ms", "files of 4 KiB created, 10 ms round trip", "files/s", (LEGACYHOST, SSHFS, RELAYED)),
        _create_files(Line(10)),
        rounds=3,
    ),
    Row(
        *("open-read", "small files opened and read", "files/s", FILES_OF, _small("open_read", "small")),
        targets=[_at_least(1.0)],
        limit=HOP,
    ),
    Row("stat", "stat of small files", "files/s", FILES_OF, _small("stat", "small"), [_at_least(1.0)], limit=HOP),
    Row(
        "walk",
        "tree walk, as npm makes one",
        "entries/s",
        FILES_OF,
        _small("walk", "tree"),
        [_at_least(1.0)],
        limit=HOP,
    ),
    Row(
        "clone",
        "git clone of 600 files",
        "ms",
        (*MOUNTS, RELAYED),
        _run("git", "clone", "-q", "--no-hardlinks", "/root/repository", "clone"),
        [_at_most(1.0, SSHFS)],
    ),
    Row(
        "tar",
        "tar x of 600 files",
        "ms",
        (*MOUNTS, RELAYED),
        _run("tar", "xof", "/root/tree.tar"),
        [_at_most(1.0, SSHFS)],
        limit=HOP,
    ),
    Row(
        *("sqlite", "SQLite transactions", "transactions/s", (*MOUNTS, RELAYED), _sqlite),
        targets=[_at_least(1.0)],
        limit=HOP,
    ),
    *(
        Row(
            f"beside{key}{'-p99' if slowest else ''}",
            f"{'p99' if slowest else 'median'} of stat while another volume is read{text}",
            *("ms", (LEGACYHOST, SSHFS, SSH, FRESH), _beside(line, slowest=slowest)),
            # sshfs by hand leaves most of a long line unused; what waits in its queue, any faster reader fills.
            targets=[_at_most(1.5, SSH if line.rate else SSHFS)],
            rounds=3,
            limit=f"one stat in a hundred takes two questions, and each waits where all wait, as {FRESH} shows"
            if line.rate
            else "beside a reader that is twice as fast as sshfs by hand, on the same two processors",
        )
        for key, text, line in (("", "", LOOPBACK), ("-10ms", " (10 ms, 12 MB/s)", NARROW))
        for slowest in (False, True)
    ),
)

MOUNTING = (
    Row(
        *("mount-first", "Mount, first volume of an account", "ms", (*MOUNTS, UNIT)),
        lambda world, subject: _mount(world, subject, is_first=True),
        [_at_most(1.15, SSHFS)],
        limit=f"a login as by hand comes behind what {UNIT} shows",
    ),
    Row(
        *("mount-further", "Mount, further volume of the account", "ms", (*MOUNTS, UNIT)),
        lambda world, subject: _mount(world, subject, is_first=False),
        [_at_most(0.15, SSHFS)],
        limit=f"{UNIT} is most of it",
    ),
    Row(
        *("mount-read", "Mount, further volume, and a first file read", "ms", MOUNTS),
        lambda world, subject: _mount(world, subject, is_first=False, file="small/0"),
    ),
    Row(
        *("mount-create", "Create and Mount, first volume", "ms", MOUNTS),
        lambda world, subject: _mount(world, subject, is_first=True, with_create=True),
    ),
    Row(
        *("mount-50", f"{MANY} volumes mounted at once", "ms", (LEGACYHOST, SSHFS, UNIT, BARE), _many),
        targets=[_at_most(0.3, SSHFS)],
        rounds=3,
        limit="both processors are at work all the time. What is missing is what the sandboxes take: what"
        f" {UNIT} has more than {BARE}",
    ),
    Row("unmount", "Unmount", "ms", PLUGINS, _unmount, [_at_most(50)]),
)

CALLS = (
    Row(
        *("get", "Get, one keep-alive connection", "calls/s", PLUGINS, _calls("VolumeDriver.Get", keep=True)),
        targets=[_at_least(0.7, RCLONE)],
    ),
    Row(
        *("path", "Path, one keep-alive connection", "calls/s", PLUGINS, _calls("VolumeDriver.Path", keep=True)),
        targets=[_at_least(0.7, RCLONE)],
    ),
    Row("get-each", "Get, a connection for each call", "calls/s", PLUGINS, _calls("VolumeDriver.Get", keep=False)),
    Row("authz", "AuthZReq of /_ping, one keep-alive connection", "calls/s", (LEGACYHOST,), _authorizations(keep=True)),
    Row(
        *("authz-each", "AuthZReq of /_ping, a connection for each call", "calls/s", (LEGACYHOST,)),
        _authorizations(keep=False),
    ),
    Row(
        "get-hanging",
        f"p99 of Get beside {STUCK} hanging Mounts",
        "ms",
        (LEGACYHOST, BEFORE),
        _hanging,
        [_at_most(2, BEFORE)],
    ),
    Row("list-1000", "List of 1000 volumes", "calls/s", PLUGINS, _list(1000), [_at_least(4, RCLONE)]),
    Row("list-10000", "List of 10,000 volumes", "calls/s", PLUGINS, _list(10_000), [_at_least(10, RCLONE)]),
    Row(
        *("create-10000", "Create beside 10,000 volumes", "ms", (LEGACYHOST, BEFORE), _create_volume),
        targets=[_at_most(1.2, BEFORE)],
    ),
    Row("start", "exec to the first answered Activate", "ms", PLUGINS, _start(0), [_at_most(150)]),
    Row(
        *("start-10000", "exec to Activate with 10,000 volumes known", "ms", (*PLUGINS, BEFORE), _start(10_000)),
        targets=[_at_most(1.1, BEFORE)],
        rounds=3,
    ),
    Row(
        *("start-killed", "the same after it was killed", "ms", (LEGACYHOST, BEFORE), _start(10_000, how="kill")),
        rounds=3,
        limit="record and backup are read and compared before anything is answered",
    ),
    Row("memory", "memory (PSS), idle", "MiB", PLUGINS, _memory(0), [_at_most(30)]),
    Row(
        *("memory-used", "memory after 10,000 calls", "MiB", (*PLUGINS, BEFORE), _memory(10_000)),
        targets=[_at_most(1.1, BEFORE)],
    ),
    Row(
        *("idle", f"processor of an idle service with {MANY} mounts", "%", (LEGACYHOST,), _idle, [_at_most(0.1)]),
        rounds=1,
    ),
)

#: What is measured, by what it has to do with.
GROUPS = {"throughput": DATA, "files": FILES, "mounts": MOUNTING, "calls": CALLS}
ROWS = tuple(row for rows in GROUPS.values() for row in rows)
