"""SSH servers for tests that do what a real sshd cannot be made to do: odd logins, silence at any stage, bad SFTP.

``OddServer`` (paramiko) takes passwords and misbehaves on request. ``Speaker`` runs a function on each raw TCP
connection. Both listen on loopback only.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paramiko
from sshd import HOST


class Speaker:
    """Runs ``speak(socket)`` on every connection, each in a thread; the socket is closed when it returns."""

    def __init__(self, speak: Callable[[socket.socket], None]) -> None:
        self.host = HOST
        self.connections = 0
        self.ended = threading.Event()  # for functions that wait: set when the server is to end
        self._speak = speak
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._threads.append(threading.Thread(target=self._accept, daemon=True, name="speaker"))
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True, name="speaker")
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException), sock:
            self._speak(sock)


class Manners(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko has no types
    """What an ``OddServer`` accepts; every attribute may be changed before a connection comes."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {"anna": "right"}
        self.methods = "password"
        self.questions: list[tuple[str, bool]] = [("Password: ", False)]
        self.answers: list[str] | None = None  # to the questions; None: the password to the first
        self.then: str = ""  # the methods still wanted after a right password
        self.hang_at = ""  # "login", "session", "subsystem", "sftp"
        self.close_at_login = False
        self.has_sftp = True
        self.ended = threading.Event()
        self.passwords_seen: list[str] = []
        self.answers_seen: list[str] = []

    def hang(self, stage: str) -> None:
        if self.hang_at == stage:
            self.ended.wait(60)

    def get_allowed_auths(self, username: str) -> str:
        return self.methods

    def check_auth_none(self, username: str) -> int:
        self.hang("login")
        if self.close_at_login:
            raise EOFError
        return int(paramiko.AUTH_FAILED)

    def check_auth_password(self, username: str, password: str) -> int:
        self.passwords_seen.append(password)
        return self._judge(self.users.get(username) == password)

    def check_auth_interactive(self, username: str, submethods: str) -> Any:
        return paramiko.InteractiveQuery("", "", *self.questions)

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        self.answers_seen += responses
        right = list(self.users.values())[:1] if self.answers is None else self.answers
        return self._judge(responses[: len(right)] == right)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self.hang("session")
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_subsystem_request(self, channel: Any, name: str) -> bool:
        self.hang("subsystem")
        return self.has_sftp and bool(super().check_channel_subsystem_request(channel, name))

    def _judge(self, is_right: bool) -> int:
        if not is_right:
            return int(paramiko.AUTH_FAILED)
        if self.then:
            self.methods, self.then = self.then, ""
            return int(paramiko.AUTH_PARTIALLY_SUCCESSFUL)
        return int(paramiko.AUTH_SUCCESSFUL)


class Files(paramiko.SFTPServerInterface):  # type: ignore[misc]  # paramiko has no types
    """SFTP on the tree below ``/`` of this machine, honest unless a subclass is not; links are not resolved."""

    def stat(self, path: str) -> Any:
        return _attributes(lambda: Path(path).stat(), path)

    def lstat(self, path: str) -> Any:
        return _attributes(lambda: Path(path).lstat(), path)

    def list_folder(self, path: str) -> Any:
        try:
            return [self.lstat(str(entry)) for entry in Path(path).iterdir()]
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    def remove(self, path: str) -> int:
        return _status(lambda: Path(path).unlink())

    def mkdir(self, path: str, attributes: Any) -> int:
        return _status(lambda: Path(path).mkdir())

    def rmdir(self, path: str) -> int:
        return _status(lambda: Path(path).rmdir())


class OddServer(Speaker):
    """A paramiko server with an RSA host key, and one ``Manners`` for all connections."""

    def __init__(
        self,
        manners: Manners | None = None,
        files: type[Any] = Files,
        sftp_server: type[Any] = paramiko.SFTPServer,
    ) -> None:
        super().__init__(self._talk)
        self.manners = manners or Manners()
        self.manners.ended = self.ended
        self.key = _rsa_key()
        self._files = files
        self._sftp_server = sftp_server

    def known_hosts_line(self) -> str:
        return f"[{self.host}]:{self.port} ssh-rsa {self.key.get_base64()}"

    def _talk(self, sock: socket.socket) -> None:
        transport = paramiko.Transport(sock)
        transport.add_server_key(self.key)
        transport.set_subsystem_handler("sftp", self._sftp_server, self._files)
        transport.start_server(server=self.manners)
        while transport.is_active() and not self.ended.wait(0.02):
            pass
        transport.close()


def _attributes(look: Callable[[], os.stat_result], path: str) -> Any:
    try:
        return paramiko.SFTPAttributes.from_stat(look(), Path(path).name)
    except OSError as error:
        return paramiko.SFTPServer.convert_errno(error.errno)


def _status(act: Callable[[], None]) -> int:
    try:
        act()
    except OSError as error:
        return int(paramiko.SFTPServer.convert_errno(error.errno))
    return int(paramiko.SFTP_OK)


_keys: list[Any] = []


def _rsa_key() -> Any:
    if not _keys:
        _keys.append(paramiko.RSAKey.generate(2048))
    return _keys[0]
