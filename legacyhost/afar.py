"""A plugin as an engine on another host has it: what would only have a meaning on this host is refused."""

from __future__ import annotations

from collections.abc import Callable

from legacyhost import standpoint
from legacyhost.errors import Refused
from legacyhost.rpc import Reply
from legacyhost.web import Callee, NotServingPlugin

#: Calls that are about a path on this host.
HERE = frozenset({"VolumeDriver.Mount", "VolumeDriver.Unmount", "VolumeDriver.Path"})


class Afar:
    """Hands on every call but those."""

    def __init__(self, plugin: Callee) -> None:
        self._plugin = plugin
        self.name = plugin.name

    def call(self, rpc: str, body: bytes) -> Reply:
        if rpc in HERE:
            raise Refused(
                f"the plugin {self.name} is reached over the network: its volumes can be made, listed and removed from"
                " here, but they are mounted on its own host, where this engine cannot see them (one that can:"
                f" 'mounts = true' under [listen] in {self.name}.toml)"
            )
        with standpoint.elsewhere():
            return self._plugin.call(rpc, body)

    def activated(self, *, is_here: bool = True) -> None:
        """An engine that mounts nothing here has left nothing here: no reason to doubt what others hold."""
        self._plugin.activated(is_here=False)

    def error(self, rpc: str, message: str) -> Reply:
        return self._plugin.error(rpc, message)

    def body_limit(self, rpc: str) -> int:
        return self._plugin.body_limit(rpc)

    def is_quiet(self, rpc: str) -> bool:
        return self._plugin.is_quiet(rpc)


def afar(current: Callable[[], Callee]) -> Callable[[], Callee]:
    """The same, each time as far as it has a meaning elsewhere."""

    def found() -> Callee:
        plugin = current()
        return plugin if isinstance(plugin, NotServingPlugin) else Afar(plugin)

    return found
