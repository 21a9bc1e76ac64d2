"""Which volumes share a connection, and what is left of one that has ended."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver

from legacyhost.drivers import Sharing
from legacyhost.drivers.sharing import SOCKET, START, SharedConnections
from legacyhost.drivers.sshfs import SshfsDriver
from legacyhost.state import Volume

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIDummyDummyDummyDummyDummyDummyDummyDummyDumm"
FACTS = {"host_key_kind": "ssh-ed25519", "host_key_blob": KEY, "host_key": "SHA256:x"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Longer than a socket's path may be."""
    return tmp_path / ("long" * 30) / "shared"


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    """Ends what listens."""
    with ExitStack() as stack:
        yield stack


def fill(folder: Path, secret: str = "hunter2") -> str:
    (folder / "ssh_config").write_text(f"IdentityFile {folder}/identity\n")
    (folder / "identity").write_text(secret)
    return secret


def listen(folder: Path, processes: ExitStack) -> socket.socket:
    """As the connection's process does."""
    listener = processes.enter_context(socket.socket(socket.AF_UNIX))
    place = os.open(folder, os.O_PATH)
    listener.bind(f"/proc/self/fd/{place}/{SOCKET}")
    os.close(place)
    listener.listen()
    return listener


def folders(root: Path) -> set[Path]:
    return set(root.iterdir())


def test_the_same_account_is_one_connection(root: Path, processes: ExitStack) -> None:
    """While it is there, for a service that was started anew too; the files made to find that out are gone."""
    first, filled = SharedConnections().folder(root, "anna@nas", fill)
    assert filled == "hunter2"
    listen(first, processes)
    for connections in (SharedConnections(), SharedConnections()):
        assert connections.folder(root, "anna@nas", fill) == (first, None)
    assert folders(root) == {first}
    assert {path.stat().st_mode & 0o777 for path in (root, first)} == {0o700}
    assert "hunter2" not in (first / "digest").read_text()
    assert (first / "digest").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("account", "secret"), [("anna@nas", "other"), ("bert@nas", "hunter2"), ("anna@nas2", "hunter2")]
)
def test_what_differs_in_anything_is_another_connection(
    root: Path, processes: ExitStack, account: str, secret: str
) -> None:
    """Above all in what it is opened with: nobody gets in with somebody else's password."""
    shared = SharedConnections()
    first, _ = shared.folder(root, "anna@nas", fill)
    listen(first, processes)
    other, filled = shared.folder(root, account, lambda folder: fill(folder, secret))
    assert other != first
    assert filled == secret
    assert folders(root) == {first, other}


def test_one_that_is_being_made_is_waited_for(root: Path) -> None:
    """By the mount, not here: between its folder and its socket it is there already."""
    shared = SharedConnections()
    first, _ = shared.folder(root, "anna@nas", fill)
    assert shared.folder(root, "anna@nas", fill) == (first, None)


@pytest.mark.parametrize("how", ["killed", "never begun"])
def test_one_that_has_ended_is_swept_away(root: Path, processes: ExitStack, how: str) -> None:
    """Its secrets too; whichever account comes next."""
    shared = SharedConnections()
    first, _ = shared.folder(root, "anna@nas", fill)
    if how == "killed":
        listen(first, processes).close()
    else:
        os.utime(first, (0, time.time() - START - 1))
    other, filled = shared.folder(root, "bert@nas", fill)
    assert filled == "hunter2"
    assert folders(root) == {other}


def test_what_cannot_be_filled_leaves_nothing(root: Path) -> None:
    def broken(folder: Path) -> None:
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        SharedConnections().folder(root, "anna@nas", broken)
    assert folders(root) == set()


def test_many_at_once_make_one(root: Path) -> None:
    """After a reboot, all containers come at the same moment."""
    shared, together = SharedConnections(), threading.Barrier(20)

    def begin(_: int) -> tuple[Path, str | None]:
        together.wait()
        return shared.folder(root, "anna@nas", fill)

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(begin, range(20)))
    assert len({folder for folder, _ in found}) == 1
    assert [filled for _, filled in found if filled] == ["hunter2"]
    assert folders(root) == {found[0][0]}


def sharing(driver: SshfsDriver, root: Path, **given: str) -> Sharing | None:
    options = driver.parse("data", {"sshcmd": "anna@nas:data", **given})
    return driver.sharing(Volume("data", options, datetime.now(UTC), FACTS), root)


def place(made: Sharing | None) -> str:
    assert made is not None
    return made.variables["LEGACYHOST_SHARED"]


def test_volumes_of_an_account_share_its_connection(root: Path) -> None:
    """Whatever directories they are, and whatever else is said of the mount; the first has it made."""
    driver = sshfs_driver()
    first = sharing(driver, root)
    assert first is not None
    assert first.companion is not None
    assert str(first.companion.folder) == place(first)
    assert first.companion.argv[-3:] == ["anna@nas", "-s", "sftp"]
    for given in ({"sshcmd": "anna@nas:/srv"}, {"read_only": "true"}, {"cache": "none"}, {"chown": "strict"}):
        other = sharing(driver, root, **given)
        assert place(other) == place(first)
        assert other is not None
        assert other.companion is None


@pytest.mark.parametrize(
    "given",
    [
        {"sshcmd": "bert@nas:data"},
        {"sshcmd": "anna@nas2:data"},
        {"port": "2222"},
        {"password": "hunter2"},
        {"IdentityFile": "/root/other"},
        {"Ciphers": "aes256-ctr"},
        {"fail_after": "5"},
        {"jump": "gate"},
        {"host_key": "SHA256:" + 43 * "x"},
    ],
    ids=str,
)
def test_a_connection_made_otherwise_is_not_shared(root: Path, given: dict[str, str]) -> None:
    """It would be another account, reached or checked in another way, or given up at another time."""
    driver = sshfs_driver()
    assert place(sharing(driver, root)) != place(sharing(driver, root, **given))
    assert place(sharing(driver, root, **given)) == place(sharing(driver, root, **given))


def test_passwords_that_differ_are_not_shared(root: Path) -> None:
    driver = sshfs_driver()
    assert place(sharing(driver, root, password="one")) != place(sharing(driver, root, password="two"))


@pytest.mark.parametrize("where", ["volume", "default"])
def test_a_volume_may_have_nothing_to_do_with_it(root: Path, where: str) -> None:
    given = {"connection": "dedicated"}
    driver = sshfs_driver(defaults=given if where == "default" else None)
    assert sharing(driver, root, **(given if where == "volume" else {})) is None
    assert not root.exists()
