"""Podman with the same plugin, found through containers.conf, spoken to in Podman's own dialect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .installed import Installed

#: In a machine without a cgroup of its own crun gives all containers the same one, and ends all with the first.
PLAIN = ("--network", "none", "--cgroups", "disabled")


@pytest.fixture
def podman(installed: Installed) -> Iterator[Installed]:
    """The machine, with Podman told of the plugin, as README has it."""
    path = "/etc/containers/containers.conf.d/60-legacyhost.conf"
    installed.machine.run("mkdir -p /etc/containers/containers.conf.d")
    known = '[engine.volume_plugins]\nsshfs = "/run/docker/plugins/sshfs.sock"\n'
    installed.machine.write(path, f"[engine]\nvolume_plugin_timeout = 60\n{known}")
    # Podman 4 reads no containers.conf.d of /etc unless containers.conf is there.
    installed.machine.run("test -e /etc/containers/containers.conf || touch /etc/containers/containers.conf")
    yield installed


def create(installed: Installed, name: str, *, check: bool = True, **more: str) -> str:
    """`podman volume create` on a directory of that name."""
    options = installed.options(name, **more)
    words = [word for key, value in options.items() for word in ("--opt", f"{key}={value}")]
    ran = installed.machine.podman("volume", "create", "--driver", "sshfs", *words, name, check=check)
    return ran.stdout + ran.stderr


def run(installed: Installed, name: str, script: str, *options: str, check: bool = True) -> str:
    words = ["run", "--rm", *PLAIN, "-v", f"{name}:/data", *options, "busybox", "sh", "-c", script]
    ran = installed.machine.podman(*words, check=check)
    return ran.stdout + ran.stderr


def test_a_volume_from_creation_to_removal(podman: Installed) -> None:
    """Create, run, list, inspect, remove; the remote data stays."""
    name = podman.name("podman")
    create(podman, name)
    assert run(podman, name, "echo hello >/data/file; cat /data/file") == "hello\n"
    assert podman.on_remote(f"{name}/file") == "hello\n"
    assert name in podman.machine.podman("volume", "ls", "-q").stdout
    assert '"sshfs"' in podman.machine.podman("volume", "inspect", name).stdout
    assert name not in podman.mounted()
    podman.machine.podman("volume", "rm", name)
    assert podman.on_remote(f"{name}/file") == "hello\n"
    assert name not in podman.machine.run(["legacyhost", "ls", "--plugin", "sshfs"]).stdout


def test_two_containers_share_a_volume(podman: Installed) -> None:
    """Podman counts by itself and always sends the same ID."""
    name = podman.name("podman")
    create(podman, name)
    for container in (f"{name}-a", f"{name}-b"):
        words = ["run", "-d", "--stop-timeout", "1", *PLAIN, "-v", f"{name}:/data", "--name", container]
        podman.machine.podman(*words, "busybox", "sleep", "1000")
    podman.machine.podman("exec", f"{name}-a", "sh", "-c", "echo shared >/data/file")
    assert podman.machine.podman("exec", f"{name}-b", "cat", "/data/file").stdout == "shared\n"
    podman.machine.podman("rm", "-f", f"{name}-a")
    assert podman.machine.podman("exec", f"{name}-b", "cat", "/data/file").stdout == "shared\n"
    podman.machine.podman("rm", "-f", f"{name}-b")
    assert name not in podman.mounted()


def test_an_error_arrives_as_one(podman: Installed) -> None:
    """Only a status other than 200 is an error for Podman."""
    text = create(podman, "bad-podman", check=False, IdentityFlie="/x")
    assert "did you mean IdentityFile?" in text
    assert "bad-podman" not in podman.machine.podman("volume", "ls", "-q").stdout
    name = podman.name("podman")
    create(podman, name)
    podman.remote.stop()
    try:
        text = run(podman, name, "echo must not run", check=False)
    finally:
        podman.remote.start()
    assert "127.0.0.1:2222" in text
    assert "must not run" not in text
    assert run(podman, name, "echo runs") == "runs\n"


def test_users_other_than_root(podman: Installed) -> None:
    """The same access for every user of the container."""
    name = podman.name("podman")
    create(podman, name)
    run(podman, name, "echo x >/data/file", "-u", "1234")
    assert podman.on_remote(f"{name}/file") == "x\n"


def test_a_volume_in_use_by_podman_is_not_removed_by_docker(podman: Installed) -> None:
    """Docker knows nothing of Podman's containers: the plugin sees that the mount is in use, and refuses."""
    name = podman.name("podman")
    create(podman, name)
    words = ["run", "-d", "--stop-timeout", "1", *PLAIN, "-v", f"{name}:/data", "--name", name]
    podman.machine.podman(*words, "busybox", "sleep", "1000")
    failed = podman.machine.docker("volume", "rm", name, check=False)
    assert "in use by running containers" in failed.stderr
    podman.machine.podman("exec", name, "sh", "-c", "echo x >/data/file")
    podman.machine.podman("rm", "-f", name)
    podman.machine.docker("volume", "rm", name)
    assert podman.on_remote(f"{name}/file") == "x\n"
