"""The worker that gives each connection a thread: no more connections to be had, and what is sent when."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from fakes import WAIT
from gunicorn.config import Config
from gunicorn.glogging import Logger

from legacyhost.web import NotServingPlugin, create_app
from legacyhost.worker import ThreadPerConnection


@dataclass
class Listener:
    """A listening socket whose next connection cannot be taken."""

    number: int

    def accept(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


def worker(app: Any) -> ThreadPerConnection:
    """As far as handling one connection needs it."""
    made = object.__new__(ThreadPerConnection)
    made.cfg, made.wsgi, made.log = Config(), app, Logger(Config())
    made.nr, made.max_requests, made.alive = 0, sys.maxsize, True
    made._accepted, made._at_work, made._changed = set(), set(), threading.Condition()
    return made


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_lack_of_descriptors_ends_no_call_in_flight(number: int) -> None:
    """The connection waits in the kernel until a descriptor is free; the worker, and the calls in it, go on."""
    ThreadPerConnection.accept(object.__new__(ThreadPerConnection), Listener(number))


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBADF])
def test_other_errors_are_for_the_loop_that_accepts(number: int) -> None:
    """It knows what to do about a connection that has gone, and that a socket that is none is the end."""
    with pytest.raises(OSError, match=os.strerror(number)):
        ThreadPerConnection.accept(object.__new__(ThreadPerConnection), Listener(number))


def test_a_reply_is_sent_whole_or_not_at_all() -> None:
    """By one system call: a kill between a status and its body would be an answer, by which Docker forgets a volume."""
    app = create_app(lambda: NotServingPlugin("foo", "it is starting"))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # what is sent apart arrives apart
    with ours, theirs:
        ours.settimeout(WAIT)
        ours.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        worker(app).handle(theirs, theirs, "")
        reply = ours.recv(1 << 16)
        assert reply.startswith(b"HTTP/1.1 500 ")
        assert reply.endswith(b'{"Err":"plugin foo is not serving: it is starting"}\n')
        assert ours.recv(1 << 16) == b""


def test_what_is_not_answered_is_not_begun() -> None:
    """Of a call that ends without a reply nothing has been sent."""
    app = create_app(lambda: NotServingPlugin("foo", "it is starting"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(WAIT)
        ours.sendall(b"POST /VolumeDriver.List HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        worker(app).handle(theirs, theirs, "")
        assert ours.recv(1 << 16) == b""
