"""Who uses a mount: found by its source in every mount namespace, and by the files that are open in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from namespace import in_own_namespace

from legacyhost.errors import Failed
from legacyhost.mounts import User
from legacyhost.mounts.processes import ProcessMounter

SERIAL = "0123abcd"
ODD = [
    "plain",
    "with space",
    "a\nb",
    "a\tb",
    "*",
    "[a-z]?",
    "back\\slash",
    "a:b",
    "é☃",
    "\udcff\udcfe",
    "-end",
    "x (deleted)",
]
#: A thread with a mount namespace of its own, in which it binds its first argument to its second; the process itself
#: sees nothing of that (so Docker copies into a container that does not run).
THREAD = """
import ctypes, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def work():
    assert libc.unshare(0x00020000) == 0
    assert libc.mount(None, b"/", None, 0x00040000 | 0x4000, None) == 0
    assert libc.mount(sys.argv[1].encode(), sys.argv[2].encode(), None, 0x1000, None) == 0
    print("ready", flush=True)
    threading.Event().wait()
threading.Thread(target=work).start()
"""


class Place:
    """A plugin's runtime directory, with volumes that are mounted there."""

    def __init__(self, directory: Path) -> None:
        self.mounter = ProcessMounter(directory)
        self.mounts = directory / "mounts"
        self.elsewhere = directory / "elsewhere"
        self.elsewhere.mkdir(parents=True)

    def mount(self, name: str = "data") -> Path:
        where = self.mounts / name
        where.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", self.source(name), str(where)], check=True)
        return where

    def source(self, name: str = "data") -> str:
        return f"legacyhost:{self.mounts.parent.name}:{name}:{SERIAL}"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "run" / "sshfs")


@contextmanager
def running(*argv: object, cwd: Path | None = None) -> Iterator[int]:
    """A process that has said that it is ready; its ID."""
    words = [word if isinstance(word, bytes) else str(word) for word in argv]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=cwd) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process.pid
        finally:
            process.kill()


def container(*steps: str, arguments: tuple[object, ...] = ()) -> tuple[object, ...]:
    """The command for a process with a mount namespace of its own, in which those steps have been taken."""
    script = " && ".join([*steps, "echo ready", "exec sleep 60"])
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *arguments)


@in_own_namespace
def test_who_sees_the_mount_elsewhere_uses_it(place: Place) -> None:
    """A container; a copy of the whole name space at the same path, as sandboxed services have it, is no use."""
    where = place.mount()
    assert place.mounter.users() == []
    with (
        running(*container()),
        running(*container('mount --bind "$1" "$2"', arguments=(where, place.elsewhere))) as user,
    ):
        assert place.mounter.users() == [User(user, source=place.source())]


@in_own_namespace
def test_who_has_a_mount_that_the_host_does_not_see_any_more_uses_it(place: Place) -> None:
    """It was unmounted by hand, or its program was killed: the container has it all the same, until it ends."""
    where = place.mount()
    with running(*container('mount --bind "$1" "$2"', arguments=(where, place.elsewhere))) as user:
        subprocess.run(["umount", "--lazy", str(where)], check=True)
        assert place.mounter.users() == [User(user, source=place.source())]
        where.rmdir()
        place.mount()
        assert place.mounter.users() == [User(user, source=place.source())]
    assert place.mounter.users() == []


@in_own_namespace
def test_a_thread_with_a_namespace_of_its_own_uses_what_it_sees(place: Place) -> None:
    """Docker copies into a container that does not run by such a thread; its process sees nothing elsewhere."""
    where = place.mount()
    with running(sys.executable, "-c", THREAD, where, place.elsewhere) as user:
        assert str(place.elsewhere) not in Path(f"/proc/{user}/mountinfo").read_text()
        assert place.mounter.users() == [User(user, source=place.source())]
    assert place.mounter.users() == []


@in_own_namespace
def test_mounts_of_others_are_not_ours(place: Place) -> None:
    """Another plugin's, also one whose name begins alike; and one that only has our name somewhere in its path."""
    place.mount()
    foreign = ["legacyhost:sshfs2:data:0123abcd", "tmpfs", "xlegacyhost:sshfs:data:0123abcd"]
    odd = place.elsewhere / "legacyhost:sshfs:data:0123abcd"
    odd.mkdir()
    steps = [f'mount -t tmpfs "{source}" "$1"' for source in foreign]
    with running(*container(*steps, arguments=(odd,))):
        assert place.mounter.users() == []


@in_own_namespace
def test_odd_bytes_in_a_container_do_not_hide_it(place: Place) -> None:
    """Anybody can have a mount with a name that is no text: the mounts beside it are seen all the same."""
    where = place.mount()
    odd = place.elsewhere / "\udcff\n\udcfe é"
    odd.mkdir()
    steps = ('mount -t tmpfs odd "$2"', 'mkdir "$2/a"', 'mount --bind "$1" "$2/a"')
    with running(*container(*steps, arguments=(where, os.fsencode(odd)))) as user:
        assert [found.process for found in place.mounter.users()] == [user]


@pytest.mark.parametrize("name", ODD, ids=ascii)
@in_own_namespace
def test_who_has_a_file_open_uses_it(place: Place, name: str) -> None:
    """By the path on the host: whoever works there without a container. Whatever the file is called."""
    where = place.mount()
    file = where / name
    file.touch()
    script = 'exec 3<"$1"; echo ready; exec sleep 60'
    with running("sh", "-c", script, "sh", os.fsencode(file)) as user:
        (found,) = place.mounter.users()
        assert (found.process, found.source) == (user, "")
        assert found.path.startswith(f"{where}/")
        file.unlink()
        assert [found.process for found in place.mounter.users()] == [user]
    assert place.mounter.users() == []


@pytest.mark.parametrize("name", ["", *ODD], ids=ascii)
@in_own_namespace
def test_who_works_in_a_directory_uses_it(place: Place, name: str) -> None:
    """A shell that stands there would have a dead directory under its feet; in the mountpoint itself too."""
    where = place.mount() / name
    where.mkdir(exist_ok=True)
    with running("sh", "-c", "echo ready; exec sleep 60", cwd=where) as user:
        assert [(found.process, found.source) for found in place.mounter.users()] == [(user, "")]
    assert place.mounter.users() == []


@in_own_namespace
def test_the_path_of_the_runtime_directory_is_no_pattern(tmp_path: Path) -> None:
    """What it matches as one is somebody else's; it is found as it is written."""
    place = Place(tmp_path / "a*b [c]\\d?" / "sshfs")
    other = tmp_path / "a-b c" / "\\d" / "sshfs" / "mounts" / "data"
    another = tmp_path / "a-b cdx" / "sshfs" / "mounts" / "data"
    for each in (other, another):
        each.mkdir(parents=True)
    ready = ("sh", "-c", "echo ready; exec sleep 60")
    with running(*ready, cwd=other), running(*ready, cwd=another):
        where = place.mount()
        assert place.mounter.users() == []
        with running(*ready, cwd=where) as user:
            assert place.mounter.users() == [User(user, path=str(where))]
        with running(*container('mount --bind "$1" "$2"', arguments=(where, place.elsewhere))) as user:
            assert place.mounter.users() == [User(user, source=place.source())]


@pytest.mark.parametrize("program", ["grep", "find", "awk"])
@in_own_namespace
def test_a_search_that_cannot_be_made_has_not_found_nobody(place: Place, program: str) -> None:
    """Taken for "nobody", it would unmount under a running container."""
    place.mount()
    assert place.mounter.users() == []
    (found,) = (path for path in (Path("/usr/bin") / program,) if path.exists())
    subprocess.run(["mount", "--bind", "/dev/null", str(found.resolve())], check=True)
    with pytest.raises(Failed, match=f"^it cannot be found out who uses the volumes in {place.mounts}"):
        place.mounter.users()


def test_a_source_is_that_of_one_volume() -> None:
    """By the source of a mount it is known whose it is: names that begin alike are others, however long."""
    mounter, other = ProcessMounter(Path("/run/sshfs")), ProcessMounter(Path("/run/ssh"))
    names = ["data", "data2", "dat", "a", "x" * 255, "x" * 254, "x" * 254 + "-"]
    for name in names:
        source = f"legacyhost:sshfs:{name}:{SERIAL}"
        assert [each for each in names if mounter.is_ours(each, source)] == [name]
        assert not other.is_ours(name, source)
        for foreign in ("", "tmpfs", name, f"legacyhost:sshfs:{name}"):
            assert not mounter.is_ours(name, foreign)
