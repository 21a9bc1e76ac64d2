"""The authority and what it signs: good for TLS on both sides and for nothing else, for root only, never half made."""

from __future__ import annotations

import os
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificates import Client, make
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from legacyhost import pki
from legacyhost.errors import PluginError


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def refusal(directory: Path, *hosts: str) -> str:
    with pytest.raises(PluginError) as caught:
        if hosts:
            pki.make(directory, "foo", hosts, ["docker"])
        else:
            pki.renew(directory, [], pki.clients(directory))
    return caught.value.message


def test_all_is_made_at_once_and_for_root_only(tmp_path: Path) -> None:
    own = make(tmp_path / "pki" / "foo", "docker", "other")
    files = {"ca.pem", "ca-key.pem", "server.pem", "server-key.pem"}
    files |= {f"clients/{name}/{file}" for name in ("docker", "other") for file in ("cert.pem", "key.pem")}
    assert set(content(own)) == files
    for path in (own.parent, own, *own.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    assert [*own.parent.iterdir()] == [own], "no draft is left"
    assert pki.clients(own) == ["docker", "other"]


def test_what_stands_in_them(tmp_path: Path) -> None:
    """A key that the oldest engines know; what each may be used for; names and addresses; sensible times."""
    own = tmp_path / "foo"
    pki.make(own, "n" * 255, ["nas.example.org", "10.0.0.5", "fe80::1"], ["docker"])
    paths = {"ca": own / "ca.pem", "server": own / "server.pem", "client": own / "clients" / "docker" / "cert.pem"}
    for name, path in paths.items():
        found, shown = certificate(path), pki.shown(path)
        assert isinstance(key := found.public_key(), ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        basic = found.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (basic.critical, basic.value.ca) == (True, name == "ca")
        usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.key_cert_sign, usage.digital_signature) == (name == "ca", name != "ca")
        assert shown.begin < datetime.now(UTC) < shown.end
        assert shown.end - datetime.now(UTC) <= (pki.AUTHORITY if name == "ca" else pki.CERTIFICATE)
        if name != "ca":
            wanted = ExtendedKeyUsageOID.SERVER_AUTH if name == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
            assert list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [wanted]
    assert pki.shown(paths["server"]).hosts == ("nas.example.org", "10.0.0.5", "fe80::1")
    assert pki.shown(paths["server"]).common == "n" * 64
    assert pki.shown(paths["client"]).common == "docker"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    own = make(tmp_path / "foo")
    before = content(own)
    assert refusal(own, "x") == f"there is a {own} already"
    with pytest.raises(PluginError, match="/clients/docker already"):
        pki.add(own, "docker")
    assert content(own) == before


def test_renewal_keeps_authority_and_keys(tmp_path: Path) -> None:
    """So no moment is between two files that do not fit; other hosts may be given."""
    own = make(tmp_path / "foo")
    before = content(own)
    pki.renew(own, [], ["docker"])
    assert {name for name, data in content(own).items() if before[name] != data} == {
        "server.pem",
        "clients/docker/cert.pem",
    }
    assert pki.shown(own / "server.pem").hosts == ("localhost", "127.0.0.1")
    pki.renew(own, ["new.example.org"], [])
    assert pki.shown(own / "server.pem").hosts == ("new.example.org",)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(own / "server.pem", own / "server-key.pem")
    Client(("", 0), own / "ca.pem", own / "clients" / "docker").context()


def test_a_further_client(tmp_path: Path) -> None:
    own = make(tmp_path / "foo")
    pki.add(own, "other")
    assert pki.clients(own) == ["docker", "other"]
    assert certificate(own / "clients/other/cert.pem").issuer == certificate(own / "ca.pem").subject


def test_no_certificate_outlives_its_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that has expired signs nothing."""
    monkeypatch.setattr(pki, "AUTHORITY", timedelta(days=7))
    own = make(tmp_path / "foo")
    assert pki.shown(own / "server.pem").end == pki.shown(own / "ca.pem").end
    monkeypatch.setattr(pki, "AUTHORITY", timedelta(minutes=-1))
    old = make(tmp_path / "old")
    assert "has expired; move" in refusal(old)


@pytest.mark.parametrize("step", range(12))
def test_an_interruption_leaves_nothing_that_could_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Wherever it comes; what a kill has left is gone after the next attempt, which works."""
    own = tmp_path / "pki" / "foo"
    done = 0
    for name in ("fsync", "rename"):
        real = getattr(os, name)

        def failing(*arguments: object, real: object = real) -> object:
            nonlocal done
            done += 1
            if done > step:
                raise KeyboardInterrupt
            return real(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(os, name, failing)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        make(own)
    monkeypatch.undo()
    assert not own.exists() or len(content(own)) == 6
    if not own.exists():
        make(own)
        assert [*own.parent.iterdir()] == [own]
    assert len(content(own)) == 6


@pytest.mark.parametrize("broken", ["ca-key.pem", "ca.pem"])
def test_an_authority_and_a_key_that_do_not_fit_sign_nothing(tmp_path: Path, broken: str) -> None:
    own, foreign = make(tmp_path / "foo"), make(tmp_path / "foreign")
    (own / broken).write_bytes((foreign / broken).read_bytes())
    before = content(own)
    assert refusal(own) == f"{own}/ca-key.pem is not the key of {own}/ca.pem"
    assert content(own) == before


@pytest.mark.parametrize("broken", ["ca-key.pem", "ca.pem", "server.pem"])
@pytest.mark.parametrize("is_gone", [True, False])
def test_what_is_damaged_is_named(tmp_path: Path, broken: str, is_gone: bool) -> None:
    own = make(tmp_path / "foo")
    path = own / broken
    path.write_text("-----BEGIN NONSENSE-----\n")
    if is_gone:
        path.unlink()
    before = content(own)
    assert refusal(own).startswith(f"{path} cannot be read: ")
    assert content(own) == before


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "foo", "x") == f"{tmp_path}/file/foo cannot be written: File exists"
