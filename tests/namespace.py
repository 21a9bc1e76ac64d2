"""Tests that mount for real: each in a child process with mount and process namespaces of its own.

Its mounts go with it, its processes too, and no signal of it can reach a process outside.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import traceback
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import pytest
from fakes import WAIT

P = ParamSpec("P")
_NEW_NAMESPACES = 0x00020000 | 0x20000000  # CLONE_NEWNS | CLONE_NEWPID, unshare(2)
_PRIVATE_RECURSIVELY = 0x00040000 | 0x4000  # MS_PRIVATE | MS_REC, mount(2)
_FORK = multiprocessing.get_context("fork")


def in_own_namespace(test: Callable[P, None]) -> Callable[P, None]:
    """Run the test as the first process of a new process namespace, with a private copy of all mounts."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can mount")
        told, tell = _FORK.Pipe(duplex=False)

        def outer() -> None:
            if _libc().unshare(_NEW_NAMESPACES):
                tell.send(f"no namespaces: {os.strerror(ctypes.get_errno())}")
                return
            inner = _FORK.Process(target=lambda: tell.send(_outcome(lambda: test(*args, **kwargs))))
            inner.start()
            inner.join()

        child = _FORK.Process(target=outer)
        child.start()
        tell.close()
        try:
            outcome = told.recv() if told.poll(WAIT) else f"it has not ended within {WAIT:g} s"
        except EOFError:
            outcome = "it has ended without a word"
        child.join(WAIT)
        child.kill()
        child.join()
        assert not outcome, outcome

    return run


def _outcome(test: Callable[[], None]) -> str:
    """What went wrong, empty when nothing did."""
    libc = _libc()
    try:
        assert os.getpid() == 1, "not the first process of a namespace of its own"
        assert libc.mount(None, b"/", None, _PRIVATE_RECURSIVELY, None) == 0, os.strerror(ctypes.get_errno())
        assert libc.mount(b"proc", b"/proc", b"proc", 0, None) == 0, os.strerror(ctypes.get_errno())
        test()
    except BaseException:  # noqa: BLE001 - the parent reports it, whatever it is
        return traceback.format_exc()
    return ""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
