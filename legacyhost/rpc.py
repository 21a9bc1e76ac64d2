"""The handshake and the way from an RPC's name to the function that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from legacyhost import wire
from legacyhost.errors import NotServing, UnknownMethod
from legacyhost.wire import Fields

Reply = Mapping[str, object]
#: Takes the object that implements the surface, and the fields of the request.
Handler = Callable[[Any, Fields], Reply]

ACTIVATE = "Plugin.Activate"
#: What is asked all day and changes nothing, of volumes; so is a Get of a name unknown here, which Docker sends to
#: every plugin for any volume named without its driver.
QUIET = frozenset({"Get", "List", "Path", "Capabilities"})


def plain_error(message: str) -> Reply:
    """The one form of an error that every Docker and Podman understands, together with a status other than 200."""
    return {"Err": message}


@dataclass(frozen=True)
class Surface:
    """One subsystem of the handshake: what it is called, and its methods.

    ``implements`` is the word in the reply to Plugin.Activate, ``prefix`` stands before the dot of each RPC
    (the same for volumes; not for authz). ``error`` builds the body of an error reply. ``activated`` is told that an
    engine has started. ``body_limit``: bytes of a request's body. ``quiet``: methods whose calls are logged only when
    somebody wants to see everything.
    """

    implements: str
    prefix: str
    methods: Mapping[str, Handler]
    error: Callable[[str], Reply] = plain_error
    activated: Callable[[Any], None] = lambda _: None
    body_limit: int = wire.BODY_LIMIT
    quiet: frozenset[str] = QUIET


@dataclass(frozen=True)
class Nobody:
    """Stands behind a surface that cannot answer: its calls end without a reply."""

    reason: str


class Plugin:
    """One plugin: the surfaces its configuration serves, each with the object behind it.

    ``hidden`` are answered, but not advertised: an engine that was told of them may still ask. ``advertised`` is told
    what a daemon has been told.
    """

    def __init__(
        self,
        name: str,
        served: Sequence[tuple[Surface, object]],
        hidden: Sequence[tuple[Surface, object]] = (),
        advertised: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._served = served
        self._advertised = advertised
        everything = [*served, *hidden]
        self._methods = {
            f"{surface.prefix}.{method}": (handler, implementation)
            for surface, implementation in everything
            for method, handler in surface.methods.items()
        }
        self._surfaces = {surface.prefix: surface for surface, _ in everything}

    def call(self, rpc: str, body: bytes) -> Reply:
        """Answer one RPC. Raises PluginError."""
        if rpc == ACTIVATE:
            return {"Implements": self._names()}
        found = self._methods.get(rpc)
        if found is None:
            raise UnknownMethod(f"plugin {self.name} has no method {wire.printable(rpc)}")
        handler, implementation = found
        if isinstance(implementation, Nobody):
            raise NotServing(implementation.reason)
        return handler(implementation, wire.parse(body))

    def activated(self, *, is_here: bool = True) -> None:
        """An engine that runs as a daemon has introduced itself: it has started just now, on this host or elsewhere."""
        self._advertised(self._names())
        for surface, implementation in self._served if is_here else ():
            if not isinstance(implementation, Nobody):
                surface.activated(implementation)

    def error(self, rpc: str, message: str) -> Reply:
        """The body of an error reply to that RPC."""
        surface = self._of(rpc)
        return surface.error(message) if surface else plain_error(message)

    def body_limit(self, rpc: str) -> int:
        """Bytes of a body that are read."""
        surface = self._of(rpc)
        return surface.body_limit if surface else wire.BODY_LIMIT

    def is_quiet(self, rpc: str) -> bool:
        """Whether that call is asked all day, and changes nothing."""
        surface = self._of(rpc)
        return rpc == ACTIVATE or (surface is not None and rpc.rpartition(".")[2] in surface.quiet)

    def _of(self, rpc: str) -> Surface | None:
        return self._surfaces.get(rpc.partition(".")[0])

    def _names(self) -> list[str]:
        return [surface.implements for surface, _ in self._served]
