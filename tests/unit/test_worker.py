"""The worker that gives each connection a thread, where no more connections can be had."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

import pytest

from legacyhost.worker import ThreadPerConnection


@dataclass
class Listener:
    """A listening socket whose next connection cannot be taken."""

    number: int

    def accept(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_lack_of_descriptors_ends_no_call_in_flight(number: int) -> None:
    """The connection waits in the kernel until a descriptor is free; the worker, and the calls in it, go on."""
    ThreadPerConnection.accept(object.__new__(ThreadPerConnection), Listener(number))


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBADF])
def test_other_errors_are_for_the_loop_that_accepts(number: int) -> None:
    """It knows what to do about a connection that has gone, and that a socket that is none is the end."""
    with pytest.raises(OSError, match=os.strerror(number)):
        ThreadPerConnection.accept(object.__new__(ThreadPerConnection), Listener(number))
