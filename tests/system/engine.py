"""A second Docker in a network namespace of its own: it reaches this machine as it would another."""

from __future__ import annotations

import json
from typing import Any

from .inside import Done
from .machine import Machine

#: The machine, as the engine calls it.
ADDRESS, NAME = "192.0.2.17", "nas.test"
SOCKET = "unix:///run/engine.sock"
PLUGINS = "/srv/engine/plugins"
SETTINGS = "/srv/engine/daemon.json"

#: The mounts of the machine are seen (slave), its plugins are not; what Docker mounts is seen by its own containerd.
START = f"""
mkdir -p /etc/docker/plugins /run/docker/plugins
mount -t tmpfs tmpfs /run/docker/plugins
mount --bind {PLUGINS} /etc/docker/plugins
containerd --address /run/engine/containerd.sock --root /var/lib/docker/engine-containerd --state /run/engine/state &
until [ -S /run/engine/containerd.sock ]; do sleep 0.05; done
exec dockerd --host={SOCKET} --data-root=/var/lib/docker/engine --exec-root=/run/engine --pidfile=/run/engine.pid \\
    --config-file={SETTINGS} --containerd=/run/engine/containerd.sock
"""


class Engine:
    """``dockerd`` beside the machine's own one."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.run("ip netns add engine && ip link add plugin type veth peer name engine netns engine")
        machine.run(f"ip addr add {ADDRESS}/24 dev plugin && ip link set plugin up")
        machine.run("ip -n engine link set lo up && ip -n engine addr add 192.0.2.18/24 dev engine")
        machine.run("ip -n engine link set engine up")
        machine.run(f"mkdir -p {PLUGINS} && echo '{ADDRESS} {NAME} other.test' >>/etc/hosts")
        machine.write(SETTINGS, "{}")
        # With cgroup v1 in a container systemd is not told that the last process is gone, and a stop takes its limit.
        properties = ["NetworkNamespacePath=/run/netns/engine", "MountFlags=slave", "Delegate=yes", "TimeoutStopSec=2"]
        words = [word for each in properties for word in ("-p", each)]
        machine.run(["systemd-run", "--quiet", "--unit=engine", "--collect", *words, "sh", "-c", START])
        machine.wait_for(lambda: self.docker("info", check=False).returncode == 0, 30)
        machine.run(f"docker save busybox | docker -H {SOCKET} load -q", timeout=60)

    def docker(self, *arguments: str, **options: Any) -> Done:
        return self.machine.docker("-H", SOCKET, *arguments, **options)

    def knows(self, plugin: str, address: str, **tls: str) -> None:
        """A plugin by hand: ``TLSConfig`` has these files."""
        said = {"Addr": address, "TLSConfig": {key: value for key, value in tls.items() if value}}
        self.machine.write(f"{PLUGINS}/{plugin}.json", json.dumps(said))

    def asks(self, *plugins: str) -> None:
        """Have each request authorized by those."""
        shown = self.machine.run("journalctl --sync; journalctl -n 0 --show-cursor -o cat").stdout
        mark = shown.strip().removeprefix("-- cursor:").strip()
        self.machine.write(SETTINGS, json.dumps({"authorization-plugins": plugins}))
        self.machine.run("kill -HUP $(cat /run/engine.pid)")
        reloaded = f"journalctl -u engine --after-cursor='{mark}' | grep -q 'Reloaded configuration'"
        self.machine.wait_for(reloaded)

    def close(self) -> None:
        self.machine.run("systemctl stop engine.service; ip link del plugin; ip netns del engine; rm -r /srv/engine")
