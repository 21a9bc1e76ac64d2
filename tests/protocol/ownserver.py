"""legacyhost itself as the plugin under test: the real server process, real FUSE mounts, a real SSH server.

systemd has no part in it: the server makes its own socket, and its mounts are detached processes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from sshd import Sshd

from . import mountinfo
from .case import Plugin
from .gate import Gate

NAME = "protocol"
REPOSITORY = Path(__file__).parents[2]
START = 30.0
#: Seconds. The server waits for calls in flight, and no test leaves one that takes longer.
STOP = 20.0


class OwnServer:
    """``legacyhost serve`` with directories of its own below ``home``. It can be stopped and started again."""

    def __init__(self, home: Path, sshd: Sshd) -> None:
        self.home = home
        self.sshd = sshd
        self.socket = home / f"{NAME}.sock"
        self.log = home / "log"
        self.configuration = home / "etc" / f"{NAME}.toml"
        self.known_hosts = home / "etc" / "known_hosts"
        self._process: subprocess.Popen[bytes] | None = None
        for directory in ("etc", "state", "run"):
            (home / directory).mkdir()
        self.configuration.write_text('[volume]\ndriver = "sshfs"\n')
        self.known_hosts.write_text(f"{sshd.known_hosts_line()}\n")

    @property
    def plugin(self) -> Plugin:
        return Plugin(
            "legacyhost", self.socket, self.opts(self.sshd.port), data=self.sshd.home, home=self.home, gated=self.gated
        )

    def opts(self, port: int) -> dict[str, str]:
        """The options of a volume on the SSH server that is reached by that port."""
        return {
            "sshcmd": f"{self.sshd.user}@{self.sshd.host}:{self.sshd.home}",
            "port": str(port),
            "IdentityFile": str(self.sshd.client_key),
        }

    def gated(self, gate: Gate) -> Mapping[str, str]:
        """The same through a gate, which has the server's host key."""
        line = self.sshd.known_hosts_line().replace(f":{self.sshd.port} ", f":{gate.port} ", 1)
        with self.known_hosts.open("a") as file:
            file.write(f"{line}\n")
        return self.opts(gate.port)

    def start(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LISTEN_", "NOTIFY_"))}
        directories = {f"LEGACYHOST_{key.upper()}": str(self.home / key) for key in ("etc", "state", "run")}
        command = [sys.executable, "-m", "legacyhost", "serve", NAME, "--socket", str(self.socket)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**environment, **directories},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START
        while not self.is_listening():
            assert self._process.poll() is None, f"the server has ended:\n{self.log.read_text()}"
            assert time.monotonic() < until, f"the server does not listen after {START} s:\n{self.log.read_text()}"
            time.sleep(0.02)

    def is_listening(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def terminate(self) -> None:
        """SIGTERM, as systemd sends it; returns at once."""
        assert self._process is not None
        self._process.terminate()

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        return self._process.wait(STOP)

    def kill(self) -> None:
        """SIGKILL to all its processes but those of the mounts, which are in sessions of their own."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP)
        until = time.monotonic() + STOP
        while self.is_listening() and time.monotonic() < until:
            time.sleep(0.01)

    def stop(self) -> int:
        self.terminate()
        return self.wait()

    def end(self) -> None:
        """Stop it by any means, and end the mounts that are left."""
        if self._process is not None and self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        for path in mountinfo.below(self.home):
            subprocess.run(["umount", "--lazy", path], check=False)


@contextmanager
def serving_legacyhost(home: Path, sshd: Sshd) -> Iterator[OwnServer]:
    """A server that runs, on this SSH server."""
    server = OwnServer(home, sshd)
    try:
        server.start()
        yield server
    finally:
        server.end()
