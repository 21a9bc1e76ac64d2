"""What is settled when a volume is created, and a key that must not be on a volume."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver

from legacyhost.drivers.sshfs import SshfsDriver
from legacyhost.errors import InvalidRequest
from legacyhost.state import Volume

PIN, OTHER = (f"SHA256:{letter * 43}" for letter in "AB")
FACTS = {"host_key_kind": "ssh-ed25519", "host_key_blob": "AAAA", "host_key": PIN}


def known_hosts_of(driver: SshfsDriver, volume: Volume, folder: Path) -> str:
    driver.command(volume, folder / "mountpoint", folder)
    lines = (folder / "ssh_config").read_text().splitlines()
    return next(line for line in lines if line.startswith("UserKnownHostsFile"))


def test_a_default_host_key_counts_when_a_volume_is_created(tmp_path: Path) -> None:
    """Changed later it is neither ignored in silence nor breaks mounts: the volume keeps the pin it was made with."""
    options = sshfs_driver([], {"host_key": PIN}).parse("data", {"sshcmd": "anna@nas:"})
    assert options["host_key"] == PIN
    pinned = Volume("data", options, datetime(2024, 2, 29, tzinfo=UTC), FACTS)
    later = sshfs_driver([tmp_path / "system"], {"host_key": OTHER})
    assert str(tmp_path / "known_hosts") in known_hosts_of(later, pinned, tmp_path)
    unpinned = Volume("data", {"sshcmd": "anna@nas:"}, datetime(2024, 2, 29, tzinfo=UTC), FACTS)
    assert str(tmp_path / "system") in known_hosts_of(later, unpinned, tmp_path)


def test_a_key_on_a_volume_is_refused() -> None:
    """It would be read through a mount that may hang, by the process that answers calls."""
    driver = sshfs_driver([], {})
    with pytest.raises(InvalidRequest, match="not on a volume"):
        driver.parse("data", {"sshcmd": "anna@nas:", "IdentityFile": "/run/legacyhost/sshfs/mounts/keys/id"})
    assert driver.parse("data", {"sshcmd": "anna@nas:", "IdentityFile": "/root/.ssh/id"})
