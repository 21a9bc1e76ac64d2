"""Where a policy comes from, and which one is in force while that changes, breaks or is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import WAIT, Gate, Logged, until

from legacyhost import policies as following
from legacyhost import policy
from legacyhost.config import AuthzConfig, Paths
from legacyhost.errors import ConfigError, Failed, PluginError
from legacyhost.policies import Policies, age
from legacyhost.policysource import COPY, LARGEST, Found, OnSsh, source

GOOD = '[[rule]]\nname = "any"\nallow = ["everything"]\n'
OTHER = '[[rule]]\nname = "reads"\nallow = ["read-only"]\n'
ADDRESS = "ssh://anna@nas:2222/srv/policy.toml"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "etc", tmp_path / "state", tmp_path / "run")
    (made.etc / "policies").mkdir(parents=True)
    return made


@pytest.fixture
def messages() -> Iterator[list[str]]:
    with Logged(logging.WARNING) as kept:
        yield kept.messages


class Elsewhere:
    """A place on another host: ``answers`` are what it gives, one after the other, the last for good."""

    place = "ssh://there/policy"

    def __init__(self, *answers: str | PluginError, refresh: float = 0.01, copy: Found | PluginError | None = None):
        self.refresh = refresh
        self.answers = list(answers)
        self.copy = copy
        self.was_kept: list[str] = []
        self.asked = 0
        self.gate: Gate | None = None

    def read(self) -> Found:
        self.asked += 1
        if self.gate:
            self.gate.pass_through()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, PluginError):
            raise answer
        return Found(policy.load(answer), answer, datetime.now(UTC))

    def kept(self) -> Found | None:
        if isinstance(self.copy, PluginError):
            raise self.copy
        return self.copy

    def keep(self, found: Found) -> None:
        self.was_kept.append(found.text)


def old() -> Found:
    return Found(policy.load(GOOD), GOOD, datetime.now(UTC) - timedelta(hours=3))


def local(paths: Paths, name: str = "policies/foo.toml", content: str | None = GOOD) -> AuthzConfig:
    if content is not None:
        (paths.etc / name).write_text(content)
    return AuthzConfig(policy=name)


def test_a_file_is_in_force_when_it_has_been_asked_for(paths: Paths) -> None:
    """Beside the configuration, or anywhere by its whole path; and the rules in the configuration itself."""
    (paths.etc.parent / "x.toml").write_text(OTHER)
    for section in (
        local(paths),
        AuthzConfig(policy=str(paths.etc.parent / "x.toml")),
        AuthzConfig(rules={"rule": [{"name": "any", "allow": ["everything"]}]}),
    ):
        policies = Policies()
        policies.follow(source("foo", section, {}, paths))
        assert policies.in_force.policy is not None
        assert policies.status.startswith("authorizing by /")


def _is_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _is_fifo(path: Path) -> None:
    import os

    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "there is no policy "),
        (_is_directory, "cannot be read|is not a file"),
        (_is_fifo, "is not a file"),
        (lambda path: path.write_text(""), "policies/foo.toml: "),
        (lambda path: path.write_text("[[rule"), "policies/foo.toml: the policy is not TOML"),
        (lambda path: path.write_bytes(b"\xff"), "is not UTF-8"),
        (lambda path: path.write_text("#" * (LARGEST + 1)), f"more than {LARGEST} bytes"),
    ],
)
def test_what_is_wrong_is_told_once_and_taken_over_when_it_is_mended(
    paths: Paths, messages: list[str], spoil: Callable[[Path], object], reason: str
) -> None:
    """Without anybody's asking: whoever has mended it may not reach Docker to try."""
    section = local(paths)
    path = paths.etc / "policies" / "foo.toml"
    spoil(path)
    policies = Policies(retry=0.01)
    policies.follow(source("foo", section, {}, paths))
    assert policies.in_force.policy is None
    import re

    assert re.search(reason, policies.in_force.why_not)
    assert policies.status == f"authorizing nothing: {policies.in_force.why_not}"
    if path.is_dir():
        path.rmdir()
    draft = path.with_name("draft")
    draft.write_text(GOOD)
    draft.replace(path)
    until(lambda: policies.in_force.policy)
    assert policies.status == f"authorizing by {path}"
    assert len(messages) == 1


def test_a_broken_one_takes_the_place_of_none(paths: Paths, messages: list[str]) -> None:
    """At a reload the old one stays; a place that cannot be one, too."""
    policies = Policies(retry=0.01)
    policies.follow(source("foo", local(paths), {}, paths))
    before = policies.in_force
    policies.follow(source("foo", local(paths, content="garbage"), {}, paths))
    assert policies.in_force is before
    assert "; not taken over: " in policies.status
    policies.refuse("nonsense")
    assert policies.in_force is before
    assert policies.status.endswith("; not taken over: nonsense")
    policies.follow(source("foo", local(paths, content=OTHER), {}, paths))
    assert policies.in_force is not before
    assert "not taken over" not in policies.status
    assert len(messages) == 2


def test_a_file_that_hangs_holds_up_neither_start_nor_reload(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be on a disk that is dead; until it is read everything is denied, and another place is taken over."""
    monkeypatch.setattr(following, "PATIENCE", 0.01)
    hanging = Elsewhere(GOOD, refresh=0)
    policies, others = Policies(), set(threading.enumerate())
    with Gate() as hanging.gate:
        policies.follow(hanging)
        hanging.gate.wait_until_reached()
        (reader,) = {*threading.enumerate()} - others
        assert policies.in_force.why_not == "the policy ssh://there/policy has not been read yet"
        monkeypatch.undo()
        policies.follow(source("foo", local(paths, content=OTHER), {}, paths))
        taken = policies.in_force
        assert taken.policy is not None
    reader.join(WAIT)
    assert policies.in_force is taken
    assert hanging.was_kept == []


def test_a_change_elsewhere_is_taken_over_and_kept() -> None:
    """By the clock; what is broken there is neither."""
    there = Elsewhere(GOOD, "[[rule", OTHER)
    policies = Policies(retry=0.01)
    policies.follow(there)
    until(lambda: policies.in_force.text == OTHER)
    assert set(there.was_kept) == {GOOD, OTHER}
    policies.refuse("the end")


def test_the_last_good_one_is_in_force_while_the_host_is_away(messages: list[str]) -> None:
    """At once, with its age; and no request waits for what is asked meanwhile."""
    away = Failed("there did not answer")
    there = Elsewhere(away, away, away, OTHER, copy=old())
    policies = Policies()
    with Gate() as there.gate:
        policies.follow(there)
        until(lambda: policies.in_force.policy)
        assert policies.status == "authorizing by ssh://there/policy, read there 3 h ago"
        there.gate.wait_until_reached()
    until(lambda: policies.in_force.text == OTHER)
    assert messages == ["the policy ssh://there/policy, read there 3 h ago, stays in force: there did not answer"]
    policies.refuse("the end")


def test_without_a_copy_it_is_tried_until_it_is_there(messages: list[str]) -> None:
    """A copy that is damaged is none."""
    there = Elsewhere(Failed("away"), Failed("away"), GOOD, refresh=3600, copy=Failed("the copy is damaged"))
    policies = Policies(retry=0.01)
    policies.follow(there)
    until(lambda: policies.in_force.policy)
    assert [message.rpartition(": ")[2] for message in messages] == ["the copy is damaged", "away"]


def test_who_is_refused_elsewhere_does_not_knock_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers lock out who does; what is on this host is looked at as often as ever."""
    for refresh, expected in ((3600, [0.0, 3.0, 6.0, 12.0, 24.0, 30.0, 30.0]), (0, [0.0, 3.0, 3.0, 3.0])):
        source = Elsewhere(Failed("login refused"), refresh=refresh)
        follower, pauses = following._Follower(source), list[float]()

        def wait(seconds: float, pauses: list[float] = pauses, number: int = len(expected)) -> bool:
            pauses.append(seconds)
            return len(pauses) >= number

        monkeypatch.setattr(follower.is_over, "wait", wait)
        Policies()._follow(follower)
        assert pauses == expected


def test_reloads_that_follow_each_other_do_not_ask_a_silent_host_all_at_once() -> None:
    """The last one counts."""
    there, policies = Elsewhere(GOOD, refresh=3600), Policies()
    others = {*threading.enumerate()}
    with Gate() as there.gate:
        for _ in range(3 * following.ASKING):
            policies.follow(there)
        there.gate.wait_until_reached()
        until(lambda: len({*threading.enumerate()} - others) <= following.ASKING + 1)
        assert there.asked <= following.ASKING
    until(lambda: policies.in_force.policy)
    policies.refuse("the end")


def test_of_two_that_are_read_at_a_time_the_one_in_force_is_kept() -> None:
    """However long the other takes to be kept."""

    class Slow(Elsewhere):
        def keep(self, found: Found) -> None:
            policies.follow(newer)
            until(lambda: policies.in_force.text == OTHER)
            super().keep(found)

    policies, order = Policies(), list[str]()
    newer, slow = Elsewhere(OTHER, refresh=3600), Slow(GOOD, refresh=3600)
    newer.was_kept = slow.was_kept = order
    policies.follow(slow)
    until(lambda: len(order) > 1)
    assert order[-1] == OTHER
    policies.refuse("the end")


def test_a_defect_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is in a file: the thread that reads it is the only one that can mend what follows."""

    class Defect(Elsewhere):
        def read(self) -> Found:
            if self.asked < 2:
                self.asked += 1
                raise RuntimeError("defect")
            return super().read()

    policies = Policies(retry=0.01)
    policies.follow(Defect(GOOD, refresh=3600))
    until(lambda: policies.in_force.policy)
    assert "defect" in caplog.text


def test_a_copy_is_of_its_place_and_root_s(paths: Paths) -> None:
    """A copy of another place is none; one that is damaged says so."""
    here, there = (
        OnSsh("foo", AuthzConfig(policy=address), {}, paths) for address in (ADDRESS, "ssh://nas/other.toml")
    )
    assert here.kept() is None
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    here.keep(Found(policy.load(GOOD), GOOD, moment))
    copy = paths.state / "foo" / COPY
    assert copy.stat().st_mode & 0o777 == 0o600
    found = here.kept()
    assert found is not None
    assert (found.text, found.read) == (GOOD, moment)
    assert there.kept() is None
    for content in (b"", b"[]", b"{}", b'{"place": 1}', b"\xff", b"[" * 100_000, b'{"place":"' + ADDRESS.encode()):
        copy.write_bytes(content)
        with pytest.raises(PluginError, match=r"the copy .*policy\.json of it is damaged"):
            here.kept()
    copy.write_text(f'{{"place": "{ADDRESS}", "text": "[[rule", "read": "2026-01-02T00:00:00+00:00"}}')
    with pytest.raises(ConfigError, match="is not TOML"):
        here.kept()


@pytest.mark.parametrize(
    ("address", "account", "reason"),
    [
        ("ssh://", {}, "not ssh://"),
        ("ssh://host", {}, "not ssh://"),
        ("ssh://host/", {}, "not ssh://"),
        ("ssh://user:hunter2@host/x", {}, "not ssh://"),
        ("ssh://-oProxyCommand=x/y", {}, "the host a name"),
        ("ssh://host:99999/x", {}, "port"),
        ("ssh://host/x", {"host_key": "MD5:x"}, "host_key"),
        ("ssh://host/x", {"jump": "a b"}, "jump"),
        ("ssh://host/x\n", {}, "not ssh://"),
        ("https://host/x", {}, "neither a file nor ssh://"),
    ],
)
def test_an_address_that_is_none_is_told(paths: Paths, address: str, account: dict[str, str], reason: str) -> None:
    """In one sentence, before anything is asked."""
    with pytest.raises(ConfigError, match=reason) as caught:
        source("foo", AuthzConfig(policy=address, account=account), {}, paths)
    assert caught.value.message.isprintable()
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7300, "2 h"), (200_000, "2 d"), (-5, "0 s")]
)
def test_an_age_is_in_the_unit_that_fits(seconds: int, words: str) -> None:
    """A clock may have been set back."""
    assert age(datetime.now(UTC) - timedelta(seconds=seconds)) == words
