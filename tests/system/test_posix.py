"""Programs on a volume with the default options: what is as on a local disk, and what is known to differ.

The cases are in posix_cases.py and posix_load.py. Each runs on a tmpfs too, which shows that what it calls local is so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .installed import Installed
from .posix_load import CASES

HERE = Path(__file__).parent
#: Seconds for which names, sizes and times are kept, as promised, and a bit.
KEPT = 4.2
#: By case and observation, what a volume shows instead; all others are as on a local disk.
DIFFERS: dict[str, dict[str, Any]] = {
    # The protocol (SFTP 3) has no call for these.
    "open_modes": {"O_TMPFILE": "ENOTSUP"},
    "special_files": {"fifo": "EPERM", "socket": "EPERM", "extended attributes": "ENOTSUP"},
    # A file that is removed or replaced while it is open here stays under another name until it is closed.
    "renaming_files": {"listing": [".fuse_hidden", "old"], "exchange": "EINVAL"},
    "unlinking_while_open": {"listing": [".fuse_hidden"], "rmdir": "ENOTEMPTY"},
    # The protocol has one error for most failures, and one for whatever is too long.
    "renaming_directories": {"over a full one": "EPERM"},
    "long_names": {
        f"{length} bytes: {call}": "EBADMSG" for length in (256, 1000) for call in ("create", "mkdir", "stat")
    },
    "deep_tree": {"6000 bytes deep": "EBADMSG"},
    # No link leads out of the volume, or looks as if it did.
    "symbolic_links": {f"{kind}: {call}": "EPERM" for kind in ("upwards", "absolute") for call in ("readlink", "read")},
    # Each name is a file of its own to this host, and size and time say whether what was read is still right.
    "hard_links": {"count": 1, "same inode": False, "same size and time": "CONTENT and more"},
    "others_change_files": {
        f"{name}: {when}": "first" for name in ("same time", "replaced, same time") for when in ("at once", "later")
    },
    # Locks are this host's: they are held against all containers here, not against the server or other hosts.
    "locks": {"flock held, there": "ok", "fcntl held, there": "ok"},
    # The protocol knows nothing of the room a file takes.
    "sparse_files": {
        "room as seen here": False,
        "SEEK_DATA": False,
        "SEEK_HOLE": (5 << 30) + 3,
        "fallocate": "ENOTSUP",
        "punch a hole": "ENOTSUP",
    },
    # Rights and owners are the account's, whoever asks; the server adds its own umask.
    "modes": {
        "created with umask 0": "0o644",
        "directory with umask 0": "0o755",
        "root reads without a right": "EACCES",
    },
    "owners": {"afterwards": True, "made by nobody": "ok"},
    # Times are whole seconds since 1970 up to 2106, both are set at once, and there is no change time.
    "times": {
        "below a second": 1_000_000_000 * 10**9,
        "of 1969": ["ok", 2**32 - 86400],
        "atime is left alone": False,
        "change time": False,
        "of a link": False,
    },
    # What the server has no room for is told later than by write(2), and by another name.
    "full_disk": {
        "write before fsync": 60 << 10,
        "told by fsync": "EIO",
        "write before close": 60 << 10,
        "told by close": "EIO",
    },
}


class Volume:
    """A volume that a container holds, and what the cases have seen there and on a tmpfs."""

    def __init__(self, installed: Installed) -> None:
        self.installed, self.machine = installed, installed.machine
        self.name = installed.name("posix")
        self.container = f"{self.name}-container"
        installed.create(self.name)
        installed.start(self.container, self.name, "sleep 1000")
        for file in ("__init__.py", "posix_cases.py", "posix_load.py"):
            self.machine.put(HERE / file, f"/root/posix/system/{file}")
        local, here = "/root/posix/tmpfs", f"/run/legacyhost/sshfs/mounts/{self.name}"
        self.machine.run(f"mkdir {local} && mount -t tmpfs posix {local}")
        there = f"{installed.remote.home}/{self.name}"
        self.seen = {"local": self._run(local, local, 0), "volume": self._run(here, there, KEPT)}

    def _run(self, here: str, there: str, kept: float) -> dict[str, dict[str, Any]]:
        """By case, its line. A program that stops leaves those that it has not come to without one."""
        program = f"cd /root/posix && exec timeout 200 python3 -m system.posix_load {here} {there} {kept}"
        done = self.machine.run(program, check=False, timeout=240)
        print(done.stderr)
        return {line["case"]: line for line in map(json.loads, done.stdout.splitlines())}

    def close(self) -> None:
        self.machine.docker("rm", "-f", self.container)
        self.machine.docker("volume", "rm", self.name)
        self.machine.run("umount /root/posix/tmpfs && rm -r /root/posix")


@pytest.fixture(scope="module")
def volume(installed: Installed) -> Iterator[Volume]:
    made = Volume(installed)
    yield made
    made.close()


@pytest.mark.parametrize("where", ["local", "volume"])
@pytest.mark.parametrize("name", CASES)
def test_case(volume: Volume, where: str, name: str) -> None:
    """What is seen on a tmpfs is what the case says of a local disk; on a volume too, except for what is known."""
    answer = volume.seen[where].get(name)
    assert answer is not None, "the program has not come to it"
    assert not answer["error"], f"{answer['error']}\nseen before: {answer['seen']}"
    expected = {what: local for what, (_, local) in answer["seen"].items()}
    if where == "volume":
        differences = DIFFERS.get(name, {})
        assert {what: expected.get(what) for what in differences if differences[what] == expected.get(what)} == {}
        assert differences.keys() <= expected.keys()
        expected |= differences
    assert {what: found for what, (found, _) in answer["seen"].items()} == expected


def test_every_difference_is_of_a_case() -> None:
    """None is left in the table of a case that has another name by now."""
    assert DIFFERS.keys() <= CASES.keys()


def test_a_container_that_is_not_root(volume: Volume) -> None:
    """It does what the account may, and a change of owner does nothing; its umask and modes are kept."""
    script = """
        set -e
        umask 027; mkdir /data/made; cd /data/made
        echo one >file; echo two >>file; chmod 640 file; mv file other; ln -s other link; ln other hard
        chown 1234:1234 other; cat link; stat -c %a . other; rm hard; stat -c %u . other
    """
    for user in ("1234", "65534:65534", "0"):
        said = volume.installed.sh(volume.name, script, "-u", user).stdout.split()
        account = volume.machine.run(["id", "-u", volume.installed.remote.user]).stdout.strip()
        assert said == ["one", "two", "750", "640", account, account]
        volume.installed.sh(volume.name, "rm -r /data/made", "-u", user)


def needed(program: str) -> dict[str, bytes]:
    """A program of this host's and its libraries, by path."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    words = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    return {path: Path(path).read_bytes() for path in (program, *words)}


def test_git(volume: Volume) -> None:
    """A repository on a volume: commits, gc, fsck; for root, once git is told that the owner does not matter."""
    git = shutil.which("git")
    assert git is not None, "git is missing (apt-get install git)"
    files = needed(git)
    volume.machine.import_image("git", files, engines=("docker",))
    script = f"""
        set -e
        chmod 755 {" ".join(files)}
        ln -s git {git}-upload-pack
        export PATH={Path(git).parent}:$PATH GIT_EXEC_PATH={Path(git).parent} HOME=/root
        git config --global user.name somebody; git config --global user.email somebody@localhost
        mkdir /data/git; cd /data/git
        git init -q --template= .
        git status >/dev/null 2>/root/said && exit 3
        grep -q 'dubious ownership' /root/said
        git config --global safe.directory '*'
        for commit in 1 2 3; do
            mkdir $commit
            for file in $(seq 40); do echo $commit $file >$commit/$file; done
            git add .; git commit -q -m $commit
        done
        git mv 1 moved; git rm -q -r 2; git commit -q -m more
        git gc -q
        git fsck --strict --full
        git status --porcelain
        git clone -q --template= . /tmp/clone; git -C /tmp/clone log --oneline | wc -l; ls /tmp/clone/*/* | wc -l
    """
    words = ["run", "--rm", "--network", "none", "-v", f"{volume.name}:/data", "git", "sh", "-c", script]
    assert volume.machine.docker(*words).stdout.split() == ["4", "80"]
    volume.installed.sh(volume.name, "rm -r /data/git")
    volume.machine.docker("rmi", "git")
