"""``legacyhost trust``: a key is stored only after somebody said yes to its fingerprint."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Sshd, fingerprint, free_port

from legacyhost.cli import main


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd"), kinds=("ed25519",)) as running:
        yield running


@pytest.fixture
def known_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where keys are stored; its directory does not exist yet."""
    monkeypatch.setenv("LEGACYHOST_ETC", str(tmp_path / "etc"))
    return tmp_path / "etc" / "known_hosts"


def host(sshd: Sshd) -> str:
    return f"{sshd.host}:{sshd.port}"


def test_the_right_fingerprint_stores_the_key(
    sshd: Sshd, known_hosts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For scripts, which have it from elsewhere; twice is the same as once."""
    expected = fingerprint(sshd.host_key())
    for _ in range(2):
        assert main(["trust", host(sshd), "--fingerprint", expected]) == 0
        assert capsys.readouterr().out == f"{host(sshd)} is known now: ED25519 {expected} in {known_hosts}\n"
        assert known_hosts.read_text() == f"{sshd.known_hosts_line()}\n"


@pytest.mark.parametrize("given", ["SHA256:" + "A" * 43, "", "SHA256:", "MD5:aa", "x\ny"])
def test_another_fingerprint_stores_nothing(
    sshd: Sshd, known_hosts: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    """Both are named, so that they can be compared."""
    assert main(["trust", host(sshd), "--fingerprint", given]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"legacyhost: the host key of {host(sshd)} is ED25519 {fingerprint(sshd.host_key())}, not ")
    assert err.endswith("; nothing is stored\n")
    assert err.count("\n") == 1
    assert not known_hosts.exists()


@pytest.mark.parametrize("answer", ["y\n", "Y\n", "yes\n", " YES \n", "y"])
def test_a_yes_stores_the_key(
    sshd: Sshd,
    known_hosts: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    """Asked with the fingerprint before anything is written."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert main(["trust", host(sshd)]) == 0
    question = capsys.readouterr().out.partition("Trust it? [y/N] ")[0]
    assert question == f"The host key of {host(sshd)} is ED25519 {fingerprint(sshd.host_key())}.\n"
    assert known_hosts.read_text() == f"{sshd.known_hosts_line()}\n"


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "no\n", "yesterday\n", "\0\n", "ÿ\n"])
def test_anything_else_stores_nothing(
    sshd: Sshd,
    known_hosts: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    """Also the end of the input: a script without a terminal trusts nobody by accident."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert main(["trust", host(sshd)]) == 1
    assert capsys.readouterr().err == "legacyhost: nothing is stored\n"
    assert not known_hosts.exists()


def test_bytes_that_are_no_characters_are_no_yes(
    sshd: Sshd, known_hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a keyboard or a pipe sends is an answer, and never a traceback."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfey\n"), encoding="utf-8"))
    assert main(["trust", host(sshd)]) == 1
    assert not known_hosts.exists()


def test_a_host_that_does_not_answer_is_told(known_hosts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody there, no such name, something that is no SSH server."""
    assert main(["trust", f"127.0.0.1:{free_port()}"]) == 1
    assert "refused the connection" in capsys.readouterr().err
    assert main(["trust", "no-such-host.invalid"]) == 1
    assert capsys.readouterr().err.startswith("legacyhost: ")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert main(["trust", f"127.0.0.1:{port}"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not known_hosts.parent.exists()


def test_a_key_that_cannot_be_stored_is_told(sshd: Sshd, known_hosts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The directory cannot be made, or the file is none."""
    expected = fingerprint(sshd.host_key())
    known_hosts.parent.write_text("in the way")
    assert main(["trust", host(sshd), "--fingerprint", expected]) == 1
    assert str(known_hosts) in capsys.readouterr().err
    known_hosts.parent.unlink()
    known_hosts.mkdir(parents=True)
    assert main(["trust", host(sshd), "--fingerprint", expected]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert str(known_hosts) in err
