"""Pristine Debian root trees for the system tests, built once per suite and package list, then only read.

`ensure("bookworm")` returns the tree; `python3 -m tests.system.images bookworm trixie` builds from a script.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SUITES = ("bookworm", "trixie", "sid")

BASE = "systemd,systemd-sysv,dbus,ca-certificates"
PACKAGES = (
    *("docker.io", "podman", "crun", "conmon", "sshfs", "openssh-server", "busybox-static", "iproute2", "procps"),
    "docker-compose",
    *("python3", "python3-falcon", "gunicorn", "python3-jeepney", "python3-paramiko"),
    *("python3-sdnotify", "python3-systemd"),
)
EXTRA = {"bookworm": (), "trixie": ("docker-cli",), "sid": ("docker-cli",)}

# What must not run by itself in the middle of a test, or cannot work in a container (loading kernel modules).
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("e2scrub_reap.service", "podman-auto-update.timer", "systemd-modules-load.service"),
)
# Tests bring sshds of their own (Machine.ssh_server), and whoever wants Podman's API starts it.
DISABLED = ("ssh.service", "ssh.socket", "podman.socket")

FILES = {
    # The machine's network is private: no bridge to make, no packets to filter.
    "etc/docker/daemon.json": '{"bridge": "none", "iptables": false, "ip6tables": false}\n',
    "etc/hosts": "127.0.0.1 localhost debian\n::1 localhost\n",
    "etc/hostname": "debian\n",
    "etc/machine-id": "",
    "etc/resolv.conf": "",
    # systemd-nspawn hands the cgroup v1 controllers over read-only, and Docker needs to write them.
    "etc/systemd/system/test-cgroups.service": """\
[Unit]
Description=Writable cgroup v1 controllers
DefaultDependencies=no
Before=sysinit.target
ConditionPathExists=/sys/fs/cgroup/systemd

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'mount -o remount,rw /sys/fs/cgroup; \
for c in /sys/fs/cgroup/*/; do mount -o remount,rw,bind "$c" || true; done'

[Install]
WantedBy=sysinit.target
""",
}

APT_CONF = """\
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
"""

POLICY = "#!/bin/sh\nexit 101\n"


class ImageError(RuntimeError):
    """An image could not be built; the text is one sentence for whoever runs the tests."""


def cache_dir() -> Path:
    """Where images are kept: $LEGACYHOST_TEST_CACHE, else legacyhost-tests in the user's cache directory."""
    if explicit := os.environ.get("LEGACYHOST_TEST_CACHE"):
        return Path(explicit).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "legacyhost-tests"


def _deb822(text: str) -> Iterator[tuple[str, str, str]]:
    """The (URI, suite, component) triples of a deb822 .sources file that offer binary packages."""
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = {
            key.lower(): value.split() for key, value in re.findall(r"(?m)^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza)
        }
        if "deb" not in fields.get("types", ()) or fields.get("enabled") == ["no"]:
            continue
        for uri in fields.get("uris", ()):
            for suite in fields.get("suites", ()):
                yield from ((uri, suite, component) for component in fields.get("components", ()))


def _one_line(text: str) -> Iterator[tuple[str, str, str]]:
    """The (URI, suite, component) triples of a one-line-style sources.list that offer binary packages."""
    for line in text.splitlines():
        if match := re.match(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line):
            yield from ((match[1], match[2], component) for component in match[3].split())


def mirror(apt: Path = Path("/etc/apt"), codename: str | None = None) -> str:
    """The Debian mirror this machine's own apt uses ($LEGACYHOST_TEST_MIRROR overrides it).

    `codename` is the Debian release whose main archive is looked for (default: the machine's own). Raises
    ImageError if there is none.
    """
    if explicit := os.environ.get("LEGACYHOST_TEST_MIRROR"):
        return explicit
    if codename is None:
        release = Path("/etc/os-release").read_text("utf-8")
        found = re.search(r'(?m)^VERSION_CODENAME="?([\w-]+)', release)
        codename = found[1] if found else "sid"
    suites = {codename, "stable", "testing", "unstable", *SUITES}
    sources = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for path in sources:
        if not path.is_file() or path.suffix not in (".list", ".sources"):
            continue
        text = path.read_text("utf-8", "replace")
        for uri, suite, component in (_deb822 if path.suffix == ".sources" else _one_line)(text):
            if suite in suites and component == "main" and re.match(r"(https?|ftp)://\S*debian/?$", uri):
                return uri.rstrip("/")
    raise ImageError(f"no Debian mirror in {apt}/sources.list and sources.list.d: set LEGACYHOST_TEST_MIRROR")


def packages(suite: str) -> tuple[str, ...]:
    """What is installed into the image of this suite on top of the base system."""
    return (*PACKAGES, *EXTRA[suite])


def path_of(suite: str) -> Path:
    """Where the finished tree of this suite is or will be: its name depends on everything that goes into it."""
    recipe = (suite, BASE, packages(suite), MASKED, DISABLED, sorted(FILES.items()), APT_CONF)
    return cache_dir() / f"{suite}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"


def ensure(suite: str) -> Path:
    """The root tree of a Debian suite, built first if it is not in the cache (one to three minutes).

    An interrupted build is never taken for a finished one, and of two builds at once the second waits for the
    first. Raises ImageError if the suite is unknown, a tool is missing, or the build fails.
    """
    if suite not in SUITES:
        raise ImageError(f"unknown suite {suite!r}: one of {', '.join(SUITES)}")
    target = path_of(suite)
    if target.is_dir():
        return target
    for tool, package in (("debootstrap", "debootstrap"), ("systemd-nspawn", "systemd-container")):
        if shutil.which(tool) is None:
            raise ImageError(f"{tool} is needed to build the {suite} image: apt-get install {package}")
    if os.geteuid() != 0:
        raise ImageError(f"building the {suite} image needs root")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _remove_old(suite)
            tree = Path(tempfile.mkdtemp(prefix=f".{suite}-", dir=target.parent))
            try:
                _build(suite, tree)
                tree.chmod(0o755)
                tree.rename(target)
            except BaseException:
                shutil.rmtree(tree, ignore_errors=True)
                raise
    return target


def _remove_old(suite: str) -> None:
    """Remove this suite's unfinished trees and those of other package lists, unless a Machine has them open."""
    for old in (*cache_dir().glob(f".{suite}-*"), *cache_dir().glob(f"{suite}-*")):
        descriptor = os.open(old, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old)
        os.close(descriptor)


def _call(what: str, *argv: str) -> None:
    """Run one build step; its output goes into the error if it fails."""
    env = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise ImageError(f"{what} failed with status {done.returncode}: {' '.join(argv)}\n{tail}")


def _build(suite: str, tree: Path) -> None:
    """Fill an empty directory with the suite's system. Uses the host's network; starts no service."""
    debs = cache_dir() / "debs" / suite
    (debs / "partial").mkdir(parents=True, exist_ok=True)
    _call(
        f"debootstrap of {suite}",
        *("debootstrap", "--variant=minbase", f"--include={BASE}", f"--cache-dir={debs}"),
        *(suite, str(tree), mirror()),
    )
    _write(tree, "etc/apt/apt.conf.d/90legacyhost-tests", APT_CONF)
    _write(tree, "etc/dpkg/dpkg.cfg.d/legacyhost-tests", "force-unsafe-io\n")
    _write(tree, "usr/sbin/policy-rc.d", POLICY, 0o755)
    inside = (
        *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={tree}", "--pipe"),
        *(f"--machine=build-{suite}-{os.getpid()}", f"--bind={debs}:/var/cache/apt/archives"),
        *("--resolv-conf=copy-host", "--setenv=DEBIAN_FRONTEND=noninteractive", "--setenv=LC_ALL=C.UTF-8"),
    )
    install = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends")
    _call(f"apt-get update in {suite}", *inside, "apt-get", "update", "--quiet")
    _call(f"installing packages in {suite}", *inside, *install, *packages(suite))
    for path, text in FILES.items():
        _write(tree, path, text)
    _call(f"enabling units in {suite}", *inside, "systemctl", "enable", "--quiet", "test-cgroups.service")
    _call(f"disabling units in {suite}", *inside, "systemctl", "disable", "--quiet", *DISABLED)
    _call(f"masking units in {suite}", *inside, "systemctl", "mask", "--quiet", *MASKED)
    _write(tree, "etc/resolv.conf", "")
    for stamp in ("etc/.updated", "var/.updated"):  # newer than /usr: no first-boot jobs (ldconfig, catalog)
        _write(tree, stamp, "")
    (tree / "usr/sbin/policy-rc.d").unlink()


def _write(tree: Path, name: str, text: str, mode: int = 0o644) -> None:
    """Write a file of the tree, replacing what is there; a link is replaced, not followed (it may lead out)."""
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(mode)


def main(suites: list[str]) -> int:
    """Build the images of the named suites (default: all), one after the other, and print their paths."""
    try:
        for suite in suites or SUITES:
            print(suite, ensure(suite), flush=True)
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
