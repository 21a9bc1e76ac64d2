"""Which host key is accepted, and what is said of one that is not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import KINDS, Sshd, fingerprint, keygen, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh.hostkeys import remember
from legacyhost.ssh.remote import Remote, meet
from legacyhost.ssh.target import HostKey, Target


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_key_that_is_known_is_negotiated(server: Sshd, known: Path, kind: str) -> None:
    """With one kind of key known of a server that has three, that kind is asked for and accepted."""
    known.write_text(server.known_hosts_line(kind) + "\n")
    before = known.read_bytes()
    with _connect(server, known) as remote:
        assert remote.host_key.fingerprint == fingerprint(server.host_key(kind))
        assert remote.host_key.short_kind == kind.upper()
    assert known.read_bytes() == before


def test_an_unknown_host_is_refused_with_the_command_that_trusts_it(server: Sshd, known: Path) -> None:
    """The sentence of the contract, word for word, with the port that trust needs; no file is made."""
    shown = f"{server.host}:{server.port}"
    sentence = (
        f"host key of {shown} is not known (ED25519 {fingerprint(server.host_key())}); "
        f"if that is right: legacyhost trust {shown}"
    )
    assert _refusal(server, known) == sentence
    assert not known.exists()


def test_the_key_that_is_met_is_then_accepted(server: Sshd, known: Path) -> None:
    """What meet shows and remember writes is what connect accepts, and what is known from then on."""
    met = meet(server.host, server.port, [known], Deadline.after(20))
    assert met.known == ""
    remember(known, server.host, server.port, met.key)
    with _connect(server, known) as remote:
        assert remote.host_key == met.key
    assert meet(server.host, server.port, [known], Deadline.after(20)).known == f"{met.key} in {known}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_met_by_its_fingerprint(server: Sshd, known: Path, kind: str) -> None:
    """Whichever of the server's keys somebody has the fingerprint of, it is shown, also beside one that is known."""
    known.write_text(server.known_hosts_line("rsa") + "\n")
    asked = fingerprint(server.host_key(kind))
    met = meet(server.host, server.port, [known], Deadline.after(20), asked)
    assert met.key.fingerprint == asked
    assert met.known == (f"{met.key} in {known}" if kind == "rsa" else "")


def test_the_kind_that_is_known_is_the_one_that_is_met(server: Sshd, known: Path) -> None:
    """Somebody who trusts a host twice sees the key that is known, and not another one of it."""
    known.write_text(server.known_hosts_line("rsa") + "\n")
    assert meet(server.host, server.port, [known], Deadline.after(20)).key.short_kind == "RSA"


def test_a_changed_key_is_refused_with_both_fingerprints(server: Sshd, known: Path, tmp_path: Path) -> None:
    """Known and offered key are named, and how to mend it; the command given does mend it."""
    other = _public(keygen(tmp_path / "other", "ed25519"))
    remember(known, server.host, server.port, other)
    said = _refusal(server, known)
    assert f"known is {other}, offered is ED25519 {fingerprint(server.host_key())}" in said
    assert "do not go on unless the change was expected" in said
    name = f"[{server.host}]:{server.port}"
    assert said.endswith(f"ssh-keygen -R '{name}' -f {known} && legacyhost trust {server.host}:{server.port}")
    subprocess.run(["ssh-keygen", "-R", name, "-f", str(known)], check=True, capture_output=True)
    assert "is not known" in _refusal(server, known)


def test_a_known_kind_that_the_server_lost_is_a_changed_key(tmp_path: Path, known: Path) -> None:
    """Only RSA known, only ED25519 offered: that is a change, not a host one has not met."""
    with Sshd(tmp_path / "sshd", kinds=["ed25519"]) as server:
        remember(known, server.host, server.port, _public(keygen(tmp_path / "old", "rsa")))
        assert "has changed: known is RSA" in _refusal(server, known)


def test_a_key_known_for_another_port_does_not_count(server: Sshd, known: Path) -> None:
    """A line for the name without a port does, as with ssh, where there is none for [host]:port."""
    key = _public(server.host_key())
    known.write_text(f"[{server.host}]:1 {key.kind} {key.blob}\n")
    assert "is not known" in _refusal(server, known)
    known.write_text(f"{server.host} {key.kind} {key.blob}\n")
    _connect(server, known).close()


def test_hashed_names_are_known(server: Sshd, known: Path) -> None:
    """A file hashed by ssh-keygen -H is accepted."""
    known.write_text(server.known_hosts_line("rsa") + "\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    _connect(server, known).close()


@pytest.mark.parametrize("pinned", [False, True])
def test_a_revoked_key_is_refused(server: Sshd, known: Path, pinned: bool) -> None:
    """@revoked wins over a line that trusts the same key, and over host_key=."""
    key = _public(server.host_key())
    known.write_text(f"{server.known_hosts_line()}\n@revoked * {key.kind} {key.blob}\n")
    said = _refusal(server, known, pin=key.fingerprint if pinned else None)
    assert said.startswith(f"host key of {server.host}:{server.port} is revoked ({key})")


def test_a_certificate_authority_makes_no_host_known(server: Sshd, known: Path) -> None:
    """The host's own key in a @cert-authority line is not a key that is known."""
    known.write_text(f"@cert-authority {server.known_hosts_line()}\n")
    assert "is not known" in _refusal(server, known)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["", "="])
def test_a_pin_may_be_of_any_kind(server: Sshd, known: Path, kind: str, ending: str) -> None:
    """With host_key= one of the server's keys, that one is found and accepted without any known_hosts file."""
    pin = fingerprint(server.host_key(kind)) + ending
    with _connect(server, known, pin=pin) as remote:
        assert remote.host_key.fingerprint == pin.rstrip("=")


def test_a_pin_that_no_key_has_is_refused_with_all_keys(server: Sshd, known: Path) -> None:
    """host_key= decides alone: a key that is known does not help, and all keys of the server are named."""
    known.write_text("".join(server.known_hosts_line(kind) + "\n" for kind in KINDS))
    said = _refusal(server, known, pin="SHA256:" + "A" * 43)
    assert f"is not the one of host_key= (SHA256:{'A' * 43})" in said
    assert all(fingerprint(server.host_key(kind)) in said for kind in KINDS)


@pytest.mark.parametrize("pin", ["", "SHA256:short", "MD5:aa:bb", "ssh-ed25519 AAAA", "SHA256:" + "*" * 43])
def test_a_pin_that_is_no_fingerprint_is_the_callers_mistake(server: Sshd, known: Path, pin: str) -> None:
    """A malformed host_key= is an invalid request that shows what one looks like."""
    with pytest.raises(InvalidRequest, match="it looks like SHA256:…"):
        _connect(server, known, pin=pin)


def test_a_server_with_out_of_date_keys_only(tmp_path: Path, known: Path) -> None:
    """RSA with SHA-1 is not accepted as a host key, as ssh does not."""
    more = ["HostKeyAlgorithms ssh-rsa"]
    with Sshd(tmp_path / "sshd", kinds=["rsa"], more=more) as server:
        assert "has no host key of a kind in use today" in _refusal(server, known)
        assert "has no host key" in _refusal(server, known, pin="SHA256:" + "A" * 43)


def test_a_server_without_a_common_algorithm(tmp_path: Path, known: Path) -> None:
    """A server that offers only what is out of date is told from one that is down."""
    with Sshd(tmp_path / "sshd", more=["KexAlgorithms diffie-hellman-group14-sha1"]) as server:
        assert "have no key exchange in common: its SSH server is too old, or" in _refusal(server, known)
    with Sshd(tmp_path / "sshd", more=["Ciphers aes128-cbc"]) as server:
        assert "have no cipher in common" in _refusal(server, known)


def _connect(server: Sshd, known: Path, pin: str | None = None) -> Remote:
    files = (str(server.client_key),)
    target = Target(server.host, server.user, port=server.port, identity_files=files, host_key=pin)
    return Remote.connect(target, [known], Deadline.after(20))


def _refusal(server: Sshd, known: Path, pin: str | None = None) -> str:
    with pytest.raises(Failed) as caught:
        _connect(server, known, pin)
    return caught.value.message


def _public(file: Path) -> HostKey:
    kind, blob, *_ = Path(f"{file}.pub").read_text().split()
    return HostKey(kind, blob)
