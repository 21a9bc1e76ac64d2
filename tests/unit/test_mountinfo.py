"""/proc/self/mountinfo: every line the kernel can write is understood, and other people's mounts break nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from namespace import in_own_namespace

from legacyhost.mounts import mountinfo
from legacyhost.mounts.mountinfo import Mount
from legacyhost.mounts.tools import device_of, users_in

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
    """The order of the file is kept, and the device on top is the last one's."""
    stacked = [mount.device for mount in mountinfo.parse(LINES) if mount.mountpoint == "/mnt/data"]
    assert stacked == ["0:36", "0:37"]
    assert device_of(tmp_path) is None


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
        for _ in range(2):
            before = device_of(where)
            subprocess.run(["mount", "-t", "tmpfs", "a source", str(where)], check=True)
            assert device_of(where) not in (None, before)
        assert [(m.kind, m.source) for m in mountinfo.read() if m.mountpoint == str(where)] == [
            ("tmpfs", "a source")
        ] * 2


def test_users_are_those_who_see_the_mount_elsewhere() -> None:
    """A sandboxed service has a copy at the same path and is no user; another file system is none either."""
    found = "\n".join(
        [
            "/proc/11/mountinfo:1 2 0:36 / /mnt/data rw - fuse.sshfs x rw",
            "/proc/4711/mountinfo:1 2 0:36 / /data rw - fuse.sshfs x rw",
            "/proc/4711/mountinfo:1 2 0:36 /sub /other rw - fuse.sshfs x rw",
            "/proc/42/mountinfo:1 2 0:36 / /da\x0cta\u2028: rw - fuse.sshfs x rw",
            "/proc/13/mountinfo:1 2 0:37 / /data rw - fuse.sshfs x rw",
            "/proc/14/mountinfo:1 2 8:1 / /data rw - ext4 0:36 rw",
            "",
        ]
    )
    assert users_in(found, "0:36", Path("/mnt/data")) == [42, 4711]
    assert users_in("", "0:36", Path("/mnt/data")) == []
