"""How much time is left: made once where a request arrives, handed down to everything that may wait."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock; ``seconds`` is the whole time that was allowed, for messages."""

    at: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds, seconds)

    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def is_over(self) -> bool:
        return self.left() == 0.0

    def at_most(self, seconds: float) -> float:
        """Seconds left, but no more than ``seconds``."""
        return min(self.left(), seconds)
