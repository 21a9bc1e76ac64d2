"""Taking turns: whoever changes a volume does so alone, and nobody waits longer than its own deadline.

This is no lock around the network: Get, List and Path never take a turn, and a turn on one volume
delays nobody on another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed


class Turns:
    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, name: str, deadline: Deadline) -> Iterator[None]:
        """Wait for the turn on ``name``. Raises Failed when the deadline comes first."""
        with self._changed:
            if not self._changed.wait_for(lambda: name not in self._taken, deadline.left()):
                raise Failed(
                    f"another operation on volume {name} has not ended within {deadline.seconds:g} s; try again"
                )
            self._taken.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._taken.discard(name)
                self._changed.notify_all()

    def is_busy(self, name: str) -> bool:
        with self._changed:
            return name in self._taken

    def busy(self) -> set[str]:
        """The names somebody has the turn on."""
        with self._changed:
            return set(self._taken)
