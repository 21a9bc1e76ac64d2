"""Remote directories: found, made, measured; and what is said when that does not work."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from oddsshd import Files, OddServer
from sshd import Sshd, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh.remote import Remote, Space
from legacyhost.ssh.target import Secret, Target


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd", kinds=["ed25519"]) as running:
        yield running


@pytest.fixture
def remote(server: Sshd) -> Iterator[Remote]:
    with _connect(server) as connected:
        yield connected


@pytest.mark.parametrize("create", [False, True])
def test_what_is_there_is_enough(server: Sshd, remote: Remote, create: bool) -> None:
    """Home, /, an absolute directory, a relative one, and a link to one need nothing made."""
    (server.home / "data").mkdir()
    (server.home / "link").symlink_to("data")
    for path in ("", "/", str(server.home), "data", "data/", "./data", "link", "link/."):
        remote.ensure_directory(path, create=create)
    assert sorted(entry.name for entry in server.home.iterdir()) == ["data", "link"]


@pytest.mark.parametrize("path", ["new", "a/b/c/d", "x/", "a//b", "with space/ä€/'quoted\"", "./e/./f"])
def test_a_missing_directory_is_made_with_its_parents(server: Sshd, remote: Remote, path: str) -> None:
    """With create, what is missing is made below home or from /, and a second time changes nothing."""
    remote.ensure_directory(path, create=True)
    remote.ensure_directory(path, create=True)
    assert (server.home / path).is_dir()
    absolute = f"{server.home}/absolute/{path}"
    remote.ensure_directory(absolute, create=True)
    assert Path(absolute).is_dir()


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("new", ""),
        ("a/b", ""),
        ("~/x", " (~ is taken literally; paths begin in the home directory)"),
        ("/nonexistent/x", " (where accounts are confined, ChrootDirectory, paths begin there)"),
    ],
)
def test_without_create_a_missing_directory_is_an_error(server: Sshd, remote: Remote, path: str, hint: str) -> None:
    """The sentence says what to do, and nothing is made."""
    with pytest.raises(Failed) as caught:
        remote.ensure_directory(path, create=False)
    assert caught.value.message == (
        f"{server.host}:{server.port} has no directory {path}{hint}:"
        " make it there (with create=true that is done when a volume is created)"
    )
    assert list(server.home.iterdir()) == []


def test_a_tilde_is_explained(remote: Remote) -> None:
    """People write ~/data; SFTP takes it literally, and the sentence says so."""
    with pytest.raises(Failed, match="~ is taken literally"):
        remote.ensure_directory("~/data", create=False)


@pytest.mark.parametrize("path", ["file", "file/below", "file/below/more", "link"])
@pytest.mark.parametrize("create", [False, True])
def test_a_file_in_the_way(server: Sshd, remote: Remote, path: str, create: bool) -> None:
    """A file where a directory is wanted, or above it, is named as what is in the way, and kept."""
    (server.home / "file").write_text("kept")
    (server.home / "link").symlink_to("file")
    with pytest.raises(Failed, match=r"is not a directory|has no directory"):
        remote.ensure_directory(path, create=create)
    if create:
        with pytest.raises(Failed, match=r"^(file|link) on \S+ is not a directory$"):
            remote.ensure_directory(path, create=True)
    assert (server.home / "file").read_text() == "kept"


def test_a_link_that_leads_nowhere(server: Sshd, remote: Remote) -> None:
    """A dangling link is called that, and nothing is made at its other end."""
    (server.home / "link").symlink_to("nowhere")
    for path in ("link", "link/below"):
        with pytest.raises(Failed, match=r"^link on .* is a symbolic link that leads nowhere$"):
            remote.ensure_directory(path, create=True)
    assert [entry.name for entry in server.home.iterdir()] == ["link"]


def test_text_that_is_no_path(remote: Remote) -> None:
    """Half a surrogate pair, which JSON can carry, is the caller's mistake."""
    with pytest.raises(InvalidRequest, match="is no path"):
        remote.ensure_directory("a\ud800", create=True)


def test_a_path_too_long_and_one_with_control_characters(remote: Remote) -> None:
    """What the server refuses is one bounded printable line."""
    with pytest.raises(Failed) as caught:
        remote.ensure_directory("x\x1b[2J" * 200, create=True)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_free_space_is_what_an_unprivileged_user_has(server: Sshd, remote: Remote) -> None:
    """Sizes agree with statvfs here, f_bavail for what is free; a missing path is an error."""
    found = remote.free_space("")
    here = os.statvfs(server.home)
    assert found is not None
    assert found.total_bytes == here.f_blocks * here.f_frsize
    assert abs(found.free_bytes - here.f_bavail * here.f_frsize) < 10**10
    assert found.free_bytes <= found.total_bytes
    with pytest.raises(Failed, match=r"cannot look at nothing on .*: it does not exist"):
        remote.free_space("nothing")


def test_whether_a_directory_is_writable(server: Sshd, remote: Remote) -> None:
    """The probe leaves nothing behind; a missing directory is an error, not an answer."""
    assert remote.is_writable("")
    assert list(server.home.iterdir()) == []
    with pytest.raises(Failed, match=r"cannot write to nothing on .*: it does not exist"):
        remote.is_writable("nothing")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's sshd can log in somebody else")
def test_an_account_without_permissions() -> None:
    """What an unprivileged account may not do says so: to make, to look, to write."""
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        more = ["ForceCommand internal-sftp"]
        with Sshd(directory, kinds=["ed25519"], more=more, user="nobody") as server:
            secret = directory / "secret"
            secret.mkdir(mode=0o700)
            with _connect(server) as remote:
                shown = f"{server.host}:{server.port}"
                assert _refusal(remote, f"{directory}/new/deep") == (
                    f"nobody may not make {directory}/new on {shown}: no permission to write in {directory}"
                )
                assert _refusal(remote, f"{secret}/x") == (
                    f"nobody may not look at {secret}/x on {shown}: permission denied by a directory above it"
                )
                assert not remote.is_writable(str(directory))
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("available", "flag", "sentence"),
    [(0, 0, "no space left there"), (1, 1, "the file system there is read-only"), (5, 0, "Failure")],
)
def test_why_a_directory_cannot_be_made(tmp_path: Path, available: int, flag: int, sentence: str) -> None:
    """SSH_FX_FAILURE says nothing; a full or read-only file system is found out by statvfs."""
    numbers = [4096, 4096, 1000, available, available, 10, 10, 10, 0, flag, 255]

    class Full(Files):
        def mkdir(self, path: str, attributes: object) -> int:
            return int(paramiko.SFTP_FAILURE)

    odd_server = OddServer(files=Full, sftp_server=_with_statvfs(numbers))
    with odd_server as server, _connect_odd(server, tmp_path) as remote:
        assert remote.free_space("/") == Space(4096 * 1000, 4096 * available)
        said = _refusal(remote, f"{tmp_path}/new")
    assert said == f"cannot make {tmp_path}/new on {server.host}:{server.port}: {sentence}"


def test_a_server_without_statvfs(tmp_path: Path) -> None:
    """Free space is unknown, not an error, where the server does not know the extension."""
    with OddServer() as server, _connect_odd(server, tmp_path) as remote:
        assert remote.free_space("/") is None


def test_somebody_else_made_it_meanwhile(tmp_path: Path) -> None:
    """A directory that appears between looking and making is as good as made."""

    class Racing(Files):
        def mkdir(self, path: str, attributes: object) -> int:
            Path(path).mkdir()
            return int(paramiko.SFTP_FAILURE)

    with OddServer(files=Racing) as server, _connect_odd(server, tmp_path) as remote:
        remote.ensure_directory(f"{tmp_path}/a/b", create=True)
        assert (tmp_path / "a" / "b").is_dir()


def test_a_server_that_answers_nonsense(tmp_path: Path) -> None:
    """Replies of the wrong kind are the server's fault and said to be, without a Python error."""

    class Confused(paramiko.SFTPServer):  # type: ignore[misc]  # paramiko has no types
        def _process(self, kind: int, number: int, message: object) -> None:
            self._send_status(number, paramiko.SFTP_OK)

    with OddServer(sftp_server=Confused) as server, _connect_odd(server, tmp_path) as remote:
        said = _refusal(remote, "x")
    assert said.endswith("does not speak SFTP properly: its answer to stat is no attributes")


def _with_statvfs(numbers: list[int]) -> type:
    """A paramiko SFTP server that knows statvfs@openssh.com and answers with these eleven numbers."""

    class Server(paramiko.SFTPServer):  # type: ignore[misc]  # paramiko has no types
        def _process(self, kind: int, number: int, message: object) -> None:
            if kind != 200:
                return super()._process(kind, number, message)  # type: ignore[no-any-return]
            reply = paramiko.Message()
            reply.add_int(number)
            reply.add_bytes(struct.pack(">11Q", *numbers))
            self._send_packet(201, reply)
            return None

    return Server


def test_a_name_that_is_too_long(remote: Remote) -> None:
    """OpenSSH's server says of it only "Bad message"."""
    assert _refusal(remote, "x/" + 256 * "y").endswith(": a name in it has more than 255 bytes")


def _connect(server: Sshd) -> Remote:
    known = server.directory / "known_hosts"
    known.write_text(server.known_hosts_line())
    target = Target(server.host, server.user, port=server.port, identity_files=(str(server.client_key),))
    return Remote.connect(target, [known], Deadline.after(20))


def _connect_odd(server: OddServer, directory: Path) -> Remote:
    known = directory / "known_hosts"
    known.write_text(server.known_hosts_line())
    target = Target(server.host, "anna", port=server.port, password=Secret("right"))
    return Remote.connect(target, [known], Deadline.after(20))


def _refusal(remote: Remote, path: str) -> str:
    with pytest.raises(Failed) as caught:
        remote.ensure_directory(path, create=True)
    return caught.value.message
