"""Credentials, jump hosts and agents as a user has them: through docker, the sandboxed service, and a reboot."""

from __future__ import annotations

import json
import time

import pytest

from .inside import Done
from .installed import Installed
from .sshd import SshServer

PASSWORD = "p\"a's\\s %h, é☃"


@pytest.fixture(scope="module")
def guarded(installed: Installed) -> SshServer:
    """An account with a password and no key of anybody's."""
    made = installed.machine.ssh_server(port=2240, user="paul", password=PASSWORD)
    trust(installed, made)
    return made


def trust(installed: Installed, server: SshServer) -> None:
    installed.machine.run(["legacyhost", "trust", f"127.0.0.1:{server.port}", "--fingerprint", server.fingerprint])


def add(installed: Installed, name: str, *words: str, given: str = "") -> Done:
    return installed.machine.run(["legacyhost", "credential", "add", name, *words], input=given)


def volume(installed: Installed, name: str, server: SshServer, check: bool = True, **options: str) -> Done:
    given = {"sshcmd": f"{server.user}@127.0.0.1:{name}", "port": str(server.port), **options}
    words = [word for key, value in given.items() for word in ("-o", f"{key}={value}")]
    return installed.machine.docker("volume", "create", "-d", "sshfs", *words, name, check=check)


def works(installed: Installed, name: str) -> None:
    assert installed.sh(name, "echo it works >/data/file && cat /data/file").stdout == "it works\n"


def test_a_new_key_as_the_readme_has_it(installed: Installed) -> None:
    """Made, put into authorized_keys, used; encrypted; nothing of it in Docker's record; not deleted while used."""
    machine, remote = installed.machine, installed.remote
    line = add(installed, "nas", "--new-key").stdout
    machine.run(f"cat >>/etc/test-sshd/{remote.port}/authorized_keys", input=line)
    name = installed.name("credential")
    volume(installed, name, remote, credential="nas")
    works(installed, name)
    assert machine.read("/etc/legacyhost/credentials/nas")[:1] not in ("", "{")
    (listed,) = json.loads(machine.run("legacyhost credential ls --json").stdout)
    assert (listed["encrypted"], listed["used_by"]) == (True, [f"volume {name} of sshfs"])
    refused = machine.run("legacyhost credential rm nas", check=False)
    assert (refused.returncode, "is used by volume" in refused.stderr) == (1, True)
    machine.docker("volume", "rm", name)
    machine.run("legacyhost credential rm nas")
    missing = volume(installed, name, remote, check=False, credential="nas")
    assert "there is no credential nas; to make it: legacyhost credential add nas" in missing.stderr


@pytest.mark.parametrize("more", ["", "UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no"])
def test_a_password_of_any_characters(installed: Installed, more: str) -> None:
    """By either method; the one that asks a question is PAM's."""
    port = 2241 if more else 2242
    server = installed.machine.ssh_server(port=port, user=f"user{port}", password=PASSWORD, config=more)
    trust(installed, server)
    add(installed, f"of{port}", given=f"{PASSWORD}\n")
    name = installed.name("password")
    volume(installed, name, server, credential=f"of{port}")
    works(installed, name)
    installed.machine.docker("volume", "rm", name)


def test_a_password_given_as_an_option_is_moved(installed: Installed, guarded: SshServer) -> None:
    """Not in the state, encrypted among the credentials, a warning that says what is better; gone with the volume."""
    machine, name = installed.machine, installed.name("option")
    mark = installed.mark()
    volume(installed, name, guarded, password=PASSWORD)
    works(installed, name)
    machine.run("systemctl restart legacyhost@sshfs.service")
    works(installed, name)
    kept = f"/etc/legacyhost/credentials/@sshfs/{name}"
    assert machine.run(["stat", "-c", "%a %U", kept]).stdout == "600 root\n"
    assert machine.read(kept)[:1] != "{"
    for path in ("/var/lib/legacyhost", "/etc/legacyhost"):
        assert (
            machine.run(["grep", "-rFl", "-e", PASSWORD, "-e", json.dumps(PASSWORD)[1:-1], path], check=False).stdout
            == ""
        )
    assert "legacyhost credential add" in str(installed.inspect(name)["Status"]["warning"])
    journal = machine.run(["journalctl", f"--after-cursor={mark}", "-o", "cat"]).stdout
    assert f"volume {name}: what was given as password= stands in Docker's own record" in journal
    again = volume(installed, name, guarded, password=PASSWORD)
    assert again.returncode == 0
    machine.docker("volume", "rm", name)
    assert machine.run(["ls", kept], check=False).returncode != 0


def test_a_jump_host(installed: Installed) -> None:
    """In both paths, with a credential of its own; when the jump host goes away for some seconds, nothing fails."""
    machine, remote = installed.machine, installed.remote
    gate = machine.ssh_server(port=2243, user="gate")
    trust(installed, gate)
    add(installed, "gate", "--key", gate.key)
    machine.write(
        "/etc/legacyhost/sshfs.toml",
        machine.read("/etc/legacyhost/sshfs.toml") + '\n[volume.remote."127.0.0.1:2243"]\ncredential = "gate"\n',
    )
    machine.run("systemctl reload legacyhost@sshfs.service")
    name = installed.name("jump")
    volume(installed, name, remote, jump="gate@127.0.0.1:2243", IdentityFile=remote.key)
    works(installed, name)
    assert "by way of 127.0.0.1" in str(installed.inspect(name)["Status"]["remote"])
    script = "i=0; while [ $i -lt 60 ]; do echo $i >>/data/log || exit 1; i=$((i+1)); sleep 0.2; done"
    installed.start(name, name, script)
    time.sleep(1)
    gate.freeze(listener=True)
    time.sleep(5)
    gate.thaw()
    assert machine.docker("wait", name, timeout=120).stdout.strip() == "0"
    assert len(installed.on_remote(f"{name}/log").split()) == 60
    machine.docker("rm", name)
    assert f"{name}" in machine.docker("volume", "rm", name).stdout


def test_an_agent(installed: Installed) -> None:
    """Its socket is named in the configuration; the service can reach it, and so can the mount."""
    machine, remote = installed.machine, installed.remote
    machine.run("systemd-run --quiet --unit=test-agent ssh-agent -D -a /run/test-agent.sock")
    machine.wait_for(lambda: machine.run("test -S /run/test-agent.sock", check=False).returncode == 0)
    machine.run(["env", "SSH_AUTH_SOCK=/run/test-agent.sock", "ssh-add", "-q", remote.key])
    machine.write(
        "/etc/legacyhost/sshfs.toml",
        machine.read("/etc/legacyhost/sshfs.toml")
        + f'\n[volume.remote."127.0.0.1:{remote.port}"]\nagent = "/run/test-agent.sock"\n',
    )
    machine.run("systemctl reload legacyhost@sshfs.service")
    name = installed.name("agent")
    volume(installed, name, remote)
    works(installed, name)
    machine.docker("volume", "rm", name)
    machine.run("systemctl stop test-agent.service")


def test_after_power_loss_everything_is_opened_again(fresh: Installed) -> None:
    """A container that restarts with the machine has its volume, whose key is encrypted on the disk."""
    machine, remote = fresh.machine, fresh.remote
    add(fresh, "nas", "--key", remote.key)
    name = "kept"
    volume(fresh, name, remote, credential="nas")
    fresh.start(name, name, "trap 'exit 0' TERM; while :; do date >/data/alive; sleep 0.2; done", "--restart", "always")
    machine.power_loss()
    machine.boot()
    machine.run(["rm", "-f", f"{remote.home}/{name}/alive"])
    machine.wait_for(
        lambda: machine.run(["test", "-s", f"{remote.home}/{name}/alive"], check=False).returncode == 0, 60
    )
