"""After volumes with every kind of secret were at work, and others failed: where these are to be found, and where not.

Every secret has a part of letters and digits that no way of quoting changes (JSON, URL, shell, C), and is also looked
for in base64, in hexadecimal and backwards; a private key by what is secret in it, however it is written down.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from .failing import ALL
from .inside import Done
from .installed import Installed
from .machine import Machine

CREDENTIALS, FILES, KEYS = "/etc/legacyhost/credentials", "/run/legacyhost/sshfs/volumes", "/root/keys"
DOCKERS_RECORD = "/var/lib/docker/volumes/metadata.db"
#: All but programs, devices and the kernel's own; processes are looked at by themselves.
PLACES = ("boot", "dev/shm", "etc", "home", "media", "mnt", "opt", "root", "run", "srv", "tmp", "var")
#: Bytes of a key that are enough to know it by.
ENOUGH = 8


def password(core: str) -> str:
    return f"\"q'\\ %41,é☃$({core})"


def forms(secret: bytes) -> list[bytes]:
    """How it can be written down."""
    found = [secret, secret[::-1], secret.hex().encode(), secret.hex().upper().encode()]
    for offset in range(3):  # of what stands before it, in base64
        bits = 8 * (offset + len(secret))
        text = base64.b64encode(bytes(offset) + secret)[-(-8 * offset // 6) : bits // 6]
        # Lines are broken: one of the halves is whole.
        parts = [text[:ENOUGH], text[-ENOUGH:]] if len(secret) > 30 else [text]
        found += [*parts, *(part.replace(b"+", b"-").replace(b"/", b"_") for part in parts)]
    return found


class Hunt:
    """The machine, the secrets, everything that was printed."""

    def __init__(self, installed: Installed) -> None:
        self.installed, self.machine = installed, installed.machine
        self.needles: dict[str, list[bytes]] = {}
        self.printed: list[str] = []
        self.server = self.machine.ssh_server(
            2250, user="paul", password="none of these", config=f"{ALL}\nPasswordAuthentication yes"
        )
        self.run("legacyhost", "trust", "127.0.0.1:2250", "--fingerprint", self.server.fingerprint)
        self.machine.run(["mkdir", "-m", "700", KEYS])

    def secret(self, name: str) -> str:
        """A password of that name."""
        core = f"{name}7Kx9QzW3mTv"
        self.needles[name] = forms(core.encode())
        return password(core)

    def account(self, name: str, secret: str = "") -> None:
        """An account with that password, and the keys of KEYS/NAME, if there are any."""
        self.machine.run(
            f"useradd --create-home {name} && usermod --password '*' {name} && mkdir -m 700 /home/{name}/.ssh &&"
            f" {{ cat {KEYS}/{name}.pub >/home/{name}/.ssh/authorized_keys; chown -R {name}: /home/{name}; }}"
        )
        if secret:
            self.machine.run(["chpasswd"], input=f"{name}:{secret}\n")

    def key(self, name: str, passphrase: str = "") -> str:
        """The file of a new key."""
        path = f"{KEYS}/{name}"
        self.machine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path])
        self.know(f"key {name}", self.machine.read(path), passphrase)
        return path

    def know(self, name: str, text: str, passphrase: str = "") -> None:
        """Look for this private key, too."""
        loaded = serialization.load_ssh_private_key(text.encode(), passphrase.encode() or None)
        raw = loaded.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        self.needles[name] = forms(raw)

    def run(self, *words: str, check: bool = True, given: str | None = None) -> Done:
        """Run a command, and keep what it prints."""
        ran = self.machine.run(list(words), check=check, input=given)
        self.printed += [ran.stdout, ran.stderr]
        return ran

    def create(self, name: str, user: str, *, check: bool = True, **options: str) -> Done:
        given = {"sshcmd": f"{user}@127.0.0.1:data", "port": "2250", **options}
        words = [word for key, value in given.items() for word in ("-o", f"{key}={value}")]
        return self.run("docker", "volume", "create", "-d", "sshfs", *words, name, check=check)

    def start(self, name: str, *, check: bool = True) -> Done:
        """A container that has the volume, until it is removed."""
        words = ["-d", "--network", "none", "--name", name, "-v", f"{name}:/data", "--stop-timeout", "1"]
        return self.run("docker", "run", *words, "busybox", "sh", "-c", "echo x >/data/x; sleep 1000", check=check)

    def in_text(self, text: str | bytes) -> set[str]:
        """The names of the secrets in it."""
        data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
        return {name for name, needles in self.needles.items() if any(needle in data for needle in needles)}

    def in_files(self) -> dict[str, set[str]]:
        """The files that have any, by path, and which."""
        top = self.machine.path("/")
        # grep takes lines; what is left of a needle with a line break in it is enough.
        lines = {line for needles in self.needles.values() for needle in needles for line in needle.split(b"\n")}
        patterns = b"\n".join(line for line in lines if len(line) >= ENOUGH)
        words = ["grep", "-rlasFZ", "--devices=skip", "-f", "-", *(f"{top}/{place}" for place in PLACES)]
        ran = subprocess.run(words, input=patterns, capture_output=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
        assert not ran.stderr, ran.stderr
        found = [Path(path) for path in ran.stdout.decode().split("\0") if path]
        return {f"/{path.relative_to(top)}": self.in_text(path.read_bytes()) for path in found}

    def in_processes(self) -> dict[str, set[str]]:
        """The command lines and environments that have any."""
        shown = {}
        for path in self.machine.path("/proc").glob("[0-9]*/*"):
            if path.name in ("cmdline", "environ"):
                try:
                    shown[str(path)] = path.read_bytes()
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it has ended
        assert any(b"sshfs" in data for data in shown.values())
        return {path: found for path, data in shown.items() if (found := self.in_text(data))}

    def journal(self) -> str:
        shown = self.machine.run("journalctl --sync; journalctl --output=export --all").stdout
        assert "VOLUME=by-password" in shown
        return shown


@pytest.fixture(scope="module")
def hunt(image: Path, deb: Path) -> Iterator[Hunt]:
    """All kinds of volumes at work, and some that could not be created or mounted."""
    with Machine(image) as machine:
        failed = machine.boot()
        assert not failed, f"units failed at boot: {', '.join(failed)}"
        machine.import_image("busybox", engines=["docker"])
        made = Hunt(Installed(machine, deb))
        _at_work(made)
        _failing(made)
        _asked(made)
        yield made


#: Volume to the files that ssh needs while it is mounted, and what is in them.
NEEDED = {
    "by-password": {"secret": {"paula"}},
    "by-passphrase": {"secret": {"phrase"}},
    "by-key": {},
    "by-kept-password": {"secret": {"kept"}},
    "by-kept-key": {"identity": {"key opened"}},
    "by-new-key": {"identity": {"key new"}},
    "by-jump": {"secret": {"kept"}, "jump_secret": {"kept"}},
}


def _at_work(hunt: Hunt) -> None:
    hunt.account("paula", secret := hunt.secret("paula"))
    hunt.create("by-password", "paula", password=secret)
    file = hunt.key("phil", phrase := hunt.secret("phrase"))
    hunt.account("phil")
    hunt.create("by-passphrase", "phil", IdentityFile=file, password=phrase)
    file = hunt.key("kurt")
    hunt.account("kurt")
    hunt.create("by-key", "kurt", IdentityFile=file)
    hunt.account("kate", kept := hunt.secret("kept"))
    hunt.run("legacyhost", "credential", "add", "kate", given=f"{kept}\n")
    hunt.create("by-kept-password", "kate", credential="kate")
    hunt.create("by-jump", "kate", credential="kate", jump="kate@127.0.0.1:2250")
    file = hunt.key("opened", phrase := hunt.secret("opener"))
    hunt.account("opened")
    hunt.machine.write("/root/phrase", f"{phrase}\n", 0o600)
    hunt.run("legacyhost", "credential", "add", "opened", "--key", file, "--passphrase-file", "/root/phrase")
    hunt.create("by-kept-key", "opened", credential="opened")
    line = hunt.run("legacyhost", "credential", "add", "new", "--new-key").stdout
    hunt.machine.write(f"{KEYS}/new.pub", line)
    hunt.account("new")
    hunt.create("by-new-key", "new", credential="new")
    for name in NEEDED:
        hunt.start(name)
    hunt.know("key new", hunt.machine.read(f"{FILES}/by-new-key/identity"))


def _failing(hunt: Hunt) -> None:
    wrong, old = hunt.secret("wrong"), hunt.secret("old")
    assert hunt.create("never", "paula", check=False, password=wrong).returncode
    assert hunt.create("never", "phil", check=False, password=wrong, IdentityFile=f"{KEYS}/phil").returncode
    assert hunt.create("never", "paula", check=False, password=wrong, pasword=wrong).returncode
    hunt.account("otto", old)
    hunt.create("out-of-date", "otto", password=old)
    hunt.machine.run("echo otto:another | chpasswd")
    assert hunt.start("out-of-date", check=False).returncode
    request = {"Name": "never", "Opts": {"sshcmd": "paula@127.0.0.1:x", "port": "2250", "password": wrong}}
    # From standard input: a command line is for everybody to see.
    call = ["legacyhost", "call", "VolumeDriver.Create"]
    assert hunt.machine.run([*call, json.dumps(request)], check=False).returncode
    hunt.printed.append(hunt.machine.run([*call, json.dumps(request)], check=False).stderr)


def _asked(hunt: Hunt) -> None:
    """Everybody is asked for everything; the plugin starts anew in between."""
    for _ in range(2):
        hunt.run("legacyhost", "ls")
        hunt.run("legacyhost", "ls", "--json")
        hunt.run("legacyhost", "call", "VolumeDriver.List")
        hunt.run("legacyhost", "credential", "ls", "--json")
        hunt.run("legacyhost", "doctor", "--json", check=False)
        hunt.run("docker", "volume", "ls")
        hunt.run("systemctl", "status", "--full", "legacyhost@sshfs.service", "legacyhost:*")
        hunt.run("systemctl", "show", "legacyhost@sshfs.service", "legacyhost:*")
        for name in (*NEEDED, "out-of-date"):
            hunt.run("legacyhost", "inspect", name)
            hunt.run("legacyhost", "doctor", name, check=False)
            hunt.run("legacyhost", "call", "VolumeDriver.Get", json.dumps({"Name": name}))
        hunt.run("systemctl", "restart", "legacyhost@sshfs.service")


def _originals() -> dict[str, set[str]]:
    """What the administrator wrote there."""
    return {f"{KEYS}/kurt": {"key kurt"}, "/root/phrase": {"opener"}}


def test_what_is_looked_for_is_found(hunt: Hunt) -> None:
    """The search itself: each form of each secret, wherever it stands, in text and in a file."""
    for name, needles in hunt.needles.items():
        for needle in needles:
            assert name in hunt.in_text(b"x" + needle + b"x")
    key = next(iter(hunt.needles))
    hunt.machine.write("/var/tmp/core.1", b"\0\1" + hunt.needles[key][-1] + b"\0")
    try:
        assert hunt.in_files()["/var/tmp/core.1"] == {key}
    finally:
        hunt.machine.path("/var/tmp/core.1").unlink()


def test_files(hunt: Hunt) -> None:
    """While they are mounted: the few files ssh needs, and Docker's own record of password=."""
    needed = {f"{FILES}/{name}/{file}": found for name, files in NEEDED.items() for file, found in files.items()}
    docker = {DOCKERS_RECORD: {"paula", "phrase", "old"}}
    assert hunt.in_files() == {**_originals(), **docker, **needed}
    modes = hunt.machine.run(["stat", "-c", "%a %U %n", *needed]).stdout.splitlines()
    assert modes == [f"600 root {path}" for path in needed]
    above = [FILES, *(f"{FILES}/{name}" for name in NEEDED), CREDENTIALS, f"{CREDENTIALS}/@sshfs"]
    assert hunt.machine.run(["stat", "-c", "%a %U %n", *above]).stdout.splitlines() == [
        f"700 root {path}" for path in above
    ]


def test_credentials(hunt: Hunt) -> None:
    """Root only, and encrypted where the machine can; of failed Creates nothing is kept."""
    kept = hunt.machine.run(f"cd {CREDENTIALS} && find . -type f -printf '%m %u %P\\n' | sort").stdout.splitlines()
    volumes = [f"600 root @sshfs/{name}" for name in ("by-passphrase", "by-password", "out-of-date")]
    assert kept == [*volumes, *(f"600 root {name}" for name in ("kate", "new", "opened"))]


def test_processes(hunt: Hunt) -> None:
    """Nothing in any command line or environment, with all volumes mounted."""
    assert hunt.in_processes() == {}


def test_the_journal(hunt: Hunt) -> None:
    """Nothing in any entry of anybody's; what is wrong with password= is said once for each volume."""
    journal = hunt.journal()
    assert hunt.in_text(journal) == set()
    for name in ("by-password", "by-passphrase", "out-of-date"):
        assert journal.count(f"MESSAGE=volume {name}: what was given as password= stands in Docker's own record") == 1


def test_what_was_printed(hunt: Hunt) -> None:
    """Nothing in what any command said, wrong password or not."""
    text = "\n".join(hunt.printed)
    assert "refused the login of paula" in text
    assert "password= is not its passphrase" in text
    assert "did you mean password" in text
    assert hunt.in_text(text) == set()


@pytest.mark.parametrize("name", list(NEEDED))
def test_docker_volume_inspect(hunt: Hunt, name: str) -> None:
    """Docker shows what it was given; beside it a warning that says how to do better."""
    shown = hunt.installed.inspect(name)
    options: Mapping[str, object] = shown.pop("Options")
    assert hunt.in_text(json.dumps(shown)) == set()
    if "password" in options:
        assert "legacyhost credential add" in str(shown["Status"]["warning"])
    else:
        assert "warning" not in shown["Status"]
        assert hunt.in_text(json.dumps(options)) == set()


def test_after_removal(hunt: Hunt) -> None:
    """Nothing remains but the credentials: not what was kept for volumes, not what ssh needed."""
    names = [*NEEDED, "out-of-date"]
    hunt.run("docker", "rm", "--force", *names)
    hunt.run("docker", "volume", "rm", *names)
    found = hunt.in_files()
    found.pop(DOCKERS_RECORD, None)  # it is not overwritten at once
    assert found == _originals()
    assert hunt.in_text(hunt.journal()) == set()
    assert hunt.machine.run(f"ls -A {FILES}; cd {CREDENTIALS} && find . -type f | sort").stdout.split() == [
        *("./kate", "./new", "./opened")
    ]
