"""The sshfs driver with a real SSH server on loopback: what Create learns, Mount explains and purge deletes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver
from sshd import Sshd, fingerprint, free_port

from legacyhost.deadline import Deadline
from legacyhost.drivers.sshfs import SshfsDriver
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.state import Volume

SOON = 20.0


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd"), kinds=("ed25519",)) as running:
        yield running


@pytest.fixture
def driver(sshd: Sshd, tmp_path: Path) -> SshfsDriver:
    (tmp_path / "known_hosts").write_text(f"{sshd.known_hosts_line()}\n")
    return sshfs_driver([tmp_path / "known_hosts", tmp_path / "missing"], {})


def volume(driver: SshfsDriver, sshd: Sshd, path: str, **given: str) -> Volume:
    options = {
        "sshcmd": f"{sshd.user}@{sshd.host}:{path}",
        "port": str(sshd.port),
        "IdentityFile": str(sshd.client_key),
        **given,
    }
    return Volume("data", driver.parse("data", options), datetime(2024, 2, 29, tzinfo=UTC), {})


def test_create_makes_the_directory_and_learns_about_the_host(driver: SshfsDriver, sshd: Sshd) -> None:
    """A missing directory is made, with its parents; the host key is recorded for the data path."""
    facts = driver.prepare(volume(driver, sshd, "made/a b/é"), Deadline.after(SOON))
    assert (sshd.home / "made" / "a b" / "é").is_dir()
    assert facts["host_key"] == fingerprint(sshd.host_key())
    assert f"{facts['host_key_kind']} {facts['host_key_blob']}" in sshd.known_hosts_line()
    assert facts["free"].endswith(" GiB")
    assert datetime.fromisoformat(facts["checked"]).tzinfo is not None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("Ciphers", "arcfour", "Bad SSH2 cipher spec 'arcfour'"),
        ("MACs", "none", "Bad SSH2 MAC spec 'none'"),
        ("KexAlgorithms", "old", "Bad SSH2 KexAlgorithms 'old'"),
        ("HostKeyAlgorithms", "old", "Bad key types 'old'"),
        ("RekeyLimit", "much", "Bad number 'much': Invalid argument"),
        ("IPQoS", "fast", "Bad IPQoS value: fast"),
    ],
)
def test_create_refuses_what_the_ssh_of_the_mount_would(
    driver: SshfsDriver, sshd: Sshd, name: str, value: str, said: str
) -> None:
    """paramiko never sees those: only ssh knows what it knows; also where they are defaults."""
    sentence = f"^the ssh of this host refuses an option of volume data: {said}$"
    with pytest.raises(InvalidRequest, match=sentence):
        driver.prepare(volume(driver, sshd, f"other-{name}", **{name: value}), Deadline.after(SOON))
    with pytest.raises(InvalidRequest, match=sentence):
        by_default = sshfs_driver([], {name: value})
        by_default.prepare(volume(by_default, sshd, "other"), Deadline.after(SOON))
    assert not (sshd.home / f"other-{name}").exists()
    assert driver.prepare(volume(driver, sshd, "other", Ciphers="aes192-ctr"), Deadline.after(SOON))


def test_create_without_create_needs_the_directory(driver: SshfsDriver, sshd: Sshd) -> None:
    """create=false: a missing directory is an error that says so, and is not made."""
    with pytest.raises(Failed, match="has no directory missing"):
        driver.prepare(volume(driver, sshd, "missing", create="false"), Deadline.after(SOON))
    assert not (sshd.home / "missing").exists()
    assert driver.prepare(volume(driver, sshd, "", create="false"), Deadline.after(SOON))


def test_what_was_learned_serves_a_pinned_key(driver: SshfsDriver, sshd: Sshd, tmp_path: Path) -> None:
    """host_key= with an empty known_hosts: the recorded key is what ssh will be given."""
    pinned = sshfs_driver([tmp_path / "missing"], {})
    given = volume(pinned, sshd, "", host_key=fingerprint(sshd.host_key()))
    facts = pinned.prepare(given, Deadline.after(SOON))
    known = Volume(given.name, given.options, given.created, facts)
    pinned.command(known, Path("/mnt/data"), tmp_path)
    line = sshd.known_hosts_line().split()
    assert (tmp_path / "known_hosts").read_text().split() == line
    with pytest.raises(Failed, match="host key"):
        pinned.prepare(volume(pinned, sshd, ""), Deadline.after(SOON))


def test_a_failed_mount_is_explained_or_not(driver: SshfsDriver, sshd: Sshd) -> None:
    """The reason in a sentence; nothing when the host is in order."""
    assert driver.explain(volume(driver, sshd, ""), Deadline.after(SOON)) is None
    explained = driver.explain(volume(driver, sshd, "", port=str(free_port())), Deadline.after(SOON))
    assert explained is not None
    assert "not known" in explained.message or "refused the connection" in explained.message
    (sshd.home / "file").write_text("x")
    explained = driver.explain(volume(driver, sshd, "file"), Deadline.after(SOON))
    assert explained is not None
    assert "file" in explained.message
    assert "is not a directory" in explained.message


def test_purge_empties_the_directory_and_nothing_else(driver: SshfsDriver, sshd: Sshd) -> None:
    """Over SFTP, the directory itself stays; without on_remove=purge not a file is touched."""
    for name in ("mine", "theirs"):
        (sshd.home / name / "inner").mkdir(parents=True)
        (sshd.home / name / "inner" / "file").write_text("data")
    (sshd.home / "mine" / "link").symlink_to("../theirs")
    driver.remove(volume(driver, sshd, "mine"), Deadline.after(SOON))
    assert (sshd.home / "mine" / "inner" / "file").exists()
    driver.remove(volume(driver, sshd, "mine", on_remove="purge"), Deadline.after(SOON))
    assert list((sshd.home / "mine").iterdir()) == []
    assert (sshd.home / "theirs" / "inner" / "file").read_text() == "data"
