"""A stand-in for ssh on the PATH, which does what the test's plan says, below the real transport of an sshfs.

The plan is shell text with ``$attempt``, the number of the start, and ``login``, which does what ssh does when it has
logged in: it runs the value of LocalCommand in the user's shell.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fakes import WAIT

from legacyhost.drivers.sshfs import TRANSPORT
from legacyhost.mounts.tools import MAIN, copied
from legacyhost.transport.record import Record

SSH = """#!/bin/sh
here={here}
echo $$ >>"$here/started"
attempt=$(wc -l <"$here/started")
for word; do case $word in -oLocalCommand=*) told=${{word#*=}} ;; -oConnectTimeout=*) limit=${{word#*=}} ;; esac; done
login() {{ "$SHELL" -c "$told"; }}
. "$here/plan"
"""
REFUSE = "echo 'nas: port 22: Connection refused' >&2; exit 255"
SILENT = "exec sleep 60"
#: Accepts the connection and does not say its first word.
WORDLESS = "sleep $limit; echo 'Connection timed out during banner exchange' >&2; exit 255"
ECHO = "login; exec cat"


def until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as it is so."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"not so within {WAIT:g} s: {what}"
        time.sleep(0.01)


class FakeSsh:
    """One host, one mount: the program on the PATH, the record, and the lines made over it."""

    def __init__(self, directory: Path, plan: str) -> None:
        self.directory = directory
        self.path = directory / "record"
        self.journal = directory / "journal"
        (directory / "bin").mkdir()
        (directory / "bin" / "ssh").write_text(SSH.format(here=shlex.quote(str(directory))))
        (directory / "bin" / "ssh").chmod(0o755)
        self.journal.touch()
        (directory / "plan").write_text(plan)
        self._lines: list[Line] = []
        self._shared: list[subprocess.Popen[bytes]] = []

    def line(self, *, fail_after: float = 30, chown: str = "ignore", **environment: str) -> Line:
        """What sshfs starts when it needs a connection."""
        variables = {
            **self._variables(),
            "LEGACYHOST_RECORD": str(self.path),
            "LEGACYHOST_FAIL_AFTER": str(fail_after),
            "LEGACYHOST_SILENCE": str(fail_after),
            "LEGACYHOST_CHOWN": chown,
            **environment,
        }
        self._lines.append(Line(variables, self.journal, copied(TRANSPORT, self.directory)))
        return self._lines[-1]

    def share(self, **constants: float) -> Path:
        """The folder of a connection for several mounts; its process has these constants in place of its own."""
        folder = Path(tempfile.mkdtemp(prefix="shared-", dir=self.directory))
        package = Path(tempfile.mkdtemp(dir=self.directory), "package")
        shutil.copytree(copied(TRANSPORT, self.directory).parent, package)
        program = package / "legacyhost" / "transport" / "shared.py"
        for name, value in constants.items():
            text, count = re.subn(rf"(?m)^{name} = .*", f"{name} = {value}", program.read_text())
            assert count == 1
            program.write_text(text)
        with self.journal.open("ab") as errors:
            argv = [sys.executable, "-I", "-S", str(package / MAIN), "--shared", str(folder), "-x", "nas", "-s", "sftp"]
            self._shared.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=errors, env=self._variables()))
        return folder

    def sharing(self) -> subprocess.Popen[bytes]:
        """The process of the connection made last."""
        return self._shared[-1]

    def _variables(self) -> dict[str, str]:
        return {"PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}", "FAKE": str(self.path)}

    def started(self) -> list[int]:
        """The process IDs of every ssh there has been."""
        with suppress(FileNotFoundError):
            return [int(pid) for pid in (self.directory / "started").read_text().split()]
        return []

    def running(self) -> list[int]:
        """Those that are there still; told from others that have got the number by what is in their environment."""
        found = []
        for pid in self.started():
            with suppress(OSError):
                if str(self.path).encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
        return found

    def record(self) -> Record:
        return Record.read(str(self.path))

    def recorded(self, **fields: float) -> None:
        """Make it so that this is what has happened before."""
        record = Record()
        for name, value in fields.items():
            assert name in vars(record)
            setattr(record, name, value)
        record.noticed = fields.get("noticed", max(record.lost, record.tried))
        record.write(str(self.path))

    def said(self) -> list[str]:
        """What the journal of the mount's unit has."""
        return self.journal.read_text().splitlines()

    def end(self) -> None:
        """End all that runs."""
        for line in self._lines:
            line.close()
        for process in (*self._shared, *(line.process for line in self._lines)):
            process.kill()
            process.wait()
        for pid in self.running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


#: Makes the host, with that plan.
Start = Callable[[str], FakeSsh]


@contextmanager
def hosts(directory: Path) -> Iterator[Start]:
    """Whatever runs is ended afterwards."""
    made: list[FakeSsh] = []

    def start(plan: str) -> FakeSsh:
        made.append(FakeSsh(directory, plan))
        return made[-1]

    try:
        yield start
    finally:
        for ssh in made:
            ssh.end()


class Line:
    """The process that sshfs starts in place of ssh; ``socket`` is sshfs's end."""

    def __init__(self, variables: dict[str, str], journal: Path, program: Path) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(WAIT)
        with theirs, journal.open("ab") as errors:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-I", "-S", str(program), "-x", "nas", "-s", "sftp"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=errors,
                env=variables,
            )

    def exchange(self, data: bytes, answer: bytes | None = None) -> None:
        """Send it, and get that back, or the same."""
        expected = data if answer is None else answer
        self.socket.sendall(data)
        assert self.receive(len(expected)) == expected

    def receive(self, count: int) -> bytes:
        got = b""
        while len(got) < count and (more := self.socket.recv(count - len(got))):
            got += more
        return got

    def close(self) -> None:
        """What happens when sshfs ends."""
        self.socket.close()

    def status(self) -> int:
        """The exit status, of one that ends by itself."""
        return self.process.wait(WAIT)
