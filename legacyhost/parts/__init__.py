"""What one plugin is made of: a part for each surface, each slow or broken without the others."""

from __future__ import annotations

from typing import Protocol

from legacyhost.config import Config
from legacyhost.rpc import Surface


class Part(Protocol):
    """One surface of a plugin, and what stands behind it."""

    surface: Surface

    @property
    def implementation(self) -> object:
        """What answers now; rpc.Nobody where that is nobody."""
        ...

    @property
    def trouble(self) -> str:
        """Why it does not serve; empty where it does."""
        ...

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be tried again, with the configuration as it is then."""
        ...

    @property
    def status(self) -> str:
        """What it does, in words for STATUS=."""
        ...

    def take_over(self, config: Config, *, is_asked: bool) -> str:
        """Serve by that configuration; not asked, only if that is another one, or would do better.

        Returns why not; empty where it does. What serves then goes on by the old one.
        """
        ...

    def rest(self) -> None:
        """There is no section for it any more."""
        ...

    def finish(self) -> None:
        """Nothing is asked any more: the process ends."""
        ...
