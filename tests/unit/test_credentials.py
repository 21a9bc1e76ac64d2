"""Credentials on disk: what comes out is what went in, nobody else can read it, and what is wrong is said."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from legacyhost import credentials
from legacyhost.credentials import Credential, Store, of_volume
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh.target import Secret

WHOLE = Credential(Secret('pa"ss\\ %h é☃ \t'), Secret("-----BEGIN …\nkey\n"), "ssh-ed25519-cert-v01@openssh.com AAAA x")
FOUND = [
    (b"", "cannot be decrypted on this machine"),
    (b"{", "is damaged"),
    (b"[]", "cannot be decrypted on this machine"),
    (b'{"password": 5}', "is damaged"),
    (b'{"password": ' + b"[" * 100_000, "is damaged"),
    (b"\xff\xfe" * 10, "cannot be decrypted on this machine"),
    (b"QUJDRA==", "cannot be decrypted on this machine"),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "credentials")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without systemd-creds."""
    monkeypatch.setattr(credentials, "PROGRAM", "systemd-creds-that-is-not-there")


def test_what_was_kept_comes_out_of_an_encrypted_file(store: Store, tmp_path: Path) -> None:
    """None of it can be read on the disk; the file is root's alone, and its directory."""
    assert store.write("nas", WHOLE) == ""
    assert store.read("nas") == WHOLE
    assert store.is_encrypted("nas")
    path = tmp_path / "credentials" / "nas"
    assert not {"BEGIN", "password", "ssh-ed25519"} & set(path.read_text().replace('"', " ").split())
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]
    assert [entry.name for entry in path.parent.iterdir()] == ["nas"]


@pytest.mark.usefixtures("plain")
def test_without_systemd_it_is_kept_as_it_is(store: Store, tmp_path: Path) -> None:
    """And the caller is told why; what one machine has encrypted says what to do elsewhere."""
    assert "it cannot be encrypted (systemd-creds-that-is-not-there: No such file" in store.write("nas", WHOLE)
    assert (store.read("nas"), store.is_encrypted("nas")) == (WHOLE, False)
    (tmp_path / "credentials" / "nas").write_bytes(b"QUJDRA==")
    with pytest.raises(Failed, match="to give it again: legacyhost credential add --replace nas"):
        store.read("nas")


def test_there_is_one_of_a_name(store: Store) -> None:
    """It is replaced if that was said, and only then; what is deleted is gone, twice is no error."""
    store.write("nas", Credential(Secret("one")))
    with pytest.raises(Failed, match="there is a credential nas already; to replace it"):
        store.write("nas", Credential(Secret("two")))
    assert store.read("nas").password == Secret("one")
    store.write("nas", Credential(Secret("two")), replace=True)
    assert store.read("nas").password == Secret("two")
    store.remove("nas")
    store.remove("nas")
    assert (store.names(), store.exists("nas")) == ([], False)
    with pytest.raises(Failed, match="there is no credential nas; to make it: legacyhost credential add nas"):
        store.read("nas")


def test_of_many_who_write_at_once_one_succeeds(store: Store, tmp_path: Path) -> None:
    """And what is there is one of them, whole; nothing else is left."""

    def write(number: int) -> bool:
        try:
            store.write("nas", Credential(Secret(str(number) * 1000)))
        except Failed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, range(8))).count(True) == 1
    password = store.read("nas").password
    assert password is not None
    assert len(set(password.reveal())) == 1
    assert [entry.name for entry in (tmp_path / "credentials").iterdir()] == ["nas"]


def test_those_of_volumes_are_apart(store: Store) -> None:
    """No name of a credential is one of theirs, whatever the volume is called, and however long that is."""
    for name in ("nas", "x" * 255):
        store.write(of_volume("sshfs", name), Credential(Secret(name)))
        assert store.read(of_volume("sshfs", name)).password == Secret(name)
    assert (store.names(), store.of_volumes("sshfs"), store.of_volumes("other")) == ([], ["nas", "x" * 255], [])


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../nas", "a/b", "@a", "@/b", "@a/", "@a/..", "@../b", "@a/b/c", "n\0", "é", "x" * 256]
)
def test_what_cannot_be_a_name(store: Store, name: str) -> None:
    for do in (store.read, store.remove, store.exists, lambda name: store.write(name, WHOLE)):
        with pytest.raises(InvalidRequest, match="cannot be the name of a credential"):
            do(name)


@pytest.mark.parametrize(("content", "sentence"), FOUND, ids=range(len(FOUND)))
def test_a_file_that_is_none(store: Store, tmp_path: Path, content: bytes, sentence: str) -> None:
    """One sentence that says what to do, and nothing of what is in it."""
    store.write("nas", Credential(Secret("x")))
    (tmp_path / "credentials" / "nas").write_bytes(content)
    with pytest.raises(Failed, match=sentence) as caught:
        store.read("nas")
    assert "legacyhost credential add" in caught.value.message


def test_a_file_others_can_read_is_not_used(store: Store, tmp_path: Path) -> None:
    store.write("nas", Credential(Secret("x")))
    path = tmp_path / "credentials" / "nas"
    path.chmod(0o640)
    with pytest.raises(Failed, match=f"^credential nas is open to others: chmod 600 {path}$"):
        store.read("nas")


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_what_is_no_file_is_not_read(store: Store, tmp_path: Path, kind: str) -> None:
    """It neither leads elsewhere nor makes anybody wait."""
    store.write("real", Credential(Secret("x")))
    path = tmp_path / "credentials" / "nas"
    if kind == "link":
        path.symlink_to("real")
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path, 0o600)
    assert store.names() == ["real"]
    with pytest.raises(Failed, match="credential nas"):
        store.read("nas")


def test_nothing_secret_is_shown(store: Store) -> None:
    """Neither by what is kept nor by an error about it."""
    assert not any(secret in repr(WHOLE) for secret in ('pa"ss', "BEGIN", "%h"))
    with pytest.raises(Failed) as caught:
        store.write("nas", WHOLE)
        store.write("nas", WHOLE)
    assert "%h" not in caught.value.message


def test_what_an_interrupted_write_has_left_goes_with_the_next(store: Store, tmp_path: Path) -> None:
    """It is in no list, and may be a secret as it is."""
    store.write("nas", Credential(Secret("x")))
    (tmp_path / "credentials" / ".new-0123456789abcdef").write_text("half a secret")
    store.write("other", Credential(Secret("y")))
    assert sorted(entry.name for entry in (tmp_path / "credentials").iterdir()) == ["nas", "other"]


def test_encryption_that_hangs_is_no_reason_to_replace_anything(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says that it hung, and gives no advice that would lose something."""
    store.write("nas", Credential(Secret("x")))
    monkeypatch.setattr(credentials, "PATIENCE", 0.0)
    with pytest.raises(
        Failed, match=r"^credential nas cannot be decrypted on this machine now: systemd-creds has not ended"
    ):
        store.read("nas")
