"""Purge: it empties what was named, and nothing else is ever touched, whatever the server does."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from oddsshd import Files, Manners, OddServer
from sshd import Sshd, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed, InvalidRequest, PluginError
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.target import Secret, Target


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit(120):
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd", kinds=["ed25519"]) as running:
        yield running


@pytest.fixture
def remote(server: Sshd) -> Iterator[Remote]:
    with _connect(server) as connected:
        yield connected


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A tree outside that must be the same, byte for byte, after the test."""
    outside = tmp_path / "precious"
    (outside / "deep" / "er").mkdir(parents=True)
    (outside / "deep" / "er" / "file").write_bytes(os.urandom(1000))
    (outside / "file").write_bytes(b"precious")
    before = _snapshot(outside)
    yield outside
    assert _snapshot(outside) == before


def test_all_content_goes_and_the_directory_stays(server: Sshd, remote: Remote) -> None:
    """Files, hidden ones, read-only ones, empty and full directories go and are counted; what is beside stays."""
    top = server.home / "data"
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "empty").mkdir()
    for name in ("file", ".hidden", "a/one", "a/b/two", "a/b/c/three", "name with \n and \x1b", "-rf", "*"):
        (top / name).write_text(name)
    (top / "file").chmod(0)
    (top / "a" / "b").chmod(0o500)
    (server.home / "data2").mkdir()
    (server.home / "data2" / "kept").touch()
    assert remote.purge("data") == 12
    assert list(top.iterdir()) == []
    assert (server.home / "data2" / "kept").exists()
    assert remote.purge("data") == 0


def test_links_are_deleted_and_never_followed(server: Sshd, remote: Remote, precious: Path) -> None:
    """Links to directories and files outside, relative, absolute and dangling, go themselves only."""
    top = server.home / "data"
    (top / "sub").mkdir(parents=True)
    (top / "absolute").symlink_to(precious)
    (top / "sub" / "relative").symlink_to("../../../../precious/deep")
    (top / "sub" / "file").symlink_to(precious / "file")
    (top / "sub" / "up").symlink_to("..")
    (top / "dangling").symlink_to("nowhere")
    (top / "loop").symlink_to("loop")
    os.link(precious / "file", top / "hard")
    assert remote.purge("data") == 8
    assert list(top.iterdir()) == []
    assert (precious / "file").stat().st_nlink == 1


@pytest.mark.parametrize("path", ["", ".", "/", "./", "//", "/.", "..", "data/..", "../x", "/tmp/..", "a/../../b"])
def test_paths_that_are_never_purged(remote: Remote, server: Sshd, path: str) -> None:
    """Home, the root and whatever goes through .. are refused before anything is asked of the server."""
    (server.home / "kept").touch()
    with pytest.raises(InvalidRequest, match="is not purged"):
        remote.purge(path)
    assert (server.home / "kept").exists()


def test_home_and_what_contains_it_are_refused_by_any_name(remote: Remote, server: Sshd, tmp_path: Path) -> None:
    """The home directory by its absolute name, through a link on the way, and every directory above it."""
    (server.home / "kept").touch()
    (tmp_path / "way").symlink_to(server.directory)
    for path in (server.home, tmp_path / "way" / "home", server.directory, tmp_path, Path("/tmp")):
        with pytest.raises(InvalidRequest, match="it is the home directory, or contains it"):
            remote.purge(f"{path}/")
    with pytest.raises(InvalidRequest, match="it is the home directory, or contains it"):
        remote.purge(str(server.home))
    assert (server.home / "kept").exists()


@pytest.mark.parametrize("ending", ["", "/", "/.", "//"])
def test_a_link_is_refused_however_it_is_written(remote: Remote, server: Sshd, precious: Path, ending: str) -> None:
    """A top directory that is a link is not purged, with a slash or a dot behind it either."""
    (server.home / "link").symlink_to(precious)
    with pytest.raises(Failed, match=r"^link.* is a symbolic link, which is not purged: name the directory itself"):
        remote.purge(f"link{ending}")


def test_a_link_on_the_way_is_fine(remote: Remote, server: Sshd, tmp_path: Path) -> None:
    """/way/data, where /way is a link, is the directory it names."""
    (tmp_path / "elsewhere" / "data").mkdir(parents=True)
    (tmp_path / "elsewhere" / "data" / "file").touch()
    (tmp_path / "way").symlink_to("elsewhere")
    assert remote.purge(f"{tmp_path}/way/data") == 1


def test_a_file_is_refused_and_nothing_is_nothing(remote: Remote, server: Sshd) -> None:
    """A file is not purged; a directory that does not exist is empty already."""
    (server.home / "file").write_text("kept")
    with pytest.raises(Failed, match="is not a directory, it is not purged"):
        remote.purge("file")
    assert (server.home / "file").read_text() == "kept"
    assert remote.purge("missing") == 0


def test_names_that_are_no_text(remote: Remote, server: Sshd) -> None:
    """Names that are not UTF-8 are deleted like others; a tree of a thousand levels and 5000 files too."""
    top = server.home / "data"
    odd = os.fsencode(top) + b"/\xff\xfe\x80"
    Path(os.fsdecode(odd)).mkdir(parents=True)
    Path(os.fsdecode(odd + b"/caf\xe9")).touch()
    assert remote.purge("data") == 2


def test_many_files_and_deep_trees(remote: Remote, server: Sshd) -> None:
    """More entries than one listing takes, and more levels than recursion would survive."""
    top = server.home / "data"
    top.mkdir()
    for number in range(5000):
        (top / f"f{number}").touch()
    deep = top
    for _ in range(450):
        deep = deep / "d"
        deep.mkdir()
    assert remote.purge("data") == 5450
    assert list(top.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's sshd can log in somebody else")
def test_what_may_not_be_deleted_stops_the_purge() -> None:
    """A subdirectory that cannot be read, or a file that cannot be deleted, is reported with the count."""
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        with Sshd(directory, kinds=["ed25519"], more=["ForceCommand internal-sftp"], user="nobody") as server:
            top = directory / "data"
            (top / "unreadable").mkdir(parents=True)
            (top / "unreadable" / "kept").touch()
            (top / "unreadable").chmod(0o700)
            shutil.chown(top, "nobody")
            (top / "file").touch()
            with _connect(server) as remote, pytest.raises(Failed) as caught:
                remote.purge(str(top))
            assert caught.value.message == (
                f"cannot list {top}/unreadable on {server.host}:{server.port}: permission denied; "
                "purge stopped there: 1 entry deleted, the rest remains"
            )
            assert (top / "unreadable" / "kept").exists()
            (directory / "others").mkdir()
            (directory / "others" / "kept").touch()
            with _connect(server) as remote, pytest.raises(Failed, match=r"cannot delete .*/others/kept .*denied"):
                remote.purge(f"{directory}/others")
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize("name", ["../precious/file", "/etc/passwd", "a/b", "", "nul\0"])
def test_names_that_lead_out_stop_the_purge(tmp_path: Path, precious: Path, name: str) -> None:
    """A server that lists a name with a slash, or none, is not believed: nothing is deleted at all."""

    class Lying(Files):
        def list_folder(self, path: str) -> Any:
            return [_entry(name), _entry("honest")]

    top = _tree(tmp_path)
    said = _stopped(tmp_path, Lying, top)
    assert "it lists a name that no directory entry can have" in said
    assert "0 entries deleted" in said
    assert (top / "honest").exists()


def test_a_link_sold_as_a_directory_is_not_entered(tmp_path: Path, precious: Path) -> None:
    """Listings are not believed: lstat decides before a directory is entered."""
    top = _tree(tmp_path)
    (top / "link").symlink_to(precious)

    class Following(Files):
        def list_folder(self, path: str) -> Any:
            return [_entry(entry.name, entry.is_dir()) for entry in Path(path).iterdir()]

    with _odd(tmp_path, Following) as remote:
        assert remote.purge(str(top)) == 4
    assert list(top.iterdir()) == []


def test_dots_in_a_listing_are_skipped(tmp_path: Path, precious: Path) -> None:
    """. and .. are never deleted or entered, though every server lists them."""
    top = _tree(tmp_path)

    class Dotted(Files):
        def list_folder(self, path: str) -> Any:
            return [_entry(".", True), _entry("..", True), *super().list_folder(path)]

    with _odd(tmp_path, Dotted) as remote:
        assert remote.purge(str(top)) == 3


def test_a_directory_swapped_for_a_link_while_it_is_listed(tmp_path: Path, precious: Path) -> None:
    """A directory that became a link after it was looked at is deleted as a link."""
    top = _tree(tmp_path)

    class Swapping(Files):
        def list_folder(self, path: str) -> Any:
            listed = super().list_folder(path)
            if path.endswith("/sub"):
                shutil.rmtree(path)
                Path(path).symlink_to(precious)
                listed = [_entry("file")]
            return listed

    with _odd(tmp_path, Swapping) as remote:
        remote.purge(str(top))
    assert list(top.iterdir()) == []


def test_a_link_that_appears_on_the_way_stops_the_purge(tmp_path: Path, precious: Path) -> None:
    """Where realpath of a directory is suddenly another one, nothing of that listing is deleted."""
    top = _tree(tmp_path)

    class Moving(Files):
        def canonicalize(self, path: str) -> str:
            return str(precious) if path.endswith("/sub") else super().canonicalize(path)

    assert "is reached through a link now; stopped there" in _stopped(tmp_path, Moving, top)
    assert (top / "sub" / "inner").exists()


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """The name of what cannot be deleted is shown printable and short."""
    top = _tree(tmp_path)
    (top / ("\x1b[2J\r\n\u202e" + "x" * 200)).touch()

    class Refusing(Files):
        def remove(self, path: str) -> int:
            return int(paramiko.SFTP_PERMISSION_DENIED)

    said = _stopped(tmp_path, Refusing, top)
    assert said.isprintable()
    assert len(said) < 500
    assert "permission denied" in said


@pytest.mark.parametrize("kind", ["names", "nothing"])
def test_an_endless_listing_ends_at_the_deadline(tmp_path: Path, kind: str) -> None:
    """A directory that never ends is left at the deadline, with the count and the way to go on."""

    class Endless(paramiko.SFTPServer):  # type: ignore[misc]  # paramiko has no types
        def _process(self, request: int, number: int, message: Any) -> None:
            if request == 12:  # SSH_FXP_READDIR
                names = [_entry(f"f{entry}") for entry in range(500)] if kind == "names" else []
                self._response(number, 104, len(names), *_flat(names))
            elif request == 13:  # SSH_FXP_REMOVE
                self._send_status(number, paramiko.SFTP_OK)
            else:
                super()._process(request, number, message)

    top = _tree(tmp_path)
    began = time.monotonic()
    with _odd(tmp_path, Files, 4, sftp_server=Endless) as remote, pytest.raises(Failed) as caught:
        remote.purge(str(top))
    assert time.monotonic() - began < 20
    said = caught.value.message
    assert said.startswith(f"purge of {top} on ")
    assert "was not finished within 4 s: " in said
    assert "deleted, the rest remains; the same again continues" in said
    assert (" 0 entries" in said) == (kind == "nothing")


def test_a_purge_that_is_cut_short_is_continued(tmp_path: Path) -> None:
    """A server that stops answering in the middle: the count is what is gone, and a repeat does the rest."""
    top = _tree(tmp_path)
    for number in range(200):
        (top / f"f{number}").touch()
    manners, calls = Manners(), []

    class Stopping(Files):
        def remove(self, path: str) -> int:
            calls.append(path)
            if len(calls) > 100:
                manners.hang_at = "sftp"
                manners.hang("sftp")
                return int(paramiko.SFTP_FAILURE)
            return super().remove(path)

    said = _stopped(tmp_path, Stopping, top, seconds=2, manners=manners)
    assert "64 entries deleted" in said
    assert len(list(top.iterdir())) == 102
    with _odd(tmp_path, Files) as remote:
        assert remote.purge(str(top)) == 103
    assert list(top.iterdir()) == []


def test_replies_in_another_order(tmp_path: Path) -> None:
    """The deletions in flight may be answered in any order; each result belongs to its path."""

    class Backwards(paramiko.SFTPServer):  # type: ignore[misc]  # paramiko has no types
        waiting: list[Callable[[], None]]

        def _process(self, kind: int, number: int, message: Any) -> None:
            if kind != 13:  # SSH_FXP_REMOVE
                return super()._process(kind, number, message)  # type: ignore[no-any-return]
            path = message.get_text()
            self.waiting = [*getattr(self, "waiting", []), lambda: self._reply(number, path)]
            if len(self.waiting) == 3:
                for reply in reversed(self.waiting):
                    reply()
            return None

        def _reply(self, number: int, path: str) -> None:
            self._send_status(number, self.server.remove(path))

    top = tmp_path / "data"
    top.mkdir()
    for name in ("one", "two", "three"):
        (top / name).touch()
    with _odd(tmp_path, Files, sftp_server=Backwards) as remote:
        assert remote.purge(str(top)) == 3


def test_somebody_else_deletes_and_writes_meanwhile(server: Sshd, remote: Remote) -> None:
    """Entries that vanish are no error; entries that appear are deleted too, or the directory is left in place."""
    top = server.home / "data"
    for number in range(50):
        (top / f"d{number}").mkdir(parents=True)
        for name in range(20):
            (top / f"d{number}" / f"f{name}").touch()
    done = threading.Event()

    def meddle() -> None:
        while not done.is_set():
            shutil.rmtree(top / "d7", ignore_errors=True)
            shutil.rmtree(top / "d23", ignore_errors=True)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        remote.purge("data")
    finally:
        done.set()
        thread.join()
    assert list(top.iterdir()) == []


def _tree(directory: Path) -> Path:
    """data/{honest,sub/inner}: three entries."""
    top = directory / "data"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "inner").touch()
    (top / "honest").touch()
    return top


def _entry(name: str, is_directory: bool = False) -> Any:
    attributes = paramiko.SFTPAttributes()
    attributes.filename = name
    attributes.st_mode = 0o40755 if is_directory else 0o100644
    return attributes


def _flat(entries: list[Any]) -> list[Any]:
    return [field for entry in entries for field in (entry.filename, entry.filename, entry)]


def _stopped(directory: Path, files: type[Any], top: Path, seconds: float = 30, manners: Manners | None = None) -> str:
    with _odd(directory, files, seconds, manners) as remote, pytest.raises(PluginError) as caught:
        remote.purge(str(top))
    return caught.value.message


class _odd:
    """A session on an ``OddServer`` with these files; the server ends with it."""

    def __init__(
        self,
        directory: Path,
        files: type[Any],
        seconds: float = 30,
        manners: Manners | None = None,
        sftp_server: type[Any] = paramiko.SFTPServer,
    ) -> None:
        self._server = OddServer(manners, files, sftp_server)
        self._known = directory / "known_hosts"
        self._seconds = seconds

    def __enter__(self) -> Remote:
        server = self._server.__enter__()
        self._known.write_text(server.known_hosts_line())
        target = Target(server.host, "anna", port=server.port, password=Secret("right"))
        self._remote = Remote.connect(target, [self._known], Deadline.after(self._seconds))
        return self._remote

    def __exit__(self, *_: object) -> None:
        self._remote.close()
        self._server.__exit__(None, None, None)


def _connect(server: Sshd) -> Remote:
    known = server.directory / "known_hosts"
    known.write_text(server.known_hosts_line())
    target = Target(server.host, server.user, port=server.port, identity_files=(str(server.client_key),))
    return Remote.connect(target, [known], Deadline.after(60))


def _snapshot(top: Path) -> dict[str, tuple[int, float, bytes]]:
    found = {}
    for path in [top, *top.rglob("*")]:
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (path.stat().st_mode, path.stat().st_mtime, content)
    return found
