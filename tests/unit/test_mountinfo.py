"""/proc/self/mountinfo: every line the kernel can write is understood, and other people's mounts break nothing."""

from __future__ import annotations

import multiprocessing
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from namespace import in_own_namespace

from legacyhost.mounts import User, mountinfo
from legacyhost.mounts.mountinfo import Mount
from legacyhost.mounts.tools import source_of, users_in

LINES = r"""
22 28 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
28 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro
40 28 0:35 / /run/legacyhost/sshfs/bare rw shared:1 master:2 propagate_from:3 unbindable - tmpfs tmpfs rw
41 28 0:35 / /mnt/a\040b\011c\012d\134e\043f rw - tmpfs with\040space rw
42 28 0:36 / /mnt/data rw,nosuid - fuse.sshfs anna@nas:/srv rw,user_id=0
43 42 0:37 / /mnt/data rw - tmpfs  rw
44 28 0:38 /sub /mnt/é☃ rw - ext4 /dev/sdb rw
"""
#: Bytes the kernel does not escape, at which Python would break lines if it were let.
UNESCAPED = ["\x0b", "\x0c", "\r", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


def test_each_line_is_a_mount() -> None:
    """Optional fields or none, escapes, an empty source, a subdirectory, any characters."""
    assert mountinfo.parse(LINES) == [
        Mount("/proc", "0:20", "proc", "proc"),
        Mount("/", "8:1", "ext4", "/dev/sda1"),
        Mount("/run/legacyhost/sshfs/bare", "0:35", "tmpfs", "tmpfs"),
        Mount("/mnt/a b\tc\nd\\e#f", "0:35", "tmpfs", "with space"),
        Mount("/mnt/data", "0:36", "fuse.sshfs", "anna@nas:/srv"),
        Mount("/mnt/data", "0:37", "tmpfs", ""),
        Mount("/mnt/é☃", "0:38", "ext4", "/dev/sdb"),
    ]


def test_of_stacked_mounts_the_later_covers_the_earlier(tmp_path: Path) -> None:
    """The order of the file is kept, and the source on top is the last one's."""
    stacked = [mount.device for mount in mountinfo.parse(LINES) if mount.mountpoint == "/mnt/data"]
    assert stacked == ["0:36", "0:37"]
    assert source_of(tmp_path) is None


@pytest.mark.parametrize("text", ["", "\n\n", "garbage", "1 2 3 4 5 6"])
def test_what_is_no_line_of_mountinfo_is_no_mount(text: str) -> None:
    """An empty file or half a line is nothing, and does not hide the rest."""
    assert mountinfo.parse(text) == []
    assert len(mountinfo.parse(text + LINES)) == 7


@pytest.mark.parametrize("character", UNESCAPED, ids=ascii)
def test_a_line_ends_with_a_line_break_only(tmp_path: Path, character: str) -> None:
    """Any user who may mount can choose such a name: it must not break the look-up of everybody else's mounts."""
    line = f"45 28 0:39 / /mnt/x{character}y rw - fuse.sshfs me{character}@x:/ rw"
    (tmp_path / "mountinfo").write_bytes(f"{line}{LINES}".encode())
    mounts = mountinfo.read(tmp_path / "mountinfo")
    assert mounts[0] == Mount(f"/mnt/x{character}y", "0:39", "fuse.sshfs", f"me{character}@x:/")
    assert len(mounts) == 8


def test_names_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    """A path is bytes: what cannot be decoded comes through unharmed."""
    (tmp_path / "mountinfo").write_bytes(b"45 28 0:39 / /mnt/\xff\xfe rw - tmpfs tmpfs rw\n")
    assert mountinfo.read(tmp_path / "mountinfo")[0].mountpoint == "/mnt/\udcff\udcfe"


@pytest.mark.parametrize("path", ["/a b", "/a\tb", "/a\nb", "/a\\b", "/a\\040b", "/plain", "/é☃"])
def test_escaping_is_the_opposite_of_reading(path: str) -> None:
    """A path written as mountinfo writes it is read as itself."""
    escaped = mountinfo.escape(Path(path))
    assert not set(" \t\n") & set(escaped)
    assert mountinfo.parse(f"1 2 0:3 / {escaped} rw - tmpfs tmpfs rw")[0].mountpoint == path


@in_own_namespace
def test_the_kernel_writes_what_is_read(tmp_path: Path) -> None:
    """Mounts on directories with all the odd names are found as they were made, one over another too."""
    for name in ("plain", "a b\tc\nd\\e#f", "é☃", *(f"x{character}y" for character in UNESCAPED)):
        where = tmp_path / name
        where.mkdir()
        for source in ("a source", "another"):
            subprocess.run(["mount", "-t", "tmpfs", source, str(where)], check=True)
            assert source_of(where) == source
        assert [(m.kind, m.source) for m in mountinfo.read() if m.mountpoint == str(where)] == [
            ("tmpfs", "a source"),
            ("tmpfs", "another"),
        ]


def test_users_are_those_who_see_a_mount_elsewhere_or_have_a_file_open() -> None:
    """A sandboxed service has a copy at the same path and is no user; nor is who sees somebody else's mount."""
    ours = "legacyhost:sshfs:data:0123abcd"
    mounted = [
        f"/proc/11/mountinfo:1 2 0:36 / /run/mounts/data rw - fuse.sshfs {ours} rw",
        f"/proc/4711/mountinfo:1 2 0:36 / /data rw - fuse.sshfs {ours} rw",
        f"/proc/4711/task/4712/mountinfo:1 2 0:36 /sub /other rw - fuse.sshfs {ours} rw",
        f"/proc/42/mountinfo:1 2 0:36 / /da\x0cta\u2028: rw - fuse.sshfs {ours} rw",
        "/proc/13/mountinfo:1 2 0:37 / /data rw - fuse.sshfs legacyhost:sshfs2:data:0123abcd rw",
        f"/proc/14/mountinfo:1 2 8:1 / /data/\\040{ours} rw - ext4 /dev/sda rw",
        "",
    ]
    opened = ["/proc/7/fd/3:/run/mounts/data/a:\nb", "/proc/8/cwd:/run/mounts/data"]
    found = "\0".join(["\n".join(mounted), *opened, "end"])
    assert users_in(found, "legacyhost:sshfs:", Path("/run/mounts")) == [
        User(7, path="/run/mounts/data/a:\nb"),
        User(8, path="/run/mounts/data"),
        User(42, source=ours),
        User(4711, source=ours),
    ]


@pytest.mark.parametrize("found", ["", "end", "\0", "\0en", "/proc/1/mountinfo:1 2 0:3 / /a rw - b c rw\n", "\0end\0"])
def test_a_search_that_was_cut_off_has_found_nothing_out(found: str) -> None:
    """That nobody was found is only true of a search that has come to its end."""
    assert users_in(found, "legacyhost:sshfs:", Path("/run/mounts")) is None
    assert users_in("\0end", "legacyhost:sshfs:", Path("/run/mounts")) == []


@in_own_namespace
def test_what_changes_is_seen_at_once(tmp_path: Path) -> None:
    """Whoever mounts or unmounts, and however often it has been asked before; other processes have asked meanwhile."""
    argv = ["mount", "-t", "tmpfs"]
    for number in range(50):
        assert source_of(tmp_path) is None
        subprocess.run([*argv, f"source:{number}", str(tmp_path)], check=True)
        if number % 2:
            process = multiprocessing.get_context("fork").Process(target=source_of, args=(tmp_path,))
            process.start()
            process.join()
        assert source_of(tmp_path) == f"source:{number}"
        assert source_of(tmp_path) == f"source:{number}"
        if number % 3 == 0:
            subprocess.run([*argv, "above", str(tmp_path)], check=True)
            assert source_of(tmp_path) == "above"
            subprocess.run(["umount", str(tmp_path)], check=True)
            assert source_of(tmp_path) == f"source:{number}"
        subprocess.run(["umount", str(tmp_path)], check=True)


@in_own_namespace
def test_threads_see_what_was_mounted_before_they_asked(tmp_path: Path) -> None:
    """Although one of them alone is told by the kernel that something has changed."""
    points = [tmp_path / str(number) for number in range(8)]

    def mount_and_look(point: Path) -> list[str | None]:
        point.mkdir()
        seen = []
        for _ in range(10):
            subprocess.run(["mount", "-t", "tmpfs", "here", str(point)], check=True)
            seen.append(source_of(point))
            subprocess.run(["umount", str(point)], check=True)
            seen.append(source_of(point))
        return seen

    with ThreadPoolExecutor(len(points)) as pool:
        assert [*pool.map(mount_and_look, points)] == [["here", None] * 10] * len(points)
