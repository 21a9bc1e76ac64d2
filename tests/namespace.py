"""Tests that mount for real: each in a child process with a mount namespace of its own, which goes with it."""

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
_NEW_MOUNT_NAMESPACE = 0x00020000  # CLONE_NEWNS, unshare(2)
_PRIVATE_RECURSIVELY = 0x00040000 | 0x4000  # MS_PRIVATE | MS_REC, mount(2)


def in_own_namespace(test: Callable[P, None]) -> Callable[P, None]:
    """Run the test in a child process with a mount namespace of its own: its mounts are real, and go with it."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can mount")
        context = multiprocessing.get_context("fork")
        told, tell = context.Pipe(duplex=False)
        child = context.Process(target=lambda: tell.send(_outcome(lambda: test(*args, **kwargs))))
        child.start()
        tell.close()
        try:
            outcome = told.recv() if told.poll(WAIT) else f"it has not ended within {WAIT:g} s"
        except EOFError:
            outcome = "it has ended without a word"
        child.join(1)
        child.kill()
        child.join()
        assert not outcome, outcome

    return run


def _outcome(test: Callable[[], None]) -> str:
    """What went wrong, empty when nothing did."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(_NEW_MOUNT_NAMESPACE) or libc.mount(None, b"/", None, _PRIVATE_RECURSIVELY, None):
            return f"no mount namespace: {os.strerror(ctypes.get_errno())}"
        test()
    except BaseException:  # noqa: BLE001 - the parent reports it, whatever it is
        return traceback.format_exc()
    return ""
