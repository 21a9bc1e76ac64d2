"""What the doctor makes of programs, FUSE, the clock and the engines."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from doctorhost import Answer, FakeHost, only

from legacyhost.doctor import engines, programs

SSHFS = "SSHFS version 3.7.3\nFUSE library version 3.14.0\n"
NEWEST = 2**31


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def test_sshfs_in_order(host: FakeHost) -> None:
    path = host.install("sshfs", (0, SSHFS, ""))
    host.answers[f"{path} --help"] = (0, "", "  -o max_conns=N  open parallel SSH connections")
    assert only([*programs.sshfs(host)], "ok").what == "sshfs 3.7.3, FUSE 3.14.0, max_conns"
    host.answers[f"{path} --help"] = (0, "", "")
    assert only([*programs.sshfs(host)], "ok").what.endswith(", without max_conns")


def test_sshfs_is_missing(host: FakeHost) -> None:
    found = only([*programs.sshfs(host)])
    assert (found.what, found.mend) == ("sshfs is not installed", "apt-get install -y sshfs")


def test_sshfs_is_not_executable(host: FakeHost) -> None:
    path = host.install("sshfs", mode=0o644)
    found = only([*programs.sshfs(host)])
    assert (found.what, found.mend) == (f"{path} is not executable", f"chmod 755 {path}")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ((127, "", "error while loading shared libraries: libfuse3.so.3\nmore"), "loading shared libraries"),
        ((139, "", ""), "it ends with status 139"),
        ((0, "SSHFS version 2.10\n", ""), "is of another time"),
    ],
)
def test_sshfs_does_not_do(host: FakeHost, answer: Answer, what: str) -> None:
    host.install("sshfs", answer)
    found = only([*programs.sshfs(host)])
    assert what in found.what
    assert "\n" not in found.what
    assert found.mend.startswith("apt-get install")


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.20", "ok"),
        ("OpenSSH_8.4p1", "ok"),
        ("OpenSSH_10.0p2", "ok"),
        ("OpenSSH_7.9p1", "warning"),
        ("Dropbear v2022.83", "error"),
    ],
)
def test_ssh(host: FakeHost, said: str, level: str) -> None:
    """It says its version on standard error."""
    host.install("ssh", (0, "", said))
    only([*programs.ssh(host)], level)


def test_ssh_is_missing(host: FakeHost) -> None:
    assert only([*programs.ssh(host)]).mend == "apt-get install -y openssh-client"


@pytest.mark.parametrize(
    ("known", "mend"), [("nodev\tfuse\n", "mknod -m 666 /dev/fuse c 10 229"), ("\text4\n", "modprobe fuse")]
)
def test_fuse_is_missing(host: FakeHost, known: str, mend: str) -> None:
    """Where the kernel has it, only the node is missing."""
    host.file("proc/filesystems", known)
    assert only([*programs.fuse(host)]).mend == mend


def test_fuse_is_something_else(host: FakeHost) -> None:
    path = host.file("dev/fuse")
    assert only([*programs.fuse(host)]).what == f"{path} is not FUSE's device"


def test_fuse_is_not_for_root(host: FakeHost) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    host.file("dev/null")
    path = host.at("/dev/fuse")
    os.mknod(path, 0o20000 | 0o066, os.makedev(10, 229))
    path.chmod(0o066)
    assert only([*programs.fuse(host)]).mend == f"chown root: {path} && chmod 666 {path}"


@pytest.mark.parametrize(
    ("can", "mend"),
    [("CanNTP=yes\nNTP=no\n", "timedatectl set-ntp true"), ("CanNTP=no\n", "apt-get install -y systemd-timesyncd")],
)
def test_the_clock_is_behind(host: FakeHost, can: str, mend: str) -> None:
    """A record from a time to come tells that the clock has gone back."""
    record = host.paths.state / "sshfs" / "volumes.db"
    record.parent.mkdir()
    record.touch()
    host.answers["timedatectl show"] = (0, can, "")
    only([*programs.clock(host)], "ok")
    os.utime(record, (NEWEST, NEWEST))
    found = only([*programs.clock(host)])
    assert f"{record} is of 2038-01-19" in found.what
    assert found.mend == mend


def test_no_engine_at_all(host: FakeHost) -> None:
    problems = [finding for finding in engines.present(host) if finding.level != "ok"]
    assert only(problems).what == "neither Docker nor Podman is installed"


def test_one_engine_is_enough(host: FakeHost) -> None:
    """That the other is not looked at is said."""
    host.install("podman")
    assert only([*engines.present(host)], "ok").what == "Docker is not installed, and not looked at"
    assert [*engines.docker(host)] == []
    host.install("dockerd")
    assert [*engines.present(host)] == []


def docker(host: FakeHost, active: str = "active", enabled: str = "enabled") -> None:
    host.install("dockerd")
    host.install("docker")
    host.units["docker.service"] = {"ActiveState": active, "UnitFileState": enabled}
    host.answers["docker volume ls"] = (0, "one\ntwo\n", "")
    host.answers["docker plugin ls"] = (0, "", "")


def test_docker_lists_its_volumes(host: FakeHost) -> None:
    docker(host)
    assert only([*engines.listing(host)], "ok").what == "Docker lists 2 volumes"
    only([*engines.docker(host)], "ok")


def test_docker_is_not_running(host: FakeHost) -> None:
    docker(host, active="failed")
    assert only([*engines.docker(host)]).what == "Docker is not running"


def test_docker_is_switched_off(host: FakeHost) -> None:
    """By somebody who wants it so."""
    docker(host, active="inactive", enabled="masked")
    only([*engines.docker(host)], "ok")
    assert [*engines.managed(host, "sshfs"), *engines.volumes(host, "sshfs", ["one"])] == []


def test_docker_does_not_answer(host: FakeHost) -> None:
    docker(host)
    host.answers["docker volume ls"] = (124, "", "docker has not ended within 40 s")
    assert "docker has not ended within 40 s" in only([*engines.listing(host)]).what


def test_docker_waits_for_a_plugin(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(host)
    times = iter([100.0, 115.2])
    monkeypatch.setattr("legacyhost.doctor.engines.time", SimpleNamespace(monotonic=lambda: next(times)))
    assert only([*engines.listing(host)]).what == "Docker took 15 s to list its volumes"


@pytest.mark.parametrize("name", ["sshfs", "sshfs:latest"])
def test_a_managed_plugin_of_the_same_name(host: FakeHost, name: str) -> None:
    docker(host)
    host.answers["docker plugin ls"] = (0, f"other:latest\n{name}\n", "")
    found = only([*engines.managed(host, "sshfs")])
    assert found.mend == f"docker plugin disable {name}; docker plugin rm {name}"


def test_docker_has_lost_sight_of_the_plugin(host: FakeHost) -> None:
    docker(host)
    host.answers["docker volume ls --filter driver=sshfs"] = (0, "", "")
    assert "no volume of the plugin sshfs" in only([*engines.volumes(host, "sshfs", ["one"])]).what
    host.answers["docker volume ls --filter driver=sshfs"] = (0, "one\n", "")
    only([*engines.volumes(host, "sshfs", ["one", "two"])], "ok")


def podman(host: FakeHost, *plugins: str) -> None:
    host.install("podman")
    known = ", ".join(f'"{name}"' for name in ("local", *plugins))
    host.answers["podman info"] = (0, f"[{known}]\n", "")


def entry(path: object) -> str:
    return f'[engine.volume_plugins]\nsshfs = "{path}"\n'


def test_podman_knows_the_plugin(host: FakeHost) -> None:
    podman(host, "sshfs")
    host.file("etc/containers/containers.conf", entry(host.paths.sockets / "sshfs.sock"))
    only([*engines.podman(host, "sshfs")], "ok")


def test_podman_is_told_nothing(host: FakeHost) -> None:
    """Which is nothing bad where Docker is what the plugin is for."""
    podman(host)
    found = only([*engines.podman(host, "sshfs")])
    assert found.what == "containers.conf does not name the plugin sshfs"
    assert "99-legacyhost-sshfs.conf" in found.mend
    docker(host)
    assert found.mend in only([*engines.podman(host, "sshfs")], "ok").what


def test_podman_is_told_of_another_place(host: FakeHost) -> None:
    """The last file that says something counts."""
    podman(host, "sshfs")
    docker(host)
    host.file("etc/containers/containers.conf", entry(host.paths.sockets / "sshfs.sock"))
    only([*engines.podman(host, "sshfs")], "ok")
    host.file("etc/containers/containers.conf.d/50-more.conf", entry("/run/other.sock"))
    assert "/run/other.sock" in only([*engines.podman(host, "sshfs")]).why


def test_podman_does_not_read_its_setting(host: FakeHost) -> None:
    """Podman 4 looks into the directory only where the file is."""
    podman(host)
    host.file("etc/containers/containers.conf.d/50-more.conf", entry(host.paths.sockets / "sshfs.sock"))
    assert only([*engines.podman(host, "sshfs")]).mend == "touch /etc/containers/containers.conf"


def test_podman_has_settings_that_are_no_toml(host: FakeHost) -> None:
    podman(host)
    path = host.file("etc/containers/containers.conf", "[engine\n")
    found = only([*engines.podman(host, "sshfs")])
    assert found.what.startswith(f"{path} cannot be read: ")
    assert found.mend == f"${{EDITOR:-editor}} {path}"


@pytest.mark.parametrize("answer", [(125, "", "Error"), (0, "nonsense", ""), (0, "{}", ""), (124, "", "")])
def test_podman_does_not_answer(host: FakeHost, answer: Answer) -> None:
    podman(host)
    host.answers["podman info"] = answer
    assert only([*engines.podman(host, "sshfs")]).what == "Podman does not answer"
