"""Answers of an SFTP server: a byte that says what is asked, one of flags, then for each answer its kind, two bytes of
size and the content; the number of the request it answers is put in."""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from hypothesis import strategies as st

from fuzz.target import Target, judge
from legacyhost.deadline import Deadline
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh.attempt import Attempt
from legacyhost.ssh.connection import Connection
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.sftp import Sftp
from legacyhost.ssh.target import HostKey
from legacyhost.ssh.target import Target as Place

STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
INIT, REMOVE, MKDIR, RMDIR, REALPATH = 1, 13, 14, 15, 16
#: Seconds; nothing here waits for anything.
LIMIT = 20
TOP = "srv/data"
ASKED: list[Callable[[Remote], object]] = [
    lambda remote: remote.ensure_directory("a/b/c", create=True),
    lambda remote: remote.ensure_directory("", create=False),
    lambda remote: remote.real_path("a"),
    lambda remote: remote.free_space("a"),
    lambda remote: remote.is_writable("a"),
    lambda remote: remote.purge(TOP),
    lambda remote: remote.purge("/" + TOP),
]


class Server:
    """What paramiko takes for the channel: it answers as the input says, then ends."""

    closed = False

    def __init__(self, answers: bytes, *, is_raw: bool) -> None:
        self._answers, self._is_raw = answers, is_raw
        self._ready = b""
        self._sent = b""
        self.asked: list[tuple[int, bytes]] = []
        self.told: list[bytes] = []

    def send(self, data: bytes) -> int:
        self._sent += bytes(data)
        while len(self._sent) >= 4 and len(self._sent) >= (size := 4 + int.from_bytes(self._sent[:4], "big")):
            request, self._sent = self._sent[4:size], self._sent[size:]
            self._take(request)
        return len(data)

    def _take(self, request: bytes) -> None:
        self.asked.append((request[0], request[5:]))
        if request[0] == INIT:
            self._ready += struct.pack(">IBI", 5, 2, 3)
        elif self._is_raw:
            self._ready, self._answers = self._ready + self._answers, b""
        elif len(self._answers) >= 3:
            kind, size = self._answers[0], int.from_bytes(self._answers[1:3], "big")
            content, self._answers = self._answers[3 : 3 + size], self._answers[3 + size :]
            if request[0] == REALPATH and kind == NAME:
                self.told.append(content)
            self._ready += struct.pack(">IB", len(content) + 5, kind) + request[1:5] + content

    def recv(self, size: int) -> bytes:
        data, self._ready = self._ready[:size], self._ready[size:]
        return data  # nothing: the server has gone

    def recv_stderr(self, _size: int) -> bytes:
        return b""

    def settimeout(self, _seconds: float) -> None:
        """Nothing here takes time."""

    def get_name(self) -> str:
        return "server"

    def close(self) -> None:
        self.closed = True


def check(data: bytes) -> None:
    """Whatever a server answers, the end is a value or a sentence, and only what is below the purged is deleted."""
    if len(data) < 2:
        return
    server = Server(data[2:], is_raw=bool(data[1] & 1))
    attempt = Attempt(Deadline.after(LIMIT))
    connection = cast(Connection, SimpleNamespace(key=HostKey("ssh-ed25519", "")))
    remote = Remote(Place("nas", "root", TOP), attempt, connection, Sftp(server))
    try:
        ASKED[data[0] % len(ASKED)](remote)
    except (Failed, InvalidRequest) as error:
        judge(error.message, data)
        assert "did not answer within" not in error.message
    deleted = [content for kind, content in server.asked if kind in (REMOVE, RMDIR)]
    made = [string(content) for kind, content in server.asked if kind == MKDIR]
    if ASKED[data[0] % len(ASKED)] in ASKED[5:]:
        assert not made
        if deleted:
            home, top = (string(told, 4) for told in server.told[:2])
            assert not (home + b"/").startswith(top.rstrip(b"/") + b"/")
            for path in map(string, deleted):
                below = path.removeprefix(top.rstrip(b"/") + b"/")
                assert path != below, (top, path)
                assert not {b"", b".", b".."} & set(below.split(b"/")), (top, path)
    else:
        assert [string(path) for path in deleted] == [path for path in made if b".legacyhost-" in path][: len(deleted)]


def string(content: bytes, place: int = 0) -> bytes:
    size = int.from_bytes(content[place : place + 4], "big")
    return content[place + 4 : place + 4 + size]


def _text(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _answer(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + struct.pack(">H", len(content)) + content


NAMES = st.sampled_from(
    [
        b"/",
        b"/home/u",
        b"/home/u/srv/data",
        b"/srv/data",
        b"a",
        b"..",
        b".",
        b"a/b",
        b"",
        b"\xff\n\x1b[2J",
        b"/home",
        b"//",
    ]
)
MODES = st.sampled_from([0o040755, 0o100644, 0o120777, 0o010644, 0xFFFFFFFF, 0])
ATTRIBUTES = st.one_of(
    MODES.map(lambda mode: struct.pack(">II", 4, mode)),
    st.sampled_from([bytes(4), b"", b"\xff" * 4, struct.pack(">II", 0x80000000, 0xFFFFFFFF)]),
)
LISTED = st.builds(lambda name, mode: _text(name) + _text(b"-rw") + mode, NAMES, ATTRIBUTES)
ANSWERS = st.one_of(
    ATTRIBUTES.map(lambda attributes: _answer(ATTRS, attributes)),
    ATTRIBUTES.map(lambda attributes: _answer(ATTRS, attributes)),
    st.builds(
        lambda code, text: _answer(STATUS, struct.pack(">I", code) + _text(text) + _text(b"")),
        st.sampled_from([0, 0, 1, 2, 3, 4, 8, 99]),
        st.sampled_from([b"", b"Failure", b"\x1b[31mred\n\0", b"\xff" * 9, b"x" * 3000, "é\u2028".encode()]),
    ),
    st.builds(lambda name: _answer(NAME, struct.pack(">I", 1) + _text(name) + _text(b"") + bytes(4)), NAMES),
    st.lists(LISTED, max_size=3).map(lambda found: _answer(NAME, struct.pack(">I", len(found)) + b"".join(found))),
    st.just(_answer(HANDLE, _text(b"handle"))),
    st.just(_answer(EXTENDED_REPLY, struct.pack(">11Q", 4096, 4096, 10, 5, 5, 9, 9, 9, 0, 0, 255))),
    st.builds(_answer, st.integers(0, 255), st.binary(max_size=20)),
)


def _purge(names: list[bytes], rest: list[bytes]) -> bytes:
    """How a purge begins: what it is, where home and the real directory are, its list."""
    one = [_answer(NAME, struct.pack(">I", 1) + _text(name) + _text(b"") + bytes(4)) for name in names]
    directory = _answer(ATTRS, struct.pack(">II", 4, 0o040755))
    return b"\5\0" + b"".join([directory, *one, directory, _answer(HANDLE, _text(b"h")), *rest])


TARGET = Target(
    "sftp",
    check,
    words=[_answer(STATUS, struct.pack(">I", code) + _text(b"") * 2) for code in range(5)]
    + [_answer(ATTRS, struct.pack(">II", 4, 0o040755)), _answer(HANDLE, _text(b"h")), b"\xff\xff\xff\xff", b"\0\0\0\1"],
    made=st.one_of(
        st.builds(
            lambda head, answers: bytes(head) + b"".join(answers),
            st.tuples(st.integers(0, 6), st.sampled_from([0, 0, 1])),
            st.lists(ANSWERS, max_size=20),
        ),
        st.builds(_purge, st.lists(NAMES, min_size=2, max_size=2), st.lists(ANSWERS, max_size=20)),
    ),
    examples=300,
)
