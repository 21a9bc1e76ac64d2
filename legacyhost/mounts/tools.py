"""What both kinds of mounter do alike: run a short program, wait for a mount to go, find who sees it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.mounts import User, mountinfo

SCRIPT = Path(__file__).with_name("mount-unit.sh")
SHELL = "/bin/sh"
MAIN = "__main__.py"
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


def copied(package: Path, root: Path) -> Path:
    """What is to be run with ``python3 -I -S``: the package's __main__.py, in a directory of ``root`` with a copy.

    Its byte code is kept there too, by Python, from the first run on. Raises OSError.
    """
    contents, digest = _contents(package)
    directory = root / f"{package.name}.{digest}"
    if not directory.is_dir():
        with TemporaryDirectory(prefix=f"{package.name}-", dir=root) as draft:
            whole = Path(draft, "whole")
            inner = whole / "legacyhost" / package.name
            inner.mkdir(mode=0o700, parents=True)
            for name, text in contents.items():
                (inner / name).write_bytes(text)
            (inner / MAIN).rename(whole / MAIN)
            try:
                whole.rename(directory)
            except OSError:
                if not directory.is_dir():  # by a call beside this one
                    raise
    return directory / MAIN


@cache
def _contents(package: Path) -> tuple[Mapping[str, bytes], str]:
    """Of the sources as they are when they are first needed, and a digest."""
    contents = {path.name: path.read_bytes() for path in sorted(package.glob("*.py"))}
    return contents, hashlib.sha256(repr(contents).encode()).hexdigest()[:16]


def source_of(mountpoint: Path) -> str | None:
    """The source of the mount on top there, None where nothing is mounted."""
    mount = mountinfo.top(mountpoint)
    return mount.source if mount else None


def is_prepared(directory: Path) -> bool:
    """Whether the mountpoints of a plugin are there as ``mount-unit.sh prepare`` makes them: it ends with this."""
    return source_of(directory / "mounts") is not None


def wait_until_gone(mountpoint: Path, deadline: Deadline) -> bool:
    """Whether mountinfo stops showing a mount there before the deadline."""
    while source_of(mountpoint) is not None:
        if deadline.is_over():
            return False
        time.sleep(0.01)
    return True


class Probe:
    """A ``stat`` made by a process of its own, which may hang for as long as the mount does. Raises Failed."""

    def __init__(self, path: Path) -> None:
        nowhere = subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                ["stat", "--file-system", "--", path],
                stdin=nowhere,
                stdout=nowhere,
                stderr=nowhere,
                env=ENVIRONMENT,
                cwd="/",
            )
        except OSError as error:
            raise Failed(f"it cannot be found out whether {path} answers: {error.strerror}") from error

    def wait(self, seconds: float | None) -> bool | None:
        """Whether it has succeeded; None when it has not ended in that time. Without a time, wait for its end."""
        try:
            return self._process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return None

    def give_up(self) -> None:
        """It ends now, or when the mount lets go of it, which nobody waits for."""
        self._process.kill()


#: Prints the lines with "$1" in them of the mountinfo files of all processes, and of threads with a namespace of their
#: own (Docker copies so into a container that does not run); then for each file open or directory entered below "$2",
#: a pattern, where /proc says so and its path. It reads what links say and follows none. Who ends meanwhile is no
#: failure, a program that cannot be run is: without "end", nothing counts.
SEARCH = """
export LC_ALL=C
could() { [ "$1" -lt 126 ] || exit 1; }
grep -a -s -F -e "$1" /proc/[0-9]*/mountinfo
could $?
threads=$(find /proc/[0-9]*/task/[0-9]*/ns/mnt -printf '%l %h\\n' 2>/dev/null | awk -F '[ /]' '
    { namespace[$4, $6] = $1 }
    $4 != $6 { process[$6] = $4 }
    END { for (t in process) if (namespace[process[t], t] != namespace[process[t], process[t]])
        print "/proc/" process[t] "/task/" t "/mountinfo" }') || exit 1
[ -z "$threads" ] || grep -a -s -F -e "$1" /dev/null $threads
could $?
printf '\\0'
find /proc/[0-9]*/fd /proc/[0-9]*/cwd -lname "$2" -printf '%p:%l\\0' 2>/dev/null
could $?
printf end
"""


def search(source: str, mountpoints: Path) -> list[str]:
    """The command that looks for users of mounts whose source begins so, on mountpoints in that directory."""
    pattern = re.sub(r"([\\*?\[])", r"\\\1", str(mountpoints)) + "/*"
    return [SHELL, "-c", SEARCH, SHELL, f" {source}", pattern]


def users_in(found: str, source: str, mountpoints: Path) -> list[User] | None:
    """What the search has found; None when it was cut off.

    A mount on the mountpoint itself is no use of it: sandboxed services have copies of all mounts at the same path.
    """
    mounted, *files = found.split("\0")
    if files[-1:] != ["end"]:
        return None
    users = set()
    for line in mounted.split("\n"):
        where, _, entry = line.partition(":")
        for mount in mountinfo.parse(entry):
            if mount.source.startswith(source) and not mount.mountpoint.startswith(f"{mountpoints}/"):
                users.add(User(_process(where), source=mount.source))
    for entry in files[:-1]:
        where, _, path = entry.partition(":")
        users.add(User(_process(where), path=path))
    return sorted(users, key=lambda user: user.process)


def _process(path: str) -> int:
    return int(path.split("/")[2])
