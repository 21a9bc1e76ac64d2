"""dockerd killed, stopped and restarted, while the plugin is in any state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from system.installed import Installed, assert_writing, lines, writer

from .kit import CONVERGED, SERVICE, another_host, forget, on_host, wait_until_clean

#: Notes each start in a file, and writes to a log of its own until a write fails.
COUNTED = (
    "echo x >>/data/starts; n=$(wc -l </data/starts);"
    " i=0; while echo $i >>/data/log-$n; do i=$((i+1)); sleep 0.05; done; echo a write failed"
)


def starts(installed: Installed, name: str) -> int:
    return len(installed.on_remote(f"{name}/starts").splitlines())


@contextmanager
def daemon(installed: Installed, **settings: object) -> Iterator[None]:
    """dockerd with more settings, and then without them."""
    machine = installed.machine
    before = machine.read("/etc/docker/daemon.json")
    machine.write("/etc/docker/daemon.json", json.dumps({**json.loads(before), **settings}))
    machine.run("systemctl restart docker", timeout=90)
    try:
        yield
    finally:
        machine.write("/etc/docker/daemon.json", before)
        machine.run("systemctl restart docker", timeout=90)


@pytest.mark.parametrize("is_live", [False, True], ids=["plain", "live-restore"])
def test_docker_killed_under_a_container_that_writes(installed: Installed, is_live: bool) -> None:
    """Nothing is unmounted under it; it runs (again) on the volume; in the end nothing stays mounted."""
    machine = installed.machine
    name, other = installed.name(), installed.name()
    always, once = installed.name("always"), installed.name("once")
    installed.create(name)
    installed.create(other)
    home = f"{installed.remote.home}/{name}"
    with daemon(installed, **{"live-restore": is_live}):
        installed.start(always, name, COUNTED, "--restart=always", "--stop-timeout", "1")
        installed.start(once, other, writer("log"), "--stop-timeout", "1")
        machine.wait_for(["test", "-s", f"{home}/log-1"])
        machine.wait_for(["test", "-s", f"{installed.remote.home}/{other}/log"])
        units = installed.mount_units()
        machine.run("systemctl kill --signal=SIGKILL docker.service")
        machine.wait_for("docker info >/dev/null 2>&1", 60, 0.5)
        if is_live:
            assert_writing(installed, always, f"{name}/log-1")
            assert_writing(installed, once, f"{other}/log")
            assert starts(installed, name) == 1
            assert installed.mount_units() == units
        else:
            machine.wait_for(["test", "-s", f"{home}/log-2"], 30)
            assert_writing(installed, always, f"{name}/log-2")
            before = lines(installed.on_remote(f"{name}/log-1"))
            assert before == list(range(len(before)))
            assert "a write failed" not in machine.docker("logs", once).stdout
        machine.docker("rm", "-f", always, once)
        wait_until_clean(installed, (name, other), CONVERGED)
    installed.sh(name, "echo x >/data/after")
    assert installed.on_remote(f"{name}/after") == "x\n"
    forget(installed, name, other)


@pytest.mark.parametrize("verb", ["stop", "restart"])
@pytest.mark.parametrize("state", ["down", "restarting", "slow"])
def test_docker_stopped_whatever_the_plugin_does(installed: Installed, verb: str, state: str) -> None:
    """The plugin is down, restarted over and over, or waits for a silent host: no hang, and no cancelled job."""
    machine = installed.machine
    name, container = installed.name(), installed.name("held")
    installed.create(name)
    names, silent = [name], None
    installed.start(container, name, writer("log"), "--stop-timeout", "1")
    machine.wait_for(["test", "-s", f"{installed.remote.home}/{name}/log"])
    background = []
    if state == "down":
        machine.run(f"systemctl stop {SERVICE}")
    elif state == "restarting":
        background.append(machine.popen(["sh", "-c", f"while systemctl restart {SERVICE}; do sleep 0.2; done"]))
    else:
        silent = another_host(installed, 2270 + len(verb))
        names.append(installed.name("slow"))
        installed.create(names[1], **on_host(silent, timeout="9"))
        silent.freeze(listener=True)
        words = ["docker", "run", "--rm", "--network", "none", "-v", f"{names[1]}:/data", "busybox", "true"]
        background.append(machine.popen(words))
        machine.run("sleep 0.7")
    try:
        # Without docker.socket nothing starts dockerd again behind our back.
        ran = machine.run(f"systemctl stop docker.socket; systemctl {verb} docker.service", timeout=30)
        is_active = machine.run("systemctl is-active docker.service", check=False).stdout.strip()
    finally:
        for process in background:
            process.end()
        if silent is not None:
            silent.thaw()
    assert "cancel" not in ran.stderr
    assert is_active == ("active" if verb == "restart" else "inactive")
    machine.run("systemctl start docker.socket docker.service")
    machine.docker("start", container)
    assert name in installed.mounted()
    assert installed.sh(name, "tail -n 1 /data/log").stdout
    machine.docker("rm", "-f", container)
    wait_until_clean(installed, names, CONVERGED)
    for each in names:
        installed.sh(each, "echo x >/data/after")
    forget(installed, *names)
