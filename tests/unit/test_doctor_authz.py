"""What the doctor makes of policies, and of what Docker is told to ask."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doctorhost import FakeHost, only

from legacyhost import policy
from legacyhost.config import AuthzConfig
from legacyhost.doctor import authz
from legacyhost.policysource import Found, OnSsh

RULES = '[[rule]]\nname = "any"\nallow = ["everything"]\n'
REMOTE = "ssh://nobody@no-such-host.invalid/policy.toml"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = FakeHost(tmp_path)
    made.install("dockerd")
    return made


def configure(host: FakeHost, content: str, name: str = "foo") -> None:
    host.file(f"etc/{name}.toml", content)


def test_a_policy_in_order(host: FakeHost) -> None:
    host.file("etc/policies/foo.toml", RULES)
    configure(host, "[authz]\npolicy = 'policies/foo.toml'")
    assert only([*authz.policy(host, "foo")], "ok").what.endswith("policies/foo.toml is valid")
    configure(host, "[volume]")
    assert not [*authz.policy(host, "foo")]
    assert authz.has_volumes(host, "foo")


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ("policy = 'none.toml'", "there is no policy"),
        ("policy = 'https://x/y'", "neither a file nor ssh://"),
        ("", "foo.toml: "),
        ("[[authz.rule]]\nallow = 3", "foo.toml: "),
    ],
)
def test_a_policy_that_is_none(host: FakeHost, section: str, what: str) -> None:
    """What is wrong, and where to mend it."""
    configure(host, f"[authz]\n{section}")
    found = only([*authz.policy(host, "foo")])
    assert what in found.what
    assert found.mend.startswith("${EDITOR:-editor} ")
    assert found.mend.endswith("systemctl try-reload-or-restart legacyhost@foo.service")


def test_a_policy_that_is_away(host: FakeHost) -> None:
    """An error without a copy of it; with one, how old that is."""
    configure(host, f"[authz]\npolicy = '{REMOTE}'")
    only([*authz.policy(host, "foo")])
    source = OnSsh("foo", AuthzConfig(policy=REMOTE), {}, host.paths)
    source.keep(Found(policy.load(RULES), RULES, datetime.now(UTC) - timedelta(days=3)))
    assert "3 d ago" in only([*authz.policy(host, "foo")], "warning").why


def test_a_dry_run_is_told(host: FakeHost) -> None:
    configure(host, f"[authz]\ndry_run = true\n{RULES.replace('[rule', '[authz.rule')}")
    assert [finding.level for finding in authz.policy(host, "foo")] == ["ok", "warning"]


@pytest.mark.parametrize(
    ("daemon", "command", "names"),
    [
        ("", "", set()),
        ('{"authorization-plugins": ["foo", "bar"]}', "", {"foo", "bar"}),
        ('{"authorization-plugins": "foo"}', "", set()),
        ("[]", "", set()),
        ("{", "dockerd\0-H\0fd://\0--authorization-plugin=foo\0", {"foo"}),
        ("", "dockerd\0--authorization-plugin\0foo\0--authorization-plugin=bar\0", {"foo", "bar"}),
    ],
)
def test_whom_docker_asks(host: FakeHost, daemon: str, command: str, names: set[str]) -> None:
    """By its configuration, and by its arguments: those of the process, or of its unit."""
    if daemon:
        host.file("etc/docker/daemon.json", daemon)
    if command:
        host.units["docker.service"] = {"MainPID": "77"}
        host.file("proc/77/cmdline", command)
    assert authz.plugins(host) == names
    if command:
        (host.at("/proc/77/cmdline")).unlink()
        host.units["docker.service"] = {"MainPID": "0", "ExecStart": f"{{ argv[]={command} }}".replace("\0", " ")}
        assert authz.plugins(host) == names


def test_docker_asks_one_that_has_no_policy(host: FakeHost) -> None:
    configure(host, "[volume]")
    assert not [*authz.asked(host, "foo")]
    host.file("etc/docker/daemon.json", '{"authorization-plugins": ["foo"]}')
    assert "has no section [authz]" in only([*authz.asked(host, "foo")]).what


def test_docker_does_not_ask_one_that_has_one(host: FakeHost) -> None:
    """Nobody would notice: everything is allowed."""
    configure(host, "[authz]")
    found = only([*authz.asked(host, "foo")], "warning")
    assert found.mend.startswith('printf \'{"authorization-plugins": ["foo"]}\\n\' >')
    host.file("etc/docker/daemon.json", "{}")
    assert only([*authz.asked(host, "foo")], "warning").mend.startswith("${EDITOR:-editor} ")
    host.file("etc/docker/daemon.json", '{"authorization-plugins": ["foo"]}')
    only([*authz.asked(host, "foo")], "ok")
    assert not authz.has_volumes(host, "foo")
