"""Where a path of this host leads: what dockerd would mount, found out without touching what may hang.

The way is gone part by part, with lstat and readlink, and ends at a mount of a file system that is not local: a look
at one that is dead would take as long as it is dead. What is mounted is read from mountinfo.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from legacyhost import standpoint
from legacyhost.mounts import mountinfo
from legacyhost.wire import printable

#: File systems whose answer waits for nobody. /proc is none of them: its links lead each process elsewhere.
_LOCAL = """
    bcachefs binfmt_misc bpf btrfs cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs erofs exfat ext2 ext3 ext4
    f2fs fusectl hugetlbfs iso9660 jfs mqueue msdos nsfs ntfs3 overlay pstore ramfs reiserfs rootfs securityfs
    squashfs sysfs tmpfs tracefs udf ufs vfat xfs zfs
"""
LOCAL = frozenset(_LOCAL.split())
#: The service has one of its own (PrivateDevices=), so what is in the host's cannot be seen.
DEVICES = "/dev"
#: Symbolic links on one way, as in the kernel (path_resolution(7)).
MOST_LINKS = 40
#: Characters of a path, as in the kernel, and directories on one way.
LONGEST, MOST_STEPS = 4096, 500
#: Who has these has the host, or what this policy is made of.
DANGEROUS = (
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/podman",
    "/run/legacyhost",
    "/etc/docker",
    "/etc/legacyhost",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/legacyhost",
)


class Unsettled(Exception):
    """Where it leads cannot be found out; the text says why."""


@dataclass(frozen=True)
class Place:
    """``path`` without links; ``mount`` is where a file system begins behind which nobody has looked, or ""."""

    path: str
    mount: str = ""


def resolve(path: str, kind: Callable[[str], str] | None = None) -> Place:
    """Where an absolute path leads. What does not exist is what it says: dockerd makes directories. Raises Unsettled.

    ``kind`` tells the type of the file system that is mounted on a path, "" where none is.
    """
    if not path.startswith("/") or "\0" in path:
        raise Unsettled("it is no absolute path")
    if len(path) > LONGEST:
        raise Unsettled("it is longer than a path can be")
    if not standpoint.is_here() and not is_within(_clean(path), DEVICES):
        raise Unsettled(
            "this Docker is on another host than the plugin, which cannot see where that leads ('mounts = true' under"
            " [listen] would say that it can)"
        )
    kind = kind or _kind
    if kind("/") not in (*LOCAL, ""):
        return Place(_clean(path), "/")
    left = _parts(_clean(path))  # dockerd settles .. before it looks at any link
    here, links, steps = "/", 0, 0
    while left:
        name = left.pop(0)
        steps += 1
        if steps > MOST_STEPS:
            raise Unsettled(f"it goes through more than {MOST_STEPS} directories")
        if name == "..":
            here = posixpath.dirname(here)
            continue
        there = posixpath.join(here, name)
        if there == DEVICES or ((found := kind(there)) and found not in LOCAL):
            return Place(_clean(posixpath.join(there, *left)), there)
        target = _link(there)
        if target is None:
            here = there
            continue
        links += 1
        if links > MOST_LINKS or len(target) + sum(map(len, left)) > 16384:
            raise Unsettled("it has too many symbolic links")
        left = _parts(target) + left
        here = "/" if target.startswith("/") else here
    return Place(here)


def closed_directory(path: str) -> str:
    """The first directory on the way into which the service may not look, or "": it is root without root's rights."""
    ways = [*reversed(Path(path).parents), Path(path)]
    try:
        for way in ways:
            found = way.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid != 0 and not found.st_mode & stat.S_IXOTH:
                return str(way)
    except OSError:
        return ""  # not there yet
    return ""


def is_within(path: str, directory: str) -> bool:
    return directory == "/" or path == directory or path.startswith(f"{directory}/")


def endangered(path: str) -> Sequence[str]:
    """The dangerous places that are in a place, or that it is in, also where they are links to elsewhere."""
    return [
        place
        for named in DANGEROUS
        for place in dict.fromkeys((named, _settled(named)))
        if is_within(place, path) or is_within(path, place)
    ]


def _settled(path: str) -> str:
    try:
        return resolve(path).path
    except Unsettled:
        return path


def _link(path: str) -> str | None:
    """What a symbolic link says; None for what is none, or is not there. Raises Unsettled."""
    try:
        return str(Path(path).readlink()) if stat.S_ISLNK(os.lstat(path).st_mode) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise Unsettled(
            f"the plugin may not look at {printable(path)}: what is above it has to be open to others"
        ) from error
    except (OSError, ValueError) as error:
        raise Unsettled(f"it cannot be looked at ({getattr(error, 'strerror', '') or 'no path'})") from error


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _clean(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")


def _kind(path: str) -> str:
    try:
        mount = mountinfo.top(path)
    except (OSError, ValueError) as error:
        raise Unsettled("what is mounted cannot be read") from error
    return mount.kind if mount else ""
