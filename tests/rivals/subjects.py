"""The plugins compared: rclone of two Debian releases, and legacyhost as it is in this checkout."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from system.images import cache_dir, ensure
from system.installed import Installed, build
from system.machine import NSPAWN, Machine

from .subject import Subject

# What the units that come with rclone say (contrib/docker-plugin/systemd): nothing added, nothing left out.
RCLONE_SOCKET = """\
[Socket]
ListenStream=/run/docker/plugins/rclone.sock
[Install]
WantedBy=sockets.target
"""
RCLONE_SERVICE = """\
[Unit]
Requires=docker.service docker-volume-rclone.socket
Before=docker.service
After=network.target docker-volume-rclone.socket
[Service]
Environment=RCLONE_CONFIG={root}/config/rclone.conf RCLONE_CACHE_DIR={root}/cache RCLONE_VERBOSE=1
ExecStartPre=/bin/mkdir -p {base}
ExecStartPre=/bin/mkdir -p {root}/config
ExecStartPre=/bin/mkdir -p {root}/cache
ExecStart=/usr/bin/rclone serve docker
[Install]
WantedBy=multi-user.target
"""
REMOTE = """\
[host]
type = sftp
host = {remote.host}
port = {remote.port}
user = {remote.user}
key_file = {remote.key}
known_hosts_file = {remote.known_hosts}
"""


def fetched(suite: str, package: str) -> list[Path]:
    """A package and what it needs beyond the image, fetched once by the suite's own apt into the images' cache."""
    cache = cache_dir() / "debs" / f"{suite}-{package}"
    if not (found := sorted(cache.glob("*.deb"))):
        cache.mkdir(parents=True, exist_ok=True)
        name = f"legacyhost-fetch-{os.getpid()}"
        argv = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--pipe"]
        argv += [f"--directory={ensure(suite)}", f"--machine={name}", "--resolv-conf=copy-host"]
        argv += [f"--bind={cache}:/var/cache/apt/archives", "sh", "-ec"]
        install = f"apt-get -q -y install --download-only --no-install-recommends {package}"
        argv += [f"apt-get -q update; {install}"]
        ran = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
        for kind in ("unix-export", "propagate"):
            if (left := NSPAWN / kind / name).is_dir() and not left.is_mount():
                left.rmdir()
        found = sorted(cache.glob("*.deb"))
        assert ran.returncode == 0 and found, f"apt cannot fetch {package}:\n{ran.stdout}{ran.stderr}"
    return found


class Rclone(Subject):
    """`rclone serve docker` of Debian 12, with the units and the options its documentation gives."""

    key, suite, driver = "rclone", "bookworm", "rclone"
    service = "docker-volume-rclone.service"
    base = "/var/lib/docker-volumes/rclone"
    state_root = "/var/lib/docker-plugins"
    state_file = f"{state_root}/rclone/cache/docker-plugin.state"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        machine.put(self.package(), "/root/rclone.deb")
        machine.run("dpkg -i /root/rclone.deb", timeout=120)
        self.remote = machine.ssh_server()
        root = f"{self.state_root}/rclone"
        machine.write(f"{root}/config/rclone.conf", REMOTE.format(remote=self.remote), 0o600)
        machine.write(f"/etc/systemd/system/{self.service}", RCLONE_SERVICE.format(root=root, base=self.base))
        machine.write("/etc/systemd/system/docker-volume-rclone.socket", RCLONE_SOCKET)
        machine.run("systemctl daemon-reload")
        machine.run(f"systemctl enable --quiet --now docker-volume-rclone.socket {self.service}")

    @classmethod
    def package(cls) -> Path:
        """Debian's package."""
        return next(path for path in fetched(cls.suite, "rclone") if path.name.startswith("rclone_"))

    def options(self, directory: str) -> dict[str, str]:
        return {"remote": f"host:{directory}"}

    def usual_options(self, directory: str) -> dict[str, str]:
        return {**self.options(directory), "allow-other": "true", "vfs-cache-mode": "full"}

    def version(self) -> str:
        return f"rclone {self.machine.run(['dpkg-query', '-W', '-f', '${Version}', 'rclone']).stdout}"

    def kill_mount(self, volume: str) -> None:
        self.machine.run(["systemctl", "kill", "--signal=SIGKILL", self.service])
        time.sleep(1)


class RcloneSid(Rclone):
    """The newest in Debian."""

    key, suite = "rclone-sid", "sid"


class Legacyhost(Subject):
    """The package as ./build-deb makes it."""

    key, suite, driver = "legacyhost", "bookworm", "sshfs"
    service = "legacyhost@sshfs.service"
    base = "/run/legacyhost/sshfs/mounts"
    state_root = "/var/lib/legacyhost"
    state_file = f"{state_root}/sshfs/volumes.db"
    repair = "legacyhost restore --plugin sshfs"
    deb: Path | None = None

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.installed = Installed(machine, self.package())
        self.remote = self.installed.remote

    @classmethod
    def package(cls) -> Path:
        """Built once in a run, and kept apart: the checkout may change meanwhile."""
        if cls.deb is None:
            kept = Path(tempfile.mkdtemp(prefix="legacyhost-rivals-"))
            atexit.register(shutil.rmtree, kept)
            cls.deb = Path(shutil.copy2(build(), kept))
        return cls.deb

    def options(self, directory: str) -> dict[str, str]:
        return self.installed.options(directory)

    def version(self) -> str:
        return f"legacyhost {self.machine.run(['dpkg-query', '-W', '-f', '${Version}', 'legacyhost']).stdout}"

    def kill_mount(self, volume: str) -> None:
        self.machine.run(["systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", f"legacyhost:sshfs:{volume}:*"])
        time.sleep(1)


SUBJECTS: dict[str, type[Subject]] = {made.key: made for made in (Rclone, RcloneSid, Legacyhost)}
