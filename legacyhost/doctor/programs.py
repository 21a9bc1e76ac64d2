"""What every mount needs of the machine: FUSE, sshfs, ssh, a clock that is not years away."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from legacyhost.doctor import Finding, error, ok, warning
from legacyhost.doctor.host import Host

#: Device number of /dev/fuse (Documentation/admin-guide/devices.txt of the kernel).
FUSE = (10, 229)
MAKE_FUSE = "mknod -m 666 /dev/fuse c 10 229"
#: sshfs 3 is the first on FUSE 3, whose options are handed to it.
LIBRARIES = ("falcon", "gunicorn", "paramiko", "cryptography")
OLDEST_SSHFS = 3
#: The first ssh that takes a password from a program where there is a terminal (SSH_ASKPASS_REQUIRE).
OLDEST_SSH = (8, 4)
#: Seconds by which a file may be newer than the clock says it is now.
SLACK = 86400.0


def fuse(host: Host) -> Iterator[Finding]:
    """Whether sshfs can open /dev/fuse: as root, which in a mount's unit may not overrule modes."""
    path = host.at("/dev/fuse")
    why = "without it nothing can be mounted"
    try:
        status = path.stat()
    except FileNotFoundError:
        known = host.at("/proc/filesystems").read_text("ascii", "replace").split()
        yield error("fuse", f"{path} is missing", why, MAKE_FUSE if "fuse" in known else "modprobe fuse")
        return
    if not stat.S_ISCHR(status.st_mode) or (os.major(status.st_rdev), os.minor(status.st_rdev)) != FUSE:
        yield error("fuse", f"{path} is not FUSE's device", why, f"rm -r {path} && {MAKE_FUSE}")
    elif status.st_uid != 0 or status.st_mode & 0o600 != 0o600:
        yield error("fuse", f"{path} is not open to root", why, f"chown root: {path} && chmod 666 {path}")
    elif host.is_root and (refusal := _why_not_open(path)):
        remedy = "let this container use the device 10:229 (for docker run: --device /dev/fuse)"
        yield error("fuse", f"{path} cannot be opened: {refusal}", why, remedy)
    else:
        yield ok("fuse", f"{path} is there")


def _why_not_open(path: Path) -> str:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as problem:
        return (problem.strerror or "unknown error").lower()
    return ""


def sshfs(host: Host) -> Iterator[Finding]:
    """Whether it is there, runs, and is one of those that know the options it is given."""
    why = "it is the program that mounts a volume"
    path = host.program("sshfs")
    if path is None:
        blocked = host.not_executable("sshfs")
        if blocked is None:
            yield error("sshfs", "sshfs is not installed", why, "apt-get install -y sshfs")
        else:
            yield error("sshfs", f"{blocked} is not executable", why, f"chmod 755 {blocked}")
        return
    ran = host.run([str(path), "--version"])
    version = re.search(r"SSHFS version (\d+)[\d.]*", ran.stdout)
    if version is None:
        said = (ran.stderr or ran.stdout).strip().partition("\n")[0] or f"it ends with status {ran.returncode}"
        yield error("sshfs", f"{path} does not run: {said}", why, "apt-get install -y --reinstall sshfs fuse3")
    elif int(version[1]) < OLDEST_SSHFS:
        why = f"volumes need sshfs {OLDEST_SSHFS} or newer, the first on FUSE 3"
        yield error("sshfs", f"{path} is of another time: {version[0]}", why, "apt-get install -y sshfs")
    else:
        library = re.search(r"FUSE library version ([\d.]+)", ran.stdout)
        of_fuse = f", FUSE {library[1]}" if library else ""
        knows = host.run([str(path), "--help"])
        many = ", max_conns" if "max_conns" in knows.stdout + knows.stderr else ", without max_conns"
        yield ok("sshfs", f"{version[0].replace('SSHFS version', 'sshfs')}{of_fuse}{many}")


def ssh(host: Host) -> Iterator[Finding]:
    path = host.program("ssh")
    if path is None:
        why = "sshfs reaches the remote host through it"
        yield error("ssh", "ssh is not installed", why, "apt-get install -y openssh-client")
        return
    said = host.run([str(path), "-V"])
    version = re.search(r"OpenSSH_(\d+)\.(\d+)\w*", said.stderr + said.stdout)
    if version is None:
        why = "sshfs reaches the remote host through it"
        yield error("ssh", f"{path} does not run", why, "apt-get install -y --reinstall openssh-client")
    elif (int(version[1]), int(version[2])) < OLDEST_SSH:
        why = "passwords and passphrases cannot be handed to it; keys without one work"
        yield warning("ssh", f"{path} is old: {version[0]}", why, "apt-get install -y openssh-client")
    else:
        yield ok("ssh", version[0].replace("_", " "))


def libraries(_host: Host) -> Iterator[Finding]:
    """What the plugin is made of, besides itself; Debian's package has each under this name."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    for name in missing:
        mend = f"apt-get install -y --reinstall python3-{name}"
        yield error("libraries", f"the Python library {name} is missing", "the plugin cannot run without it", mend)
    if not missing:
        yield ok("libraries", f"{', '.join(LIBRARIES)} are there")


def clock(host: Host) -> Iterator[Finding]:
    """Whether it says an earlier time than this software, and the volumes, were made at."""
    now = datetime.now(UTC)
    made = [Path(__file__), *host.paths.state.glob("*/volumes.db")]
    newest = max(made, key=lambda path: path.stat().st_mtime)
    known = host.run(["timedatectl", "show"]).stdout
    if newest.stat().st_mtime <= now.timestamp() + SLACK:
        synchronised = ", synchronised" if "NTPSynchronized=yes" in known else ""
        yield ok("clock", f"{now:%Y-%m-%d %H:%M} UTC{synchronised}")
        return
    moment = datetime.fromtimestamp(newest.stat().st_mtime, UTC)
    yield error(
        "clock",
        f"the clock says {now:%Y-%m-%d}, and {newest} is of {moment:%Y-%m-%d}",
        "certificates are judged by it, and logs and one-time passwords make no sense",
        "timedatectl set-ntp true" if "CanNTP=yes" in known else "apt-get install -y systemd-timesyncd",
    )
