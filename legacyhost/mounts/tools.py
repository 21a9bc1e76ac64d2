"""What both kinds of mounter do alike: run a short program, wait for a mount to go, find who sees it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from legacyhost.deadline import Deadline
from legacyhost.mounts import mountinfo

SCRIPT = Path(__file__).with_name("mount-unit.sh")
SHELL = "/bin/sh"
#: Programs are found here and nowhere else; nothing of the service's environment is handed on.
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def run(
    argv: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end, at most ``timeout`` seconds. Status 124 and 127 as timeout(1) and a shell give them."""
    try:
        ran = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(0.1, timeout),
            env={**ENVIRONMENT, **(environment or {})},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"{argv[0]} has not ended within {timeout:.0f} s")
    except OSError as error:
        return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]}: {error.strerror}")
    # Not text=True, which would make line breaks of the carriage returns in somebody's paths.
    out, err = (output.decode(errors="replace") for output in (ran.stdout, ran.stderr))
    return subprocess.CompletedProcess(argv, ran.returncode, out, err)


def device_of(mountpoint: Path) -> str | None:
    """The "major:minor" of the mount on top there, None where nothing is mounted."""
    devices = [mount.device for mount in mountinfo.read() if mount.mountpoint == str(mountpoint)]
    return devices[-1] if devices else None


def source_of(mountpoint: Path) -> str | None:
    """The source of the mount on top there, None where nothing is mounted."""
    sources = [mount.source for mount in mountinfo.read() if mount.mountpoint == str(mountpoint)]
    return sources[-1] if sources else None


def wait_until_gone(mountpoint: Path, deadline: Deadline) -> bool:
    """Whether mountinfo stops showing a mount there before the deadline."""
    while device_of(mountpoint) is not None:
        if deadline.is_over():
            return False
        time.sleep(0.01)
    return True


def users_in(found: str, device: str, mountpoint: Path) -> list[int]:
    """Process IDs from lines ``/proc/PID/mountinfo:LINE`` that show the device elsewhere than at ``mountpoint``.

    Sandboxed services have a copy of the mount at the same path and are no users; a container sees it elsewhere.
    """
    processes = set()
    for line in found.split("\n"):
        path, _, entry = line.partition(":")
        for mount in mountinfo.parse(entry):
            if mount.device == device and mount.mountpoint != str(mountpoint):
                processes.add(int(path.split("/")[2]))
    return sorted(processes)
