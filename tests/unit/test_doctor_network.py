"""What the doctor makes of a plugin that other hosts reach, and of what tells Docker of plugins elsewhere."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from certificates import expired, make
from doctorhost import FakeHost, only

from legacyhost import pki
from legacyhost.doctor import files, network

LISTEN = '[volume]\n[listen]\naddress = "0.0.0.0:7777"\n'
SHOW = "systemctl show --property=Listen"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = FakeHost(tmp_path)
    make(made.paths.pki("foo"))
    said(made, LISTEN, "[::]:7777")
    return made


def said(host: FakeHost, content: str, *handed: str, status: str = "") -> None:
    host.paths.configuration("foo").write_text(content)
    lines = [f"Listen={address} (Stream)" for address in ("/run/docker/plugins/foo.sock", *handed)]
    host.answers[SHOW] = (0, "\n".join(lines) + "\n", "")
    host.units["legacyhost@foo.service"] = {"StatusText": status}


def test_in_order(host: FakeHost) -> None:
    assert only([*network.listening(host, "foo")], "ok").what == "engines reach the plugin foo on [::]:7777"
    assert "/pki/foo/server.pem is valid until " in only([*network.certificates(host, "foo")], "ok").what
    assert [*network.elsewhere(host)] == []


def test_a_plugin_that_is_not_reached_from_elsewhere(host: FakeHost) -> None:
    said(host, "[volume]")
    assert [*network.listening(host, "foo"), *network.certificates(host, "foo")] == []
    said(host, "[volume")
    assert [*network.listening(host, "foo"), *network.certificates(host, "foo")] == []


@pytest.mark.parametrize(
    ("content", "handed", "status", "level", "what"),
    [
        ("[volume]", ["[::]:7777"], "", "error", "listens on [::]:7777, and {path} has no section [listen]"),
        (
            "[volume]\n[listen]\nplain = true",
            ["[::1]:1", "[::]:7777"],
            "",
            "error",
            "listens on [::]:7777, and {path} says",
        ),
        (LISTEN, ["[::]:7777"], "serving; not on TCP: it is broken", "error", "it is broken"),
        (LISTEN, ["[::]:7777"], "serving; on TCP x, as before: it is broken", "warning", "it is broken"),
        (LISTEN, ["[::]:7778"], "", "warning", "listens on [::]:7778, not on listen.address, 0.0.0.0:7777"),
        (
            LISTEN,
            [],
            "serving; on TCP",
            "warning",
            "the service listens on 0.0.0.0:7777 itself, and so only while it runs",
        ),
        ("[volume]\n[listen]\n", [], "", "error", "listen.address is not set"),
    ],
)
def test_nobody_or_somebody_else_listens(
    host: FakeHost, content: str, handed: list[str], status: str, level: str, what: str
) -> None:
    said(host, content, *handed, status=status)
    found = only([*network.listening(host, "foo")], level)
    assert what.format(path=host.paths.configuration("foo")) in found.what
    assert found.mend


def test_an_address_cannot_be_listened_on(host: FakeHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said(host, f'[volume]\n[listen]\naddress = "{address}"')
        what = only([*network.listening(host, "foo")]).what
        assert what == f"{address} cannot be listened on: address already in use"
    assert "ListenStream=" in only([*network.listening(host, "foo")], "warning").mend


def test_certificates_that_expire(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    own = host.paths.pki("foo")
    with monkeypatch.context() as patch:
        patch.setattr(pki, "CERTIFICATE", timedelta(days=20))
        pki.renew(own, [], ["docker"])
    found = [*network.certificates(host, "foo")]
    assert [(each.level, each.what.partition(" expires on ")[0]) for each in found] == [
        ("warning", f"{own}/server.pem"),
        ("warning", f"{own}/clients/docker/cert.pem"),
    ]
    assert found[0].mend == "legacyhost pki foo --renew && systemctl try-reload-or-restart legacyhost@foo.service"
    expired(own, monkeypatch)
    assert {each.level for each in network.certificates(host, "foo")} == {"error"}
    with monkeypatch.context() as patch:
        patch.setattr(pki, "SKEW", timedelta(days=-1))
        pki.renew(own, [], ["docker"])
    assert all("later than this host's clock" in each.what for each in network.certificates(host, "foo"))


def test_certificates_that_do_not_fit(host: FakeHost) -> None:
    own = host.paths.pki("foo")
    (own / pki.SERVER_KEY).write_bytes((own / pki.CA_KEY).read_bytes())
    assert "does not belong to the certificate" in only([*network.certificates(host, "foo")]).what


def test_there_are_none(host: FakeHost) -> None:
    host.paths.pki("foo").rename(host.paths.pki("bar"))
    assert only([*network.certificates(host, "foo")]).mend == 'legacyhost pki foo --host "$(hostname -f)"'


def test_keys_that_others_can_read(host: FakeHost, tmp_path: Path) -> None:
    own = host.paths.pki("foo")
    key = own / pki.CLIENTS / "docker" / pki.KEY
    key.chmod(0o640)
    assert only([*files.secrets(host)]).what == f"{key} is open to others (mode 0640)"
    other = tmp_path / "key.pem"
    other.write_bytes((own / pki.SERVER_KEY).read_bytes())
    other.chmod(0o644)
    said(host, f'{LISTEN}key = "{other}"', "[::]:7777")
    assert only([*network.certificates(host, "foo")]).mend == f"chown root: {other} && chmod 600 {other}"


def specified(host: FakeHost, **tls: object) -> Path:
    for name in ("ca", "cert", "key"):
        source = host.paths.pki("foo") / (pki.CA if name == "ca" else f"{pki.CLIENTS}/docker/{name}.pem")
        host.file(f"etc/docker/plugins/foo/{name}.pem", source.read_text()).chmod(0o600)
    names = {"CAFile": "ca", "CertFile": "cert", "KeyFile": "key"}
    said = {key: f"/etc/docker/plugins/foo/{name}.pem" for key, name in names.items()}
    content = {"Addr": "https://nas:7777", "TLSConfig": {**said, **tls}}
    return host.file("etc/docker/plugins/foo/foo.json", json.dumps(content))


def test_what_tells_docker_of_a_plugin_elsewhere(host: FakeHost) -> None:
    path = specified(host)
    assert only([*network.elsewhere(host)], "ok").what == f"{path} and its certificates are in order"


@pytest.mark.parametrize("tls", [{"CAFile": ""}, {"InsecureSkipVerify": True}])
def test_docker_does_not_check_who_answers(host: FakeHost, tls: dict[str, object]) -> None:
    """It says nothing of that itself."""
    specified(host, **tls)
    assert "has Docker not check who answers" in only([*network.elsewhere(host)]).what


def test_what_it_names_is_not_there_or_open(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    specified(host, CertFile="/nowhere.pem")
    assert "nowhere.pem, which is not there" in only([*network.elsewhere(host)]).what
    specified(host)
    host.at("/etc/docker/plugins/foo/key.pem").chmod(0o644)
    assert "key.pem is open to others" in only([*network.elsewhere(host)]).what
    expired(host.paths.pki("foo"), monkeypatch)
    specified(host)
    assert "cert.pem has expired on" in only([*network.elsewhere(host)]).what
    host.file("etc/docker/plugins/foo/foo.json", "[]")
    assert "is not a JSON object" in only([*network.elsewhere(host)]).what
    host.file("etc/docker/plugins/foo/foo.json", '{"Addr": "http://127.0.0.1:1"}')
    assert [*network.elsewhere(host)] == []
