"""``legacyhost pki`` and ``spec``: what they make, what they say, and what they do not do."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from certificates import expired
from clihost import argv, status_of

from legacyhost import pki

LISTEN = '[volume]\n[listen]\naddress = "0.0.0.0:7777"\n'


@pytest.fixture
def own(etc: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (etc / "foo.toml").write_text(LISTEN)
    assert status_of("pki", "foo", "--host", "NAS.example.org", "--host", "10.0.0.5") == 0
    capsys.readouterr()
    return etc / "pki" / "foo"


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    """What an attempt that fails says."""
    assert status_of(*arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("legacyhost: ")
    return err.removeprefix("legacyhost: ").rstrip("\n")


def written(*arguments: str) -> dict[str, bytes]:
    """The files in the archive."""
    ran = subprocess.run(argv("spec", "foo", *arguments), capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")
    with tarfile.open(fileobj=io.BytesIO(ran.stdout)) as archive:
        for member in archive.getmembers():
            assert member.mode == (0o700 if member.isdir() else 0o600)
            assert (member.uid, member.gid) == (0, 0)
        return {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}  # type: ignore[union-attr]


def test_certificates_are_made_and_the_next_step_is_said(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("pki", "foo", "--host", "nas.example.org", "--host", "10.0.0.5", "--host", "10.0.0.5") == 0
    out = capsys.readouterr().out
    assert f"An authority and its certificates are in {etc}/pki/foo.\n" in out
    assert "is for nas.example.org, 10.0.0.5, until 20" in out
    assert "legacyhost spec foo | ssh DOCKERHOST 'tar -x -C /etc/docker/plugins'\n" in out
    assert pki.clients(etc / "pki" / "foo") == ["docker"]


def test_a_second_time_changes_nothing(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in own.rglob("*.pem")}
    message = said(capsys, "pki", "foo", "--host", "x")
    assert message.startswith(
        f"there is a {own} already, and nothing in it is changed; its certificate is valid until 20"
    )
    assert message.endswith("to renew it: legacyhost pki foo --renew")
    assert said(capsys, "pki", "foo", "--client", "docker") == f"there is a {own}/clients/docker already"
    assert {path: path.read_bytes() for path in own.rglob("*.pem")} == before


def test_renewal_and_further_clients(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = (own / pki.SERVER).read_bytes()
    assert status_of("pki", "foo", "--client", "second") == 0
    assert status_of("pki", "foo", "--renew") == 0
    assert "systemctl try-reload-or-restart legacyhost@foo\n" in capsys.readouterr().out
    assert (own / pki.SERVER).read_bytes() != old
    assert pki.clients(own) == ["docker", "second"]
    assert "there is no client third; there is: docker, second" in said(
        capsys, "pki", "foo", "--renew", "--client", "third", status=2
    )


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("pki", "foo"), "say by which names engines call this host: legacyhost pki foo --host NAME"),
        (("pki", "../x", "--host", "a"), "'../x' cannot be the name of a plugin"),
        *(
            (("pki", "foo", "--host", host), f"{host!r} is neither the name of a host nor an address")
            for host in ("", "a b", "a..b", "https://nas", "nas:7777", "*.example.org", "1234", "x" * 64, "ü.org")
        ),
        (("pki", "foo", "--host", "a", "--client", "../x"), "'../x' cannot be the name of a client"),
        (("pki", "foo", "--host", "a", "--client", "x" * 65), "cannot be the name of a client"),
        (("spec", "../x"), "'../x' cannot be the name of a plugin"),
        (("spec", "foo", "--client", "a/b"), "'a/b' cannot be the name of a client"),
    ],
)
def test_wrong_usage(etc: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], what: str) -> None:
    assert what in said(capsys, *arguments, status=2)
    assert not (etc / "pki").exists()


def test_an_engine_gets_all_it_needs(own: Path) -> None:
    """In the directory where it looks; verification is never switched off; what names the others comes last."""
    files = written()
    assert [*files] == ["foo/ca.pem", "foo/cert.pem", "foo/key.pem", "foo/foo.json"]
    there = "/etc/docker/plugins/foo"
    assert json.loads(files["foo/foo.json"]) == {
        "Name": "foo",
        "Addr": "https://nas.example.org:7777",
        "TLSConfig": {
            "InsecureSkipVerify": False,
            "CAFile": f"{there}/ca.pem",
            "CertFile": f"{there}/cert.pem",
            "KeyFile": f"{there}/key.pem",
        },
    }
    assert files["foo/key.pem"] == (own / "clients/docker/key.pem").read_bytes()
    assert files["foo/cert.pem"] == (own / "clients/docker/cert.pem").read_bytes()
    assert files["foo/ca.pem"] == (own / "ca.pem").read_bytes()


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.0.0.5:99", "10.0.0.5:99"), ("10.0.0.5", "10.0.0.5:7777"), ("Nas.Example.Org", "nas.example.org:7777")],
)
def test_where_the_engine_calls_may_be_said(own: Path, address: str, expected: str) -> None:
    assert json.loads(written("--address", address)["foo/foo.json"])["Addr"] == f"https://{expected}"


def test_without_tls_there_is_no_secret(own: Path, etc: Path) -> None:
    (etc / "foo.toml").write_text('[volume]\n[listen]\nplain = true\naddress = "[::1]:7777"\n')
    assert written("--address", "[::1]:7777") == {"foo/foo.spec": b"tcp://[::1]:7777\n"}


def test_it_may_be_a_directory(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whose files are root's alone; one that is there stays."""
    assert status_of("spec", "foo", "--output", str(tmp_path)) == 0
    made = tmp_path / "foo"
    assert f"{made} has all that an engine needs" in capsys.readouterr().out
    assert {path.name for path in made.iterdir()} == {"ca.pem", "cert.pem", "key.pem", "foo.json"}
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o600}
    assert said(capsys, "spec", "foo", "--output", str(tmp_path)) == (
        f"there is a {made} already, and nothing in it is changed"
    )
    assert "cannot be written: No such file or directory" in said(capsys, "spec", "foo", "--output", "/nowhere/at/all")


def test_a_key_is_not_for_a_terminal(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("legacyhost.commands.network.sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    assert said(capsys, "spec", "foo", status=2).startswith(
        "a private key is not for a terminal: legacyhost spec foo |"
    )


@pytest.mark.parametrize(
    ("content", "arguments", "status", "what"),
    [
        ("[volume]", (), 1, "has no section [listen], so the plugin is not reached from elsewhere"),
        (LISTEN, ("--address", "other.org"), 2, "the plugin's certificate is for nas.example.org, 10.0.0.5, and the"),
        (LISTEN, ("--address", "a:b:c"), 2, "'a:b:c' is neither the name of a host nor an address"),
        (LISTEN, ("--address", "nas.example.org:99999"), 2, "99999 is no port"),
        (LISTEN, ("--client", "nobody"), 2, "there is no client nobody; there is: docker"),
        (
            LISTEN + "clients = ['x']",
            (),
            2,
            "listen.clients does not name the client docker, so the plugin would refuse",
        ),
        ("[volume]\n[listen]", (), 2, "listen.address is not set, so the port has to be said: --address HOST:PORT"),
        (LISTEN + "ca = '/ca.pem'", (), 1, "are not of 'legacyhost pki', which could have made one for the engine"),
        ("[volume]\n[listen]\nplain = true\naddress = '127.0.0.1:1'", ("--address", "nas:1"), 2, "so only on loopback"),
    ],
)
def test_what_would_not_work_is_not_written(
    own: Path,
    etc: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    arguments: tuple[str, ...],
    status: int,
    what: str,
) -> None:
    (etc / "foo.toml").write_text(content)
    assert what in said(capsys, "spec", "foo", "--output", str(etc), *arguments, status=status)
    assert not (etc / "foo").exists()


def test_what_has_expired_is_not_written(
    own: Path, etc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expired(own, monkeypatch)
    assert said(capsys, "spec", "foo", "--output", str(etc)) == (
        f"{own}/server.pem has expired: legacyhost pki foo --renew"
    )


def test_without_certificates(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc / "foo.toml").write_text(LISTEN)
    assert "pki/foo/server.pem cannot be read: No such file or directory" in said(
        capsys, "spec", "foo", "--output", str(etc)
    )
    assert said(capsys, "pki", "foo", "--renew").startswith(
        f"there is no {etc}/pki/foo to renew; to make it: legacyhost"
    )
