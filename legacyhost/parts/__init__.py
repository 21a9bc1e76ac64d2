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
    def status(self) -> str:
        """What it does, in words for STATUS=."""
        ...

    def take_over(self, config: Config) -> str:
        """Serve by that configuration. Returns why not; empty where it does. What serves then goes on by the old one."""
        ...

    def rest(self) -> None:
        """There is no section for it any more."""
        ...
