"""A policy, as somebody may have written it, and a request, as anybody may send it.

An input is a policy, a line ``---``, the method, path and user of a request on a line, and its body. Without a policy
it is the example.
"""

from __future__ import annotations

import json
from pathlib import Path

from fuzz.target import Target, judge
from legacyhost import policy

EXAMPLE = policy.load((Path(__file__).parents[3] / "packaging" / "policies" / "policy.toml").read_text("utf-8"))


def check(data: bytes) -> None:
    """The policy is read, or refused in a sentence; the request gets an answer, and the same however it is spelt."""
    written, _, asked = data.partition(b"\n---\n")
    read = EXAMPLE
    if written.strip():
        try:
            read = policy.load(written.decode("utf-8", "surrogateescape"))
        except policy.PolicyError as error:
            judge(error.message, data)
            return
    head, _, body = asked.partition(b"\n")
    method, uri, user = [*head.decode("utf-8", "replace").split(" "), "", "", ""][:3]
    decision = _decide(read, user, method, uri, body)
    list(read.explain(policy.Question(user, method, uri, {}, body)))
    if uri.startswith("/") and not uri.startswith("/v"):
        for elsewhere in (f"/v1.41{uri}", f"http://docker{uri}"):
            assert _decide(read, user, method, elsewhere, body).allowed is decision.allowed
    plain, *respelt = _respelt(body) or [b""]
    if plain and not _decide(read, user, method, uri, plain).allowed:  # without what Python has left out of it
        for other in respelt:
            assert not _decide(read, user, method, uri, other).allowed, other


def _decide(read: policy.Policy, user: str, method: str, uri: str, body: bytes) -> policy.Decision:
    headers = {} if body else {"Content-Length": "0"}
    decision = read.decide(policy.Question(user, method, uri, headers, body or None))
    assert decision.path.isprintable()
    judge(decision.reason, repr((method, uri, user, body)).encode() + body)
    return decision


def _respelt(body: bytes) -> list[bytes]:
    """An object as Python reads it, with its fields in capitals, and with each of them twice."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return []
    if not isinstance(value, dict) or not value:
        return []
    capitals = {key.upper() if key.isascii() else key: each for key, each in value.items()}
    return [json.dumps(value).encode(), json.dumps(capitals).encode(), json.dumps({**value, **capitals}).encode()]


TARGET = Target(
    "policy",
    check,
    words=[
        *b'[[rule]]\n~name = "a"\n~who = ["ci"]\n~allow = ["everything"]\n~deny = ["exec"]\n~[rule.container]\n'.split(
            b"~"
        ),
        *b'binds = ["/srv:ro"]\n~images = ["a/**"]\n~privileged = true\n~"POST /containers/*/exec"'.split(b"~"),
        *b"\n---\n~POST /v1.41/containers/create ci\n~POST /images/create?fromImage=a&tag=b ci\n~/../~//~%2e~%2f".split(
            b"~"
        ),
        *b'"HostConfig":{~"Privileged":true,~"Binds":["/:/x"],~"Mounts":[{"Type":"bind"}],~"Image":"a",~null~[]~{}'.split(
            b"~"
        ),
        *b'"CapAdd":["ALL"],~"LogConfig":{"Type":"x"},~"DeviceRequests":[{}],~"NetworkingConfig":{"EndpointsConfig":'.split(
            b"~"
        ),
        *(b"\xff", b"\xed\xa0\x80", b'"\\ud800"', b"[" * 3000, b"9" * 5000, "\u212a\u017f".encode(), b"1e999", b"NaN"),
    ],
)
