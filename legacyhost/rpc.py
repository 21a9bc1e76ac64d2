"""The handshake and the way from an RPC's name to the function that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from legacyhost import wire
from legacyhost.errors import UnknownMethod
from legacyhost.wire import Fields

Reply = Mapping[str, object]
#: Takes the object that implements the surface, and the fields of the request.
Handler = Callable[[Any, Fields], Reply]

ACTIVATE = "Plugin.Activate"


def plain_error(message: str) -> Reply:
    """The one form of an error that every Docker and Podman understands, together with a status other than 200."""
    return {"Err": message}


@dataclass(frozen=True)
class Surface:
    """One subsystem of the handshake: what it is called, and its methods.

    ``implements`` is the word in the reply to Plugin.Activate, ``prefix`` stands before the dot of each RPC
    (the same for volumes; not for authz). ``error`` builds the body of an error reply. ``activated`` is told that an
    engine has started.
    """

    implements: str
    prefix: str
    methods: Mapping[str, Handler]
    error: Callable[[str], Reply] = plain_error
    activated: Callable[[Any], None] = lambda _: None


class Plugin:
    """One plugin: the surfaces its configuration serves, each with the object behind it."""

    def __init__(self, name: str, served: Sequence[tuple[Surface, object]]) -> None:
        self.name = name
        self._served = served
        self._methods = {
            f"{surface.prefix}.{method}": (handler, implementation)
            for surface, implementation in served
            for method, handler in surface.methods.items()
        }
        self._errors = {surface.prefix: surface.error for surface, _ in served}

    def call(self, rpc: str, body: bytes) -> Reply:
        """Answer one RPC. Raises PluginError."""
        if rpc == ACTIVATE:
            return {"Implements": [surface.implements for surface, _ in self._served]}
        found = self._methods.get(rpc)
        if found is None:
            raise UnknownMethod(f"plugin {self.name} has no method {wire.printable(rpc)}")
        handler, implementation = found
        return handler(implementation, wire.parse(body))

    def activated(self) -> None:
        """An engine that runs as a daemon has introduced itself: it has started just now."""
        for surface, implementation in self._served:
            surface.activated(implementation)

    def error(self, rpc: str, message: str) -> Reply:
        """The body of an error reply to that RPC."""
        return self._errors.get(rpc.partition(".")[0], plain_error)(message)
