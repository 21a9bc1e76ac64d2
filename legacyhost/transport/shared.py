"""The connection that all volumes of an account share: one login, and one SFTP session whatever the server allows.

A mount that is made asks here first (early.py), and has a connection of its own for all else. ``FOLDER/socket`` takes
SFTP's own frames: INIT is answered when the host has answered it here, or with a frame REFUSED that has the reason as
text; questions are passed on under numbers of their own; nothing else is. It ends, and its folder with it, when the
connection does, or nobody has been there for some time; whoever is there then does without.
"""

from __future__ import annotations

import _socket  # socket itself takes as long to load as all the rest
import os
import select
import time
from _collections_abc import Sequence

from legacyhost.transport.early import is_question
from legacyhost.transport.frames import HEADER, INIT, NUMBER, REFUSED, VERSION, cut
from legacyhost.transport.ssh import CHUNK, PATIENCE, SIGKILL, Ssh, log, write

#: Seconds without anybody after which it ends.
IDLE = 60.0
#: Bytes of an answer; none to a question is longer than a path or two.
LEAST, LONGEST = 9, 1 << 17
#: Seconds after which it is tried again when there are no descriptors left.
BREATH = 0.1
#: What stays in the folder when the host has answered: by the first it is found, by the second it says what it says.
KEPT = ("digest", "socket", "output")
HELLO = HEADER.pack(5, INIT) + NUMBER.pack(3)


class Client:
    """One mount that is being made, or has been; ``line`` is a descriptor, until it is gone."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.rest = b""
        self.is_waiting = self.is_gone = False


class Shared:
    """``arguments`` are ssh's."""

    def __init__(self, folder: str, arguments: Sequence[str]) -> None:
        self._folder = folder
        self._ssh = Ssh(arguments, is_relayed=True, is_told=False)  # the host says so itself
        self._listener = _listening(folder)
        self._clients: dict[int, Client] = {}
        #: By our number: who has asked, with which number.
        self._asked: dict[bytes, tuple[Client, bytes]] = {}
        self._number = 0
        self._version = self._rest = b""
        self._watched = select.poll()

    def run(self) -> int:
        """Until its end; the exit status."""
        ssh, watched = self._ssh, self._watched
        try:  # noqa: SIM105 - contextlib takes longer to load than all the rest
            write(ssh.requests, HELLO)
        except BrokenPipeError:
            pass  # it has ended, which is noticed below
        os.set_blocking(ssh.requests, False)
        for descriptor in (self._listener.fileno(), ssh.replies, ssh.errors, ssh.ended):
            watched.register(descriptor, select.POLLIN)
        alone_since = time.monotonic()
        while True:
            if self._clients:
                alone_since = time.monotonic()
            elif time.monotonic() > alone_since + IDLE:
                ssh.finish(0.0)
                return 0
            happened = dict(watched.poll(IDLE * 1000))
            if ssh.ended in happened or (ssh.replies in happened and not self._listen()):
                self._lost(ssh.finish(PATIENCE))
                return 0 if self._version else 1
            if ssh.errors in happened and not ssh.listen():
                watched.unregister(ssh.errors)
            for descriptor in happened.keys() & self._clients.keys():
                self._serve(self._clients[descriptor])
            if self._listener.fileno() in happened:
                self._accept()

    def _accept(self) -> None:
        try:
            line, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError as error:
            log(f"nobody more is served for now: {error.strerror}")
            time.sleep(BREATH)
            return
        os.set_blocking(line, False)
        self._clients[line] = Client(line)
        self._watched.register(line, select.POLLIN)

    def _serve(self, client: Client) -> None:
        try:
            data = os.read(client.line, CHUNK)
        except OSError:
            data = b""
        frames, client.rest = cut(client.rest + data)
        if not data or len(client.rest) > LONGEST or not all(self._take(client, frame) for frame in frames):
            self._drop(client)

    def _take(self, client: Client, frame: bytes) -> bool:
        """Whether the client may go on."""
        if frame[4] == INIT:
            client.is_waiting = not self._version
            return not self._version or _sent(client, self._version)
        if not is_question(frame) or not self._version:
            return False
        self._number = (self._number + 1) % (1 << 32)
        number = NUMBER.pack(self._number)
        try:
            # A pipe takes all of up to 4096 bytes or, if there is no room, nothing (pipe(7)); of more, perhaps a part.
            is_sent = os.write(self._ssh.requests, frame[:5] + number + frame[9:]) == len(frame)
        except BlockingIOError:
            return False
        except BrokenPipeError:  # the end of ssh is noticed by itself
            return False
        if not is_sent:
            os.kill(self._ssh.pid, SIGKILL)
        self._asked[number] = client, frame[5:9]
        return is_sent

    def _listen(self) -> bool:
        """Pass on what the host answers; False at the end."""
        data = os.read(self._ssh.replies, CHUNK)
        frames, self._rest = cut(self._rest + data)
        for frame in frames:
            if len(frame) < LEAST:
                return False
            if frame[4] == VERSION and not self._version:
                self._version = frame
                _forget(self._folder, KEPT)  # it logs in but once
                for client in [client for client in self._clients.values() if client.is_waiting]:
                    self._send(client, frame)
            elif frame[5:9] in self._asked:
                client, number = self._asked.pop(frame[5:9])
                self._send(client, frame[:5] + number + frame[9:])
        return bool(data) and len(self._rest) <= LONGEST

    def _send(self, client: Client, frame: bytes) -> None:
        if not client.is_gone and not _sent(client, frame):
            self._drop(client)

    def _drop(self, client: Client) -> None:
        client.is_gone = True
        self._watched.unregister(client.line)
        del self._clients[client.line]
        os.close(client.line)
        self._asked = {number: asked for number, asked in self._asked.items() if asked[0] is not client}

    def _lost(self, said: str) -> None:
        said = said or ("the connection was closed" if self._version else "the host did not answer in time")
        log(said)
        text = said.encode()
        for client in self._clients.values():
            if client.is_waiting and not self._version:
                _sent(client, HEADER.pack(1 + len(text), REFUSED) + text)


def _sent(client: Client, frame: bytes) -> bool:
    """At once and as a whole; whoever does not take it does without."""
    try:
        return os.write(client.line, frame) == len(frame)
    except OSError:
        return False


def _listening(folder: str) -> _socket.socket:
    """There under its name when it can be connected to."""
    os.chdir(folder)  # a path of a socket has 107 bytes at most
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    listener.bind("draft")
    listener.listen(4096)
    listener.setblocking(False)
    os.rename("draft", "socket")
    return listener


def _forget(folder: str, kept: Sequence[str] = ()) -> None:
    for name in os.listdir(folder):
        if name not in kept:
            os.unlink(f"{folder}/{name}")


def main(folder: str, arguments: Sequence[str]) -> int:
    """Until the end, after which nothing is left of the folder."""
    try:
        return Shared(folder, arguments).run()
    finally:
        os.chdir("/")
        _forget(folder)
        os.rmdir(folder)
