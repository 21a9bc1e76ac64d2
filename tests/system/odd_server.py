"""SSH servers that misbehave, and a name server that knows no name: inside a machine, changed while they run.

This file is a program, too, run in the machine with Debian's own paramiko beside tests/oddsshd.py. It takes one command
a line and answers each with one line: ``new`` (``PORT KIND BLOB``), ``PORT MODE`` and ``dns on|off`` (``done``).
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inside import Background
    from .machine import Machine

TESTS = Path(__file__).parents[1]
PLACE = "/root/odd"
#: The account of every odd server, and its password while nothing is wrong.
USER, PASSWORD = "anna", "s3same-open"
GREETING = b"SSH-2.0-OpenSSH_9.2\r\n"
#: What is said to whoever connects, before the connection is closed.
WORDS = {
    "silence": b"",
    "nothing": b"",
    "http": b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nConnection: close\r\n\r\n",
    "too-many": b"Exceeded MaxStartups\r\n",
    "penalty": b"Not allowed at this time\r\n",
    "ssh-1": b"SSH-1.5-1.2.27\r\n",
    "greeting": GREETING,
    "nonsense": GREETING + b"\x00\x00\x00\x0c" + b"\xff" * 60,
}
#: What a server that is an SSH server does otherwise than it should; see oddsshd.Manners.
MANNERS: dict[str, dict[str, Any]] = {
    "good": {},
    "two-questions": {
        "methods": "keyboard-interactive",
        "questions": [("Password: ", False), ("Token: ", False)],
        "answers": [PASSWORD, "123456"],
    },
    "hangs-at-login": {"hang_at": "login"},
    "closes-at-login": {"close_at_login": True},
    "hangs-at-session": {"hang_at": "session"},
    "hangs-at-sftp": {"hang_at": "subsystem"},
}


class OddServers:
    """The process in the machine, and the servers in it."""

    def __init__(self, machine: Machine) -> None:
        for name in ("oddsshd.py", "sshd.py", "system/odd_server.py"):
            machine.put(TESTS / name, f"{PLACE}/{Path(name).name}")
        machine.run(["mkdir", "-p", f"{PLACE}/data"])
        self._lock = threading.Lock()
        self._errors = machine.path("/var/tmp/odd-server.log").open("w+")
        self._process: Background = machine.popen(
            ["/bin/sh", "-c", f"cd {PLACE} && exec python3 odd_server.py"], stdin=-1, stderr=self._errors
        )

    def new(self) -> OddServer:
        port, kind, blob = self.tell("new").split()
        return OddServer(self, int(port), f"{kind} {blob}")

    def tell(self, command: str) -> str:
        """The answer to a command. Raises AssertionError when the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().strip()
        if not answer:
            self._errors.seek(0)
            raise AssertionError(f"the odd servers have ended: {self._errors.read()}")
        return answer

    def close(self) -> None:
        self._process.end()
        self._errors.close()


class OddServer:
    """One of them; it behaves until it is told to ``become`` something else."""

    def __init__(self, servers: OddServers, port: int, host_key: str) -> None:
        self._servers = servers
        self.port = port
        self.where = f"127.0.0.1:{port}"
        self.known_hosts_line = f"[127.0.0.1]:{port} {host_key}"

    def become(self, mode: str) -> None:
        self._servers.tell(f"{self.port} {mode}")

    def options(self, **more: str) -> dict[str, str]:
        """Those of a volume there."""
        return {"sshcmd": f"{USER}@127.0.0.1:data", "port": str(self.port), "password": PASSWORD, **more}


def _serve() -> None:
    """The program."""
    import oddsshd

    class Changing(oddsshd.OddServer):
        """Does what its mode says to each new connection."""

        def __init__(self) -> None:
            super().__init__()
            self.change("good")

        def change(self, mode: str) -> None:
            self.mode = mode
            self.manners = oddsshd.Manners()
            self.manners.users = {USER: PASSWORD}
            self.manners.ended = self.ended
            for name, value in MANNERS.get(mode, {}).items():
                setattr(self.manners, name, value)

        def _talk(self, sock: socket.socket) -> None:
            if self.mode in MANNERS:
                super()._talk(sock)
                return
            sock.sendall(WORDS[self.mode])
            if self.mode in ("silence", "greeting"):
                self.ended.wait(60)
            with suppress(TimeoutError):  # what was not read would make a reset of the end
                sock.settimeout(1)
                sock.recv(1000)

    servers: dict[str, Changing] = {}
    names = NameServer()
    for line in sys.stdin:
        what, *rest = line.split()
        answer = "done"
        if what == "new":
            server = Changing().__enter__()
            servers[str(server.port)] = server
            answer = f"{server.port} ssh-rsa {server.key.get_base64()}"
        elif what == "dns":
            names.switch(rest == ["on"])
        else:
            servers[what].change(rest[0])
        print(answer, flush=True)


class NameServer:
    """Answers every question for a name with "there is none" (RFC 1035), while it is on."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._off = threading.Event()

    def switch(self, on: bool) -> None:
        self._off.set()
        while self._threads:
            self._threads.pop().join()
        self._off.clear()
        if on:
            bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            bound.bind(("127.0.0.1", 53))
            bound.settimeout(0.1)
            self._threads.append(threading.Thread(target=self._answer, args=(bound,), daemon=True))
            self._threads[0].start()

    def _answer(self, bound: socket.socket) -> None:
        with bound:
            while not self._off.is_set():
                with suppress(TimeoutError):
                    question, sender = bound.recvfrom(512)
                    bound.sendto(question[:2] + b"\x81\x83" + question[4:6] + bytes(6) + question[12:], sender)


if __name__ == "__main__":
    _serve()
