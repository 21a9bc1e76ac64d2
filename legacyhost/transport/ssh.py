"""One ssh process: started, watched until it has logged in, ended."""

from __future__ import annotations

import os
import select
import sys
import time
from _collections_abc import Sequence

#: sshfs's end, as standard input and output; signal(7).
SOCKET, SIGKILL = 0, 9
#: Bytes: read at once (for 128 KiB or more malloc(3) goes to the kernel each time); of what it says.
CHUNK, KEPT, LONGEST_ERROR = 1 << 16, 4096, 200
#: Seconds that it gets to end by itself.
PATIENCE = 2.0


class Ssh:
    """``requests`` leads to its input. What it receives goes straight into sshfs's socket, or into ``replies``.

    Whether it has logged in is known if it is to be told, which costs a few ms.
    """

    def __init__(self, arguments: Sequence[str], *, is_relayed: bool = False, is_told: bool = True) -> None:
        self.is_connected = False
        self._token = f"connected {os.urandom(16).hex()}"
        self._said = b""
        self.errors, theirs = os.pipe()
        source, self.requests = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 2), (os.POSIX_SPAWN_DUP2, source, 0)]
        self.replies, sink = os.pipe() if is_relayed else (-1, -1)
        if is_relayed:
            actions.append((os.POSIX_SPAWN_DUP2, sink, 1))
        # Run when it has logged in, by the shell in $SHELL or else in the passwd file, which may be anything.
        tell = ["-oPermitLocalCommand=yes", f"-oLocalCommand=echo {self._token} >&2"] if is_told else []
        environment = {**os.environ, "SHELL": "/bin/sh"}
        try:
            self.pid = os.posix_spawnp("ssh", ["ssh", *tell, *arguments], environment, file_actions=actions)
        except FileNotFoundError:
            sys.exit("ssh is not installed on this host: apt install openssh-client")
        for descriptor in (theirs, source, *([sink] if is_relayed else [])):
            os.close(descriptor)
        self.ended = os.pidfd_open(self.pid)

    def wait_until_connected(self, seconds: float) -> bool:
        """Whether it has logged in; False when it has ended, the time is over or sshfs has gone."""
        deadline = time.monotonic() + seconds
        watched = select.poll()
        watched.register(SOCKET, 0)  # only its end
        watched.register(self.ended, select.POLLIN)
        watched.register(self.errors, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            happened = dict(watched.poll(left * 1000))
            if happened.get(self.errors, 0) & select.POLLIN:
                self.listen()
                if self.is_connected:
                    return True
            elif happened:
                return False
        return False

    def listen(self) -> bool:
        """Keep the end of what it says; False when it cannot say any more."""
        data = os.read(self.errors, KEPT)
        self._said = (self._said + data)[-2 * KEPT :]  # the token may have come in two parts
        _, token, rest = self._said.partition(f"{self._token}\n".encode())
        if token:
            self.is_connected, self._said = True, rest
        return bool(data)

    def finish(self, patience: float) -> str:
        """End it, at the latest after ``patience`` seconds, and return the last line it said."""
        os.close(self.requests)
        if not select.select([self.ended], [], [], patience)[0]:
            os.kill(self.pid, SIGKILL)
        os.waitpid(self.pid, 0)
        while select.select([self.errors], [], [], 0)[0]:  # else something it started lives on, and says nothing
            if not self.listen():
                break
        os.close(self.errors)
        os.close(self.ended)
        lines = [line.strip() for line in self._said.decode("utf-8", "replace").split("\n") if line.strip()]
        return "".join(c if c.isprintable() else " " for c in lines[-1])[:LONGEST_ERROR] if lines else ""


def write(descriptor: int, data: bytes) -> None:
    """All of it. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def log(text: str) -> None:
    """To the journal of the unit."""
    write(2, f"{text}\n".encode())
