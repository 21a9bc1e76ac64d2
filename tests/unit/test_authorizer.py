"""What Docker is answered, and what of it stands in the log."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Mapping

import pytest
from fakes import Logged

from legacyhost import policy
from legacyhost.authorizer import Authorizer, Refusal, Settings
from legacyhost.errors import InvalidRequest
from legacyhost.policies import InForce, Policies
from legacyhost.rpc import Plugin
from legacyhost.surfaces.authz import BODY_LIMIT, SURFACE

SECRET = "not for the log"
RULES = """
[[rule]]
name = "reads"
allow = ["ping", "read-only"]
[[rule]]
name = "anna"
who = ["anna"]
allow = ["volumes"]
"""


@pytest.fixture
def policies() -> Policies:
    made = Policies()
    made.in_force = InForce(policy.load(RULES), place="here")
    return made


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    with Logged(logging.INFO) as kept:
        yield kept.records


def ask(
    policies: Policies, method: str, uri: str, user: str = "", *, rpc: str = "Req", settings: Settings | None = None
) -> Mapping[str, object]:
    """The reply, by way of the surface."""
    plugin = Plugin("guard", [(SURFACE, Authorizer("guard", policies, settings or Settings()))])
    content = {
        "RequestMethod": method,
        "RequestUri": uri,
        "User": user,
        "RequestBody": base64.b64encode(SECRET.encode()).decode(),
    }
    return plugin.call(f"AuthZPlugin.AuthZ{rpc}", json.dumps(content).encode())


def test_the_policy_decides(policies: Policies) -> None:
    """Allow is there, and true, for what is allowed alone; a denial has its reason in both places Docker looks at."""
    assert ask(policies, "GET", "/v1.41/containers/json") == {"Allow": True}
    denied = ask(policies, "POST", "/v1.41/volumes/create")
    assert denied["Allow"] is False
    assert denied["Msg"] == denied["Err"] != ""
    assert ask(policies, "POST", "/v1.41/volumes/create", "anna") == {"Allow": True}


def test_without_a_policy_everything_is_denied_with_the_reason() -> None:
    """And with what to do when it is mended."""
    policies = Policies()
    policies.in_force = InForce(None, "there is no policy /etc/x")
    for method, uri in (("GET", "/_ping"), ("HEAD", "/_ping"), ("POST", "/v1.41/build?x=y")):
        message = ask(policies, method, uri)["Msg"]
        assert "there is no policy /etc/x (it is tried again every few seconds; at once: systemctl reload" in str(
            message
        )


def test_a_dry_run_denies_nothing_without_a_policy_too(logged: list[logging.LogRecord]) -> None:
    """It is for looking, not for being locked out."""
    policies = Policies()
    assert ask(policies, "POST", "/v1.41/volumes/create", settings=Settings(dry_run=True)) == {"Allow": True}
    assert [vars(record)["AUTHZ_DECISION"] for record in logged] == ["would-deny"]


def test_what_was_allowed_may_be_answered(policies: Policies) -> None:
    """The action has happened."""
    assert ask(policies, "POST", "/v1.41/volumes/create", rpc="Res") == {"Allow": True}


@pytest.mark.parametrize("method", ["AuthZReq", "AuthZRes"])
@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"[]", b"{", b'{"RequestMethod":"GET"}', b'{"RequestMethod":1}'])
def test_what_cannot_be_understood_is_an_error_that_denies(policies: Policies, method: str, body: bytes) -> None:
    """In the form of this surface, whatever the status."""
    plugin = Plugin("guard", [(SURFACE, Authorizer("guard", policies, Settings(dry_run=True)))])
    with pytest.raises(InvalidRequest) as caught:
        plugin.call(f"AuthZPlugin.{method}", body)
    reply = plugin.error(f"AuthZPlugin.{method}", caught.value.message)
    assert reply == {"Allow": False, "Msg": caught.value.message, "Err": caught.value.message}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(), ["deny", "allow"]),
        (Settings(log="denied"), ["deny"]),
        (Settings(log="all"), ["allow", "deny", "allow"]),
        (Settings(dry_run=True), ["would-deny", "allow"]),
    ],
)
def test_decisions_are_logged_as_fields(
    policies: Policies, logged: list[logging.LogRecord], settings: Settings, words: list[str]
) -> None:
    """Denials always, what is allowed as the configuration says; neither a body nor a query."""
    ask(policies, "GET", "/v1.41/containers/json?filters=" + SECRET, "otto", settings=settings)
    answer = ask(policies, "POST", "/v1.41/volumes/create?name=" + SECRET, "otto", settings=settings)
    assert answer["Allow"] is settings.dry_run
    ask(policies, "POST", "/v1.41/volumes/create", "anna", settings=settings)
    assert [getattr(record, "AUTHZ_DECISION") for record in logged] == words  # noqa: B009
    denial = logged[words.index("would-deny" if settings.dry_run else "deny")]
    fields = {name: value for name, value in vars(denial).items() if name.startswith("AUTHZ_")}
    assert (fields["AUTHZ_USER"], fields["AUTHZ_METHOD"], fields["AUTHZ_PATH"]) == ("otto", "POST", "/volumes/create")
    assert SECRET not in str([vars(record) for record in logged])
    assert base64.b64encode(SECRET.encode()).decode() not in str([vars(record) for record in logged])


def test_what_somebody_sends_is_one_line_in_the_log(policies: Policies, logged: list[logging.LogRecord]) -> None:
    """A name in a certificate and a path may have anything in them."""
    ask(policies, "POST\n", "/a\n\x1b[31m", "otto\nx")
    (record,) = logged
    for value in (record.getMessage(), *(v for n, v in vars(record).items() if n.startswith("AUTHZ_"))):
        assert str(value).isprintable()


def test_a_refusal_denies_everything() -> None:
    """Also what cannot be read, and what is said after the fact."""
    plugin = Plugin("guard", [(SURFACE, Refusal("no section"))])
    for rpc in ("AuthZReq", "AuthZRes"):
        for body in (b"{}", b""):
            assert plugin.call(f"AuthZPlugin.{rpc}", body)["Allow"] is False


def test_bodies_may_be_larger_than_those_of_volumes(policies: Policies) -> None:
    """4 MiB in base64, and headers; for other surfaces of the same plugin it stays as it is."""
    plugin = Plugin("guard", [(SURFACE, Authorizer("guard", policies, Settings()))])
    assert plugin.body_limit("AuthZPlugin.AuthZReq") == BODY_LIMIT > (4 << 20) * 4 / 3
    assert plugin.body_limit("VolumeDriver.Create") == plugin.body_limit("Plugin.Activate") == 1 << 20
    assert plugin.is_quiet("AuthZPlugin.AuthZReq")
    assert not plugin.is_quiet("VolumeDriver.Create")
