"""A real OpenSSH server for tests, on loopback, for the user running them, by a key generated for it."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
KINDS = ("ed25519", "rsa", "ecdsa")


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def keygen(file: Path, kind: str, passphrase: str = "", *more: str) -> Path:
    """A new private key in ``file`` (its public half in ``file.pub``)."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(file), *more]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return file


def fingerprint(file: Path) -> str:
    """``SHA256:…`` of a key file, as ssh-keygen sees it."""
    run = subprocess.run(["ssh-keygen", "-lf", str(file)], check=True, capture_output=True, text=True)
    return run.stdout.split()[1]


@contextmanager
def time_limit(seconds: int = 60) -> Iterator[None]:
    """Fails the main thread's test after ``seconds``; nested ones are not supported."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Sshd:
    """OpenSSH's sshd on a free port with keys of its own in ``directory``; ended, with its sessions, by process id.

    ``user`` other than the one running the tests: only as root, and must be able to read below ``directory``.
    ``home`` is where SFTP sessions begin. ``more`` are further lines of sshd_config, put first: there the first
    value of an option counts.
    """

    def __init__(
        self,
        directory: Path,
        kinds: Sequence[str] = KINDS,
        more: Sequence[str] = (),
        sftp: bool = True,
        user: str | None = None,
    ) -> None:
        self.directory = directory
        self.host = HOST
        self.port = free_port()
        self.user = user or getpass.getuser()
        self.home = directory / "home"
        self.client_key = directory / "client_key"
        self.log = directory / "log"
        self._kinds = kinds
        self._more = more
        self._sftp = sftp
        self._process: subprocess.Popen[bytes] | None = None

    def host_key(self, kind: str = "ed25519") -> Path:
        """The host's private key file of that kind; the public one ends in ``.pub``."""
        return self.directory / f"host_{kind}"

    def known_hosts_line(self, kind: str = "ed25519") -> str:
        public = Path(f"{self.host_key(kind)}.pub").read_text().split()
        return f"[{self.host}]:{self.port} {public[0]} {public[1]}"

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        for kind in self._kinds:
            if not self.host_key(kind).exists():
                keygen(self.host_key(kind), kind)
        if not self.client_key.exists():
            keygen(self.client_key, "ed25519")
        shutil.copy(f"{self.client_key}.pub", self.directory / "authorized_keys")
        configuration = self.directory / "sshd_config"
        configuration.write_text("\n".join(self._lines()) + "\n")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(configuration)],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        sessions = _descendants(self._process.pid)  # each in a process group of its own
        self._process.kill()
        self._process.wait()
        for pid in sessions:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _lines(self) -> list[str]:
        version = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr
        numbers = re.search(r"OpenSSH_(\d+)\.(\d+)", version)
        has_penalties = numbers is not None and tuple(map(int, numbers.groups())) >= (9, 8)
        return [
            *self._more,
            f"Port {self.port}",
            f"ListenAddress {self.host}",
            *(f"HostKey {self.host_key(kind)}" for kind in self._kinds),
            "PidFile none",
            f"AuthorizedKeysFile {self.directory}/authorized_keys",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "MaxStartups 100",
            *(["PerSourcePenalties no"] if has_penalties else []),
            *([f"Subsystem sftp internal-sftp -d {self.home}"] if self._sftp else []),
        ]

    def _wait(self) -> None:
        assert self._process is not None
        until = time.monotonic() + 20
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError(f"sshd did not start: {self.log.read_text()}")


@contextmanager
def kept(directory: Path) -> Iterator[Path]:
    """A new tree in ``directory`` that must be the same, byte for byte, afterwards."""
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "deep" / "er" / "file").write_bytes(os.urandom(1000))
    (directory / "file").write_bytes(b"precious")
    before = _snapshot(directory)
    yield directory
    assert _snapshot(directory) == before


def _snapshot(top: Path) -> dict[str, tuple[int, float, bytes]]:
    found = {}
    for path in [top, *top.rglob("*")]:
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (path.stat().st_mode, path.stat().st_mtime, content)
    return found


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(file.parent.name))
    found, left = [], [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found
