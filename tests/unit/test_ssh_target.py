"""Secrets, targets, host keys, and how text of others is shown."""

from __future__ import annotations

import copy
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
from sshd import KINDS, fingerprint, keygen

from legacyhost.ssh.target import HostKey, Secret, Target, default_identity_files
from legacyhost.ssh.wording import clean, place


def test_a_secret_is_shown_only_by_reveal() -> None:
    """No way of printing a secret, or a target that has one, shows it."""
    secret = Secret("hunter2")
    target = Target("nas", "anna", password=secret)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", "%s %r" % (secret, secret)]  # noqa: UP031
    shown += [repr(target), str(target), repr(asdict(target)), repr([secret]), repr(vars(target))]
    assert not any("hunter2" in text for text in shown)
    assert secret.reveal() == "hunter2"


def test_a_secret_is_a_value_and_is_not_pickled() -> None:
    """Equal strings make equal secrets; a secret can be copied but not written down."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert copy.deepcopy(Target("h", "u", password=Secret("x"))).password == Secret("x")
    with pytest.raises(TypeError):
        pickle.dumps(Secret("a"))


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (Target("nas.example.org", "anna", "/srv/data"), "anna@nas.example.org:/srv/data"),
        (Target("nas", "anna"), "anna@nas:"),
        (Target("nas", "anna", "data", port=2222), "anna@nas:data (port 2222)"),
        (Target("::1", "anna", "/x"), "anna@[::1]:/x"),
    ],
)
def test_a_target_reads_like_sshcmd(target: Target, shown: str) -> None:
    """A target is shown as user@host:path, with the port only where it is not 22."""
    assert str(target) == shown


@pytest.mark.parametrize("kind", KINDS)
def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path, kind: str) -> None:
    """A key of any kind has the fingerprint and the short name that ssh-keygen gives it."""
    file = keygen(tmp_path / "key", kind)
    name, blob, *_ = Path(f"{file}.pub").read_text().split()
    key = HostKey.parse(name, blob)
    assert key is not None
    assert key.fingerprint == fingerprint(file)
    assert key.short_kind == kind.upper()


@pytest.mark.parametrize(
    ("kind", "blob"),
    [
        ("ssh-ed25519", ""),
        ("ssh-ed25519", "AAAA"),
        ("ssh-ed25519", "not base64!"),
        ("ssh-rsa", "AAAAC3NzaC1lZDI1NTE5AAAAIJ0nhfXZ8y7w4KvOiRZ3ZrXGq5kMhNz1xqBzqOe1bUqS"),
        ("ssh-ed25519", "/////w=="),
        ("ssh-ed25519", "\ud800"),
    ],
)
def test_a_blob_that_is_no_key_of_its_kind_is_none(kind: str, blob: str) -> None:
    """Broken base64, a truncated blob and a blob of another kind are no key, and no exception."""
    assert HostKey.parse(kind, blob) is None


def test_known_hosts_lines_have_the_port_only_off_22() -> None:
    """The name in a line is lower case, and [name]:port where the port is not 22."""
    key = HostKey("ssh-ed25519", "AAAA")
    assert key.line("NAS.example.org", 22) == "nas.example.org ssh-ed25519 AAAA"
    assert key.line("nas", 2222) == "[nas]:2222 ssh-ed25519 AAAA"
    assert key.line("::1", 22) == "::1 ssh-ed25519 AAAA"


def test_default_identity_files_are_those_that_exist(tmp_path: Path) -> None:
    """Of the usual key files of an account those that exist are used, Ed25519 first; a directory is none."""
    directory = tmp_path / ".ssh"
    assert default_identity_files(tmp_path) == ()
    directory.mkdir()
    for name in ("id_rsa", "id_ed25519", "id_ed25519.pub", "id_other"):
        (directory / name).touch()
    (directory / "id_ecdsa").mkdir()
    assert default_identity_files(tmp_path) == (str(directory / "id_ed25519"), str(directory / "id_rsa"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x1b[31mred\x07\r\nb", "a [31mred b"),
        ("right\u202eto left", "right to left"),
        ("line\u2028break\x85", "line break"),
        (b"\xff\xfeok", "��ok"),
        ("x" * 500, "x" * 159 + "…"),
    ],
)
def test_text_of_others_is_made_harmless(text: str | bytes, shown: str) -> None:
    """No control, direction or line-breaking character of a server's text comes through; long text is cut."""
    assert clean(text) == shown


def test_places_are_what_trust_takes() -> None:
    """A place is the host, and host:port off port 22, with brackets around an IPv6 address."""
    assert [place("nas", 22), place("nas", 2222), place("::1", 2222)] == ["nas", "nas:2222", "[::1]:2222"]
