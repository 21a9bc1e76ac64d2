"""One table of known_hosts files and servers, put to ssh with the driver's configuration and to our own check."""

from __future__ import annotations

import base64
import ctypes
import fcntl
import hmac
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver
from namespace import in_own_namespace
from sshd import KINDS, Sshd, fingerprint, keygen

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.target import Target
from legacyhost.state import Volume

HOST = "nas.example.org"
NAMES = f"127.0.0.1 {HOST} nas other.example.org localhost\n::1 six.example.org\n"
#: Where the files of a test are seen, by other users too.
PLACE = Path("/mnt")
HASHED = "hashed"
MISSING = "missing"
DIRECTORY = "directory"
LOOP = "loop"
UNREADABLE = "unreadable"
#: Of the server, of others, and of authorities.
KEYS = {
    **{kind: kind for kind in KINDS},
    "other": "ed25519",
    "other_rsa": "rsa",
    "other_ecdsa": "ecdsa",
    "ca": "ed25519",
    "ca_rsa": "rsa",
    "ca_ecdsa": "ecdsa",
    "other_ca": "ed25519",
}
FOREVER = "always:forever"


def version_of_ssh() -> list[int]:
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr
    numbers = re.match(r"OpenSSH_(\d+)\.(\d+)", said)
    assert numbers is not None, said
    return [int(number) for number in numbers.groups()]


#: In certificates; a certificate without any was for every host before.
NAMES_ARE_PATTERNS = version_of_ssh() >= [10, 3]


@dataclass(frozen=True)
class Certificate:
    """What an authority says of one of the server's keys; ``more`` are options of ssh-keygen."""

    kind: str = "ed25519"
    ca: str = "ca"
    names: str = HOST
    valid: str = FOREVER
    is_for_hosts: bool = True
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """What the files say, what the server shows, whether it is accepted, and what is said where it is not.

    In ``known`` and ``system`` (the second file) {ed25519} is the server's key of that kind, {ca} an authority's, and
    so on; ``form`` makes the first file something else. ``pin``: the key of host_key=.
    """

    name: str
    known: str
    said: str = ""
    system: str = ""
    host: str = HOST
    port: int = 22
    kinds: Sequence[str] = KINDS
    certificates: Sequence[Certificate] = ()
    form: str = ""
    pin: str = ""


def certified(name: str, known: str, said: str = "", **certificate: object) -> Case:
    """A case with one certificate, of the server's only key."""
    return Case(name, known, said, kinds=["ed25519"], certificates=[Certificate(**certificate)])  # type: ignore[arg-type]


CA = f"@cert-authority {HOST} {{ca}}\n"
UNKNOWN = "is not known"
CHANGED = "has changed: known is"
REVOKED = "is revoked"
NOISE = "".join(f"host{number}.example.org {{other}} somebody@somewhere\n" for number in range(10_000))
CASES = [
    Case("plain", f"{HOST} {{ed25519}}\n"),
    Case("nothing", "", UNKNOWN),
    Case("another host", "other.example.org {ed25519}\n", UNKNOWN),
    Case("hashed", f"{HOST} {{ed25519}}\n", form=HASHED),
    Case("hashed with a port", f"[{HOST}]:2222 {{ed25519}}\n", form=HASHED, port=2222),
    Case("hashed for another", "other.example.org {ed25519}\n", UNKNOWN, form=HASHED),
    Case("a hash among names", f"|1|AAAA|AAAA,{HOST} {{ed25519}}\n", UNKNOWN),
    Case("a hash of a salt too short", "|1|AAAA|AAAA {ed25519}\n", UNKNOWN),
    Case("second file", "", system=f"{HOST} {{ed25519}}\n"),
    Case("both files, other keys", f"{HOST} {{other}}\n", system=f"{HOST} {{ed25519}}\n"),
    # Ports
    Case("port", f"[{HOST}]:2222 {{ed25519}}\n", port=2222),
    Case("another port", f"[{HOST}]:2223 {{ed25519}}\n", UNKNOWN, port=2222),
    Case("port 22 written out", f"[{HOST}]:22 {{ed25519}}\n", UNKNOWN),
    Case("known without its port", f"{HOST} {{ed25519}}\n", port=2222),
    Case("known without its port, hashed", f"{HOST} {{ed25519}}\n", port=2222, form=HASHED),
    Case("known without its port, second file", "", system=f"{HOST} {{ed25519}}\n", port=2222),
    Case("changed for the port, known without", f"{HOST} {{ed25519}}\n[{HOST}]:2222 {{other}}\n", CHANGED, port=2222),
    Case("another kind for the port", f"{HOST} {{ed25519}}\n[{HOST}]:2222 {{other_rsa}}\n", CHANGED, port=2222),
    Case("changed without its port", f"{HOST} {{other}}\n", UNKNOWN, port=2222),
    Case("another kind is known without its port", f"{HOST} {{rsa}}\n", UNKNOWN, port=2222),
    Case("its only kind is known without its port", f"{HOST} {{rsa}}\n", port=2222, kinds=["rsa"]),
    Case("known with the port, changed without", f"{HOST} {{other}}\n[{HOST}]:2222 {{ed25519}}\n", port=2222),
    Case("revoked without its port", f"@revoked {HOST} {{ed25519}}\n[{HOST}]:2222 {{ed25519}}\n", port=2222),
    Case("known and revoked without its port", f"{HOST} {{rsa}}\n@revoked {HOST} {{rsa}}\n", REVOKED, port=2222,
         kinds=["rsa"]),
    # Names and patterns
    Case("capitals in the file", f"{HOST.upper()} {{ed25519}}\n"),
    Case("capitals asked for", f"{HOST} {{ed25519}}\n", host=HOST.upper()),
    Case("capitals and a hash", f"{HOST} {{ed25519}}\n", host=HOST.title(), form=HASHED),
    Case("several names", f"nas,{HOST},192.0.2.1 {{ed25519}}\n"),
    Case("an empty name", f",{HOST} {{ed25519}}\n"),
    Case("a space after the comma", f"nas, {HOST} {{ed25519}}\n", UNKNOWN),
    Case("stars", "*.example.* {ed25519}\n"),
    Case("a star for everything", "* {ed25519}\n", port=2222),
    Case("a star across the port", "[nas.*:22* {ed25519}\n", port=2222),
    Case("question marks", "na?.exampl?.org {ed25519}\n"),
    Case("one question mark too many", f"{HOST}? {{ed25519}}\n", UNKNOWN),
    Case("a set of characters is none", "na[rst].example.org {ed25519}\n", UNKNOWN),
    Case("a dot is a dot", "nas?example?org {ed25519}\nnasXexample.org {other}\n"),
    Case("negated", f"*.example.org,!{HOST} {{ed25519}}\n", UNKNOWN),
    Case("negated first", f"!{HOST},* {{ed25519}}\n", UNKNOWN),
    Case("negated with a star", f"{HOST},!*.org {{ed25519}}\n", UNKNOWN),
    Case("only negated", "!other.example.org {ed25519}\n", UNKNOWN),
    Case("negated for another", "*.example.org,!other.example.org {ed25519}\n"),
    Case("negated without the port", f"*,!{HOST} {{ed25519}}\n", port=2222),
    Case("a name too long for ssh", f"{'x' * 1023},{HOST} {{ed25519}}\n", UNKNOWN),
    Case("a long name", f"{'x' * 1022},{HOST} {{ed25519}}\n"),
    Case("many stars", f"{'*a' * 12}*,{HOST} {{ed25519}}\n"),
    Case("IPv4", "127.0.0.1 {ed25519}\n", host="127.0.0.1"),
    Case("IPv4 of a name", "127.0.0.1 {ed25519}\n", UNKNOWN),
    Case("IPv4 with a port", "[127.0.0.1]:2222 {ed25519}\n", host="127.0.0.1", port=2222),
    Case("IPv6", "::1 {ed25519}\n", host="::1"),
    Case("IPv6 in brackets", "[::1] {ed25519}\n", UNKNOWN, host="::1"),
    Case("IPv6 with a port", "[::1]:2222 {ed25519}\n", host="::1", port=2222),
    Case("IPv6, known without its port", "::1 {ed25519}\n", host="::1", port=2222),
    Case("IPv6, hashed", "[::1]:2222 {ed25519}\n", host="::1", port=2222, form=HASHED),
    Case("IPv6 by a name", "six.example.org {ed25519}\n", host="six.example.org"),
    # Lines
    Case("comments", f"# {HOST} {{other}}\n  # x\n\n{HOST} {{ed25519}} some body's # key\n"),
    Case("a comment only", f"#{HOST} {{ed25519}}\n", UNKNOWN),
    Case("blanks in front and between", f" \t{HOST} \t {{ed25519}}  \n"),
    Case("tabs", f"{HOST}\t{{ed25519}}\n"),
    Case("CRLF", f"# x\r\n{HOST} {{ed25519}}\r\n"),
    Case("CRLF behind a comment", f"{HOST} {{ed25519}} x\r\n"),
    Case("no newline at the end", f"{HOST} {{ed25519}}"),
    Case("a line without a key", f"{HOST}\n{HOST} ssh-ed25519\n{HOST} {{ed25519}}\n"),
    Case("base64 that is none", f"{HOST} ssh-ed25519 !!!!\n{HOST} {{ed25519}}\n"),
    Case("a key cut off counts for nothing", f"[{HOST}]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==\n"
         f"{HOST} {{ed25519}}\n", port=2222),
    Case("a kind there is not counts for nothing", f"[{HOST}]:2222 ssh-x AAAABXNzaC14AAAAAXg=\n{HOST} {{ed25519}}\n",
         port=2222),
    Case("a kind that is another", f"{HOST} ssh-rsa {{ed25519_blob}}\n", UNKNOWN),
    Case("a NUL ends a line", f"{HOST}\0 {{ed25519}}\n{HOST} {{ed25519}}\0x\n"),
    Case("what is no text", f"\udcff\udcfe \x01\n{HOST} {{ed25519}} \udcff\n"),
    Case("two on a line", f"{HOST} {{other}} {HOST} {{ed25519}}\n", CHANGED),
    # Files
    Case("missing file", "", form=MISSING, system=f"{HOST} {{ed25519}}\n"),
    Case("both missing", "", UNKNOWN, form=MISSING),
    Case("a directory", "", form=DIRECTORY, system=f"{HOST} {{ed25519}}\n"),
    Case("a file that cannot be opened", "", form=LOOP, system=f"{HOST} {{ed25519}}\n"),
    Case("a file that may not be read", f"{HOST} {{other}}\n", form=UNREADABLE, system=f"{HOST} {{ed25519}}\n"),
    Case("a huge file", f"{NOISE}{HOST} {{ed25519}}\n"),
    Case("a huge file without it", NOISE, UNKNOWN, port=2222),
    # Kinds of keys
    *(Case(f"only {kind} is known", f"{HOST} {{{kind}}}\n") for kind in KINDS),
    Case("all kinds are known", "".join(f"{HOST} {{{kind}}}\n" for kind in KINDS)),
    Case("ECDSA and RSA are known", f"{HOST} {{rsa}}\n{HOST} {{ecdsa}}\n"),
    Case("known is of another kind", f"{HOST} {{other_rsa}}\n", CHANGED, kinds=["ed25519"]),
    Case("one known is right, one not", f"{HOST} {{other}}\n{HOST} {{rsa}}\n", CHANGED),
    Case("ECDSA wrong, RSA right", f"{HOST} {{other_ecdsa}}\n{HOST} {{rsa}}\n", CHANGED),
    Case("changed", f"{HOST} {{other}}\n", CHANGED),
    Case("changed, the old one too", f"{HOST} {{other}}\n{HOST} {{ed25519}}\n"),
    Case("changed, in the second file", "", CHANGED, system=f"{HOST} {{other}}\n"),
    # Revoked
    Case("revoked", f"{HOST} {{ed25519}}\n@revoked {HOST} {{ed25519}}\n", REVOKED),
    Case("revoked first", f"@revoked * {{ed25519}}\n{HOST} {{ed25519}}\n", REVOKED),
    Case("revoked in the second file", f"{HOST} {{ed25519}}\n", REVOKED, system="@revoked * {ed25519}\n"),
    Case("revoked and not known", "@revoked * {ed25519}\n", REVOKED),
    Case("revoked for another", f"{HOST} {{ed25519}}\n@revoked other.example.org {{ed25519}}\n"),
    Case("another kind is revoked", f"@revoked * {{ed25519}}\n{HOST} {{ed25519}}\n{HOST} {{rsa}}\n"),
    Case("an old one of its kind is revoked", f"{HOST} {{other}}\n{HOST} {{ed25519}}\n@revoked * {{other}}\n"),
    Case("an old one is revoked, RSA known", f"{HOST} {{other}}\n{HOST} {{rsa}}\n@revoked * {{other}}\n"),
    Case("revoked after a tab", f"@revoked\t* {{ed25519}}\n{HOST} {{ed25519}}\n"),
    Case("revoked after tabs only", f"@revoked\t*\t{{ed25519_tab}}\n{HOST} {{ed25519}}\n", REVOKED),
    Case("revoked in capitals", f"@REVOKED * {{ed25519}}\n{HOST} {{ed25519}}\n"),
    Case("a marker there is not", f"@trusted {HOST} {{ed25519}}\n", UNKNOWN),
    Case("two markers", f"@revoked @revoked * {{ed25519}}\n{HOST} {{ed25519}}\n"),
    # Certificates
    certified("certificate", CA),
    certified("certificate, no names", CA, "is for no host, not for nas" if NAMES_ARE_PATTERNS else "", names=""),
    certified("certificate for several names", CA, names=f"nas,{HOST}"),
    certified("certificate for another name", CA, "is for other.example.org, not for nas", names="other.example.org"),
    certified("certificate for a pattern", CA, "" if NAMES_ARE_PATTERNS else "is for *.example.org, not for nas",
              names="*.example.org"),
    certified("certificate for a pattern of others", CA, "is for x*, y, not for nas", names="x*,y"),
    certified("certificate in capitals", CA, "is for NAS.EXAMPLE.ORG, not for nas", names=HOST.upper()),
    certified("certificate expired", CA, "has expired on 2020-01-01 00:00 UTC", valid="20190101Z:20200101Z"),
    certified("certificate of tomorrow", CA, "is not valid before 2", valid="+1d:+2d"),
    certified("certificate of a user", CA, "is a user's, not a host's", is_for_hosts=False),
    certified("critical option", CA, 'critical option "x@y"', more=("-O", "critical:x@y=1")),
    certified("extension", CA, more=("-O", "extension:x@y=1")),
    certified("another authority", f"@cert-authority {HOST} {{other_ca}}\n", UNKNOWN),
    certified("an authority for another host", "@cert-authority other.example.org {ca}\n", UNKNOWN),
    certified("an authority for a pattern", "@cert-authority *.example.org {ca}\n"),
    certified("an authority but not for this one", f"@cert-authority *,!{HOST} {{ca}}\n", UNKNOWN),
    certified("the authority is known as a key", f"{HOST} {{ca}}\n", CHANGED),
    certified("the host's key as an authority", f"@cert-authority {HOST} {{ed25519}}\n", UNKNOWN),
    certified("two authorities", f"@cert-authority * {{other_ca}}\n{CA}"),
    certified("revoked authority", f"{CA}@revoked * {{ca}}\n", "authority of the certificate"),
    certified("revoked key with a certificate", f"{CA}@revoked * {{ed25519}}\n", REVOKED),
    certified("certificate, and a key known", f"{HOST} {{ed25519}}\n"),
    certified("certificate expired, key known", f"{CA}{HOST} {{ed25519}}\n", valid="20190101Z:20200101Z"),
    certified("certificate expired, another key known", f"{CA}{HOST} {{other}}\n", CHANGED,
              valid="20190101Z:20200101Z"),
    certified("certificate, another key known", f"{CA}{HOST} {{other}}\n"),
    certified("authority of RSA", "@cert-authority * {ca_rsa}\n", ca="ca_rsa"),
    certified("authority of RSA, SHA-256", "@cert-authority * {ca_rsa}\n", ca="ca_rsa", more=("-t", "rsa-sha2-256")),
    certified("authority of RSA, SHA-1", "@cert-authority * {ca_rsa}\n", "signed with ssh-rsa", ca="ca_rsa",
              more=("-t", "ssh-rsa")),
    certified("authority of ECDSA", "@cert-authority * {ca_ecdsa}\n", ca="ca_ecdsa"),
    *(Case(f"certificate of {kind}", CA, kinds=[kind], certificates=[Certificate(kind)]) for kind in KINDS),
    Case("hashed authority", "@cert-authority {hash} {ca}\n", kinds=["ed25519"], certificates=[Certificate()]),
    Case("hashed and revoked", f"{HOST} {{ed25519}}\n@revoked {{hash}} {{ed25519}}\n", REVOKED),
    Case("authority in the second file", "", system=CA, certificates=[Certificate()]),
    Case("authority for the port", f"@cert-authority [{HOST}]:2222 {{ca}}\n", port=2222, certificates=[Certificate()]),
    Case("authority without the port", CA, port=2222, certificates=[Certificate()]),
    Case("expired, authority without the port", CA, "has expired", port=2222,
         certificates=[Certificate(valid="20190101Z:20200101Z")]),
    Case("another authority for the port", f"@cert-authority [{HOST}]:2222 {{other_ca}}\n{CA}", port=2222,
         certificates=[Certificate()]),
    Case("authority without the port, key with it", f"{CA}[{HOST}]:2222 {{ed25519}}\n", port=2222,
         certificates=[Certificate(valid="20190101Z:20200101Z")]),
    Case("certificate with the port among its names", CA, "not for nas", port=2222,
         certificates=[Certificate(names=f"[{HOST}]:2222")]),
    Case("only RSA is certified, ED25519 known", f"{HOST} {{ed25519}}\n", CHANGED, certificates=[Certificate("rsa")]),
    Case("only RSA is certified, RSA known", f"{HOST} {{rsa}}\n", certificates=[Certificate("rsa")]),
    Case("only RSA is certified", CA, certificates=[Certificate("rsa")]),
    Case("only RSA is certified, nothing known", "", UNKNOWN, certificates=[Certificate("rsa")]),
    Case("a key known, nothing certified", f"{CA}{HOST} {{ecdsa}}\n"),
    Case("all certified, ECDSA expired", CA, kinds=["ecdsa", "rsa"], said="has expired",
         certificates=[Certificate("ecdsa", valid="20190101Z:20200101Z"), Certificate("rsa")]),
    # host_key=
    *(Case(f"pinned {kind}", "", pin=kind) for kind in KINDS),
    Case("pinned is another", f"{HOST} {{ed25519}}\n", "is not the one of host_key=", pin="other"),
    Case("pinned, another known", f"{HOST} {{other}}\n", pin="ed25519"),
    Case("pinned is revoked", "@revoked * {ed25519}\n", REVOKED, pin="ed25519"),
    Case("pinned is revoked in the second file", "", REVOKED, system="@revoked * {rsa}\n", pin="rsa"),
    Case("pinned, with a certificate", CA, pin="ed25519", certificates=[Certificate()]),
    Case("pinned, with an expired certificate", CA, pin="ed25519",
         certificates=[Certificate(valid="20190101Z:20200101Z")]),
    Case("pinned, a certificate of another kind", "", pin="ed25519", certificates=[Certificate("rsa")]),
    Case("pinned, revoked authority", "@revoked * {ca}\n", pin="ed25519", certificates=[Certificate()]),
    Case("pinned is the authority's", CA, "is not the one of host_key=", pin="ca", certificates=[Certificate()]),
]  # fmt: skip


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    directory = tmp_path_factory.mktemp("keys")
    return {name: keygen(directory / name, kind) for name, kind in KEYS.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@in_own_namespace
def test_ssh_and_we_agree(case: Case, keys: Mapping[str, Path], tmp_path: Path) -> None:
    """Both accept it, or both refuse it, and where it is refused our sentence says why."""
    _alone_in_the_world(tmp_path)
    files = [PLACE / "first", PLACE / "second"]
    _write(files, case, keys)
    with Sshd(_home(case, keys), kinds=case.kinds, more=_lines(case)) as server:
        reader = 65534 if case.form == UNREADABLE else os.geteuid()
        os.chown(server.client_key, reader, -1)
        by_ssh = _ssh(case, files, keys, server, reader)
        ours = _ours(case, files, keys, server, reader)
    assert case.said in ours, ours
    assert bool(ours) == bool(case.said), ours
    assert (by_ssh == "") == (ours == ""), f"ssh: {by_ssh!r}, we: {ours!r}"


def _ours(case: Case, files: Sequence[Path], keys: Mapping[str, Path], server: Sshd, reader: int) -> str:
    """Why it is refused by us, empty where it is not."""
    pin = fingerprint(keys[case.pin]) if case.pin else None
    target = Target(case.host, server.user, port=case.port, identity_files=(str(server.client_key),), host_key=pin)
    os.seteuid(reader)
    try:
        Remote.connect(target, files, Deadline.after(15)).close()
    except Failed as error:
        assert "\n" not in error.message
        return error.message
    finally:
        os.seteuid(0)
    return ""


def _ssh(case: Case, files: Sequence[Path], keys: Mapping[str, Path], server: Sshd, reader: int) -> str:
    """What ssh complains of with the configuration the driver writes, empty where it does not."""
    driver = sshfs_driver(files, {})
    given = {
        "sshcmd": f"{server.user}@{HOST if ':' in case.host else case.host}:/",
        "port": str(case.port),
        "IdentityFile": str(server.client_key),
    }
    facts = {}
    if case.pin:
        kind, blob, *_ = Path(f"{keys[case.pin]}.pub").read_text().split()
        given["host_key"] = fingerprint(keys[case.pin])
        facts = {"host_key_kind": kind, "host_key_blob": blob}
    volume = Volume("data", driver.parse("data", given), datetime(2024, 2, 29, tzinfo=UTC), facts)
    folder = server.directory / "folder"
    folder.mkdir()
    argv = driver.command(volume, folder, folder).argv
    configuration = argv[argv.index("-F") + 1]
    for path in [folder, *folder.iterdir()]:
        os.chown(path, reader, -1)
    command = ["ssh", "-F", configuration, f"{server.user}@{case.host}", "-s", "sftp"]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=15, user=reader)
    return run.stderr.strip() or f"status {run.returncode}" if run.returncode else ""


def _alone_in_the_world(directory: Path) -> None:
    """A network of its own, in which all ports are free, and names of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x40000000) == 0, os.strerror(ctypes.get_errno())  # CLONE_NEWNET
    with socket.socket() as sock:
        up = struct.pack("16sh", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(sock, 0x8914, up)  # SIOCSIFFLAGS
    directory.chmod(0o755)
    hosts = directory / "hosts"
    hosts.write_text(NAMES)
    for source, place in ((hosts, "/etc/hosts"), (directory, PLACE)):
        bound = libc.mount(bytes(source), os.fsencode(place), None, 4096, None)  # MS_BIND
        assert bound == 0, os.strerror(ctypes.get_errno())


def _home(case: Case, keys: Mapping[str, Path]) -> Path:
    """The server's directory with its keys, certified."""
    home = PLACE / "sshd"
    home.mkdir()
    for kind in case.kinds:
        shutil.copy(keys[kind], home / f"host_{kind}")
        shutil.copy(f"{keys[kind]}.pub", home / f"host_{kind}.pub")
    for certificate in case.certificates:
        options = [*certificate.more, *(["-h"] if certificate.is_for_hosts else [])]
        options += ["-n", certificate.names] if certificate.names else []
        options += ["-V", certificate.valid, str(home / f"host_{certificate.kind}.pub")]
        subprocess.run(["ssh-keygen", "-q", "-s", str(keys[certificate.ca]), "-I", "x", *options], check=True)
    return home


def _lines(case: Case) -> list[str]:
    return [
        *(f"ListenAddress {address}:{port}" for address in ("127.0.0.1", "[::1]") for port in (22, 2222)),
        *(f"HostCertificate {PLACE}/sshd/host_{certificate.kind}-cert.pub" for certificate in case.certificates),
    ]


def _write(files: Sequence[Path], case: Case, keys: Mapping[str, Path]) -> None:
    lines = {name: " ".join(Path(f"{file}.pub").read_text().split()[:2]) for name, file in keys.items()}
    lines["ed25519_blob"] = lines["ed25519"].split()[1]
    salt = os.urandom(20)
    digest = hmac.new(salt, HOST.encode(), "sha1").digest()
    lines["hash"] = "|".join(["", "1", *(base64.b64encode(part).decode() for part in (salt, digest))])
    lines["ed25519_tab"] = lines["ed25519"].replace(" ", "\t")
    for file, text in zip(files, (case.known, case.system), strict=True):
        file.write_bytes(text.format_map(lines).encode(errors="surrogateescape"))
    first = files[0]
    if case.form == HASHED:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(first)], check=True, capture_output=True)
        assert HOST not in first.read_text()
    if case.form in (MISSING, DIRECTORY, LOOP):
        first.unlink()
    if case.form == DIRECTORY:
        first.mkdir()
    if case.form == LOOP:
        first.symlink_to(first)
    if case.form == UNREADABLE:
        first.chmod(0)
