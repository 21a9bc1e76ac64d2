"""Purge: it empties what was named, and nothing else is ever touched, whatever the server does."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Sshd, kept, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.target import Target


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
    with kept(tmp_path / "precious") as outside:
        yield outside


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


def _connect(server: Sshd) -> Remote:
    known = server.directory / "known_hosts"
    known.write_text(server.known_hosts_line())
    target = Target(server.host, server.user, port=server.port, identity_files=(str(server.client_key),))
    return Remote.connect(target, [known], Deadline.after(60))
