"""Purge on servers that lie, race or fall silent: nothing outside is touched, everything ends."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from oddsshd import Files, Manners, OddServer
from sshd import kept, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed, PluginError
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.target import Secret, Target


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    with kept(tmp_path / "precious") as outside:
        yield outside


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


def test_a_top_that_is_swapped_stops_the_purge(tmp_path: Path, precious: Path) -> None:
    """A link that takes the place of the directory named, while it is emptied, is neither followed nor deleted."""
    top = _tree(tmp_path)

    class Swapping(Files):
        def rmdir(self, path: str) -> int:
            answer = super().rmdir(path)
            top.rmdir()
            top.symlink_to(precious)
            return answer

    assert "is no directory any more; stopped there" in _stopped(tmp_path, Swapping, top)
    assert top.is_symlink()


@pytest.mark.parametrize("code", [paramiko.SFTP_FAILURE, paramiko.SFTP_PERMISSION_DENIED])
def test_a_directory_that_cannot_be_deleted(tmp_path: Path, code: int) -> None:
    """An empty directory that stays is reported, not tried for ever."""

    class Keeping(Files):
        def rmdir(self, path: str) -> int:
            return code

    said = _stopped(tmp_path, Keeping, _tree(tmp_path))
    assert said.startswith("cannot delete ")
    assert said.endswith("purge stopped there: 2 entries deleted, the rest remains")


def test_a_directory_that_fills_up_again(tmp_path: Path) -> None:
    """What is written into a directory just emptied is deleted as well, and counted."""
    top = _tree(tmp_path)
    late: list[Path] = []

    class Filling(Files):
        def rmdir(self, path: str) -> int:
            if not late:
                late.append(Path(path, "late"))
                late[0].touch()
            return super().rmdir(path)

    with _odd(tmp_path, Filling) as remote:
        assert remote.purge(str(top)) == 4
    assert list(top.iterdir()) == []


@pytest.mark.parametrize("answer", ["nothing", "denied"])
def test_a_server_that_does_not_say_what_the_top_is(tmp_path: Path, answer: str) -> None:
    """Without knowing that the top is a directory, and no link, nothing is deleted."""
    top = _tree(tmp_path)

    class Vague(Files):
        def lstat(self, path: str) -> Any:
            return paramiko.SFTPAttributes() if answer == "nothing" else paramiko.SFTP_PERMISSION_DENIED

    said = _stopped(tmp_path, Vague, top)
    assert "the server does not say enough of what it is" in said or "permission denied" in said
    assert len(list(top.iterdir())) == 2


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
                self._response(
                    number, 104, len(names), *(field for entry in names for field in (entry.filename, "", entry))
                )
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
