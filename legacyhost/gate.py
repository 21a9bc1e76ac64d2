"""How many connections from the network there may be: so many that the plugin's own socket always has room."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from typing import Protocol

#: Connections at a time, and of these such of whom is not known yet who they are.
MOST, STRANGERS = 1024, 128
#: Seconds after which a stranger may have to make room for another: a handshake takes milliseconds.
GRACE = 1.0


class Guest(Hashable, Protocol):
    def cut(self) -> None:
        """End it, from another thread than the one that is at it."""
        ...


class Gate:
    """Safe to use from many threads; one of them waits for room."""

    def __init__(self, most: int = MOST, strangers: int = STRANGERS, grace: float = GRACE) -> None:
        self._most, self._limit, self._grace = most, strangers, grace
        self._changed = threading.Condition()
        self._inside: set[Guest] = set()
        #: The oldest first, and since when.
        self._strangers: dict[Guest, float] = {}

    def wait(self) -> None:
        """Until one more may come. Where strangers take all the room, the one that is here longest has to go."""
        with self._changed:
            while len(self._inside) >= self._most or len(self._strangers) >= self._limit:
                pause = None
                if self._strangers:
                    oldest, since = next(iter(self._strangers.items()))
                    pause = since + self._grace - time.monotonic()
                    if pause <= 0:
                        del self._strangers[oldest]
                        oldest.cut()
                        continue
                self._changed.wait(pause)

    def enter(self, guest: Guest) -> None:
        with self._changed:
            self._inside.add(guest)
            self._strangers[guest] = time.monotonic()

    def known(self, guest: Guest) -> None:
        """It has shown who it is."""
        with self._changed:
            self._strangers.pop(guest, None)
            self._changed.notify()

    def leave(self, guest: Guest) -> None:
        with self._changed:
            self._inside.discard(guest)
            self._strangers.pop(guest, None)
            self._changed.notify()
