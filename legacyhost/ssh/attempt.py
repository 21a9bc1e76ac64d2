"""How to leave work that may hang: it runs in a thread of its own, which is abandoned at the deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

from legacyhost.deadline import Deadline


class Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T")
C = TypeVar("C", bound=Closable)


@dataclass
class Stage:
    """What an attempt has waited for; ``detail`` is what it learned then, printable, perhaps empty."""

    name: str
    detail: str = ""


_trace: ContextVar[list[Stage] | None] = ContextVar("stages", default=None)


@contextmanager
def traced() -> Iterator[list[Stage]]:
    """The stages of all attempts that are made in the block, in order: the last is where they are, or have stopped."""
    stages: list[Stage] = []
    token = _trace.set(stages)
    try:
        yield stages
    finally:
        _trace.reset(token)


class Late(Exception):
    """The deadline came first; everything held is closed."""


class Attempt:
    """Work under one deadline, what it holds open, and ``stage``: what is being waited for, for messages.

    No call into the resolver, the kernel or paramiko is trusted to come back. Closing what is held makes the
    abandoned thread end by itself, except one inside the resolver, which ends when that gives up.
    """

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self._stages = _trace.get()
        self._stage = Stage("")
        self._lock = threading.Lock()
        self._held: list[Closable] = []
        self._is_closed = False

    @property
    def stage(self) -> str:
        return self._stage.name

    @stage.setter
    def stage(self, name: str) -> None:
        self._stage = Stage(name)
        if self._stages is not None:
            self._stages.append(self._stage)

    def note(self, detail: str) -> None:
        """What has been learned in this stage, for whoever traces."""
        self._stage.detail = detail

    def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises; raises Late at the deadline, having closed all that is held."""
        results: list[T] = []
        errors: list[BaseException] = []

        def body() -> None:
            try:
                results.append(work())
            except BaseException as error:  # noqa: BLE001 handed to the caller, who is the one to judge it
                errors.append(error)

        if self.deadline.is_over():
            self.close()
            raise Late
        thread = threading.Thread(target=body, name="legacyhost-ssh", daemon=True)
        thread.start()
        thread.join(self.deadline.left())
        if thread.is_alive():
            self.close()
            raise Late
        if errors:
            raise errors.pop()
        return results.pop()

    def hold(self, resource: C) -> C:
        """Have ``resource`` closed with the attempt; raises Late where the attempt is over already."""
        with self._lock:
            if not self._is_closed:
                self._held.append(resource)
                return resource
        resource.close()
        raise Late

    def close(self) -> None:
        """Close everything held. Never raises, never waits for the network.

        The oldest first: what goes through it would wait for it, and ends with it.
        """
        with self._lock:
            self._is_closed = True
            held, self._held = self._held, []
        for resource in held:
            with suppress(OSError):
                resource.close()
