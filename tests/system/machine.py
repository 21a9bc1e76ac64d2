"""A Debian machine that boots in a second, for the length of a test: real systemd, Docker, Podman and sshd.

It runs in systemd-nspawn on an overlay of a pristine image (see images.py); what it writes is kept in memory
across its reboots and gone after `close()`. Its network is its own (loopback only) unless asked otherwise.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import busybox
from .cgroups import Cgroup, joining
from .inside import Inside
from .sshd import SshServer

# Directory, cgroup and machine are called legacyhost-machine-PID-START-NUMBER, after the process that made them.
PREFIX = "legacyhost-machine-"
NSPAWN = Path("/run/systemd/nspawn")
DAEMON = "etc/docker/daemon.json"
READ_AHEAD = "/sys/devices/virtual/bdi"
_numbers = itertools.count(1)


class Machine(Inside):
    """One machine: made of an image, switched off; `boot()` it, use it, `close()` it (or use `with`)."""

    def __init__(self, image: Path, *, private_network: bool = True) -> None:
        """Set up the disk; `private_network=False` gives it the host's network. Raises CalledProcessError."""
        self.image = image
        self.private_network = private_network
        self.failed_units: tuple[str, ...] = ()
        super().__init__()
        self._cleanup = contextlib.ExitStack()
        atexit.register(self.close)
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            held = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
            self._cleanup.callback(os.close, held)
            fcntl.flock(held, fcntl.LOCK_SH)  # images.py removes no image that is in use
            _sweep()
            own = f"{PREFIX}{os.getpid()}-{_start_time(os.getpid())}-{next(_numbers)}"
            self.base = Path(tempfile.gettempdir()) / own
            self.base.mkdir(mode=0o700)
            self._cleanup.callback(self.base.rmdir)
            self._cleanup.callback(_forget, own)
            self._mount("tmpfs", self.base, "-omode=755")
            for name in ("upper", "work", "root", "docker", "containers"):
                (self.base / name).mkdir()
                (self.base / name).chmod(0o755)
            self.root = self.base / "root"
            layers = f"lowerdir={image},upperdir={self.base}/upper,workdir={self.base}/work"
            self._mount("overlay", self.root, f"-o{layers}")
            self._cgroup = Cgroup(self.base.name)
            self._cleanup.callback(self._cgroup.remove)
            self._cleanup.callback(self._cgroup.kill)
            self._set_up_for_host()
            if not private_network:  # the host's settings, which nothing in here may change
                settings = json.loads((self.root / DAEMON).read_text("utf-8"))
                self.write(DAEMON, json.dumps({**settings, "ip-forward": False}))
            stack.pop_all()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mount(self, kind: str, where: Path, *options: str) -> None:
        subprocess.run(["mount", "-t", kind, *options, "legacyhost-test", str(where)], check=True)
        self._cleanup.callback(_unmount, where)

    def _set_up_for_host(self) -> None:
        """Choose the cgroup version: systemd from 256 on wants v2, and gets it even where v1 has the controllers."""
        libraries = self.root.glob("usr/lib/*/systemd/libsystemd-shared-*.so")
        version = max(int("".join(c for c in f.stem.split("-")[2][:3] if c.isdigit())) for f in libraries)
        self.unified = version >= 256 or Path("/sys/fs/cgroup/cgroup.controllers").exists()
        v2 = [d / "cgroup.controllers" for d in self._cgroup.directories if (d / "cgroup.controllers").exists()]
        if self.unified and not any(file.read_text("utf-8").strip() for file in v2):
            drop_in = "/etc/containers/containers.conf.d/50-no-controllers.conf"
            self.write(drop_in, '[containers]\ncgroups = "disabled"\n')

    def boot(self, timeout: float = 60.0) -> tuple[str, ...]:
        """Switch it on and wait until it has started, at most `timeout` seconds.

        Returns the units that failed (also in `failed_units`, and printed). Raises AssertionError with the
        console and the journal if it does not come up.
        """
        assert not self.booted, "already booted"
        argv = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"]
        argv += [f"--directory={self.root}", f"--machine={self.base.name}", "--hostname=debian"]
        argv += ["--capability=all", "--system-call-filter=keyctl add_key bpf request_key", "--link-journal=no"]
        argv += ["--bind=/dev/fuse", f"--bind={self.base}/docker:/var/lib/docker"]
        argv += [f"--bind={self.base}/containers:/var/lib/containers"]
        argv += [f"--bind={READ_AHEAD}:/opt/bdi"]
        argv += ["--private-network", "--resolv-conf=off"] if self.private_network else ["--resolv-conf=copy-host"]
        if threading.current_thread() is threading.main_thread():
            argv = ["setpriv", "--pdeathsig", "TERM", *argv]  # shut down if the test process is killed
        environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1" if self.unified else "0"}
        environment["SYSTEMD_NSPAWN_LOCK"] = "0"  # nobody else has this tree, and the lock's file would stay
        with (self.base / "console").open("wb") as console:
            self._nspawn = subprocess.Popen(
                joining(self._cgroup.directories, argv),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._wait_started(timeout)

    def _wait_started(self, timeout: float = 60.0) -> tuple[str, ...]:
        """Wait until booting has finished; as `boot()`."""
        deadline = time.monotonic() + timeout
        state = "not running"
        while time.monotonic() < deadline and self.booted:
            with contextlib.suppress(RuntimeError):
                state = self.run("systemctl is-system-running", check=False, timeout=timeout).stdout.strip()
                if state in ("running", "degraded"):
                    break
            time.sleep(0.05)
        else:
            console = (self.base / "console").read_text("utf-8", "replace")
            raise AssertionError(f"machine did not boot ({state}):\n{console}\n{self.journal()[-8000:]}")
        # How far is read ahead can be set on a real machine; systemd-nspawn makes all of /sys read-only.
        self.run(["mount", "--bind", "/opt/bdi", READ_AHEAD])
        listed = self.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).stdout
        self.failed_units = tuple(line.split()[0] for line in listed.splitlines() if line.strip())
        for unit in self.failed_units:
            print(f"machine: {unit} failed\n{self.journal(unit)}", file=sys.stderr)
        return self.failed_units

    def reboot(self, timeout: float = 120.0) -> tuple[str, ...]:
        """Shut it down and start it again, in order; as `poweroff()` and `boot()`."""
        self.poweroff(timeout, "reboot")
        return self.boot()

    def poweroff(self, timeout: float = 120.0, how: str = "poweroff") -> None:
        """Shut it down in order, at most `timeout` seconds. Raises AssertionError if it stays up."""
        assert self._nspawn is not None, "not booted"
        self.popen(["systemctl", how])
        deadline = time.monotonic() + timeout
        while self.booted:
            self._do_not_hold_up_shutdown()
            if time.monotonic() > deadline:
                jobs = self.run("systemctl list-jobs", check=False).stdout
                raise AssertionError(f"still up {timeout} s after {how}:\n{jobs}\n{self.journal()[-8000:]}")
            time.sleep(0.05)
        self._end()

    def _do_not_hold_up_shutdown(self) -> None:
        """Help systemd's last step along, which stops, then ends all processes, and waits until it sees them gone.

        A command of `popen()` has its parent, nsenter, outside. That stops itself when its command is stopped,
        and then does not see it end (90 s); and when it does, PID 1 gets no SIGCHLD for it (10 s).
        """
        for process in self._background:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
        with contextlib.suppress(RuntimeError, ProcessLookupError):
            os.kill(self.leader, signal.SIGCHLD)

    def power_loss(self) -> None:
        """Stop every process at once, as if the plug had been pulled; files written so far are kept."""
        if self.booted:
            with contextlib.suppress(RuntimeError, ProcessLookupError):
                os.kill(self.leader, signal.SIGKILL)  # systemd-nspawn notices, tidies up and ends
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert self._nspawn is not None
                self._nspawn.wait(5)
        self._end()

    def _end(self) -> None:
        """Wait until really nothing of the machine runs any more."""
        self._cgroup.kill()
        if self._nspawn is not None:
            self._nspawn.wait(10)
            self._nspawn = None
        for process in self._background:
            process.end()
        self._background.clear()

    def close(self) -> None:
        """Switch it off and remove everything it made on the host; harmless when done twice."""
        atexit.unregister(self.close)
        with self._cleanup:
            if hasattr(self, "_cgroup"):
                self.power_loss()

    def journal(self, unit: str | None = None) -> str:
        """The journal of this boot, or of the last one if the machine is off; of one unit or of all."""
        query = ["journalctl", "--no-pager", "--quiet", "-o", "short-precise", *(["-u", unit] if unit else [])]
        if self.booted:
            return self.run([*query, "-b"], check=False).stdout
        query += [f"--directory={self.root}/var/log/journal", "-n", "2000"]
        return subprocess.run(query, capture_output=True, text=True, errors="replace").stdout

    def import_image(
        self,
        name: str,
        files: Mapping[str, str | bytes] | None = None,
        *,
        owner: tuple[int, int] = (0, 0),
        engines: Sequence[str] = ("docker", "podman"),
    ) -> None:
        """Make a container image of a static busybox, and of `files` (path: content; "dir/" is a directory).

        `files` and the directories they are in belong to `owner`. The machine has to be booted.
        """
        applets = self.run(["busybox", "--list"]).stdout.split()
        archive = busybox.archive(self.path("/bin/busybox").read_bytes(), applets, files or {}, owner)
        self.write("/var/tmp/image.tar", archive)
        for engine in engines:
            change = ("--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin")
            self.run([engine, "import", *change, "/var/tmp/image.tar", name])
        self.path("/var/tmp/image.tar").unlink()

    def ssh_server(
        self, port: int = 2222, user: str = "alice", password: str | None = None, **options: Any
    ) -> SshServer:
        """Start an sshd of its own on 127.0.0.1 for one unprivileged account; see SshServer."""
        return SshServer(self, port, user, password, **options)


def _unmount(where: Path, timeout: float = 10.0) -> None:
    """Unmount, waiting up to `timeout` seconds for what still uses it; then detach it. Raises CalledProcessError."""
    deadline = time.monotonic() + timeout
    while subprocess.run(["umount", str(where)], capture_output=True).returncode:
        if time.monotonic() > deadline:
            subprocess.run(["umount", "--lazy", str(where)], check=True)
            return
        time.sleep(0.05)


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since the host's boot; None if there is none of that id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    except OSError:
        return None


def _sweep() -> None:
    """Remove what test processes that were killed could not: their machines' processes, mounts, directories."""
    for base in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*-*"):
        pid, start, _ = base.name.removeprefix(PREFIX).split("-")
        if pid.isdecimal() and _start_time(int(pid)) != start:
            with contextlib.suppress(OSError, TimeoutError, subprocess.CalledProcessError):
                cgroup = Cgroup(base.name)
                cgroup.kill()
                cgroup.remove()
                for where in (base / "root", base):
                    if where.is_mount():
                        _unmount(where)
                base.rmdir()
                _forget(base.name)


def _forget(name: str) -> None:
    """Remove what a systemd-nspawn that was killed leaves of the machine of this name."""
    for kind in ("unix-export", "propagate"):
        left = NSPAWN / kind / name
        if left.is_mount():
            _unmount(left)
        shutil.rmtree(left, ignore_errors=True)
