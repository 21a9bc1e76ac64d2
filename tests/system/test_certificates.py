"""A host that is known by its certificate, on a booted system: the service and the mount's ssh agree."""

from __future__ import annotations

from .installed import Installed
from .sshd import SshServer

PORT = 2236
DIRECTORY = f"/etc/test-sshd/{PORT}"
KNOWN = "/etc/legacyhost/known_hosts"


def certify(server: SshServer, *names: str) -> None:
    """Give the host a certificate for these names, which it shows from now on."""
    command = [
        "ssh-keygen",
        "-q",
        "-s",
        f"{DIRECTORY}/ca",
        "-I",
        "test",
        "-h",
        *(["-n", ",".join(names)] if names else []),
    ]
    server.machine.run([*command, f"{DIRECTORY}/host_key.pub"])
    server.stop()
    server.machine.run(["systemctl", "reset-failed", server.unit])  # not too often
    server.start()


def is_accepted_by_ssh(server: SshServer) -> bool:
    """What the ssh of that system says by the same file."""
    options = ["-o", f"UserKnownHostsFile={KNOWN}", *server.options]
    return server.machine.run(["ssh", "-F", "none", *options, "alice@127.0.0.1", "true"], check=False).returncode == 0


def test_a_host_known_by_its_certificate(installed: Installed) -> None:
    """One line for an authority is enough; what its certificates are for is what ssh takes them for."""
    machine = installed.machine
    server = machine.ssh_server(port=PORT, config=f"HostCertificate {DIRECTORY}/host_key-cert.pub")
    machine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{DIRECTORY}/ca"])
    authority = " ".join(machine.read(f"{DIRECTORY}/ca.pub").split()[:2])
    machine.run(f"echo '@cert-authority [127.0.0.1]:{PORT} {authority}' >>{KNOWN}")
    options = installed.options("certified", port=str(PORT), IdentityFile=server.key)
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    for names in (["127.0.0.1"], [], ["127.*"], ["other.example.org"]):
        certify(server, *names)
        volume = installed.name("certified")
        ran = machine.docker("volume", "create", "-d", "sshfs", *words, volume, check=False)
        assert (ran.returncode == 0) == is_accepted_by_ssh(server), ran
        if ran.returncode == 0:
            installed.sh(volume, "echo x >/data/file")
            assert installed.on_remote("certified/file") == "x\n"
            machine.docker("volume", "rm", volume)
        else:
            said = f"the certificate of 127.0.0.1:{PORT} is for {', '.join(names) or 'no host'}, not for 127.0.0.1"
            assert said in ran.stderr
    certify(server, "127.0.0.1")
    trusted = machine.run(["legacyhost", "trust", f"127.0.0.1:{PORT}"])
    assert trusted.stdout.startswith(f"127.0.0.1:{PORT} is known already: its certificate is signed by ED25519 SHA256:")
    machine.run(f"echo '@revoked * {authority}' >>{KNOWN}")
    assert not is_accepted_by_ssh(server)
    ran = machine.docker("volume", "create", "-d", "sshfs", *words, "bad-revoked", check=False)
    assert f"the authority of the certificate of 127.0.0.1:{PORT} is revoked (ED25519 SHA256:" in ran.stderr
