"""What the doctor makes of a volume, and what it looks at when something else is wrong already."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from doctorhost import FakeHost, only
from sshd import Sshd

from legacyhost import record
from legacyhost.cli import main
from legacyhost.doctor import Finding, error, files, ok, volume
from legacyhost.doctor.diagnosis import Diagnosis
from legacyhost.doctor.way import way
from legacyhost.errors import Failed, NoSuchVolume
from legacyhost.record import Content
from legacyhost.state import Volume

KNOWN = "nas.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = FakeHost(tmp_path)
    (made.paths.etc / "sshfs.toml").write_text("[volume]\n")
    (made.paths.etc / "known_hosts").write_text(KNOWN)
    return made


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """One that belongs to root."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of root's, and give them away")
    made = tmp_path / "key"
    made.write_text("a key")
    made.chmod(0o600)
    return made


def made(**options: str) -> Volume:
    return Volume("data", {"sshcmd": "anna@nas.example.org:data", **options}, datetime.now(UTC))


def access(host: FakeHost, **options: str) -> list[Finding]:
    found = files.driver(host, "sshfs")
    assert found is not None
    return [*volume.access(host, found[0], made(**options))]


def test_a_volume_in_order(host: FakeHost, key: Path) -> None:
    assert only(access(host, IdentityFile=str(key)), "ok").what == "anna@nas.example.org:data"


def test_a_key_that_is_missing(host: FakeHost, key: Path) -> None:
    key.unlink()
    assert only(access(host, IdentityFile=str(key))).what == f"identity file {key} does not exist"


def test_a_key_of_somebody_else(host: FakeHost, key: Path) -> None:
    """Root reads it here; the service, which is root without privileges, does not."""
    os.chown(key, 12345, 12345)
    assert only(access(host, IdentityFile=str(key))).mend == f"chown root: {key} && chmod 600 {key}"
    os.chown(key, 0, 0)
    os.chown(key.parent, 12345, 12345)
    key.parent.chmod(0o700)
    assert only(access(host, IdentityFile=str(key))).mend == f"chmod o+x {key.parent}"


def test_a_host_that_is_not_known(host: FakeHost, key: Path) -> None:
    found = only(access(host, IdentityFile=str(key), jump="gate.example.org:2222"))
    assert found.mend == "legacyhost trust gate.example.org:2222"
    (host.paths.etc / "known_hosts").write_text("")
    both = access(host, IdentityFile=str(key), jump="gate.example.org:2222")
    assert [finding.mend for finding in both] == [
        "legacyhost trust gate.example.org:2222",
        "legacyhost trust nas.example.org --jump anna@gate.example.org:2222",
    ]
    only(access(host, IdentityFile=str(key), host_key="SHA256:" + "A" * 43), "ok")


def test_a_credential_that_is_gone(host: FakeHost) -> None:
    """The sentence is the driver's, and so is the command at its end."""
    found = only(access(host, credential="gone"))
    assert "gone" in found.what
    assert found.mend.startswith("legacyhost credential")


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("host key of nas is not known (X); if that is right: legacyhost trust nas", "legacyhost trust nas"),
        ("identity file /k is open to others (mode 0644), ssh refuses that: chmod 600 /k", "chmod 600 /k"),
        ("changed; if it was: ssh-keygen -R n && legacyhost trust n", "ssh-keygen -R n && legacyhost trust n"),
        ("nas refused the connection: is an SSH server running there, on that port?", ""),
        ("nas says: mountains", ""),
    ],
)  # fmt: skip
def test_the_command_at_the_end_of_a_sentence(message: str, command: str) -> None:
    assert volume.command_in(message) == command


@pytest.mark.parametrize(
    ("state", "level", "mend"),
    [
        ("not mounted", "ok", ""),
        ("being mounted", "ok", ""),
        ("connection lost", "warning", "legacyhost doctor data"),
        ("not answering", "error", "legacyhost unstick data; docker ps"),
        ("lost", "error", "docker ps -q --filter volume=data | xargs -r docker restart"),
        ("covered", "error", "umount "),
        ("mounted", "warning", "umount "),
    ],
)
def test_the_state_of_a_mount(host: FakeHost, state: str, level: str, mend: str) -> None:
    """Mounted, and no unit that does it: somebody else has done it."""

    class Told(FakeHost):
        def ask(self, plugin: str, rpc: str, arguments: Mapping[str, object]) -> dict[str, object]:
            assert (plugin, rpc, arguments) == ("sshfs", "VolumeDriver.Get", {"Name": "data"})
            shown = {"state": state, "holders": 2, "last error": "gone away", "last error at": "then"}
            return {"Volume": {"Name": "data", "Status": shown}}

    host.__class__ = Told
    host.answers["systemctl list-units"] = (0, "", "")
    found = only([*volume.mount(host, "sshfs", made())], level)
    assert f"{state}, 2 holders, last error: gone away (then)" in found.what or state == "mounted"
    assert found.mend.startswith(mend)


def test_a_mount_with_its_unit(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"Volume": {"Status": {"state": "mounted", "holders": 1}}}
    monkeypatch.setattr(host, "ask", lambda *_: status)
    host.answers["systemctl list-units"] = (0, "legacyhost:sshfs:data:01234567.service loaded active running x\n", "")
    found = only([*volume.mount(host, "sshfs", made())], "ok")
    assert found.what == "mounted, 1 holder by legacyhost:sshfs:data:01234567.service"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path, kinds=["ed25519"]) as running:
        yield running


def test_the_whole_way(host: FakeHost, server: Sshd) -> None:
    """By way of a jump host, which is the same one here: first its stages, then the target's."""
    (host.paths.etc / "known_hosts").write_text(server.known_hosts_line())
    account = f"{server.user}@{server.host}"
    target = Volume(
        "data",
        {"sshcmd": f"{account}:", "port": str(server.port), "jump": f"{account}:{server.port}",
         "IdentityFile": str(server.client_key)},
        datetime.now(UTC),
    )  # fmt: skip
    found = files.driver(host, "sshfs")
    assert found is not None
    findings = [*way(host, "sshfs", found[0], target, found[1])]
    assert {finding.level for finding in findings} == {"ok"}, findings
    names = [finding.check.removeprefix("volume data: ") for finding in findings]
    first = [name.removeprefix("jump host, ") for name in names if name.startswith("jump host, ")]
    assert names[: len(first)] == [f"jump host, {name}" for name in first]
    assert first == ["name", "tcp", "greeting", "key exchange", "host key", "login"]
    then = ["onward", "greeting", "key exchange", "host key", "login", "sftp", "directory", "ssh"]
    assert names[len(first) :] == then
    assert findings[-2].what.startswith("the home directory can be read and written, ")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("Ciphers", "aes128-cbc", "no matching cipher found"),
        ("BindAddress", "192.0.2.77", "ssh: connect to host"),
        ("PreferredAuthentications", "password", "Permission denied"),
    ],
)
def test_a_way_that_only_ssh_cannot_take(host: FakeHost, server: Sshd, name: str, value: str, said: str) -> None:
    """Of some options the check knows nothing: ssh itself goes there, and says why it does not arrive."""
    (host.paths.etc / "known_hosts").write_text(server.known_hosts_line())
    options = {"sshcmd": f"{server.user}@{server.host}:", "port": str(server.port), name: value}
    made = Volume("data", {**options, "IdentityFile": str(server.client_key)}, datetime.now(UTC))
    found = files.driver(host, "sshfs")
    assert found is not None
    *before, last = way(host, "sshfs", found[0], made, found[1])
    assert {finding.level for finding in before} == {"ok"}
    assert (last.check, last.level) == ("volume data: ssh", "error")
    assert said in last.what
    assert f"; the volume has its options {name}" in last.what
    assert not [*host.paths.run.glob("doctor-*")]


def recorded(host: FakeHost, *names: str) -> None:
    options = json.dumps({"sshcmd": "anna@nas.example.org:data"})
    directory = host.paths.state / "sshfs"
    directory.mkdir()
    moment = datetime.now(UTC).isoformat()
    for file in ("volumes.db", "volumes.backup"):
        record.write(directory / file, Content([(name, moment, options, "{}") for name in names]))


def test_a_volume_that_does_not_exist(host: FakeHost) -> None:
    recorded(host, "data")
    with pytest.raises(NoSuchVolume):
        [*Diagnosis(host).run("other")]


def test_a_record_that_cannot_be_read_says_nothing_about_a_volume(host: FakeHost) -> None:
    recorded(host, "data")
    (host.paths.state / "sshfs" / "volumes.db").write_bytes(b"no record")
    found = [*Diagnosis(host).run("data")]
    assert "record" in {finding.check for finding in found if finding.level == "error"}


def test_where_nothing_answers_nothing_is_waited_for(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Docker nor each of the volumes is asked where it is known what comes of it."""
    recorded(host, "data", "more")
    host.runs_systemd = False
    host.install("docker")
    host.install("dockerd")
    host.file("run/docker.sock")
    asked: list[str] = []

    def ask(plugin: str, rpc: str, arguments: Mapping[str, object]) -> dict[str, object]:
        asked.append(rpc)
        raise Failed("nothing")

    monkeypatch.setattr(host, "ask", ask)
    path = host.paths.sockets / "sshfs.sock"
    for is_there in (False, True):
        if is_there:
            os.mkfifo(path)
            monkeypatch.setattr("legacyhost.doctor.sockets.there", lambda *_: iter([ok("socket file", "x")]))
        findings = [*Diagnosis(host).run()]
        assert asked == (["Plugin.Activate"] if is_there else [])
        assert not [line for line in host.asked if line.startswith("docker volume ls")]
        assert "volume data" in {finding.check for finding in findings}


def test_what_the_machine_refuses_is_a_finding(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Iterator[Finding]:
        raise PermissionError(13, "Permission denied", "/secret")

    monkeypatch.setattr(files, "secrets", refuse)
    found = next(finding for finding in Diagnosis(host).run() if finding.check == "credentials")
    assert found.what == "/secret cannot be looked at: permission denied"
    assert found.level == "error"


def test_a_plugin_nobody_has_switched_on(host: FakeHost) -> None:
    """Of several: it is passed over, unless it is asked for."""
    (host.paths.etc / "foo.toml").write_text("[volume]\n")
    host.units["legacyhost@sshfs.socket"] = {"UnitFileState": "enabled", "ActiveState": "active"}
    passed_over = [finding.what for finding in Diagnosis(host).run() if finding.check == "socket unit"]
    assert "the plugin foo is not switched on, and not looked at" in passed_over
    asked_for = [finding.what for finding in Diagnosis(host, "foo").run() if finding.check == "socket unit"]
    assert asked_for == ["legacyhost@foo.socket is not active"]


def test_without_root(host: FakeHost) -> None:
    host.is_root_here = False
    found = [*Diagnosis(host).run("data")][-1]
    assert (found.check, found.level, found.mend) == ("root", "warning", "sudo legacyhost doctor")


@pytest.mark.parametrize("is_wrong", [False, True])
def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_wrong: bool) -> None:
    """What people read, what programs read, and the exit status."""
    findings = [ok("one", "is well"), *([error("two", "is\nnot", "it matters", "mend it")] if is_wrong else [])]
    monkeypatch.setattr(Diagnosis, "run", lambda *_: iter(findings))
    assert main(["doctor"]) == is_wrong
    text = "ok       one: is well\n"
    if is_wrong:
        text += "error    two: is?not\n         why it matters: it matters\n         what mends it:  mend it\n"
    assert capsys.readouterr().out == text + ("1 problem\n" if is_wrong else "nothing is wrong\n")
    assert main(["doctor", "--json", "data"]) == is_wrong
    shown = json.loads(capsys.readouterr().out)
    assert shown == [
        {key: getattr(finding, key) for key in ("check", "level", "what", "why", "mend")} for finding in findings
    ]


@pytest.mark.parametrize("words", [["../x"], ["--plugin", "../x"], ["--plugin"], ["a", "b"]])
def test_wrong_usage(words: list[str]) -> None:
    try:
        status = main(["doctor", *words])
    except SystemExit as ended:
        status = int(str(ended.code))
    assert status == 2
