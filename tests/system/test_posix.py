"""What programs may expect of a volume, with its default options: as on a local disk, but for what is listed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .installed import Installed
from .posix import CASES

#: What a local disk shows.
LOCAL: dict[str, Any] = {
    "exclusive_create": "EEXIST",
    "open_truncates": 0,
    "read_and_write_in_the_middle": ["2xy5", "012xy56789"],
    "append_in_turns": "0123",
    "truncate_shorter_and_longer": [True, 20],
    "truncate_what_is_open": [5, 5],
    "rename_over_what_is_there": ["new", "old", False],
    "rename_a_directory": [True, "ENOTEMPTY"],
    "unlink_while_open": ["content and more", False, []],
    "errors": {
        "rmdir of what is not empty": "ENOTEMPTY",
        "unlink of a directory": "EISDIR",
        "open of what is not there": "ENOENT",
        "a file as a directory": "ENOTDIR",
        "write to a directory": "EISDIR",
        "mkdir of what is there": "EEXIST",
        "rmdir of a file": "ENOTDIR",
        "a name of 256 bytes": "ENAMETOOLONG",
    },
    "links": ["content", "nowhere", "ENOENT"],
    "links_out_of_the_volume": [["none", "none"], ["none", "none"]],
    "hard_links": "content",
    "memory_maps": ["here", "here", "x"],
    "locks": {"flock": ["refused", "granted"], "lockf": ["refused", "granted"]},
    "synced": 100_000,
    "sparse_files": [(50 << 20) + 3, True, True],
    "names": True,
    "modes": ["0o640", "0o750", "0o640"],
    "times": [1_000_000, 2_000_000, True],
    "change_of_owner": "none",
    "a_listing_while_it_changes": 100,
    "many_files_and_a_deep_tree": [2001, "deep", False],
    "free_space": [True, True],
    "a_database": [[0, 0, 0, 0], "ok", 100],
    "a_tree_from_an_archive": 0,
    "writers_side_by_side": [[0, 0, 0, 0], [True, True, True, True]],
}
#: What is otherwise on a volume, and why.
OTHERWISE: dict[str, Any] = {
    # The protocol has one error for all it has no name for, and one for a message that is too long.
    "rename_a_directory": [True, "EPERM"],
    "errors": {**LOCAL["errors"], "a name of 256 bytes": "EBADMSG"},
    # The protocol does not say how much room a file takes; what is read is right.
    "sparse_files": [(50 << 20) + 3, True, False],
}
#: As they are read where sshfs keeps links inside of the volume, as Debian's does since a security fix.
CONTAINED = [["none", "none"], ["EPERM", "EPERM"]]


@pytest.fixture(scope="module")
def seen(installed: Installed) -> dict[str, dict[str, Any]]:
    """What was seen on a volume, which a container has, and on a local disk."""
    machine = installed.machine
    machine.put(Path(__file__).with_name("posix.py"), "/root/posix.py")
    name = installed.name("posix")
    installed.create(name)
    installed.start(name, name, "sleep 600")
    places = {"volume": f"/run/legacyhost/sshfs/mounts/{name}", "local": "/root/posix"}
    machine.run("mkdir /root/posix")
    found = {
        where: json.loads(machine.run(["python3", "/root/posix.py", place], timeout=180).stdout)
        for where, place in places.items()
    }
    machine.docker("rm", "-f", name)
    if "contain_symlinks" in machine.run("sshfs --help 2>&1").stdout:
        assert found["volume"]["links_out_of_the_volume"] == CONTAINED
        found["volume"]["links_out_of_the_volume"] = LOCAL["links_out_of_the_volume"]
    return found


def test_every_case_has_a_result() -> None:
    """One that was forgotten would be a case nobody looks at."""
    assert CASES.keys() == LOCAL.keys()


@pytest.mark.parametrize("case", CASES)
def test_a_local_disk(seen: dict[str, dict[str, Any]], case: str) -> None:
    """The case is right: this is what everybody expects."""
    assert seen["local"][case] == LOCAL[case]


@pytest.mark.parametrize("case", CASES)
def test_a_volume(seen: dict[str, dict[str, Any]], case: str) -> None:
    """As on a local disk, or as it is known to differ: a change is noticed."""
    assert seen["volume"][case] == OTHERWISE.get(case, LOCAL[case])
