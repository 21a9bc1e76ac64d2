"""Where the engine is whose call is being answered: on this host, or on another, whose files nobody here can see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_here = ContextVar("is_here", default=True)


def is_here() -> bool:
    """Whether paths mean the same to the engine as to this process; asked by the thread that answers it."""
    return _is_here.get()


@contextmanager
def elsewhere() -> Iterator[None]:
    """What is done meanwhile, in this thread, is for an engine on another host."""
    token = _is_here.set(False)
    try:
        yield
    finally:
        _is_here.reset(token)
