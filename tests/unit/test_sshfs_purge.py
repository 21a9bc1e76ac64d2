"""on_remove=purge: only ever what the volume was created with, and only a directory of its own."""

from __future__ import annotations

import posixpath
from datetime import UTC, datetime
from functools import partial

import pytest
from drivers import sshfs_driver

from legacyhost.deadline import Deadline
from legacyhost.drivers.sshfs import SshfsDriver
from legacyhost.errors import InvalidRequest, Refused
from legacyhost.state import Volume

SSHCMD = "anna@192.0.2.1:/srv/data"


@pytest.fixture
def driver() -> SshfsDriver:
    return sshfs_driver([], {})


def volume(driver: SshfsDriver, name: str = "data", **given: str) -> Volume:
    """A volume as Create records it, with what the server says of its key and of its directory (links resolved)."""
    options = driver.parse(name, {"sshcmd": SSHCMD, **given})
    account, _, path = options["sshcmd"].partition(":")
    user, _, host = account.rpartition("@")
    facts = {
        "host_key": f"SHA256:{host.lower()}",
        "host_key_kind": "ssh-ed25519",
        "path": posixpath.normpath(posixpath.join(f"/home/{user}", path)),
    }
    return Volume(name, options, datetime(2024, 2, 29, tzinfo=UTC), facts)


@pytest.mark.parametrize(
    "path", ["", "/", "//", ".", "./", "~/", "/.", "a/..", "/a/..", "/a/../", "..", "../", "../x", "a/../..", "/.."]
)
def test_purge_needs_a_directory_of_the_volumes_own(driver: SshfsDriver, path: str) -> None:
    """The home directory, the root, and what is above or beside them are never promised to be emptied."""
    with pytest.raises(InvalidRequest, match="on_remove=purge needs a directory of the volume's own"):
        driver.parse("data", {"sshcmd": f"anna@nas:{path}", "on_remove": "purge"})
    with pytest.raises(InvalidRequest, match="on_remove=purge"):
        sshfs_driver([], {"on_remove": "purge"}).parse("data", {"sshcmd": f"anna@nas:{path}"})
    assert driver.parse("data", {"sshcmd": f"anna@nas:{path}", "on_remove": "keep"})


@pytest.mark.parametrize("path", ["data", "/srv", "a/b", "a/../b", "~/x", "/...", "..."])
def test_purge_of_an_own_directory_is_possible(driver: SshfsDriver, path: str) -> None:
    """Anything below the home or the root has a name of its own."""
    assert driver.parse("data", {"sshcmd": f"anna@nas:{path}", "on_remove": "purge"})["on_remove"] == "purge"


@pytest.mark.parametrize(
    ("own", "other", "is_refused"),
    [
        ("anna@nas:/srv/a", "anna@nas:/srv/a", True),
        ("anna@nas:/srv", "anna@nas:/srv/a", True),
        ("anna@nas:/srv/a/b", "anna@nas:/srv/a", True),
        ("anna@nas:/srv/a/", "anna@nas:/srv/./a", True),
        ("anna@nas:/srv/x/../a", "anna@nas:/srv/a", True),
        ("anna@NAS:/srv/a", "anna@nas:/srv/a", True),
        ("anna@nas:a", "anna@nas:a/b", True),
        ("anna@nas:a", "anna@nas:", True),
        ("anna@nas:a", "anna@nas:~/a", True),
        ("anna@nas:a", "anna@nas:..", True),
        ("anna@nas:/srv/a", "anna@nas:/srv/ab", False),
        ("anna@nas:/srv/a", "anna@nas:/srv/b", False),
        ("anna@nas:/srv/a", "anna@other:/srv/a", False),
        ("anna@nas:a", "berta@nas:a", False),
        ("anna@nas:/a", "anna@nas:a", False),
        ("anna@nas:/home/anna/a", "anna@nas:a", True),
        ("root@nas:/home/anna", "anna@nas:a", True),
    ],
)
def test_purge_is_refused_while_another_volume_is_in_the_directory(
    driver: SshfsDriver, own: str, other: str, is_refused: bool
) -> None:
    """The same directory, one above or one below of the same account; without purge nothing is refused."""
    purged = volume(driver, "own", sshcmd=own, on_remove="purge")
    others = [volume(driver, "apart", sshcmd="x@y:/z"), volume(driver, "other", sshcmd=other)]
    driver.removal(volume(driver, "own", sshcmd=own), lambda: others)
    if not is_refused:
        driver.removal(purged, lambda: others)
        return
    with pytest.raises(Refused, match="volume other has its data in the same remote directory"):
        driver.removal(purged, lambda: others)


def test_a_host_is_its_key_or_its_name(driver: SshfsDriver) -> None:
    """The same machine under two names has one key; a machine with a new key keeps its name and port."""
    own, other = volume(driver, "own", on_remove="purge"), volume(driver, "other", sshcmd="berta@alias:/srv/data")
    driver.removal(own, lambda: [other])
    for facts, options in ((own.facts, other.options), (other.facts, {**own.options, "on_remove": "keep"})):
        twin = Volume("other", options, other.created, {**facts, "path": own.facts["path"]})
        with pytest.raises(Refused):
            driver.removal(own, partial(list, [twin]))


def test_a_host_may_have_two_keys(driver: SshfsDriver) -> None:
    """Under two names with keys of two kinds it may be one: nothing is deleted. Two of one kind are of two hosts."""
    own = volume(driver, "own", on_remove="purge")
    for kind, is_refused in (("ecdsa-sha2-nistp256", True), (own.facts["host_key_kind"], False)):
        facts = {**own.facts, "host_key": "SHA256:another", "host_key_kind": kind}
        other = Volume("other", {"sshcmd": "anna@alias:/srv/data"}, own.created, facts)
        if is_refused:
            with pytest.raises(Refused):
                driver.removal(own, partial(list, [other]))
        else:
            driver.removal(own, partial(list, [other]))


def test_purge_stays_with_the_jump_host_it_was_created_with() -> None:
    """A default that is changed later must not turn the deletion to a host of the same name behind another one."""
    created = volume(sshfs_driver([], {"jump": "gate"}), on_remove="purge")
    described = sshfs_driver([], {"jump": "other"}).describe(created)
    assert str(described["remote"]).endswith(" by way of gate")
    assert "by way of" not in str(sshfs_driver([], {"jump": "gate"}).describe(volume(sshfs_driver()))["remote"])


def test_purge_stays_with_the_port_it_was_created_with() -> None:
    """A default port that is changed later must not turn the deletion to another server."""
    created = volume(sshfs_driver([], {"port": "2222"}), on_remove="purge")
    assert created.options["port"] == "2222"
    assert "(port 2222)" in str(sshfs_driver([], {"port": "22"}).describe(created)["remote"])


def test_a_later_configuration_never_deletes_data() -> None:
    """Purge is what the volume was created with: a default added since is not for volumes there are already."""
    before = volume(sshfs_driver([], {}))
    later = sshfs_driver([], {"on_remove": "purge", "timeout": "1"})
    later.removal(before, lambda: [volume(later, "other")])
    later.remove(before, Deadline.after(0))  # would fail if it turned to the network
    created_since = volume(later)
    assert created_since.options["on_remove"] == "purge"
    assert volume(later, on_remove="keep").options["on_remove"] == "keep"
