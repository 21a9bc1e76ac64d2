"""The stages of the way to a server, as a trace has them, and how a directory that is there is looked at."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from oddsshd import Files, OddServer
from sshd import Sshd

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.ssh.attempt import Attempt, Stage, traced
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.target import Secret, Target

THE_WHOLE_WAY = [
    "the look-up of its name",
    "the TCP connection",
    "the greeting of an SSH server",
    "the key exchange",
    "the login",
    "the start of SFTP",
    "an SFTP request",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    """An sshd whose account is nobody's: what it may not do, it really may not."""
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        user = "nobody" if os.geteuid() == 0 else None
        with Sshd(directory, kinds=["ed25519"], more=["ForceCommand internal-sftp"], user=user) as made:
            yield made
    finally:
        shutil.rmtree(directory)


def connect(server: Sshd, known: str | None = None) -> Remote:
    file = server.directory / "known_hosts"
    file.write_text(server.known_hosts_line() if known is None else known)
    target = Target(server.host, server.user, port=server.port, identity_files=(str(server.client_key),))
    return Remote.connect(target, [file], Deadline.after(20))


def test_the_stages_of_the_whole_way(server: Sshd) -> None:
    with traced() as stages, connect(server):
        pass
    names = [stage.name for stage in stages]
    assert [name for name in names if name in THE_WHOLE_WAY] == THE_WHOLE_WAY


def test_the_last_stage_is_where_it_stopped(server: Sshd) -> None:
    with traced() as stages, pytest.raises(Failed, match="is not known"):
        connect(server, known="")
    assert "the key exchange" in [stage.name for stage in stages]
    assert "the login" not in [stage.name for stage in stages]


def test_what_is_made_outside_a_trace_is_not_in_it(server: Sshd) -> None:
    with traced() as stages:
        pass
    with connect(server):
        assert stages == []


def test_a_trace_has_the_attempts_made_in_it_and_what_they_have_learned() -> None:
    outer = Attempt(Deadline.after(1))
    with traced() as stages:
        inner = Attempt(Deadline.after(1))
        inner.stage = "this"
        inner.note("that")
        outer.stage = "something else"
        inner.run(lambda: setattr(inner, "stage", "more"))
    assert stages == [Stage("this", "that"), Stage("more")]
    assert (outer.stage, inner.stage) == ("something else", "more")


@pytest.mark.parametrize("mode", [0o000, 0o711, 0o744])
def test_a_directory_that_cannot_be_read_is_said_to_be(server: Sshd, mode: int) -> None:
    """Whether its names or what is behind them is out of reach; where it may be made it is left as it is."""
    if os.geteuid() != 0:
        pytest.skip("only root's sshd can log in somebody else")
    closed = server.directory / f"closed-{mode:o}"
    closed.mkdir()
    (closed / "file").touch()
    closed.chmod(mode)
    with connect(server) as remote:
        with pytest.raises(Failed) as raised:
            remote.ensure_directory(str(closed), create=False)
        where = f"{server.host}:{server.port}"
        assert raised.value.message == f"nobody may not read {closed} on {where}: permission denied"
        remote.ensure_directory(str(closed), create=True)


def test_a_directory_that_can_be_read(server: Sshd) -> None:
    there = server.directory / "there"
    there.mkdir(mode=0o755)
    with connect(server) as remote:
        for path in (str(there), f"{there}/", ""):
            remote.ensure_directory(path, create=False)


def test_a_quota_that_is_used_up(tmp_path: Path) -> None:
    """SFTP has no error for it, and OpenSSH's server says Failure: that is not the same as forbidden."""

    class UsedUp(Files):
        def mkdir(self, path: str, attributes: object) -> int:
            return int(paramiko.SFTP_FAILURE)

    with OddServer(files=UsedUp) as server:
        known = tmp_path / "known_hosts"
        known.write_text(server.known_hosts_line())
        target = Target(server.host, "anna", port=server.port, password=Secret("right"))
        with Remote.connect(target, [known], Deadline.after(20)) as remote, pytest.raises(Failed) as raised:
            remote.is_writable(str(tmp_path))
    assert raised.value.message.endswith(": the server says only Failure; perhaps a quota is used up")
