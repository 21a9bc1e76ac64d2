"""``legacyhost import``: what it would do, that it does just that, and that it can be done again after a failure."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from sshd import keygen

from legacyhost.cli import main
from legacyhost.credentials import Credential, Store
from legacyhost.errors import Failed
from legacyhost.names import LIMIT
from legacyhost.ssh.target import Secret

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
KNOWN = f"nas {KEY}\n[nas]:2222 {KEY}\n"
SECRET = 'p"a\\s, wörd'


class Plugin:
    """Keeps what Create is called with, as the real one does; ``trouble`` is what becomes of a volume's Create."""

    def __init__(self) -> None:
        self.volumes: dict[str, dict[str, str]] = {}
        self.remotes: dict[str, str] = {}
        self.trouble: dict[str, str] = {}
        self.is_silent = False

    def ask(self, plugin: str, rpc: str, arguments: Mapping[str, object]) -> Mapping[str, object]:
        assert plugin == "foo"
        if self.is_silent:
            raise Failed("the plugin gives no answer")
        if rpc == "VolumeDriver.List":
            return {"Volumes": [{"Name": name, "Mountpoint": ""} for name in self.volumes] or None}
        name, options = arguments["Name"], arguments.get("Opts")
        assert isinstance(name, str)
        if rpc == "VolumeDriver.Get":
            return {"Volume": {"Name": name, "Status": {"state": "not mounted", "remote": self.remotes[name]}}}
        assert rpc == "VolumeDriver.Create"
        assert isinstance(options, dict)
        if name in self.trouble:
            if self.trouble[name] == "lost":
                self.volumes[name] = options
                self.remotes[name] = "anna@nas:/srv"
            self.is_silent = self.trouble[name] == "dies"
            raise Failed(f"{name} cannot be made: {self.trouble[name]}")
        assert name not in self.volumes
        self.volumes[name] = options
        self.remotes[name] = options["sshcmd"] + (f" (port {options['port']})" if "port" in options else "")
        return {}


@pytest.fixture(autouse=True)
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with one plugin, ``foo``, to whom the host ``nas`` is known."""
    for name in ("etc", "state", "run"):
        monkeypatch.setenv(f"LEGACYHOST_{name.upper()}", str(tmp_path / name))
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "foo.toml").write_text("[volume]\n")
    (etc / "known_hosts").write_text(KNOWN)
    return etc


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    made = Plugin()
    monkeypatch.setattr("legacyhost.commands.importing.ask", made.ask)
    return made


@pytest.fixture
def store(etc: Path) -> Store:
    return Store(etc / "credentials")


def entry(sshcmd: str = "anna@nas:/srv", password: str = "", port: str = "", *options: str) -> dict[str, object]:
    return {"Password": password, "Sshcmd": sshcmd, "Port": port, "Options": [*options] or None, "Mountpoint": "/mnt/x"}


def state(tmp_path: Path, **volumes: object) -> str:
    path = tmp_path / "sshfs-state.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(volumes))
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["import", *arguments])
    out, err = capsys.readouterr()
    assert SECRET not in out + err
    return status, out, err


def test_nothing_is_done_without_apply(
    plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what it would do, and how to have it done."""
    file = state(tmp_path, data=entry("anna@nas:/srv", SECRET, "2222", "allow_other", "StrictHostKeyChecking=no"))
    status, out, err = run(capsys, file)
    assert (status, err) == (0, "")
    assert out == (
        "data would be made\n"
        "    sshcmd=anna@nas:/srv port=2222 allow_other=true create=false credential=data\n"
        "    credential data would keep its password\n"
        "    note: StrictHostKeyChecking=no is left out: the host's key is always checked here\n"
        "\n"
        f"Nothing is changed yet. To do it: legacyhost import {file} --apply\n"
    )
    assert plugin.volumes == {}
    assert store.names() == []


def test_it_is_done_with_apply(
    plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The password is kept by name, and in no option; a second time there is nothing to do."""
    file = state(tmp_path, data=entry("anna@nas:/srv", SECRET, "2222", "ro"), plain=entry())
    status, out, err = run(capsys, file, "--apply")
    assert (status, err) == (0, "")
    assert "data is made\n    sshcmd=anna@nas:/srv port=2222 ro=true create=false credential=data\n" in out
    assert "    credential data keeps its password\n" in out
    assert "plain is made\n" in out
    assert "man legacyhost" in out
    assert plugin.volumes == {
        "data": {
            "sshcmd": "anna@nas:/srv", "port": "2222", "ro": "true", "create": "false", "credential": "data"
        },
        "plain": {"sshcmd": "anna@nas:/srv", "create": "false"},
    }  # fmt: skip
    kept = store.read("data")
    assert (kept.password, kept.key) == (Secret(SECRET), None)
    before = {name: store.read(name) for name in store.names()}
    status, out, _ = run(capsys, file, "--apply")
    assert status == 0
    assert out.count("exists already, with the same remote directory; it is left as it is\n") == 2
    assert {name: store.read(name) for name in store.names()} == before


def test_json(plugin: Plugin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs."""
    file = state(tmp_path, data=entry("anna@nas:/srv", SECRET), far=entry("anna@far:"), odd=entry("", SECRET))
    status, out, _ = run(capsys, file, "--json")
    assert status == 1
    assert json.loads(out) == {
        "volumes": [
            {
                "name": "data",
                "action": "create",
                "options": {"sshcmd": "anna@nas:/srv", "create": "false", "credential": "data"},
                "notes": [],
                "reason": "",
                "trust": "",
            },
            {
                "name": "far",
                "action": "create",
                "options": {"sshcmd": "anna@far:", "create": "false"},
                "notes": [
                    "it names neither key nor password: what the configuration has for its host, or root's own keys"
                ],
                "reason": "",
                "trust": "far",
            },
            {
                "name": "odd",
                "action": "refused",
                "options": {},
                "notes": [],
                "reason": "it has no Sshcmd, so there is no remote directory",
                "trust": "",
            },
        ],
        "trust": ["legacyhost trust far"],
        "warnings": [],
    }
    status, out, _ = run(capsys, file, "--json", "--apply")
    assert status == 1
    assert [volume["action"] for volume in json.loads(out)["volumes"]] == ["created", "failed", "refused"]
    assert plugin.volumes.keys() == {"data"}


def test_a_key_is_kept_too(plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inline, as the fork had it; it is in no option, and in no output."""
    file = keygen(tmp_path / "id", "ed25519")
    fields = {"SSHCmd": "anna@nas:/srv", "IDRsa": file.read_text(), "Options": None}
    status, out, _ = run(capsys, state(tmp_path, data=fields), "--apply")
    assert status == 0
    assert "    credential data keeps its key\n" in out
    assert "PRIVATE KEY" not in out
    kept = store.read("data")
    assert kept.key is not None
    assert kept.password is None
    assert "PRIVATE KEY" not in json.dumps(plugin.volumes)


def test_keys_of_a_directory(plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keygen(tmp_path / "id", "ed25519")
    file = state(tmp_path, data=entry("anna@nas:/srv", "", "", "IdentityFile=/root/.ssh/id"))
    assert run(capsys, file, "--keys", str(tmp_path), "--apply")[0] == 0
    assert plugin.volumes["data"] == {"sshcmd": "anna@nas:/srv", "create": "false", "credential": "data"}
    assert store.read("data").key


def test_one_credential_for_one_login(
    plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Same account and secret are one, named after the first volume; another account or secret is another."""
    file = state(
        tmp_path,
        a=entry("anna@nas:/a", SECRET),
        b=entry("anna@nas:/b", SECRET),
        c=entry("carl@nas:/c", SECRET),
        d=entry("anna@nas:/d", "other"),
        e=entry("anna@nas:/e", SECRET, "2222"),
    )
    assert run(capsys, file, "--apply")[0] == 0
    chosen = {name: options["credential"] for name, options in plugin.volumes.items()}
    assert chosen == {"a": "a", "b": "a", "c": "c", "d": "d", "e": "e"}
    assert store.names() == ["a", "c", "d", "e"]
    # One is gone, and comes back as it was.
    del plugin.volumes["b"]
    assert run(capsys, file, "--apply")[0] == 0
    assert plugin.volumes["b"]["credential"] == "a"
    assert store.names() == ["a", "c", "d", "e"]


def test_one_key_is_one_credential(
    plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However it is written down, from wherever it comes, and the next time too."""
    file = keygen(tmp_path / "id", "ed25519")
    inline = {"SSHCmd": "anna@nas:/a", "IDRsa": file.read_text().rstrip("\n"), "Options": None}
    named = entry("anna@nas:/b", "", "", "IdentityFile=/root/.ssh/id")
    command = (state(tmp_path, a=inline, b=named), "--keys", str(tmp_path), "--apply")
    assert run(capsys, *command)[0] == 0
    for gone in ("", "a", "b"):
        plugin.volumes.pop(gone, None)
        assert run(capsys, *command)[0] == 0
        assert {name: options["credential"] for name, options in plugin.volumes.items()} == {"a": "a", "b": "a"}
        assert store.names() == ["a"]


def test_no_credential_is_overwritten(
    plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of that name stays what it is; the same secret under it is the one."""
    store.write("a", Credential(Secret("somebody else's")))
    store.write("b", Credential(Secret(SECRET)))
    store.write("c", Credential(Secret(SECRET), certificate="x"))
    (tmp_path / "etc" / "credentials" / "d").write_text("damaged")
    long = "x" * LIMIT
    store.write(long, Credential(Secret("somebody else's")))
    users = {name: entry(f"user{number}@nas:", SECRET) for number, name in enumerate(["a", "b", "c", "d", long])}
    assert run(capsys, state(tmp_path, **users), "--apply")[0] == 0
    chosen = {name: options["credential"] for name, options in plugin.volumes.items()}
    assert chosen == {"a": "a-2", "b": "b", "c": "c-2", "d": "d-2", long: f"{long[: LIMIT - 8]}-2"}
    assert store.read("a").password == Secret("somebody else's")
    assert store.read("a-2").password == Secret(SECRET)
    assert (tmp_path / "etc" / "credentials" / "d").read_text() == "damaged"


def test_a_volume_with_another_directory_is_not_touched(
    plugin: Plugin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is there is somebody's; a jump host does not make it another."""
    plugin.volumes = {"data": {}, "same": {}, "port": {}}
    plugin.remotes = {"data": "otto@other:/x", "same": "anna@nas:/srv by way of gate", "port": "anna@nas:/srv"}
    file = state(tmp_path, data=entry(), same=entry(), port=entry(port="2222"))
    status, out, _ = run(capsys, file, "--apply")
    assert status == 1
    assert "data is refused: a volume of that name exists, with another remote directory (otto@other:/x);" in out
    assert "docker volume rm data (the remote data stays, unless" in out
    assert "same exists already" in out
    assert "port is refused" in out
    assert plugin.volumes == {"data": {}, "same": {}, "port": {}}


def test_a_host_that_is_not_known(
    plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once per host; its volumes wait, without a credential, and the others do not."""
    file = state(
        tmp_path,
        a=entry("anna@far:/a", SECRET, "2222"),
        b=entry("anna@far:/b", SECRET, "2222"),
        c=entry("anna@FAR:/c", ""),
        d=entry("anna@nas:/d", SECRET),
    )
    hint = "Hosts to be made known first; compare the fingerprints:\n"
    status, out, _ = run(capsys, file)
    assert status == 0
    assert f"{hint}    legacyhost trust FAR\n    legacyhost trust far:2222\n" in out
    status, out, _ = run(capsys, file, "--apply")
    assert status == 1
    assert "a is not made: the host key of far:2222 is not known: legacyhost trust far:2222\n" in out
    assert f"{hint}    legacyhost trust FAR\n    legacyhost trust far:2222\n" in out
    assert plugin.volumes.keys() == {"d"}
    assert store.names() == ["d"]
    with (tmp_path / "etc" / "known_hosts").open("a") as known_hosts:
        known_hosts.write(f"[far]:2222 {KEY}\n@cert-authority *far {KEY}\n")
    assert run(capsys, file, "--apply")[0] == 0
    assert plugin.volumes.keys() == {"a", "b", "c", "d"}


def test_a_revoked_key_is_no_known_one(plugin: Plugin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "etc" / "known_hosts").write_text(f"@revoked nas {KEY}\n")
    assert "legacyhost trust nas\n" in run(capsys, state(tmp_path, data=entry()))[1]


def test_defaults_of_the_configuration(
    plugin: Plugin, etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They count for these volumes too, and that is said; a pinned key needs no known host."""
    (etc / "foo.toml").write_text(f'[volume]\n[volume.defaults]\nport = 7\nhost_key = "SHA256:{"A" * 43}"\n')
    plugin.volumes, plugin.remotes = {"same": {}}, {"same": "anna@far:/srv (port 7)"}
    status, out, _ = run(capsys, state(tmp_path, data=entry("anna@far:/srv"), same=entry("anna@far:/srv")))
    assert status == 0
    assert "same exists already" in out
    assert "trust" not in out
    assert f"Options that are not given come from {etc}/foo.toml: host_key, port.\n" in out


def test_one_that_fails_stops_nobody_and_leaves_nothing(
    plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the plugin says is what is said. Once it is mended the same command does the rest."""
    plugin.trouble = {"a": "no such directory"}
    file = state(tmp_path, a=entry("anna@nas:/a", SECRET), b=entry("anna@nas:/b", SECRET), c=entry("anna@nas:/c", "x"))
    status, out, err = run(capsys, file, "--apply")
    assert (status, err) == (1, "legacyhost: 1 of 3 volumes not made: a\n")
    assert "a is not made: a cannot be made: no such directory\n" in out
    assert plugin.volumes.keys() == {"b", "c"}
    assert store.names() == ["a", "c"]  # b has its credential
    plugin.trouble = {}
    assert run(capsys, file, "--apply")[0] == 0
    assert plugin.volumes["a"]["credential"] == plugin.volumes["b"]["credential"] == "a"
    plugin.volumes.clear()
    for name in store.names():
        store.remove(name)
    plugin.trouble = dict.fromkeys("abc", "no such directory")
    assert run(capsys, file, "--apply")[0] == 1
    assert store.names() == []


def test_a_credential_that_was_there_stays(
    plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what this command has made itself is taken away again."""
    store.write("a", Credential(Secret(SECRET)))
    plugin.trouble = {"a": "no such directory"}
    assert run(capsys, state(tmp_path, a=entry("anna@nas:/a", SECRET)), "--apply")[0] == 1
    assert store.names() == ["a"]


def test_an_answer_that_is_lost(
    plugin: Plugin, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The volume may have been made: its credential stays, and is named where nobody can tell."""
    plugin.trouble = {"a": "lost"}
    file = state(tmp_path, a=entry("anna@nas:/srv", SECRET), b=entry("anna@nas:/b", "x"))
    assert run(capsys, file, "--apply")[0] == 1
    assert store.names() == ["a", "b"]
    plugin.trouble, plugin.volumes = {"b": "dies"}, {}
    store.remove("b")
    status, out, _ = run(capsys, file, "--apply")
    assert status == 1
    assert "b is not made: b cannot be made: dies; credential b was made for it and is still there (the plugin" in out
    assert store.names() == ["a", "b"]
    plugin.trouble, plugin.is_silent = {}, False
    assert run(capsys, file, "--apply")[0] == 0


def test_a_credential_that_cannot_be_written(
    plugin: Plugin, etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No volume without it."""
    (etc / "credentials").write_text("in the way")
    status, out, err = run(capsys, state(tmp_path, data=entry("anna@nas:/srv", SECRET), plain=entry()), "--apply")
    assert status == 1
    assert "data is not made: " in out + err
    assert "data" not in plugin.volumes


def test_a_file_others_can_read(plugin: Plugin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That is how the other plugin leaves it."""
    file = state(tmp_path, data=entry())
    Path(file).chmod(0o644)
    assert f"{file} has passwords in it and is open to others: chmod 600 {file}\n" in run(capsys, file)[1]
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o644


@pytest.mark.parametrize("apply", [[], ["--apply"]])
def test_no_volumes(plugin: Plugin, tmp_path: Path, capsys: pytest.CaptureFixture[str], apply: list[str]) -> None:
    file = state(tmp_path)
    assert run(capsys, file, *apply) == (0, f"There are no volumes in {file}.\n", "")


def test_what_a_terminal_would_act_on_is_not_printed(
    plugin: Plugin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and values are others'."""
    odd = "\x1b[2J\u202e\r\n"
    file = state(tmp_path, **{odd: entry(), "data": entry(f"anna@nas:/{odd[4:5]}x", "", "", f"a{odd}=b")})
    volumes = {odd: entry(), "bidi": entry("anna@nas:/\u202ex"), "data": entry("anna@nas:/", "", "", f"a{odd}=b")}
    Path(file).write_text(json.dumps(volumes))
    status, out, err = run(capsys, file)
    assert status == 1
    assert err.startswith("legacyhost: 2 of 3 volumes cannot be made: ")
    assert all(line.isprintable() for line in (out + err).splitlines())
    assert "\u202e" not in out


@pytest.mark.parametrize("arguments", [[], ["--apply"], ["a", "b"], ["a", "--keys"], ["a", "--nonsense"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["import", *arguments])
    assert ended.value.code == 2


def test_what_cannot_be_done_is_one_sentence(
    plugin: Plugin, etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file, no plugin, several, no answer: nothing on standard output, status 1 or 2."""
    file = state(tmp_path, data=entry("anna@nas:/srv", SECRET))

    def said(*arguments: str) -> tuple[int, str]:
        status, out, err = run(capsys, *arguments)
        assert out == ""
        assert err.startswith("legacyhost: ")
        assert err.count("\n") == 1
        return status, err

    assert said(f"{file}.old")[0] == 1
    assert said(os.fspath(tmp_path))[0] == 1
    plugin.is_silent = True
    assert said(file, "--apply")[0] == 1
    plugin.is_silent = False
    (etc / "foo.toml").write_text("nonsense")
    assert said(file)[0] == 1
    (etc / "bar.toml").touch()
    assert said(file)[0] == 2
    assert plugin.volumes == {}
