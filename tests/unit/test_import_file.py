"""The other plugin's state file: read with one sentence for whatever is wrong, its volumes in our terms."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from sshd import keygen

from legacyhost.errors import Failed
from legacyhost.otherplugin import LARGEST, read, translate
from legacyhost.ssh.target import Secret

#: As vieux/sshfs writes one (json.Marshal of its struct), after its own integration test.
VIEUX = {
    "Password": "root",
    "Sshcmd": "root@localhost:/",
    "Port": "2222",
    "Options": ["Ciphers=aes128-ctr", "Compression=no", "allow_other"],
    "Mountpoint": "/mnt/volumes/8c6f0b7e9e6f0c1d5a2b3c4d5e6f7a8b",
}
#: As ucphhpc/sshfs does.
FORK = {
    "Name": "fork",
    "MountPoint": "/mnt/volumes/fork",
    "CreatedAt": "2026-02-11T10:00:00.123456789Z",
    "RefCount": 0,
    "Options": None,
    "SSHCmd": "mountuser@nas:/home/mountuser",
    "IdentityFile": "",
    "OneTime": False,
    "Password": "p,a=s\\s w\u00f6rd",
    "Port": "",
}


def vieux(*options: str, **fields: object) -> dict[str, object]:
    return {**VIEUX, "Options": list(options), **fields}


# The file


def link(path: Path) -> None:
    real = path.with_name("real.json")
    real.write_text("{}")
    path.symlink_to(real)


def no_directory(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "there is no "),
    "below a file": (no_directory, "there is no "),
    "empty": (lambda path: path.touch(), " is empty"),
    "only space": (lambda path: path.write_text(" \n"), " is empty"),
    "large": (lambda path: path.write_bytes(b" " * LARGEST + b"{}"), " has more than 16384 KiB"),
    "text": (lambda path: path.write_text("volumes: {}"), " is not JSON"),
    "torn": (lambda path: path.write_text(json.dumps({"data": VIEUX})[:-5]), " is not JSON"),
    "two of them": (lambda path: path.write_text("{}{}"), " is not JSON"),
    "no UTF-8": (lambda path: path.write_bytes(b'{"\xff": {}}'), " is not JSON"),
    "UTF-16": (lambda path: path.write_bytes("{}".encode("utf-16")), " is not JSON"),
    "deep": (lambda path: path.write_text("[" * 200_000), " is not JSON"),
    "deep objects": (lambda path: path.write_text('{"a":' * 200_000), " is not JSON"),
    "a number without end": (lambda path: path.write_text("9" * 5000), " is not JSON"),
    "a list": (lambda path: path.write_text("[]"), "that is a JSON object"),
    "a string": (lambda path: path.write_text('"x"'), "that is a JSON object"),
    "a name twice": (lambda path: path.write_text('{"data": {}, "data": {}}'), "has 'data' twice"),
    "a field twice": (lambda path: path.write_text('{"data": {"Port": "1", "Port": "2"}}'), "has 'Port' twice"),
    "an odd name twice": (lambda path: path.write_text('{"\\u001b[2J": 1, "\\u001b[2J": 2}'), "has '?[2J' twice"),
    "a link": (link, " is a symbolic link"),
    "a link to itself": (lambda path: path.symlink_to(path), " is a symbolic link"),
    "a directory": (lambda path: path.mkdir(), " is not a file"),
    "a pipe nobody writes to": (os.mkfifo, " is not a file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_none_is_told_in_a_sentence(tmp_path: Path, case: str) -> None:
    """Which file, and what is wrong with it; nothing of what is in it but a name."""
    path = tmp_path / "inner" / "sshfs-state.json"
    path.parent.mkdir()
    make, expected = WRONG[case]
    make(path)
    with pytest.raises(Failed) as raised:
        read(path)
    assert expected in raised.value.message
    assert str(path) in raised.value.message
    assert raised.value.message.isprintable()
    assert '"root"' not in raised.value.message


def test_names_no_terminal_would_survive(tmp_path: Path) -> None:
    with pytest.raises(Failed) as raised:
        read(tmp_path / "a\x1b[2J\udcff")
    assert raised.value.message.isprintable()
    with pytest.raises(Failed):
        read(tmp_path / "a\0b")
    with pytest.raises(Failed):
        read(tmp_path / ("a" * 5000))


@pytest.mark.parametrize(("text", "names"), [("{}", []), ("null", []), ('{"b": 1, "a": null}', ["a", "b"])])
@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o640, True), (0o604, True), (0o644, True)])
def test_what_is_in_a_file(tmp_path: Path, text: str, names: list[str], mode: int, is_open: bool) -> None:
    """``null`` is what Go writes where there is no map. vieux/sshfs leaves the file open to everybody."""
    path = tmp_path / "state"
    path.write_text(text)
    path.chmod(mode)
    content, others = read(path)
    assert (sorted(content), others) == (names, is_open)


# Its volumes


def test_a_volume_of_vieux() -> None:
    """Options as they were, the password apart; a directory that is missing over there is not made."""
    found = translate("data", VIEUX, [])
    assert found.refusal == ""
    assert found.options == {
        "sshcmd": "root@localhost:/",
        "port": "2222",
        "Ciphers": "aes128-ctr",
        "Compression": "no",
        "allow_other": "true",
        "create": "false",
    }
    assert found.password == Secret("root")
    assert (found.key, found.notes) == (None, ())


def test_a_volume_of_the_fork() -> None:
    """Other fields, and the same in other letters."""
    found = translate("fork", FORK, [])
    assert found.options == {"sshcmd": "mountuser@nas:/home/mountuser", "create": "false"}
    assert found.password == Secret("p,a=s\\s w\u00f6rd")
    assert (found.notes, found.refusal) == ((), "")


def test_a_secret_is_not_shown() -> None:
    assert "hunter2" not in repr(translate("data", vieux(Password="hunter2"), []))


TAKEN: dict[str, tuple[list[str], dict[str, str], str]] = {
    "none": ([], {}, ""),
    "an empty one": ([""], {}, ""),
    "several in one": (["allow_other,uid=33,,gid=33"], {"allow_other": "true", "uid": "33", "gid": "33"}, ""),
    "an escaped comma": (
        ["Ciphers=aes128-ctr\\,aes256-ctr,ro"],
        {"Ciphers": "aes128-ctr,aes256-ctr", "ro": "true"},
        "",
    ),
    "other letters": (["compression=no", "CIPHERS=aes128-ctr"], {"Compression": "no", "Ciphers": "aes128-ctr"}, ""),
    "twice the same": (["ro", "ro"], {"ro": "true"}, ""),
    "checks off": (["StrictHostKeyChecking=no"], {}, "StrictHostKeyChecking=no is left out: the host's key is always"),
    "checks on": (["stricthostkeychecking=yes"], {"StrictHostKeyChecking": "yes"}, ""),
    "known hosts nowhere": (["UserKnownHostsFile=/dev/null"], {}, "UserKnownHostsFile=/dev/null is left out"),
    "sshfs 2": (["cache=yes", "cache_timeout=9"], {"dir_cache": "yes", "dcache_timeout": "9"}, "is called dir_cache"),
    "no auto cache": (["noauto_cache"], {"auto_cache": "false"}, ""),
    "for a terminal": (["debug", "LogLevel=DEBUG3"], {}, "debug is left out: it means nothing here"),
    "the port once more": (["Port=2222"], {}, ""),
    "what older ones need": (["nonempty", "big_writes"], {"nonempty": "", "big_writes": ""}, ""),
}


@pytest.mark.parametrize("case", TAKEN)
def test_options_are_taken_over(case: str) -> None:
    """As sshfs would have read them; what means something else here is said."""
    given, expected, note = TAKEN[case]
    found = translate("data", vieux(*given), [])
    assert found.refusal == ""
    basic = {"sshcmd": "root@localhost:/", "port": "2222", "create": "false"}
    assert found.options == {**basic, **expected}
    assert note in "; ".join(found.notes)
    assert bool(found.notes) == bool(note)


REFUSED: dict[str, tuple[Mapping[str, object], str]] = {
    "a program": (vieux("ProxyCommand=nc %h %p"), "option ProxyCommand is refused: it can run a program"),
    "a program among others": (vieux("ro,ssh_command=/tmp/x"), "option ssh_command is refused"),
    "a program behind a backslash": (vieux("ro\\,x,LocalCommand=x"), "unknown option ro,x"),
    "a configuration": (vieux("F=/tmp/config"), "option F is refused"),
    "another library": (vieux("PKCS11Provider=/tmp/x.so"), "option PKCS11Provider is refused"),
    "nothing there is": (vieux("frobnicate"), "unknown option frobnicate"),
    "ours: deleting": (vieux("on_remove=purge"), "option on_remove is none that the other plugin had"),
    "ours: credentials": (vieux("Credential=other"), "option Credential is none"),
    "ours: a way round": (vieux("jump=evil"), "option jump is none"),
    "ours: the directory": (vieux("SSHCMD=evil:/"), "option SSHCMD is none"),
    "ours: the password": (vieux("Password=secret"), "option Password is none"),
    "two ports": (vieux("port=22"), "option port is there twice"),
    "two values": (vieux("uid=1", "uid=2"), "option uid is there twice"),
    "a wrong value": (vieux("uid=me"), "option uid has to be a whole number"),
    "a wrong port": (vieux(Port="ssh"), "option port has to be a whole number"),
    "no directory": (vieux(Sshcmd=""), "it has no Sshcmd"),
    "no directory at all": ({"Port": "22"}, "it has no Sshcmd"),
    "no host": (vieux(Sshcmd="/srv"), "option sshcmd has to be [user@]host:[path]"),
    "a host that is an option": (vieux(Sshcmd="-oProxyCommand=x:/"), "option sshcmd has to be"),
    "a host in brackets": (vieux(Sshcmd="[::1]:/"), "cannot have a host in brackets"),
    "lines in the password": (vieux(Password="a\nb"), "the value of option password has a line break"),
    "half a character": (vieux(Sshcmd="h:/\ud800"), "has half a character in it"),
    "a number as port": (vieux(Port=22), "its field Port is not a string"),
    "a list as password": (vieux(Password=["x"]), "its field Password is not a string"),
    "a string of options": (vieux(Options="ro"), "its field Options is not a list of strings"),
    "an object of options": (vieux(Options={"ro": ""}), "its field Options is not a list of strings"),
    "options that are numbers": (vieux(Options=[1]), "its field Options is not a list of strings"),
    "a word for once": ({**FORK, "OneTime": "yes"}, "its field OneTime is neither true nor false"),
    "one field in two spellings": ({**FORK, "Sshcmd": "evil:/"}, "is there twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_volume_that_cannot_be_is_refused(case: str) -> None:
    """In a sentence, without anything secret, and nothing is left of it."""
    fields, expected = REFUSED[case]
    found = translate("data", fields, [])
    assert expected in found.refusal
    assert found.refusal.isprintable()
    assert "secret" not in found.refusal
    assert (found.options, found.password, found.key) == ({}, None, None)


@pytest.mark.parametrize("value", [None, [], "x", 5, True])
def test_something_that_is_no_volume(value: object) -> None:
    assert translate("data", value, []).refusal == "what the file has for it is not an object"


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "/", ".x", "a\nb", "\x1b[2J", "\ud800", "é", "x" * 256, "a\0"]
)
def test_a_name_that_is_none(name: str) -> None:
    """It would be a path here."""
    refusal = translate(name, VIEUX, []).refusal
    assert "cannot be the name of a volume" in refusal
    assert refusal.isprintable()


def test_a_field_nobody_knows_is_said() -> None:
    found = translate("data", vieux(Fstab="x"), [])
    assert found.refusal == ""
    assert found.notes == ("its field fstab is left out: nobody knows what it means",)


# Its keys


def public(key: Secret | None, directory: Path) -> str:
    """The public half, as ssh-keygen sees it."""
    assert key is not None
    file = directory / "taken"
    file.touch(mode=0o600)
    file.write_text(key.reveal())
    ran = subprocess.run(["ssh-keygen", "-y", "-P", "", "-f", str(file)], check=True, capture_output=True, text=True)
    return " ".join(ran.stdout.split()[:2])


def half(file: Path) -> str:
    return " ".join(Path(f"{file}.pub").read_text().split()[:2])


def test_a_key_in_the_file_itself(tmp_path: Path) -> None:
    """``-o id_rsa="$(cat KEY)"``, which loses the last line break; in PEM too."""
    for kind, more in (("ed25519", ()), ("rsa", ("-m", "PEM"))):
        file = keygen(tmp_path / kind, kind, "", *more)
        fields = {**FORK, "Password": "", "IDRsa": file.read_text().rstrip("\n")}
        found = translate("data", fields, [])
        assert found.refusal == ""
        assert public(found.key, tmp_path) == half(file)
        assert "IdentityFile" not in found.options


@pytest.mark.parametrize("named", ["/root/.ssh/id", "~/.ssh/id", "/mnt/volumes/id"])
def test_a_key_in_a_directory_that_is_named(tmp_path: Path, named: str) -> None:
    """As an option of vieux/sshfs, or as a field of the fork: the plugin saw it at another place."""
    other, directory = tmp_path / "other", tmp_path / "keys"
    other.mkdir()
    directory.mkdir()
    file = keygen(directory / "id", "ed25519")
    for fields in (vieux(f"IdentityFile={named}", Password=""), {**FORK, "Password": "", "IdentityFile": named}):
        found = translate("data", fields, [other, directory])
        assert found.refusal == ""
        assert public(found.key, tmp_path) == half(file)
        assert "IdentityFile" not in found.options


def test_a_key_that_is_at_the_same_place_stays_there(tmp_path: Path) -> None:
    """The plugin here reads it as ssh does."""
    file = keygen(tmp_path / "id", "ed25519")
    found = translate("data", vieux(f"IdentityFile={file}", Password=""), [])
    assert found.options["IdentityFile"] == str(file)
    assert (found.key, found.password) == (None, None)


@pytest.mark.parametrize(
    ("named", "place"),
    [
        ("/root/.ssh/no-such-key-here", "sshkey.source"),
        ("/mnt/volumes/data_id_rsa", "/var/lib/docker/plugins/ID/propagated-mount"),
        ("..", "sshkey.source"),
        ("/", "sshkey.source"),
    ],
)
def test_a_key_that_is_not_there(tmp_path: Path, named: str, place: str) -> None:
    """What to do stands in the sentence."""
    found = translate("data", vieux(f"IdentityFile={named}", Password=""), [tmp_path])
    assert f"its key {named} is not on this host" in found.refusal
    assert place in found.refusal
    assert found.refusal.endswith("give that with --keys")


def test_no_key_named_is_the_first_there_is(tmp_path: Path) -> None:
    """ssh in the other plugin's container tried those in its directory; without one, root's here are tried."""
    (note,) = translate("data", vieux(Password=""), []).notes
    assert "root's own keys" in note
    file = keygen(tmp_path / "id_ed25519", "ed25519")
    found = translate("data", vieux(Password=""), [tmp_path])
    assert public(found.key, tmp_path) == half(file)
    assert found.notes == ("it names no key: id_ed25519 is taken",)
    assert translate("data", vieux(Password="x"), [tmp_path]).key is None


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    """A passphrase, a public key, something else, far too much: a sentence each, and not what is in it."""
    keygen(tmp_path / "locked", "ed25519", "phrase")
    (tmp_path / "text").write_text("precious")
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("text")
    for name, expected in (
        ("locked", "needs a passphrase"),
        ("locked.pub", "is a public key"),
        ("text", "is not a private key"),
        ("large", "has more than 64 KiB"),
        ("link", "is a symbolic link"),
    ):
        refusal = translate("data", vieux(f"IdentityFile=/root/.ssh/{name}", Password=""), [tmp_path]).refusal
        assert expected in refusal
        assert str(tmp_path / name) in refusal
        assert "precious" not in refusal
    inline = translate("data", {**FORK, "Password": "", "IDRsa": "precious"}, []).refusal
    assert inline.startswith("its private key is not a private key that can be used")


def test_a_key_that_was_for_once() -> None:
    """The fork would have deleted it with the volume."""
    found = translate("data", {**FORK, "OneTime": True}, [])
    assert found.notes == ("its key was to be deleted with it: here nothing is (legacyhost credential rm)",)
