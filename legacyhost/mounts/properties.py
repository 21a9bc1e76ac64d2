"""What units of mounts and of what they share are made with: systemd.exec(5), systemd.service(5), in D-Bus's types.

Each entry is a name, then signature and value, as org.freedesktop.systemd1(5) has them.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path

from legacyhost.mounts.manager import Property
from legacyhost.mounts.tools import SCRIPT, SHELL

#: Capabilities by number (linux/capability.h).
CAP_SYS_ADMIN = 21
#: What systemd takes for the whole.
ALL = (1 << 32) - 1
#: Of the system calls of a service; the order counts, what comes first is what is allowed.
DENIED: Property = ("SystemCallFilter", ("(bas)", (False, ["@privileged", "@resources"])))
#: What a program that talks to servers may do. It is root, because keys are root's, and reaches SSH servers anywhere.
SANDBOX: Sequence[Property] = (
    ("NoNewPrivileges", ("b", True)),
    ("DevicePolicy", ("s", "closed")),
    ("LockPersonality", ("b", True)),
    ("MemoryDenyWriteExecute", ("b", True)),
    ("ProtectClock", ("b", True)),
    ("ProtectHostname", ("b", True)),
    ("RestrictAddressFamilies", ("(bas)", (True, ["AF_UNIX", "AF_INET", "AF_INET6"]))),
    ("RestrictNamespaces", ("t", 0)),
    ("RestrictRealtime", ("b", True)),
    ("RestrictSUIDSGID", ("b", True)),
    ("SystemCallArchitectures", ("as", ["native"])),
    # A refused call is an error in the program, not its end.
    ("SystemCallErrorNumber", ("i", errno.EPERM)),
)
#: What the program of a mount may do: 3.9 by systemd-analyze security. What a mount namespace
#: takes (ProtectSystem=, PrivateTmp=, ProtectProc=, ...), or a user namespace, is not in it: a mount made in one is not
#: seen outside.
MOUNT_SANDBOX: Sequence[Property] = (
    *SANDBOX,
    # For mount(2). Without CAP_DAC_READ_SEARCH: keys have to be root's, as for the check before a volume is made.
    ("CapabilityBoundingSet", ("t", 1 << CAP_SYS_ADMIN)),
    ("DeviceAllow", ("a(ss)", [("/dev/fuse", "rw")])),
    ("SystemCallFilter", ("(bas)", (True, ["@system-service", "@mount"]))),
    DENIED,
    # Some of libfuse (3.17) become root, which they are, before they look after /etc/mtab, and give up if they may not.
    ("SystemCallFilter", ("(bas)", (True, ["setuid"]))),
)


def of_mount(
    description: str, directory: Path, mountpoint: Path, source: str, *, is_prepared: bool, seconds: float
) -> list[Property]:
    """For the unit of a mount, which has so many seconds to start, without its program and environment."""
    return [
        ("Description", ("s", description)),
        # The order of boot and shutdown goes through the target; never directly to docker.service.
        ("Before", ("as", ["legacyhost.target"])),
        ("Wants", ("as", ["legacyhost.target"])),
        # The connection is still there while this is stopped. Not network-online.target: while that is waited for,
        # the mount would be waited for too, and made when nobody wants it any more.
        ("After", ("as", ["network.target"])),
        ("CollectMode", ("s", "inactive-or-failed")),
        # Started is what has answered. That is said in the name of sshfs, by what sshfs starts.
        ("Type", ("s", "notify")),
        ("NotifyAccess", ("s", "main")),
        # sshfs ends with 1 when SIGTERM made it unmount; before it has answered, every end is a failure.
        ("SuccessExitStatus", ("(aiai)", ([1], []))),
        *([] if is_prepared else [_step("ExecStartPre", "prepare", str(directory))]),
        # What a killed program leaves behind is a mount on which everything fails: detach it.
        _step("ExecStopPost", "release", str(mountpoint), source),
        ("TimeoutStartUSec", ("t", round(seconds * 1e6))),
        ("TimeoutStopUSec", ("t", 5_000_000)),
        # sshfs unmounts on SIGTERM; the ssh it leaves behind has nothing to finish.
        ("KillMode", ("s", "mixed")),
        ("UMask", ("u", 0o077)),
        # Whoever holds the volume should not lose it for want of memory elsewhere.
        ("OOMScoreAdjust", ("i", -500)),
        # Whereas a server that lists a directory without end shall not make others lose anything.
        ("MemoryMaxScale", ("u", ALL // 4)),
        *MOUNT_SANDBOX,
    ]


def of_companion(description: str, folder: Path) -> list[Property]:
    """For the unit of what mounts share, without its program and environment."""
    return [
        ("Description", ("s", description)),
        ("Before", ("as", ["legacyhost.target"])),
        ("After", ("as", ["network.target"])),
        ("CollectMode", ("s", "inactive-or-failed")),
        # It does that itself, unless it is killed.
        _step("ExecStopPost", "discard", str(folder)),
        # It has nothing to finish; a busy machine may take a second for the shell that discards.
        ("TimeoutStopUSec", ("t", 5_000_000)),
        ("UMask", ("u", 0o077)),
        # One for each mount of the account.
        ("LimitNOFILE", ("t", 65_536)),
        ("MemoryMax", ("t", 128 << 20)),
        *SANDBOX,
        ("SystemCallFilter", ("(bas)", (True, ["@system-service"]))),
        DENIED,
        ("CapabilityBoundingSet", ("t", 0)),
    ]


def program(path: str, argv: Sequence[str], environment: Mapping[str, str]) -> list[Property]:
    """What runs in a unit."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    return [("ExecStart", ("a(sasb)", [_command(path, argv)])), ("Environment", ("as", variables))]


def _step(name: str, *arguments: str) -> Property:
    return name, ("a(sasb)", [_command(SHELL, [SHELL, str(SCRIPT), *arguments])])


def _command(path: str, argv: Sequence[str]) -> tuple[str, list[str], bool]:
    """A failure of it is one; systemd would put variables in place of what begins with "$"."""
    return path, [argv[0], *(word.replace("$", "$$") for word in argv[1:])], False
