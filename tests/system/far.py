"""A remote host at the other end of a cable: an sshd in a network namespace of the machine's, reached over a veth pair.

Unlike one on loopback it can be cut off without a word, and come back with another address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sshd import SshServer

if TYPE_CHECKING:
    from .machine import Machine

NAME = "far.test"
NEAR, ADDRESSES = "192.0.2.1", ("192.0.2.2", "192.0.2.3")


class FarHost:
    """The host `far.test`; `server` is its sshd. There is one of it in a machine, until that reboots."""

    def __init__(self, machine: Machine, port: int = 2299) -> None:
        self.machine = machine
        machine.run("ip netns add far && ip link add near type veth peer name far netns far")
        machine.run(f"ip addr add {NEAR}/24 dev near && ip link set near up")
        machine.run("ip -n far link set lo up")
        self._address = ADDRESSES[0]
        machine.run(f"ip -n far addr add {self._address}/24 dev far")
        self._name()
        self.plug()
        self.server = SshServer(machine, port, host="0.0.0.0", network="NetworkNamespacePath=/run/netns/far")
        machine.run(["legacyhost", "trust", f"{NAME}:{port}", "--fingerprint", self.server.fingerprint])

    def options(self, directory: str) -> dict[str, str]:
        """The options of a volume there."""
        return {
            "sshcmd": f"{self.server.user}@{NAME}:{directory}",
            "port": str(self.server.port),
            "IdentityFile": self.server.key,
        }

    def cut(self) -> None:
        """Pull the cable: nothing arrives any more, and nobody is told."""
        self.machine.run("ip -n far link set far down")

    def plug(self) -> None:
        self.machine.run("ip -n far link set far up")

    def return_as_another(self) -> None:
        """It has been switched off, and starts with another address and the same keys."""
        self.cut()
        self.server.stop()
        self.machine.run(f"ip -n far addr del {self._address}/24 dev far")
        (self._address,) = {*ADDRESSES} - {self._address}
        self.machine.run(f"ip -n far addr add {self._address}/24 dev far")
        self.plug()
        self._name()
        self.server.start()

    def close(self) -> None:
        """Nothing of it is left in the machine."""
        self.server.stop()
        self.machine.run("ip link del near && ip netns del far")

    def _name(self) -> None:
        lines = self.machine.read("/etc/hosts").splitlines()
        kept = [line for line in lines if not line.endswith(f" {NAME}")]
        self.machine.write("/etc/hosts", "\n".join([*kept, f"{self._address} {NAME}"]) + "\n")
