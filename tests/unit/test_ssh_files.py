"""A file on a server, read whole; and what is said when it cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import Sshd, fingerprint, time_limit

from legacyhost.config import AuthzConfig, Paths
from legacyhost.credentials import Credential, Store
from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.policysource import LARGEST, OnSsh
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.target import Secret, Target

RULES = '[[rule]]\nname = "any"\nallow = ["everything"]\n'


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd", kinds=["ed25519"]) as running:
        yield running


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 100_001])
def test_a_file_is_read_whole(server: Sshd, size: int) -> None:
    """Of any size up to the limit; a link is what it leads to."""
    content = os.urandom(size)
    (server.home / "file").write_bytes(content)
    (server.home / "link").symlink_to("file")
    with _connect(server) as remote:
        assert remote.read("file", 100_001) == remote.read(f"{server.home}/link", 100_001) == content


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "there is no file on "),
        (Path.mkdir, "is not a file"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.write_bytes(b"x" * 101), "has more than 100 bytes"),
        (lambda path: path.symlink_to("nowhere"), "there is no file on "),
        (lambda path: path.symlink_to("/dev/zero"), "is not a file"),
    ],
)
def test_what_cannot_be_read_is_told(server: Sshd, make: Callable[[Path], object], sentence: str) -> None:
    """In one sentence, with the path and the host; nothing without an end is begun."""
    make(server.home / "file")
    with _connect(server) as remote, pytest.raises(Failed) as caught:
        remote.read("file", 100)
    assert sentence in caught.value.message
    assert "127.0.0.1" in caught.value.message


def test_a_policy_is_had_by_the_rules_of_volumes(server: Sshd, tmp_path: Path) -> None:
    """Host keys from known_hosts, what opens the account as the configuration names it, a bound on the size."""
    paths = Paths(tmp_path / "etc", tmp_path / "state", tmp_path / "run")
    paths.etc.mkdir()
    where = f"ssh://{server.user}@{server.host}:{server.port}{server.home}/policy.toml"
    source = OnSsh("foo", AuthzConfig(policy=where), {}, paths)
    with pytest.raises(Failed, match="is not known"):
        source.read()
    (paths.etc / "known_hosts").write_text(server.known_hosts_line())
    store = Store(paths.credentials())
    store.write("nas", Credential(key=Secret(server.client_key.read_text())))
    opened = OnSsh("foo", AuthzConfig(policy=where, account={"credential": "nas"}), {}, paths)
    with pytest.raises(Failed, match="there is no "):
        opened.read()
    (server.home / "policy.toml").write_text(RULES)
    found = opened.read()
    assert (found.text, len(found.policy.rules)) == (RULES, 1)
    named = OnSsh("foo", AuthzConfig(policy=where), {server.host: {"credential": "nas"}}, paths)
    assert named.read().text == RULES
    pinned = {"credential": "nas", "host_key": fingerprint(server.host_key())}
    (paths.etc / "known_hosts").unlink()
    assert OnSsh("foo", AuthzConfig(policy=where, account=pinned), {}, paths).read().text == RULES
    (server.home / "policy.toml").write_text("#" * (LARGEST + 1))
    with pytest.raises(Failed, match="more than"):
        OnSsh("foo", AuthzConfig(policy=where, account=pinned), {}, paths).read()


def _connect(server: Sshd) -> Remote:
    known = server.directory / "known_hosts"
    known.write_text(server.known_hosts_line())
    target = Target(server.host, server.user, port=server.port, identity_files=(str(server.client_key),))
    return Remote.connect(target, [known], Deadline.after(20))
