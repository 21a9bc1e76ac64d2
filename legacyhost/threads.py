"""Threads that are there as long as there is something to do: to start one takes longer than to answer most calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

#: Seconds a thread waits for something else to do.
REST = 5.0


class Threads:
    """As many as there are tasks at a time. Safe to use from many threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        #: How many wait and have been promised nothing; what each of the others that wait is to do.
        self._free = 0
        self._tasks: deque[Callable[[], None]] = deque()

    def do(self, task: Callable[[], None]) -> None:
        """Begin it; nothing that goes on delays it. Raises RuntimeError where there can be no further thread."""
        with self._changed:
            if self._free > 0:
                self._free -= 1
                self._tasks.append(task)
                self._changed.notify()
                return
        threading.Thread(target=self._work, args=(task,), name=self._name, daemon=True).start()

    def _work(self, first: Callable[[], None]) -> None:
        task: Callable[[], None] | None = first
        while task is not None:
            task()
            task = self._next()

    def _next(self) -> Callable[[], None] | None:
        """What this thread is to do; None where there has been nothing for long."""
        with self._changed:
            self._free += 1
            if self._changed.wait_for(lambda: self._tasks, REST):
                return self._tasks.popleft()
            self._free -= 1
            return None
