"""What opens an account, and the way there: the check before (paramiko) and the mount's ssh do the same."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver
from sshd import Sshd, keygen, time_limit

from legacyhost.cli import main
from legacyhost.credentials import Credential, Store
from legacyhost.deadline import Deadline
from legacyhost.drivers.sshfs import SshfsDriver
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh import keys
from legacyhost.ssh.target import Secret
from legacyhost.state import Volume

CREATED = datetime(2024, 2, 29, tzinfo=UTC)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("target")
    keygen(folder.parent / "ca", "ed25519")
    with Sshd(folder, kinds=["ed25519"], more=[f"TrustedUserCAKeys {folder.parent}/ca.pub"]) as server:
        yield server


@pytest.fixture(scope="module")
def jump(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("jump"), kinds=["ed25519"]) as server:
        yield server


class Place:
    """A plugin's driver over a folder of its own, and volumes of it."""

    def __init__(self, folder: Path, servers: Sequence[Sshd]) -> None:
        self.folder = folder
        self.store = Store(folder / "credentials")
        (folder / "known_hosts").write_text("".join(server.known_hosts_line() + "\n" for server in servers))
        self.runtime = folder / "run"
        self.runtime.mkdir()

    def driver(self, remotes: Mapping[str, Mapping[str, str]] | None = None, **defaults: str) -> SshfsDriver:
        return sshfs_driver([self.folder / "known_hosts"], defaults, self.folder / "credentials", remotes)

    def both(self, driver: SshfsDriver, server: Sshd, **given: str) -> None:
        """The volume can be created, and what sshfs will run lists its directory. Raises Failed of the former."""
        options = {"sshcmd": f"{server.user}@{server.host}:there", "port": str(server.port), **given}
        volume = Volume("data", driver.parse("data", options), CREATED)
        with time_limit():
            facts = driver.prepare(volume, Deadline.after(20))
        volume = driver.keep(replace(volume, facts=facts))
        self.ssh(driver, volume, server)

    def ssh(self, driver: SshfsDriver, volume: Volume, server: Sshd) -> None:
        command = driver.command(volume, Path("/mnt"), self.runtime)
        configuration = self.runtime / "ssh_config"
        assert str(configuration) in command.argv
        ran = subprocess.run(
            ["sftp", "-q", "-b", "-", "-F", str(configuration), f"{server.user}@{server.host}"],
            input="cd there\npwd\n",
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "SSH_AUTH_SOCK": "/nonexistent", **command.variables("source:serial")},
        )
        assert (ran.returncode, "there" in ran.stdout) == (0, True), ran.stderr


@pytest.fixture
def place(tmp_path: Path, target: Sshd, jump: Sshd) -> Place:
    return Place(tmp_path, [target, jump])


@contextmanager
def agent(folder: Path, *files: Path, confirm: bool = False) -> Iterator[str]:
    """An ssh-agent with these keys; the path of its socket. ``confirm``: it asks before it uses the first, nobody."""
    path = f"{folder}/agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        with time_limit(10):
            while not Path(path).exists():
                time.sleep(0.01)
        for file in files:
            words = ["-c"] if confirm and file == files[0] else []
            added = subprocess.run(
                ["ssh-add", "-q", *words, str(file)],
                env={**os.environ, "SSH_AUTH_SOCK": path},
                capture_output=True,
                check=False,
            )
            assert added.returncode == 0, added.stderr
        yield path
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def kept(server: Sshd) -> Credential:
    return Credential(key=keys.read(server.client_key.read_bytes(), None, "the key").text)


def test_a_key_kept_as_a_credential(place: Place, target: Sshd) -> None:
    """Named by the volume; nothing of it is in the options that are recorded."""
    place.store.write("nas", kept(target))
    place.both(place.driver(), target, credential="nas")


def test_a_credential_by_default(place: Place, target: Sshd) -> None:
    """For all volumes, or for one host in each of the ways to name it; the most particular counts."""
    place.store.write("nas", kept(target))
    place.store.write("wrong", Credential(key=keys.generate().text))
    place.both(place.driver(credential="nas"), target)
    name = f"{target.user}@{target.host}:{target.port}"
    for key in (target.host, f"{target.host}:{target.port}", f"{target.user}@{target.host}", name):
        place.both(place.driver({key: {"credential": "nas"}}), target)
    place.both(place.driver({target.host: {"credential": "wrong"}, name: {"credential": "nas"}}), target)
    with pytest.raises(Failed, match="key of credential wrong"):
        place.both(place.driver({target.host: {"credential": "nas"}, name: {"credential": "wrong"}}), target)


def test_a_volumes_own_credential_before_any_default(place: Place, target: Sshd) -> None:
    """Also before a default of another kind, which is not tried beside it."""
    place.store.write("nas", kept(target))
    place.store.write("wrong", Credential(key=keys.generate().text))
    place.both(place.driver({target.host: {"credential": "wrong"}}, credential="wrong"), target, credential="nas")
    place.both(place.driver(IdentityFile="/nonexistent/key"), target, credential="nas")
    place.both(place.driver(credential="wrong"), target, IdentityFile=str(target.client_key))


def test_a_key_with_its_certificate(place: Place, target: Sshd) -> None:
    """The server knows the authority, and not the key."""
    ca, mine = target.directory.parent / "ca", keygen(place.folder / "mine", "ecdsa")
    signed = ["ssh-keygen", "-q", "-s", str(ca), "-I", "test", "-n", target.user, f"{mine}.pub"]
    subprocess.run(signed, check=True)
    text = keys.read(mine.read_bytes(), None, "the key").text
    certificate = Path(f"{mine}-cert.pub").read_text()
    place.store.write("bare", Credential(key=text))
    with pytest.raises(Failed, match="refused the login"):
        place.both(place.driver(), target, credential="bare")
    place.store.write("certified", Credential(key=text, certificate=certificate))
    place.both(place.driver(), target, credential="certified")
    place.store.write("foreign", Credential(key=keys.generate().text, certificate=certificate))
    with pytest.raises(Failed, match="certificate of credential foreign is not a certificate for that key"):
        place.both(place.driver(), target, credential="foreign")


def test_the_keys_of_an_agent(place: Place, target: Sshd) -> None:
    """The one behind the socket the configuration names, also where the right key is not the first."""
    other = keygen(place.folder / "other", "ed25519")
    with agent(place.folder, other, target.client_key) as path:
        place.both(place.driver({target.host: {"agent": path}}), target)
    (place.folder / "asking").mkdir()
    with agent(place.folder / "asking", other, target.client_key, confirm=True) as path:
        place.both(place.driver({target.host: {"agent": path}}), target)
    path = f"{place.folder}/agent.sock"
    with pytest.raises(Failed, match=r"agent behind .*/agent.sock cannot be used: (no such file|connection refused)"):
        place.both(place.driver({target.host: {"agent": path}}), target)
    (place.folder / "empty").mkdir()
    with (
        agent(place.folder / "empty") as path,
        pytest.raises(Failed, match=r"has no keys: ssh-add FILE adds one"),
    ):
        place.both(place.driver({target.host: {"agent": path}}), target)


def test_a_jump_host(place: Place, target: Sshd, jump: Sshd) -> None:
    """Logged in to as the target is, or with what the configuration says for it; the target by way of it."""
    (jump.directory / "authorized_keys").write_text(Path(f"{target.client_key}.pub").read_text())
    before = jump.log.read_text().count("Accepted publickey")
    way = f"{jump.user}@{jump.host}:{jump.port}"
    place.both(place.driver(), target, IdentityFile=str(target.client_key), jump=way)
    place.store.write("both", kept(target))
    place.both(place.driver(), target, credential="both", jump=f"{jump.host}:{jump.port}")
    assert jump.log.read_text().count("Accepted publickey") == before + 4

    (jump.directory / "authorized_keys").write_text(Path(f"{jump.client_key}.pub").read_text())
    with pytest.raises(
        Failed,
        match=rf"^on the way to {target.host}:\d+ by its jump host: {jump.host}:{jump.port} refused the login",
    ):
        place.both(place.driver(), target, credential="both", jump=way)
    place.store.write("of-the-gate", kept(jump))
    place.both(
        place.driver({f"{jump.host}:{jump.port}": {"credential": "of-the-gate"}}), target, credential="both", jump=way
    )
    with agent(place.folder, jump.client_key) as path:
        place.both(place.driver({way: {"agent": path}}), target, credential="both", jump=way)


def test_a_pinned_target_behind_a_jump_host(place: Place, target: Sshd, jump: Sshd) -> None:
    """``host_key`` is the target's alone; the jump host has to be known."""
    (jump.directory / "authorized_keys").write_text(Path(f"{target.client_key}.pub").read_text())
    place.store.write("nas", kept(target))
    (place.folder / "known_hosts").write_text(jump.known_hosts_line() + "\n")
    run = subprocess.run(["ssh-keygen", "-lf", str(target.host_key())], check=True, capture_output=True, text=True)
    given = {"credential": "nas", "jump": f"{jump.host}:{jump.port}", "host_key": run.stdout.split()[1]}
    place.both(place.driver(), target, **given)
    (place.folder / "known_hosts").write_text(target.known_hosts_line() + "\n")
    with pytest.raises(Failed, match=rf"host key of {jump.host}:{jump.port} is not known .*: legacyhost trust"):
        place.both(place.driver(), target, **given)
    (place.folder / "known_hosts").write_text(jump.known_hosts_line() + "\n")
    del given["host_key"]
    command = (
        f"legacyhost trust {target.host}:{target.port} --jump {jump.user}@{jump.host}:{jump.port} --credential nas"
    )
    with pytest.raises(
        Failed, match=rf"host key of {target.host}:{target.port} is not known .*; if that is right: {command}$"
    ):
        place.both(place.driver(), target, **given)


def test_what_a_jump_host_can_refuse(tmp_path: Path, target: Sshd) -> None:
    """Each in one sentence that names the host at which it ended."""
    with Sshd(tmp_path / "jump", kinds=["ed25519"], more=["AllowTcpForwarding no"]) as jump:
        place = Place(tmp_path, [target, jump])
        given = {"IdentityFile": str(jump.client_key), "jump": f"{jump.host}:{jump.port}"}
        with pytest.raises(
            Failed, match=rf"jump host {jump.host}:{jump.port} does not let {jump.user} connect to {target.host}"
        ):
            place.both(place.driver(), target, **given)
    with pytest.raises(
        Failed,
        match=rf"^on the way to {target.host}:\d+ by its jump host: {jump.host}:{jump.port} refused the connection",
    ):
        place.both(place.driver(), target, **given)
    with Sshd(tmp_path / "open", kinds=["ed25519"]) as jump:
        (tmp_path / "known_hosts").write_text(jump.known_hosts_line() + "\n")
        given = {"IdentityFile": str(jump.client_key), "jump": f"{jump.host}:{jump.port}", "port": "1"}
        with pytest.raises(
            Failed,
            match=rf"jump host {jump.host}:{jump.port} cannot connect to {target.host}:1 .*; is an SSH server running",
        ):
            place.both(place.driver(), target, **given)
        given["port"] = str(target.port)
        with pytest.raises(Failed, match=rf"host key of {target.host}:{target.port} is not known"):
            place.both(place.driver(), target, **given)


def test_a_host_behind_a_jump_host_is_made_known(
    place: Place, target: Sshd, jump: Sshd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``trust --jump``, with a credential, or what the configuration of the plugin says."""
    monkeypatch.setenv("LEGACYHOST_ETC", str(place.folder))
    (place.folder / "known_hosts").write_text(jump.known_hosts_line() + "\n")
    (jump.directory / "authorized_keys").write_text(Path(f"{jump.client_key}.pub").read_text())
    place.store.write("gate", kept(jump))
    (place.folder / "sshfs.toml").write_text("[volume]\n")
    run = subprocess.run(["ssh-keygen", "-lf", str(target.host_key())], check=True, capture_output=True, text=True)
    there, way = f"{target.host}:{target.port}", f"{jump.user}@{jump.host}:{jump.port}"
    words = ["trust", there, "--fingerprint", run.stdout.split()[1], "--jump", way]
    before = target.log.read_text()
    assert main(words) == 1
    assert "nothing to log in" in (said := capsys.readouterr().err) or "refused the login" in said
    assert target.log.read_text() == before
    assert main([*words, "--key", str(jump.client_key)]) == 0
    (place.folder / "known_hosts").write_text(jump.known_hosts_line() + "\n")
    assert main([*words, "--credential", "gate"]) == 0
    assert target.known_hosts_line() in (place.folder / "known_hosts").read_text()
    (place.folder / "known_hosts").write_text(jump.known_hosts_line() + "\n")
    (place.folder / "sshfs.toml").write_text(f'[volume.remote."{way}"]\ncredential = "gate"\n')
    assert main(words) == 0
    assert main(["trust", there, "--jump", "g ate"]) == 2


@pytest.mark.parametrize(
    "value",
    [
        "",
        "gate:",
        "gate:0",
        "gate:70000",
        "gate:x",
        "-oProxyCommand=x",
        "a b@gate",
        "@gate",
        "[::1]",
        "gate,other",
        "g;ate",
        "a@b@c d",
    ],
)
def test_what_cannot_be_a_jump_host(value: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^option jump has to be \[user@\]host\[:port\]"):
        sshfs_driver().parse("data", {"sshcmd": "anna@nas:", "jump": value})


def test_two_things_to_log_in_with() -> None:
    with pytest.raises(
        InvalidRequest, match="credential= says what to log in with, and so does IdentityFile= and password="
    ):
        sshfs_driver().parse(
            "data", {"sshcmd": "anna@nas:", "credential": "nas", "password": "x", "IdentityFile": "/root/key"}
        )


def test_a_credential_that_is_deleted_while_the_volume_is_made(place: Place, target: Sshd) -> None:
    """Found out before it is recorded: a volume that nothing opens is not made."""
    place.store.write("nas", kept(target))
    driver = place.driver()
    options = {"sshcmd": f"{target.user}@{target.host}:there", "port": str(target.port), "credential": "nas"}
    volume = Volume("data", driver.parse("data", options), CREATED)
    volume = replace(volume, facts=driver.prepare(volume, Deadline.after(20)))
    place.store.remove("nas")
    with pytest.raises(Failed, match="there is no credential nas"):
        driver.keep(volume)


def test_an_agent_that_hangs_is_left_at_the_deadline(place: Place, target: Sshd) -> None:
    """And leaves no thread behind that waits for it."""
    path = place.folder / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        before = threading.active_count()
        driver = place.driver({target.host: {"agent": str(path)}})
        volume = Volume(
            "data", driver.parse("data", {"sshcmd": f"a@{target.host}:", "port": str(target.port)}), CREATED
        )
        with time_limit(), pytest.raises(Failed, match="waiting for the agent"):
            driver.prepare(volume, Deadline.after(1))
        with time_limit(10):
            while threading.active_count() > before:
                time.sleep(0.05)


@pytest.mark.parametrize("user", ["CORP\\\\anna", "machine$", "a.b+c-d@e"])
def test_names_on_a_jump_host_mean_themselves_to_the_shell(place: Place, user: str) -> None:
    """ssh has its ProxyCommand run by one."""
    key = keygen(place.folder / "key", "ed25519")
    driver = place.driver(IdentityFile=str(key))
    volume = Volume("data", driver.parse("data", {"sshcmd": "anna@nas:", "jump": f"{user}@gate:2222"}), CREATED)
    driver.command(volume, Path("/mnt"), place.runtime)
    said = subprocess.run(
        ["ssh", "-G", "-F", str(place.runtime / "ssh_config"), "nas"], check=True, capture_output=True, text=True
    ).stdout
    (command,) = [line.partition(" ")[2] for line in said.splitlines() if line.startswith("proxycommand ")]
    show = "for word; do printf '%s\\n' \"$word\"; done"
    script = f"set -- {command.replace('%h', 'nas').replace('%p', '22').replace('%%', '%')}; {show}"
    words = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout.splitlines()
    assert words == ["env", "ssh", "-F", str(place.runtime / "jump_ssh_config"), "-W", "[nas]:22", f"{user}@gate"]


def test_a_credential_that_is_missing_says_how_it_is_made(place: Place, target: Sshd) -> None:
    with pytest.raises(Failed, match=r"^there is no credential nas; to make it: legacyhost credential add nas$"):
        place.both(place.driver(), target, credential="nas")


def test_a_password_leaves_the_options_and_the_volume_is_known_by_it(place: Place) -> None:
    """It is among the credentials, the same options are the same volume, and it goes with the volume."""
    driver = place.driver()
    options = driver.parse("data", {"sshcmd": "anna@nas:", "password": 'pa"ss, %h ü'})
    volume = driver.keep(Volume("data", options, CREATED, {"path": "/home/anna"}))
    assert "password" not in volume.options
    assert 'pa"ss' not in repr(volume) + str(volume.options) + str(volume.facts)
    assert place.store.read("@sshfs/data").password == Secret('pa"ss, %h ü')
    assert place.store.names() == []  # not one of those that have a name
    assert driver.is_same(volume, options)
    assert not driver.is_same(volume, {**options, "password": "other"})
    assert not driver.is_same(volume, {"sshcmd": options["sshcmd"]})
    assert driver.target(volume).password == Secret('pa"ss, %h ü')
    assert "legacyhost credential add data" in str(driver.describe(volume)["warning"])
    assert place.store.of_volumes("sshfs") == ["data"]
    driver.forget("data")
    assert place.store.of_volumes("sshfs") == []
    with pytest.raises(
        Failed,
        match=r"no password kept for volume data; to make it: legacyhost credential add --replace @sshfs/data$",
    ):
        driver.target(volume)


def test_a_kept_password_before_a_default_credential(place: Place) -> None:
    """As if it stood in the options still."""
    driver = place.driver(credential="nas")
    options = driver.parse("data", {"sshcmd": "anna@nas:", "password": "x"})
    volume = driver.keep(Volume("data", options, CREATED, {}))
    target = driver.target(volume)
    assert (target.password, target.credential) == (Secret("x"), "")


def test_the_advice_about_a_passphrase_never_makes_it_a_password(place: Place) -> None:
    """Kept as a login's password it would be sent to the server."""
    driver = place.driver()
    options = driver.parse("data", {"sshcmd": "anna@nas:", "IdentityFile": "/root/my key"})
    for facts, command in (
        ({"password": "kept"}, "legacyhost credential add data, and"),
        (
            {"password": "kept", "encrypted_key": "/root/my key"},
            "legacyhost credential add data --key '/root/my key', and",
        ),
    ):
        assert command in str(driver.describe(Volume("data", options, CREATED, facts))["warning"])
    assert "warning" not in driver.describe(Volume("data", options, CREATED, {}))
