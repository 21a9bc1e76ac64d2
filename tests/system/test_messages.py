"""What a user reads when something is wrong: one clear sentence, in bounded time, and nothing left behind."""

from __future__ import annotations

import json
import time

import pytest

from .installed import Installed

#: Seconds; docker itself would give up after 120.
PATIENCE = 60


def refused(installed: Installed, name: str, **options: str) -> str:
    """The error of a `docker volume create` that has to fail, and that leaves nothing."""
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    begin = time.monotonic()
    ran = installed.machine.docker("volume", "create", "-d", "sshfs", *words, name, check=False, timeout=PATIENCE)
    assert ran.returncode != 0
    assert time.monotonic() - begin < PATIENCE
    assert name not in installed.machine.run(["legacyhost", "ls", "--plugin", "sshfs"]).stdout
    assert name not in installed.mounted()
    text = ran.stderr.strip()
    assert "\n" not in text
    assert "Traceback" not in text
    assert "Error(" not in text
    return text


def test_without_sshcmd(installed: Installed) -> None:
    """The option that is needed is named, with its form."""
    assert "needs the option sshcmd=[user@]host:[path]" in refused(installed, "bad-none", port="22")


def test_an_unknown_option(installed: Installed) -> None:
    """With the nearest name that exists."""
    text = refused(installed, "bad-option", **installed.options("x", IdentityFlie="/x"))
    assert "unknown option IdentityFlie; did you mean IdentityFile?" in text


@pytest.mark.parametrize(
    "option", ["ProxyCommand", "proxycommand", "ssh_command", "sftp_server", "PKCS11Provider", "F"]
)
def test_an_option_that_could_run_a_program(installed: Installed, option: str) -> None:
    """Refused by name, with the reason."""
    text = refused(installed, "bad-program", **{**installed.options("x"), option: "touch /root/owned"})
    assert f"option {option} is refused" in text
    assert installed.machine.run("test -e /root/owned", check=False).returncode != 0


def test_a_wrong_password(installed: Installed) -> None:
    """What was tried and what the server takes, never the password."""
    machine = installed.machine
    server = machine.ssh_server(port=2225, user="petra", password="right")
    machine.run(["legacyhost", "trust", "127.0.0.1:2225", "--fingerprint", server.fingerprint])
    text = refused(installed, "bad-password", sshcmd="petra@127.0.0.1:x", port="2225", password="wr0ng-one")
    assert "refused the login of petra" in text
    assert "password" in text
    assert "wr0ng-one" not in text


def test_an_unknown_host_key(installed: Installed) -> None:
    """The fingerprint, and the command that trusts it."""
    server = installed.machine.ssh_server(port=2226)
    text = refused(installed, "bad-key", **installed.options("x", port="2226", IdentityFile=server.key))
    assert f"host key of 127.0.0.1:2226 is not known (ED25519 {server.fingerprint})" in text
    assert text.endswith("if that is right: legacyhost trust 127.0.0.1:2226")


def test_a_changed_host_key(installed: Installed) -> None:
    """Both fingerprints; nothing is connected."""
    server = installed.machine.ssh_server(port=2227)
    known = installed.remote.host_key
    installed.machine.run(f"echo '[127.0.0.1]:2227 {known}' >>/etc/legacyhost/known_hosts")
    text = refused(installed, "bad-change", **installed.options("x", port="2227", IdentityFile=server.key))
    assert server.fingerprint in text
    assert installed.remote.fingerprint in text


def test_a_pinned_host_key(installed: Installed) -> None:
    """host_key= is the only key accepted: the right one needs no known_hosts, another one is refused."""
    server = installed.machine.ssh_server(port=2228)
    options = installed.options("pinned", port="2228", IdentityFile=server.key)
    text = refused(installed, "bad-pin", **options, host_key=installed.remote.fingerprint)
    assert server.fingerprint in text
    name = installed.name("pinned")
    words = [w for k, v in {**options, "host_key": server.fingerprint}.items() for w in ("-o", f"{k}={v}")]
    installed.machine.docker("volume", "create", "-d", "sshfs", *words, name)
    installed.sh(name, "echo x >/data/file")
    assert installed.on_remote("pinned/file") == "x\n"


def test_a_host_that_refuses(installed: Installed) -> None:
    """Nobody listens there."""
    text = refused(installed, "bad-port", **installed.options("x", port="2299"))
    assert "127.0.0.1:2299" in text
    assert "refused" in text


def test_a_name_that_does_not_resolve(installed: Installed) -> None:
    """The name is in the message."""
    text = refused(installed, "bad-host", **installed.options("x", sshcmd="alice@no-such-host.invalid:x"))
    assert "no-such-host.invalid" in text


def test_a_host_that_does_not_answer(installed: Installed) -> None:
    """It accepts and stays silent: an error within the timeout, and nobody else waits meanwhile."""
    installed.create("ok-beside-silence")
    server = installed.machine.ssh_server(port=2229)
    server.freeze(listener=True)
    try:
        options = installed.options("x", port="2229", timeout="4", IdentityFile=server.key)
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        pending = installed.machine.popen(["docker", "volume", "create", "-d", "sshfs", *words, "bad-silent"])
        installed.sh("ok-beside-silence", "echo x >/data/file")
        assert installed.machine.docker("volume", "ls", "-q").stdout.count("ok-beside-silence") == 1
        _, text = pending.communicate(timeout=PATIENCE)
        assert pending.returncode != 0
        assert "127.0.0.1:2229 did not answer within" in text or "has not answered within" in text, text
    finally:
        server.thaw()
        server.stop()


def test_eight_mounts_on_a_silent_host(installed: Installed) -> None:
    """They fail within their time-out with the reason and leave nothing; nobody else waits; later they work."""
    machine = installed.machine
    other = installed.name()
    installed.create(other)
    server = machine.ssh_server(port=2230)
    machine.run(["legacyhost", "trust", "127.0.0.1:2230", "--fingerprint", server.fingerprint])
    names = [installed.name("silent") for _ in range(8)]
    for name in names:
        installed.create(name, "silent", port="2230", timeout="6", IdentityFile=server.key)
    server.freeze(listener=True)
    try:
        words = ["docker", "run", "--rm", "--network", "none", "-v"]
        pending = [machine.popen([*words, f"{name}:/data", "busybox", "true"]) for name in names]
        installed.sh(other, "echo x >/data/file")
        assert set(names) < set(machine.docker("volume", "ls", "-q").stdout.split())
        assert all(process.poll() is None for process in pending), "the others were served meanwhile"
        for process in pending:
            assert "127.0.0.1:2230 did not answer within 6 s" in process.communicate(timeout=PATIENCE)[1]
        assert not installed.mounted() & set(names)
        assert installed.holders(names[0]) == 0
        assert (
            machine.run("ls /run/legacyhost/sshfs/bare /run/legacyhost/sshfs/volumes | grep silent", check=False).stdout
            == ""
        )
    finally:
        server.thaw()
    # Newer sshds make a host wait from which connections came that said nothing (PerSourcePenalties).
    machine.wait_for(lambda: installed.sh(names[0], "echo works >/data/file", check=False).returncode == 0, 60, 1)
    assert installed.on_remote("silent/file") == "works\n"


def test_a_missing_remote_directory(installed: Installed) -> None:
    """With create=false it is an error that says so; without, one that cannot be made."""
    text = refused(installed, "bad-directory", **installed.options("missing/there", create="false"))
    assert "missing/there" in text
    assert "create" in text
    text = refused(installed, "bad-directory", **installed.options("/root/inaccessible"))
    assert "/root/inaccessible" in text
    assert "permission" in text.lower()


def test_a_remote_directory_that_is_a_file(installed: Installed) -> None:
    """Said as what it is."""
    installed.machine.run(f"touch {installed.remote.home}/plain-file")
    text = refused(installed, "bad-file", **installed.options("plain-file"))
    assert "not a directory" in text


def test_a_directory_that_vanished_is_not_made_again(installed: Installed) -> None:
    """Made at Create, missing at Mount: perhaps a disk is missing on the remote host, and an empty directory hid it."""
    name = installed.name()
    installed.create(name)
    installed.machine.run(["rmdir", f"{installed.remote.home}/{name}"])
    failed = installed.sh(name, "true", check=False)
    assert f"has no directory {name}" in failed.stderr, failed.stderr
    assert installed.machine.run(f"test -e {installed.remote.home}/{name}", check=False).returncode != 0
    installed.machine.run(f"mkdir {installed.remote.home}/{name}; chown alice: {installed.remote.home}/{name}")
    installed.sh(name, "echo x >/data/file")
    assert installed.on_remote(f"{name}/file") == "x\n"


@pytest.mark.parametrize("name", ["../x", "../../etc/cron.d/x", "/abs", "a/b", "sp ace", "ünïcode", "-dash"])
def test_names_that_are_none(installed: Installed, name: str) -> None:
    """Docker does not check names for plugins: `../x` reaches the plugin, and goes no further."""
    words = [word for key, value in installed.options("x").items() for word in ("-o", f"{key}={value}")]
    ran = installed.machine.docker("volume", "create", "-d", "sshfs", *words, "--name", name, check=False)
    assert ran.returncode != 0
    assert "cannot be the name of a volume" in ran.stderr or "invalid" in ran.stderr, ran.stderr
    assert installed.machine.run("ls /var/lib/legacyhost/x /run/legacyhost/x", check=False).returncode != 0


def test_other_options_for_an_existing_name(installed: Installed) -> None:
    """Docker itself answers a second create; asked directly, the plugin says what to do."""
    name = installed.name()
    installed.create(name)
    request = f'{{"Name": "{name}", "Opts": {{"sshcmd": "alice@127.0.0.1:other"}}}}'
    ran = installed.machine.run(["legacyhost", "call", "VolumeDriver.Create", request], check=False)
    assert ran.returncode == 1
    assert "exists already, with other options" in ran.stderr


def test_purge_deletes_only_when_asked_by_name(installed: Installed) -> None:
    """on_remove=purge deletes what is in the remote directory, over SFTP; a link in it leads nowhere else."""
    home = installed.remote.home
    name = installed.name("purged")
    installed.create(name, on_remove="purge")
    installed.machine.run(f"echo keep >{home}/outside; chown alice: {home}/outside")
    installed.sh(name, "mkdir -p /data/a/b; echo x >/data/a/b/c; ln -s ../outside /data/link")
    installed.machine.docker("volume", "rm", name)
    assert installed.machine.run(f"ls -A {home}/{name}").stdout == ""
    assert installed.on_remote("outside") == "keep\n"


def test_purge_looks_at_the_volumes_of_other_plugins(installed: Installed) -> None:
    """Whether those run or not; where their record cannot be read, nothing is deleted."""
    machine, name = installed.machine, installed.name("shared")
    machine.run("cp /etc/legacyhost/sshfs.toml /etc/legacyhost/second.toml")
    machine.run("systemctl enable --quiet --now legacyhost@second.socket")
    options = installed.options(name)
    machine.run(
        [
            "legacyhost",
            "call",
            "--plugin",
            "second",
            "VolumeDriver.Create",
            json.dumps({"Name": "its", "Opts": options}),
        ]
    )
    installed.create(name, on_remove="purge")
    installed.sh(name, "echo precious >/data/file")
    refused = (
        f"volume {name} was created with on_remove=purge, and volume its has its data in the same remote directory"
    )
    for command in ("true", "systemctl stop legacyhost@second.socket legacyhost@second.service"):
        machine.run(command)
        assert refused in machine.docker("volume", "rm", name, check=False).stderr
    record = "/var/lib/legacyhost/second/volumes.db"
    machine.run(f"cp {record} /root/kept && echo nonsense >{record}")
    assert "the record of volumes of the plugin second" in machine.docker("volume", "rm", name, check=False).stderr
    assert installed.on_remote(f"{name}/file") == "precious\n"
    machine.run(f"cp /root/kept {record}; systemctl start legacyhost@second.socket")
    machine.run(["legacyhost", "call", "--plugin", "second", "VolumeDriver.Remove", '{"Name": "its"}'])
    machine.docker("volume", "rm", name)
    assert machine.run(["ls", f"{installed.remote.home}/{name}"]).stdout == ""
    machine.run("systemctl disable --quiet --now legacyhost@second.socket; systemctl stop legacyhost@second.service")
    machine.run("rm /etc/legacyhost/second.toml; rm -r /var/lib/legacyhost/second")


def test_purge_needs_a_directory_of_its_own(installed: Installed) -> None:
    """Not the home, not the root, not a directory that another volume uses."""
    for directory in ("", "/", ".", "./"):
        text = refused(installed, "bad-purge", **installed.options(directory, on_remove="purge"))
        assert "needs a directory of the volume's own" in text
    installed.machine.run(
        f"mkdir {installed.remote.home}/shared-tree; chown alice: {installed.remote.home}/shared-tree"
    )
    installed.machine.run(f"ln -s shared-tree {installed.remote.home}/shared-link")
    inner = installed.name("inner")
    installed.create(inner, "shared-tree/inner")
    installed.sh(inner, "echo x >/data/file")
    for directory in ("shared-tree", f"{installed.remote.home}/shared-tree", "shared-link/inner"):
        outer = installed.name("outer")
        installed.create(outer, directory, on_remove="purge")
        failed = installed.machine.docker("volume", "rm", outer, check=False)
        assert inner in failed.stderr, directory
        assert installed.on_remote("shared-tree/inner/file") == "x\n"
