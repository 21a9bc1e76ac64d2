"""``legacyhost trust``: a key is stored only after somebody said yes to its fingerprint."""

from __future__ import annotations

import io
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Sshd, fingerprint, free_port, keygen

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
    for known in ("now: ", "already: "):
        assert main(["trust", host(sshd), "--fingerprint", expected]) == 0
        assert capsys.readouterr().out == f"{host(sshd)} is known {known}ED25519 {expected} in {known_hosts}\n"
        assert known_hosts.read_text() == f"{sshd.known_hosts_line()}\n"


@pytest.mark.parametrize("name", ["*", "[127.0.0.1]:*", "127.0.0.1"])
def test_what_is_known_already_is_not_asked_for(
    sshd: Sshd, known_hosts: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """By a pattern or without the port, as ssh knows it; nothing is written."""
    line = write(known_hosts, f"{name} {public(sshd.host_key())}\n")
    assert main(["trust", host(sshd)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{host(sshd)} is known already: ED25519 {fingerprint(sshd.host_key())} in {known_hosts}\n"
    assert (err, known_hosts.read_text()) == ("", line)


@pytest.mark.parametrize("is_given", [False, True])
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("[{host}]:{port} {other}\n", "has changed: known is ED25519 {print}, offered is ED25519 "),
        ("@revoked * {key}\n", "is revoked (ED25519 "),
        ("@revoked {host} {key}\n", "is revoked (ED25519 "),
    ],
)
def test_a_key_that_has_changed_or_is_revoked_is_not_stored(
    sshd: Sshd, known_hosts: Path, capsys: pytest.CaptureFixture[str], lines: str, said: str, is_given: bool
) -> None:
    """Not with the right fingerprint either: whoever knows it removes the old line first, by the command given."""
    other = keygen(known_hosts.parent.parent / "other", "ed25519")
    names = {
        "host": sshd.host,
        "port": sshd.port,
        "key": public(sshd.host_key()),
        "other": public(other),
        "print": fingerprint(other),
    }
    before = write(known_hosts, lines.format(**names))
    given = ["--fingerprint", fingerprint(sshd.host_key())] if is_given else []
    assert main(["trust", host(sshd), *given]) == 1
    out, err = capsys.readouterr()
    assert said.format(**names) in err
    assert (out, err.count("\n"), known_hosts.read_text()) == ("", 1, before)
    if "changed" in said:
        command = f"ssh-keygen -R '[{sshd.host}]:{sshd.port}' -f {known_hosts} && legacyhost trust {host(sshd)}\n"
        assert err.endswith(f"if it was: {command}")
        subprocess.run(["ssh-keygen", "-R", f"[{sshd.host}]:{sshd.port}", "-f", str(known_hosts)], check=True)
        assert main(["trust", host(sshd), "--fingerprint", fingerprint(sshd.host_key())]) == 0


def test_a_certificate_takes_the_place_of_the_question(
    tmp_path: Path, known_hosts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose authority is known is known; if the certificate does not count, it is said and the key asked for."""
    authority = keygen(tmp_path / "authority", "ed25519")
    lines = write(known_hosts, f"@cert-authority * {public(authority)}\n")
    directory = tmp_path / "sshd"
    directory.mkdir()
    key = keygen(directory / "host_ed25519", "ed25519")
    for valid, code in (("always:forever", 0), ("20190101Z:20200101Z", 1)):
        certify = ["ssh-keygen", "-q", "-s", str(authority), "-I", "x", "-h", "-n", "127.0.0.1", "-V", valid]
        subprocess.run([*certify, f"{key}.pub"], check=True)
        with Sshd(directory, kinds=["ed25519"], more=[f"HostCertificate {key}-cert.pub"]) as server:
            monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
            assert main(["trust", host(server)]) == code
        out = capsys.readouterr().out
        if code:
            assert out == (
                f"The certificate of {host(server)} has expired on 2020-01-01 00:00 UTC.\n"
                f"The host key of {host(server)} is ED25519 {fingerprint(key)}.\nTrust it? [y/N] "
            )
        else:
            signed = f"its certificate is signed by ED25519 {fingerprint(authority)} in {known_hosts}"
            assert out == f"{host(server)} is known already: {signed}\n"
        assert known_hosts.read_text() == lines


def public(key: Path) -> str:
    """Kind and blob of a key file, as known_hosts has them."""
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def write(path: Path, text: str) -> str:
    """The text, which is in the file then."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return text


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
