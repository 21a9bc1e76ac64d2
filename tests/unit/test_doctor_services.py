"""What the doctor makes of units, sockets and files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctorhost import FakeHost, only

from legacyhost.doctor import files, records, services, sockets
from legacyhost.state import State

SERVICE, SOCKET = "legacyhost@sshfs.service", "legacyhost@sshfs.socket"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def _as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("owners can be looked at by root only")


@pytest.mark.parametrize(
    ("shown", "level", "mend"),
    [
        ({"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active"}, "ok", ""),
        ({"LoadState": "not-found"}, "error", "apt-get install -y --reinstall legacyhost"),
        ({"LoadState": "masked"}, "error", "systemctl unmask legacyhost.target && systemctl start legacyhost.target"),
        ({"LoadState": "loaded", "UnitFileState": "disabled"}, "warning", "systemctl enable --now legacyhost.target"),
        ({"LoadState": "loaded", "UnitFileState": "enabled"}, "warning", "systemctl start legacyhost.target"),
    ],
)
def test_the_target(host: FakeHost, shown: dict[str, str], level: str, mend: str) -> None:
    host.units["legacyhost.target"] = {"Before": "docker.service shutdown.target", **shown}
    assert only([*services.target(host)], level).mend == mend


def test_a_target_that_orders_nothing(host: FakeHost) -> None:
    """Somebody has put another file in its place."""
    shown = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active", "Before": "shutdown.target"}
    host.units["legacyhost.target"] = shown
    assert only([*services.target(host)]).mend == "systemctl revert legacyhost.target && systemctl daemon-reload"


@pytest.mark.parametrize(
    ("shown", "level", "begin"),
    [
        ({"StatusText": "serving volumes"}, "ok", ""),
        ({"ActiveState": "inactive"}, "ok", ""),
        ({"ActiveState": "failed"}, "error", f"systemctl reset-failed {SERVICE}"),
        ({"LoadState": "masked"}, "error", f"systemctl unmask {SERVICE}"),
        ({"StatusText": "serving sshfs with the old configuration: x"}, "warning", "systemctl try-reload-or-restart"),
        ({"NeedDaemonReload": "yes"}, "warning", "systemctl daemon-reload"),
    ],
)
def test_the_service(host: FakeHost, shown: dict[str, str], level: str, begin: str) -> None:
    """One that is not running is started by its first call."""
    host.units[SERVICE] = shown
    assert only([*services.service(host, "sshfs")], level).mend.startswith(begin)


def test_a_service_that_does_not_serve_is_asked_again(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says may be what has just been mended."""
    monkeypatch.setattr(services, "TRIES_AGAIN", 0.0)
    host.units[SERVICE] = {"StatusText": "not serving: no reason"}
    assert only([*services.service(host, "sshfs")]).what == f"{SERVICE} is not serving: no reason"

    class Mended(FakeHost):
        def unit(self, name: str, *properties: str) -> dict[str, str]:
            found = super().unit(name, *properties)
            self.units[SERVICE] = {"StatusText": "serving volumes"}
            return found

    monkeypatch.setattr(services, "TRIES_AGAIN", 10.0)
    (host.directory / "more").mkdir()
    other = Mended(host.directory / "more")
    other.units[SERVICE] = {"StatusText": "not serving: no reason"}
    only([*services.service(other, "sshfs")], "ok")


def test_order_in_order(host: FakeHost) -> None:
    """The socket before docker is as it should be."""
    host.units[SERVICE] = {"Before": "legacyhost.target shutdown.target", "Wants": "legacyhost.target"}
    host.units[SOCKET] = {"Before": f"docker.service {SERVICE}"}
    only([*services.order(host, "sshfs")], "ok")


def test_a_tie_nobody_finds(host: FakeHost) -> None:
    """Made by a link in a directory .requires: the units are shown."""
    host.units[SERVICE] = {"Requires": "system.slice docker.service"}
    assert only([*services.order(host, "sshfs")]).mend == f"systemctl cat {SERVICE} docker.service"


def test_only_lines_that_tie_are_edited(host: FakeHost) -> None:
    file = host.file("etc/mine.conf", "[Unit]\nDescription=not docker.service\nRequires=docker.service x.service\n")
    other = host.file("etc/other.conf", "[Unit]\nDescription=not docker.service\n")
    host.units[SERVICE] = {"Requires": "docker.service", "DropInPaths": "/etc/other.conf /etc/mine.conf"}
    found = only([*services.order(host, "sshfs")])
    assert found.mend.count("sed -i") == 1
    assert str(other.relative_to(host.directory)) not in found.mend
    assert f"/{file.relative_to(host.directory)} && systemctl daemon-reload" in found.mend


def test_mounts_that_have_failed(host: FakeHost) -> None:
    """The plugins' own units are looked at with the plugins."""
    lines = "legacyhost@foo.service loaded failed failed x\nlegacyhost:foo:a:01234567.service loaded failed failed y\n"
    host.answers["systemctl list-units --failed"] = (0, lines, "")
    assert only([*services.failed(host)], "warning").what == "legacyhost:foo:a:01234567.service has failed"


@pytest.fixture
def listener(host: FakeHost) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(host.paths.sockets / "sshfs.sock"))
        made.listen()
        yield made


@pytest.mark.usefixtures("listener", "_as_root")
def test_a_socket_in_order(host: FakeHost) -> None:
    path = host.paths.sockets / "sshfs.sock"
    path.chmod(0o600)
    host.directory.chmod(0o755)
    only([*sockets.mode(host, "sshfs")], "ok")
    assert [*sockets.there(host, "sshfs")] == []
    only([*sockets.dead(host)], "ok")
    only([*sockets.shadows(host, "sshfs")], "ok")
    path.chmod(0o660)
    assert "mode 0660" in only([*sockets.mode(host, "sshfs")]).what


def test_what_is_no_socket(host: FakeHost) -> None:
    (host.paths.sockets / "sshfs.sock").write_text("")
    assert only([*sockets.there(host, "sshfs")]).what.endswith("sshfs.sock is not a socket")
    only([*sockets.dead(host)], "ok")


def test_a_socket_that_is_gone(host: FakeHost) -> None:
    """Where the unit is not active, that is what is wrong."""
    assert [*sockets.there(host, "sshfs")] == []
    host.units[SOCKET] = {"ActiveState": "active"}
    assert only([*sockets.there(host, "sshfs")]).what.endswith("sshfs.sock is gone")


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize(
    ("name", "content", "is_dead"),
    [
        ("a.spec", "unix://{directory}/sockets/sshfs.sock", False),
        ("a.json", '{{"Addr": "unix://{directory}/sockets/sshfs.sock"}}', False),
        ("b/b.spec", "unix://{directory}/none.sock", True),
        ("a.spec", "tcp://127.0.0.1:1", True),
        ("a.json", '{{"Addr": "http://127.0.0.1:1"}}', True),
        ("a.spec", "tcp://", True),
        ("a.json", "no json", False),
        ("a.json", "[]", False),
        ("b/a.spec", "unix:///none.sock", False),
        ("a.conf", "unix:///none.sock", False),
    ],
)
def test_what_docker_takes_for_a_plugin(host: FakeHost, name: str, content: str, is_dead: bool) -> None:
    """As moby reads it: two kinds of file, at the top or in a directory of the same name."""
    host.file(f"etc/docker/plugins/{name}", content.format(directory=host.directory))
    found = only([*sockets.dead(host)], "error" if is_dead else "ok")
    assert found.mend.startswith("mv ") is is_dead


def test_the_same_name_elsewhere(host: FakeHost) -> None:
    """A socket in a directory of its own, or a file that leads elsewhere."""
    host.file("usr/lib/docker/plugins/sshfs.json", "{}")
    host.file("etc/docker/plugins/other.spec", "unix:///x")
    assert only([*sockets.shadows(host, "sshfs")], "warning").what.startswith(
        str(host.at("/usr/lib/docker/plugins/sshfs.json"))
    )


def test_a_configuration(host: FakeHost) -> None:
    path = host.paths.configuration("foo")
    found = only([*files.config(host, "foo")])
    assert found.mend.startswith(f"printf '[volume]\\n' >{path}")
    (host.paths.etc / "sshfs.toml").write_text("[volume]\n")
    assert only([*files.config(host, "foo")]).mend.startswith(f"cp {host.paths.etc}/sshfs.toml {path} && ")
    path.write_text("[volume]\n[volume.defaults]\noops = 1\n")
    found = only([*files.config(host, "foo")])
    assert found.what.startswith(f"{path}: ")
    assert found.mend.startswith(f"${{EDITOR:-editor}} {path} && ")
    assert files.driver(host, "foo") is None
    path.write_text("[volume]\n")
    only([*files.config(host, "foo")], "ok")
    assert files.driver(host, "foo") is not None


@pytest.mark.usefixtures("_as_root")
def test_passwords_in_a_configuration(host: FakeHost) -> None:
    """Others may read one without."""
    path = host.paths.configuration("foo")
    path.write_text("[volume]\n")
    path.chmod(0o644)
    only([*files.secrets(host)], "ok")
    path.write_text('[volume.defaults]\npassword = "x"\n')
    assert only([*files.secrets(host)]).mend == f"chown root: {path} && chmod 600 {path}"


@pytest.mark.usefixtures("_as_root")
def test_credentials_of_somebody_else(host: FakeHost) -> None:
    path = host.paths.etc / "credentials" / "@sshfs" / "data"
    path.parent.mkdir(parents=True)
    for directory in path.parents[:2]:
        directory.chmod(0o700)
    path.touch(0o600)
    only([*files.secrets(host)], "ok")
    os.chown(path, 12345, 0)
    assert only([*files.secrets(host)]).what == f"{path} belongs to user 12345, not to root"


def test_no_room(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    only([*files.room(host, "room", host.paths.state / "not" / "there", "make some")], "ok")
    monkeypatch.setattr(files, "SCARCE", 2**80)
    found = only([*files.room(host, "room", host.paths.state, "make some")])
    assert (found.what, found.mend) == (f"no room is left in {host.paths.state}", "make some")


def test_a_record(host: FakeHost) -> None:
    """There is none yet; it is in order; its backup is gone; it is damaged, with and without a backup."""
    directory = host.paths.state / "sshfs"
    only([*records.state(host, "sshfs")], "ok")
    assert records.volumes(host, "sshfs") == []
    directory.mkdir()
    State(directory).close()
    assert [finding.level for finding in records.state(host, "sshfs")] == ["ok", "ok"]
    backup = directory / "volumes.backup"
    kept = backup.read_bytes()
    backup.unlink()
    _, found = records.state(host, "sshfs")
    assert (found.level, found.mend) == ("warning", f"systemctl restart {SERVICE}")
    (directory / "volumes.db").write_bytes(b"no record")
    assert only([*records.state(host, "sshfs")]).mend == ""
    assert records.volumes(host, "sshfs") is None
    backup.write_bytes(kept)
    assert only([*records.state(host, "sshfs")]).mend == "legacyhost restore --plugin sshfs"
    (directory / "volumes.db").unlink()
    assert "is gone" in only([*records.state(host, "sshfs")]).what
    assert records.volumes(host, "sshfs") is None
