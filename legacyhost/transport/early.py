"""What sshfs asks first, answered over the connection that all volumes of the account share (shared.py).

A login takes a hundred times as long as a question. So a mount begins with the connection that is there, and gets its
own meanwhile. Only what changes nothing and can be asked again goes over the shared one; a file is opened over the
mount's own, so no data of one volume is ever in the way of another's, and one change is made: from asking there to all
of it here, with what has not been answered until then.
"""

from __future__ import annotations

import _socket  # socket itself takes as long to load as all the rest
import _thread
import os
import select
import time

from legacyhost.transport.frames import EXTENDED, INIT, NUMBER, QUESTIONS, REFUSED, STATVFS, VERSION, cut
from legacyhost.transport.ssh import CHUNK, SOCKET, write

#: Seconds for the shared connection's process to be there, and between two looks; to pass on what is asked.
START, PAUSE = 1.0, 0.002
#: Requests, more than the version of any greeting.
FIRST = 16
#: What can happen: sshfs has been answered; it wants more than questions; or there is nothing to wait for any more.
ANSWERED, WANTED, OVER = b"a", b"w", b"o"


class Early:
    """The first part of a mount; its work is done by a thread, between sshfs and ``shared``, a descriptor."""

    def __init__(self, shared: int) -> None:
        #: What sshfs has said first; why the host cannot be used, if that has been said.
        self.first, self.refusal = b"", ""
        self.is_answered = False
        self._shared, self._is_useful = shared, True
        #: What the host has introduced itself with, as the number of a request; the numbers of the first ones.
        self._greeting = b""
        self._numbers: set[bytes] = set()
        self._is_stopped = False
        self._asked: dict[bytes, bytes] = {}
        self._held: list[bytes] = []
        self._rest = self._heard = b""
        self._told, self._tell = os.pipe()
        self._stopped, self._stop = os.pipe()
        self._at_work = _thread.allocate_lock()
        self._at_work.acquire()
        _thread.start_new_thread(self._run, ())

    @classmethod
    def begin(cls, folder: str) -> Early | None:
        """With the process whose folder this is; None if it is not there."""
        shared = _connected(folder)
        return None if shared is None else cls(shared)

    def wait(self, seconds: float) -> bytes:
        """The next thing that happens; nothing when the time is over."""
        if not select.select([self._told], [], [], max(0.0, seconds))[0]:
            return b""
        return os.read(self._told, 1)

    def is_greeting_nobodys(self) -> bool:
        """Whether sshfs will take a second greeting for the answer to a request there is not (any more).

        It reads the version in it as the number of a request. It counts its requests.
        """
        outstanding = self._greeting in self._asked or any(frame[5:9] == self._greeting for frame in self._held)
        return self._greeting in self._numbers and not outstanding

    def is_waiting(self) -> bool:
        """Whether there is a question without an answer."""
        return bool(self._asked)

    def stop(self) -> bytes:
        """Ask nothing more; returns what sshfs has no answer to yet. The connection stays, as a sign of use."""
        if not self._is_stopped:
            os.write(self._stop, b".")
            self._at_work.acquire()
            self._is_stopped = True
        first = b"" if self.is_answered else self.first
        return b"".join([first, *self._asked.values(), *self._held, self._rest])

    def _run(self) -> None:
        watched = select.poll()
        for descriptor in (SOCKET, self._stopped, self._shared):
            watched.register(descriptor, select.POLLIN)
        try:
            while True:
                happened = dict(watched.poll())
                if self._stopped in happened:
                    break
                if self._shared in happened and not self._listen():
                    watched.unregister(self._shared)
                    self._give_up()
                if SOCKET in happened:
                    data = os.read(SOCKET, CHUNK)
                    if not data:
                        break
                    self._take(data)
        except OSError:  # sshfs has gone, which the other thread sees too
            pass
        finally:
            self._give_up()
            self._at_work.release()

    def _take(self, data: bytes) -> None:
        frames, self._rest = cut(self._rest + data)
        for frame in frames:
            if frame[4] == INIT:
                self.first = frame
                self._ask(frame)
                continue
            is_held = bool(self._held) or not is_question(frame)  # sshfs opens a file and asks for its size in one go
            if is_held:
                self._held.append(frame)
            else:
                self._asked[frame[5:9]] = frame
            if len(self._numbers) < FIRST:  # after that, so that the other thread never takes it for answered
                self._numbers.add(frame[5:9])
            if not is_held:
                self._ask(frame)
            elif len(self._held) == 1:
                os.write(self._tell, WANTED)

    def _ask(self, frame: bytes) -> None:
        if not self._is_useful:
            return
        try:
            is_sent = os.write(self._shared, frame) == len(frame)
        except OSError:  # it is stuck or has gone; the own connection is asked then
            is_sent = False
        if not is_sent:
            self._give_up()

    def _listen(self) -> bool:
        """Pass on what has been answered; False when nothing more will be."""
        if not self._is_useful:
            return False
        try:
            data = os.read(self._shared, CHUNK)
        except OSError:
            return False
        frames, self._heard = cut(self._heard + data)
        for frame in frames:
            if frame[4] == REFUSED:
                self.refusal = frame[5:].decode("utf-8", "replace")
                return False
            if frame[4] == VERSION:
                write(SOCKET, frame)
                self._greeting = frame[5:9]
                self.is_answered = True
                os.write(self._tell, ANSWERED)
            elif self._asked.pop(frame[5:9], b""):
                write(SOCKET, frame)
        return bool(data)

    def _give_up(self) -> None:
        self._is_useful = False
        os.write(self._tell, OVER)


def is_question(frame: bytes) -> bool:
    """Whether it changes nothing, has to do with no open file, and has a short answer."""
    if frame[4] == EXTENDED and len(frame) >= 13:
        return frame[13 : 13 + NUMBER.unpack_from(frame, 9)[0]] == STATVFS
    return frame[4] in QUESTIONS and len(frame) >= 9


def _connected(folder: str) -> int | None:
    """To the socket in that folder, which may be on its way; None where it is not, or does not come soon."""
    try:
        place = os.open(folder, os.O_PATH)
    except OSError:
        return None
    deadline = time.monotonic() + START
    try:
        while time.monotonic() < deadline:
            line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            line.settimeout(START)
            try:
                line.connect(f"/proc/self/fd/{place}/socket")  # a path of a socket has 107 bytes at most
                return line.detach()
            except FileNotFoundError:
                line.close()
                if not os.path.exists(folder):
                    return None
                time.sleep(PAUSE)
            except OSError:
                line.close()
                return None
    finally:
        os.close(place)
    return None
