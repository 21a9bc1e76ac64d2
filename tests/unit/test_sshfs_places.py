"""The sshfs driver without mounting anything: where a volume's data is, by its options and the configured ones."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver

from legacyhost.drivers.sshfs import SshfsDriver
from legacyhost.errors import InvalidRequest
from legacyhost.state import Volume

REPOSITORY = Path(__file__).parents[2]
SSHCMD = "anna@nas.example.org:/srv/data"
FACTS = {"host_key": "SHA256:x", "free": "1.0 of 2.0 GiB", "path": "/srv/data"}


@pytest.fixture
def driver() -> SshfsDriver:
    return sshfs_driver([], {})


def volume(driver: SshfsDriver, **given: str) -> Volume:
    options = {"sshcmd": SSHCMD, **given}
    return Volume("data", driver.parse("data", options), datetime(2024, 2, 29, tzinfo=UTC), FACTS)


def test_the_status_shows_where_the_data_is(driver: SshfsDriver) -> None:
    """For docker volume inspect: the remote directory, its host key, the room there was."""
    assert driver.describe(volume(driver, port="2222", password="hunter2")) == {
        "remote": "anna@nas.example.org:/srv/data (port 2222)",
        "host key": "SHA256:x",
        "free at creation": "1.0 of 2.0 GiB",
    }


def test_a_volume_needs_a_directory(driver: SshfsDriver) -> None:
    """Without sshcmd, given or configured, there is nothing to mount."""
    with pytest.raises(InvalidRequest, match=r"^volume data needs the option sshcmd=\[user@\]host:\[path\]"):
        driver.parse("data", {"port": "22"})


def test_a_configured_sshcmd_gives_each_volume_its_directory() -> None:
    """{volume} is the volume's name; it is recorded, so that a later configuration does not move the data."""
    driver = sshfs_driver([], {"sshcmd": "root@nas:/srv/{volume}/{volume}.d", "port": "2222"})
    assert driver.parse("data", {}) == {"sshcmd": "root@nas:/srv/data/data.d"}
    assert driver.parse("data", {"sshcmd": "other:/x"}) == {"sshcmd": "root@other:/x"}
    later = sshfs_driver([], {"sshcmd": "root@elsewhere:/srv/{volume}"})
    recorded = Volume("data", driver.parse("data", {}), datetime(2024, 2, 29, tzinfo=UTC), FACTS)
    assert later.describe(recorded)["remote"] == "root@nas:/srv/data/data.d"


def test_paramiko_is_not_loaded_for_what_needs_no_network() -> None:
    """Parsing, describing, refusing and preparing a command cost no import of an SSH library."""
    program = (
        "import sys, pathlib, tempfile; sys.path.append('tests'); import drivers\n"
        "from legacyhost import plugin; from legacyhost.state import Volume, now\n"
        "driver = drivers.sshfs_driver()\n"
        f"options = driver.parse('v', {{'sshcmd': {SSHCMD!r}, 'password': 'x', 'on_remove': 'purge'}})\n"
        "volume = Volume('v', options, now(), {})\n"
        "driver.describe(volume); driver.removal(volume, list); driver.timeout(options)\n"
        "folder = pathlib.Path(tempfile.mkdtemp())\n"
        "driver.command(volume, folder, folder)\n"
        "print([name for name in ('paramiko', 'cryptography') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")
