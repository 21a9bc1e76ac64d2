"""What dockerd sends to be allowed: the body of an AuthZReq, by way of HTTP.

Whatever it is, there is a reply that allows or denies; none allows what the policy does not, which is asked once more.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from fuzz.target import Target, judge
from fuzz.targets.wire import environment
from legacyhost import policy
from legacyhost.authorizer import Authorizer, Settings
from legacyhost.policies import InForce, Policies
from legacyhost.rpc import Plugin
from legacyhost.surfaces import authz
from legacyhost.web import create_app
from legacyhost.wire import Fields

RULES = """
[[rule]]
name = "reads"
allow = ["ping", "read-only"]
[[rule]]
name = "anna"
who = ["anna"]
allow = ["containers", "volumes"]
[rule.container]
"""
POLICY = policy.load(RULES)
#: Statuses: an answer, what cannot be understood, too large.
DOCUMENTED = {200, 400, 413}


def _app() -> Any:
    policies = Policies()
    policies.in_force = InForce(POLICY, place="here")
    plugin = Plugin("test", [(authz.SURFACE, Authorizer("test", policies, Settings()))])
    return create_app(lambda: plugin)


APP = _app()


def check(data: bytes) -> None:
    """Allow is there, and is true only for what the policy allows; every denial has its reason."""
    answered: list[int] = []

    def start_response(status: str, _headers: object, _error: object = None) -> None:
        answered[:] = [int(status.split()[0])]

    environ = environment(b"POST /AuthZPlugin.AuthZReq\n\n" + data)
    reply = json.loads(b"".join(APP(environ, start_response)))
    assert answered[0] in DOCUMENTED, answered
    if reply == {"Allow": True}:
        assert answered == [200]
        assert _is_allowed(data)
        return
    assert reply["Allow"] is False, reply
    assert reply["Msg"] == reply["Err"]
    judge(reply["Msg"], data + _decoded(data))


def _is_allowed(data: bytes) -> bool:
    return POLICY.decide(policy.question(Fields(json.loads(data)))).allowed is True


def _decoded(data: bytes) -> bytes:
    """The body inside, whose words may be in a reason."""
    try:
        return base64.b64decode(json.loads(data)["RequestBody"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return b""


TARGET = Target(
    "authz",
    check,
    words=[
        *b'"User":"anna"~"User":""~"RequestMethod":"~"RequestUri":"~"RequestBody":"~"RequestHeaders":{}~"Allow":true'.split(
            b"~"
        ),
        *b"GET~POST~/_ping~/v1.41~/containers/create~//~%2e~..~?~#~null~true~{}~[]~[[[[~\xed\xa0~1e999".split(b"~"),
    ],
)
