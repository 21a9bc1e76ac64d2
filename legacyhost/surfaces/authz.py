"""authz: what Docker asks before and after each request to it, and in which form it wants the answer.

Source: moby pkg/authorization/{api,authz,plugin}.go. Only ``Allow`` and ``Msg`` of a reply with status 200 count; with
any other status Docker shows ``Err``, and refuses the request too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from legacyhost.rpc import Reply, Surface
from legacyhost.wire import Fields, Kept

#: Bytes. Docker hands on 4 MiB of a body at the most (29.4), which are more in base64, and beside them the headers.
BODY_LIMIT = 16 << 20
ALLOWED = Kept({"Allow": True})


@dataclass(frozen=True)
class Answer:
    """Whether a request may go on; ``message`` is for who has typed ``docker``."""

    allowed: bool
    message: str = ""


class Authorizer(Protocol):
    """What stands behind the surface. Every method raises PluginError, which refuses the request."""

    def request(self, asked: Fields) -> Answer:
        """Before Docker acts."""
        ...

    def response(self, asked: Fields) -> Answer:
        """Docker has acted, and is about to say so."""
        ...


def request(authorizer: Authorizer, asked: Fields) -> Reply:
    return _reply(authorizer.request(asked))


def response(authorizer: Authorizer, asked: Fields) -> Reply:
    return _reply(authorizer.response(asked))


def denied(message: str) -> Reply:
    """Whatever the status is with which it is sent, it allows nothing."""
    return {"Allow": False, "Msg": message, "Err": message}


def _reply(answer: Answer) -> Reply:
    return ALLOWED if answer.allowed is True else denied(answer.message)


SURFACE = Surface(
    implements="authz",
    prefix="AuthZPlugin",
    methods={"AuthZReq": request, "AuthZRes": response},
    error=denied,
    body_limit=BODY_LIMIT,
    quiet=frozenset({"AuthZReq", "AuthZRes"}),
)
