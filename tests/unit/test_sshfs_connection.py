"""The sshfs driver without the network: what it tells the connection below sshfs, and ssh, about waiting and owners."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver

from legacyhost.errors import InvalidRequest
from legacyhost.mounts import MountCommand
from legacyhost.state import Volume


def command(folder: Path, sshcmd: str = "anna@nas:", **given: str) -> MountCommand:
    driver = sshfs_driver([Path("/known_hosts")], {})
    options = driver.parse("data", {"sshcmd": sshcmd, **given})
    return driver.command(Volume("data", options, datetime.now(UTC), {}), folder / "mountpoint", folder)


def ssh_says(folder: Path, keyword: str) -> int:
    """What the real ssh makes of the configuration that was written."""
    argv = ["ssh", "-G", "-F", str(folder / "ssh_config"), "nas"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return int(re.findall(rf"^{keyword} (\d+)$", said, re.MULTILINE)[0])


@pytest.mark.parametrize(
    ("user", "options", "chown", "fail_after"),
    [
        ("anna", {}, "ignore", "30"),
        ("anna", {"chown": "strict", "fail_after": "5"}, "strict", "5"),
        ("root", {}, "strict", "30"),
        ("root", {"chown": "ignore", "fail_after": "3600"}, "strict", "3600"),
    ],
)
def test_the_connection_is_told_what_to_do_by_its_environment(
    tmp_path: Path, user: str, options: dict[str, str], chown: str, fail_after: str
) -> None:
    """What root changes is changed; each mount has a record of its own, in the volume's folder."""
    given = command(tmp_path, sshcmd=f"{user}@nas:", **options)
    assert given.variables("a:mount:1") == {
        "LEGACYHOST_RECORD": str(tmp_path / "connection.1"),
        "LEGACYHOST_MOUNTPOINT": str(tmp_path / "mountpoint"),
        "LEGACYHOST_SOURCE": "a:mount:1",
        "LEGACYHOST_FAIL_AFTER": fail_after,
        "LEGACYHOST_SILENCE": str(max(1, int(fail_after) // 3) * 3),
        "LEGACYHOST_CHOWN": chown,
    }


@pytest.mark.parametrize("fail_after", [1, 2, 3, 4, 30, 100, 3600])
def test_ssh_gives_a_silent_host_up_when_the_time_is_over(tmp_path: Path, fail_after: int) -> None:
    """At the end of the interval that follows the last unanswered keep-alive: never much earlier or later."""
    command(tmp_path, fail_after=str(fail_after))
    interval, count = (ssh_says(tmp_path, name) for name in ("serveraliveinterval", "serveralivecountmax"))
    assert interval >= 1
    assert abs(interval * (count + 1) - fail_after) <= 2


def test_keep_alives_are_the_volumes_own_if_it_says_so(tmp_path: Path) -> None:
    """What is given goes before what follows from fail_after."""
    command(tmp_path, fail_after="90", ServerAliveInterval="7")
    assert ssh_says(tmp_path, "serveraliveinterval") == 7
    command(tmp_path, fail_after="90", ServerAliveCountMax="9")
    assert (ssh_says(tmp_path, "serveraliveinterval"), ssh_says(tmp_path, "serveralivecountmax")) == (30, 9)


@pytest.mark.parametrize(
    "given", [{"chown": "yes"}, {"chown": ""}, {"fail_after": "0"}, {"fail_after": "3601"}, {"fail_after": "1.5"}]
)
def test_values_there_are_none_of_are_refused(given: dict[str, str]) -> None:
    """When the volume is created, not when it is mounted."""
    with pytest.raises(InvalidRequest, match=next(iter(given))):
        sshfs_driver([], {}).parse("data", {"sshcmd": "anna@nas:", **given})
