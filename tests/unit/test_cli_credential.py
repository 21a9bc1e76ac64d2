"""``legacyhost credential``: keys and passwords in, nothing secret out, and no credential deleted that is in use."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from clihost import REPOSITORY, argv
from sshd import keygen, time_limit

from legacyhost.credentials import Credential, Store
from legacyhost.ssh.target import Secret
from legacyhost.state import FILE, State, Volume


class Host:
    """A machine's directories of its own, and the command on it."""

    def __init__(self, top: Path) -> None:
        self.etc, self.state = top / "etc", top / "state"
        self.etc.mkdir()
        self.state.mkdir()
        self.store = Store(self.etc / "credentials")
        self.environment = {
            **os.environ,
            "LEGACYHOST_ETC": str(self.etc),
            "LEGACYHOST_STATE": str(self.state),
            "LEGACYHOST_RUN": str(top / "run"),
        }

    def run(self, *words: str, given: bytes = b"") -> tuple[int, str, str]:
        """Status, standard output and standard error; no terminal."""
        ran = subprocess.run(
            argv("credential", *words),
            input=given,
            capture_output=True,
            cwd=REPOSITORY,
            env=self.environment,
            start_new_session=True,
            timeout=60,
        )
        return ran.returncode, ran.stdout.decode(), ran.stderr.decode()

    def type(self, *words: str, answer: bytes) -> tuple[int, bytes]:
        """On a terminal, with the answer typed when something is asked; status and all that was shown."""
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(REPOSITORY)
            os.execvpe(argv()[0], argv("credential", *words), self.environment)
        shown = b""
        with time_limit():
            while True:
                try:
                    data = os.read(terminal, 1000)
                except OSError:
                    break
                if not data:
                    break
                shown += data
                if shown.endswith(b": ") and answer:
                    time.sleep(0.1)  # until the echo is off
                    os.write(terminal, answer)
                    answer = b""
            _, status = os.waitpid(child, 0)
        os.close(terminal)
        return os.waitstatus_to_exitcode(status), shown


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_new_key(host: Host, tmp_path: Path) -> None:
    """On standard output nothing but the line for authorized_keys, which is that key's."""
    status, out, err = host.run("add", "nas", "--new-key")
    assert (status, len(out.splitlines())) == (0, 1)
    assert "Credential nas is kept: key ED25519 SHA256:" in err
    key = host.store.read("nas").key
    assert key is not None
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text(key.reveal())
    public = subprocess.run(["ssh-keygen", "-y", "-f", str(file)], check=True, capture_output=True, text=True).stdout
    assert out.split()[:2] == public.split()[:2]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("form", [(), ("-m", "PEM"), ("-m", "PKCS8")], ids=["OpenSSH", "PEM", "PKCS8"])
def test_keys_of_every_kind_and_form(host: Host, tmp_path: Path, kind: str, form: tuple[str, ...]) -> None:
    """Kept without its passphrase, in the one form."""
    passphrase = "a pass phrase %h é"
    if kind == "ed25519" and form == ("-m", "PEM"):
        form = ()  # ssh-keygen knows no other for it
    file = keygen(tmp_path / "key", kind, passphrase, *form)
    (tmp_path / "passphrase").write_text(f"{passphrase}\n")
    more = ["--passphrase-file", str(tmp_path / "passphrase")]
    status, out, err = host.run("add", "nas", "--key", str(file), *more)
    assert (status, out) == (0, ""), err
    kept = host.store.read("nas").key
    assert kept is not None
    assert kept.reveal().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    listed = json.loads(host.run("ls", "--json")[1])
    assert listed[0]["authorized_keys"].split()[:2] == Path(f"{file}.pub").read_text().split()[:2]


def test_a_key_from_standard_input_and_its_passphrase_from_the_terminal(host: Host, tmp_path: Path) -> None:
    file = keygen(tmp_path / "key", "ed25519", "right")
    assert host.run("add", "plain", "--key", "-", given=keygen(tmp_path / "plain", "ed25519").read_bytes())[0] == 0
    status, shown = host.type("add", "nas", "--key", str(file), answer=b"right\n")
    assert (status, b"right" in shown) == (0, False), shown
    status, shown = host.type("add", "other", "--key", str(file), answer=b"wrong\n")
    assert status == 1
    assert b"the passphrase given does not open" in shown
    status, _, err = host.run("add", "other", "--key", str(file))
    assert (status, "no terminal on which the passphrase could be asked for" in err) == (1, True)
    assert host.store.names() == ["nas", "plain"]


def test_a_certificate_comes_with_its_key(host: Host, tmp_path: Path) -> None:
    """The one beside the key, or the one named; never one for another key."""
    ca, mine, other = (keygen(tmp_path / name, "ed25519") for name in ("ca", "mine", "other"))
    subprocess.run(["ssh-keygen", "-q", "-s", str(ca), "-I", "x", "-n", "anna", f"{mine}.pub"], check=True)
    assert host.run("add", "beside", "--key", str(mine))[0] == 0
    assert host.store.read("beside").certificate == Path(f"{mine}-cert.pub").read_text().strip()
    moved = Path(f"{mine}-cert.pub").rename(tmp_path / "elsewhere")
    assert host.run("add", "named", "--key", str(mine), "--certificate", str(moved))[0] == 0
    status, _, err = host.run("add", "foreign", "--key", str(other), "--certificate", str(moved))
    assert (status, err) == (1, f"legacyhost: {moved} is not a certificate for that key\n")
    assert "with certificate" in host.run("ls")[1]


def test_a_password(host: Host) -> None:
    """From standard input, without the end of its line, or asked for; beside a key, if both are needed."""
    assert host.run("add", "piped", given=' pa"ss\\ %h é☃ \n'.encode())[0] == 0
    assert host.store.read("piped").password == Secret(' pa"ss\\ %h é☃ ')
    status, shown = host.type("add", "typed", answer=b"a b c\n")
    assert (status, b"a b c" in shown) == (0, False), shown
    assert host.store.read("typed").password == Secret("a b c")
    assert host.run("add", "both", "--new-key", "--password", given=b"x")[0] == 0
    both = host.store.read("both")
    assert (both.password, both.key is not None) == (Secret("x"), True)
    assert "key ED25519" in host.run("ls")[1]
    assert "and password" in host.run("ls")[1]


#: Arguments, standard input, status and how the sentence begins.
NONSENSE: list[tuple[list[str], bytes, int, str]] = [
    (["x"], b"", 2, "the password is empty; nothing is kept"),
    (["x"], b"\n", 2, "the password is empty; nothing is kept"),
    (["x"], b"a\nb\n", 2, "the password has more than one line, or a NUL in it"),
    (["x"], b"a\0b", 2, "the password has more than one line, or a NUL in it"),
    (["x"], b"\xff\xfe", 2, "the password is not UTF-8 text"),
    (["x"], b"x" * 1001, 2, "the password has more than 1000 characters"),
    (["x"], b"x" * 1_000_000, 2, "the password has more than 1000 characters"),
    (["x"], b"-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", 2, "this is a private key; give it with --key -"),
    (["x", "--key", "/nonexistent"], b"", 1, "/nonexistent cannot be read: No such file or directory"),
    (["x", "--key", "/"], b"", 1, "/ cannot be read: Is a directory"),
    (["x", "--key", "-"], b"", 1, "the key is not a private key that can be used (Ed25519, ECDSA or RSA)"),
    (
        ["x", "--key", "-"],
        b"\xff" * 999_999,
        1,
        "the key is not a private key that can be used (Ed25519, ECDSA or RSA)",
    ),
    (["x", "--key", "-"], b"ssh-ed25519 AAAA", 1, "the key is a public key; the private key is needed"),
    (["x", "--key", "-", "--password"], b"y", 2, "standard input cannot be both the key and the password"),
    (["x", "--passphrase-file", "/dev/null"], b"y", 2, "--certificate and --passphrase-file belong to --key"),
    (["../x"], b"y", 2, "'../x' cannot be the name of a credential"),
    (["é"], b"y", 2, "'é' cannot be the name of a credential"),
    (["@sshfs/x"], b"y", 2, "'@sshfs/x' cannot be the name of a credential"),
]


@pytest.mark.parametrize(("words", "given", "status", "sentence"), NONSENSE, ids=range(len(NONSENSE)))
def test_what_is_no_credential(host: Host, words: list[str], given: bytes, status: int, sentence: str) -> None:
    """One sentence, and nothing is kept."""
    found, out, err = host.run("add", *words, given=given)
    assert (found, out) == (status, "")
    assert err.startswith(f"legacyhost: {sentence}")
    assert err.count("\n") == 1
    assert not (host.etc / "credentials").exists() or [*(host.etc / "credentials").iterdir()] == []


def test_one_that_is_there_stays_unless_it_is_to_be_replaced(host: Host) -> None:
    assert host.run("add", "nas", given=b"one")[0] == 0
    status, _, err = host.run("add", "nas", given=b"two")
    assert (status, err) == (1, "legacyhost: there is a credential nas already; to replace it: --replace\n")
    assert host.store.read("nas").password == Secret("one")
    assert host.run("add", "nas", "--replace", given=b"two")[0] == 0
    assert host.store.read("nas").password == Secret("two")


def test_what_is_used_is_not_deleted(host: Host) -> None:
    """By volumes of any plugin, whether that runs or not, and by its configuration; and not where that is not known."""
    for name in ("a", "b", "c", "free"):
        host.run("add", name, given=b"x")
    for plugin in ("sshfs", "foo"):
        (host.state / plugin).mkdir()
        State(host.state / plugin).add(Volume(f"of-{plugin}", {"credential": "a"}, datetime.now(UTC)))
    (host.etc / "sshfs.toml").write_text(
        '[volume.defaults]\ncredential = "b"\n[volume.remote."anna@nas"]\ncredential = "c"\n'
    )
    assert (
        host.run("rm", "a")[2] == "legacyhost: credential a is used by volume of-foo of foo, volume of-sshfs of sshfs\n"
    )
    for name in ("b", "c"):
        assert host.run("rm", name)[2] == f"legacyhost: credential {name} is used by {host.etc}/sshfs.toml\n"
    assert host.run("rm", "free")[0] == 0
    assert (
        host.run("rm", "free")[2] == "legacyhost: there is no credential free; to see them: legacyhost credential ls\n"
    )
    users = {entry["name"]: entry["used_by"] for entry in json.loads(host.run("ls", "--json")[1])}
    assert users["b"] == [f"{host.etc}/sshfs.toml"]
    assert host.run("ls")[0] == 0
    (host.state / "foo" / FILE).write_bytes(b"not a record")
    status, out, err = host.run("ls")
    assert (status, "volume of-sshfs of sshfs" in out, "volumes.db is damaged" in err) == (0, True, True), err
    status, _, err = host.run("rm", "a")
    assert status == 1
    assert err.startswith("legacyhost: who uses credential a is not known: ")
    assert host.store.names() == ["a", "b", "c"]


def test_one_that_cannot_be_read_is_listed_with_the_reason(host: Host) -> None:
    host.run("add", "bad", given=b"x")
    host.run("add", "good", given=b"x")
    (host.etc / "credentials" / "bad").write_text("{")
    status, out, _ = host.run("ls")
    assert status == 0
    assert "is damaged; to give it again: legacyhost credential add --replace bad" in out
    assert "good" in out


def test_the_password_of_a_volume_is_replaced_and_not_deleted(host: Host) -> None:
    """By the name under which it is kept; for a volume that is no more it can be deleted."""
    (host.state / "sshfs").mkdir()
    state = State(host.state / "sshfs")
    state.add(Volume("data", {}, datetime.now(UTC), {"password": "kept"}))
    host.store.write("@sshfs/data", Credential(Secret("old")))
    status, _, err = host.run("rm", "@sshfs/data")
    assert (status, err) == (1, "legacyhost: credential @sshfs/data is used by volume data of sshfs\n")
    assert host.run("add", "@sshfs/data", given=b"new")[0] == 2
    assert host.run("add", "--replace", "@sshfs/data", "--new-key")[0] == 2
    assert host.run("add", "--replace", "@sshfs/other", given=b"new")[0] == 2
    assert host.run("add", "--replace", "@sshfs/data", given=b"new")[0] == 0
    assert host.store.read("@sshfs/data").password == Secret("new")
    assert "@sshfs" not in host.run("ls")[1]
    state.remove("data")
    assert "@sshfs/data" in host.run("ls")[1]
    assert host.run("rm", "@sshfs/data")[0] == 0
    assert host.store.of_volumes("sshfs") == []
