"""known_hosts files, judged by ssh-keygen and ssh themselves."""

from __future__ import annotations

import itertools
import multiprocessing
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Sshd, keygen, time_limit

from legacyhost.errors import Failed
from legacyhost.ssh.hostkeys import Known, look_up, only, remember
from legacyhost.ssh.patterns import is_match
from legacyhost.ssh.target import HostKey


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HostKey]:
    directory = tmp_path_factory.mktemp("keys")
    return {name: _public(keygen(directory / name, name.split("-")[0])) for name in ("ed25519", "ecdsa", "rsa")}


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def test_a_missing_or_unreadable_file_holds_no_key(tmp_path: Path) -> None:
    """No file, a directory, and a path through a file are the same as an empty file."""
    (tmp_path / "file").touch()
    assert look_up([tmp_path / "none", tmp_path, tmp_path / "file" / "x"], "nas", 22) == []


@pytest.mark.parametrize(("host", "port"), [("nas.example.org", 22), ("nas.example.org", 2222), ("::1", 22)])
def test_what_is_remembered_is_found_by_us_and_by_ssh_keygen(
    known: Path, keys: dict[str, HostKey], host: str, port: int
) -> None:
    """A remembered key is found again, by ssh-keygen -F too, and for no other port."""
    remember(known, host, port, keys["ed25519"])
    assert look_up([known], host, port) == [keys["ed25519"]]
    assert look_up([known], host, port + 1) == []
    assert look_up([known], "other." + host, port) == []
    assert _found_by_ssh_keygen(known, host, port) == [keys["ed25519"]]


@pytest.mark.parametrize(("host", "port"), [("nas.example.org", 22), ("nas.example.org", 2222)])
def test_hashed_names_are_found(known: Path, keys: dict[str, HostKey], host: str, port: int) -> None:
    """After ssh-keygen -H the same keys are found, for the same name and port only, whatever the case."""
    for key in keys.values():
        remember(known, host, port, key)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert host not in known.read_text()
    assert set(look_up([known], host.upper(), port)) == set(keys.values())
    assert look_up([known], "other.example.org", port) == []
    assert look_up([known], host, 2200) == []


def test_remembering_twice_leaves_one_line(known: Path, keys: dict[str, HostKey]) -> None:
    """The same key again, hashed names included, does not change the file."""
    remember(known, "nas", 2222, keys["rsa"])
    remember(known, "nas", 2222, keys["rsa"])
    assert len(known.read_text().splitlines()) == 1
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    before = known.read_bytes()
    remember(known, "nas", 2222, keys["rsa"])
    assert known.read_bytes() == before


def test_remembering_keeps_what_is_there_and_mends_a_torn_line(known: Path, keys: dict[str, HostKey]) -> None:
    """A file whose last line a crash has torn keeps every byte, and the new key stands on a line of its own."""
    torn = b"# mine\nother ssh-ed25519 AAAAC3Nz"
    known.write_bytes(torn)
    remember(known, "nas", 22, keys["ed25519"])
    assert known.read_bytes().startswith(torn + b"\n")
    assert look_up([known], "nas", 22) == [keys["ed25519"]]


def test_a_new_file_is_readable_and_its_directory_made(tmp_path: Path, keys: dict[str, HostKey]) -> None:
    """The file is made with its directory, writable for its owner only."""
    file = tmp_path / "etc" / "known_hosts"
    remember(file, "nas", 22, keys["rsa"])
    assert file.stat().st_mode & 0o022 == 0
    assert look_up([file], "nas", 22) == [keys["rsa"]]


def test_many_processes_lose_no_line(known: Path, keys: dict[str, HostKey]) -> None:
    """Of keys remembered at the same time by several processes none is lost or doubled."""
    context = multiprocessing.get_context("spawn")
    arguments = [(known, f"host{number % 10}", 22, keys["ed25519"]) for number in range(40)]
    with context.Pool(4) as pool:
        pool.starmap(remember, arguments)
    lines = known.read_text().splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(f"host{number}" for number in range(10))


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path, keys: dict[str, HostKey]) -> None:
    """A known_hosts path that is a directory fails with the path and the reason."""
    with pytest.raises(Failed, match=r"cannot add a host key to .*: is a directory"):
        remember(tmp_path, "nas", 22, keys["rsa"])


def test_several_names_patterns_and_negations(known: Path, keys: dict[str, HostKey]) -> None:
    """Comma lists, * and ? match as in sshd(8), and a negated name takes a host out."""
    known.write_text(
        f"nas,NAS.example.org,192.0.2.1 {_two(keys['rsa'])} a comment\n"
        f"*.lan,!bad.lan {_two(keys['ecdsa'])}\n"
        f"\t web? \t {_two(keys['ed25519'])}\n"
    )
    expected = {
        "nas": [keys["rsa"]],
        "nas.example.org": [keys["rsa"]],
        "192.0.2.1": [keys["rsa"]],
        "good.lan": [keys["ecdsa"]],
        "bad.lan": [],
        "web1": [keys["ed25519"]],
        "web": [],
        "web10": [],
        "n": [],
    }
    assert {host: look_up([known], host, 22) for host in expected} == expected
    for host in ("nas", "good.lan", "bad.lan", "web1", "web10"):
        assert _found_by_ssh_keygen(known, host, 22) == expected[host]


def test_patterns_mean_what_they_say() -> None:
    """Every pattern of up to four characters, for every name of up to four, as a regular expression sees it."""
    for pattern in ("".join(chars) for length in range(5) for chars in itertools.product("ab*?", repeat=length)):
        meant = re.compile("".join({"*": ".*", "?": "."}.get(char, char) for char in pattern))
        for name in ("".join(chars) for length in range(5) for chars in itertools.product("ab", repeat=length)):
            assert is_match(name.encode(), pattern.encode()) == bool(meant.fullmatch(name)), (name, pattern)
    assert not is_match(b"a" * 250 + b"b", b"*a" * 200 + b"c")


def test_brackets_are_no_character_class(known: Path, keys: dict[str, HostKey]) -> None:
    """[name]:port is meant literally, dots too; * spans ports."""
    known.write_text(f"[n.s]:22* {_two(keys['rsa'])}\n")
    assert look_up([known], "n.s", 2222) == [keys["rsa"]]
    assert look_up([known], "nxs", 2222) == []
    assert look_up([known], "n", 22) == []


def test_malformed_lines_are_ignored(known: Path, keys: dict[str, HostKey]) -> None:
    """Nothing in the file is an exception, and the good line after the bad ones counts."""
    bad = [
        "nas",
        "nas ssh-rsa",
        "nas ssh-rsa !!!!",
        "nas ssh-ed25519 AAAA",
        f"nas ssh-rsa {keys['ed25519'].blob}",
        f"@unknown nas {_two(keys['ed25519'])}",
        f"@revoked @revoked nas {_two(keys['ed25519'])}",
        f"# nas {_two(keys['ed25519'])}",
        f"|1|bad|hash {_two(keys['ed25519'])}",
        f"|2|AAAA|AAAA {_two(keys['ed25519'])}",
        f"|1| {_two(keys['ed25519'])}",
        "\x00\x01\x02",
        "@",
        "",
    ]
    known.write_bytes("\n".join(bad).encode() + b"\nnas \xff\xfe\n\r\n" + keys["rsa"].line("nas", 22).encode())
    assert look_up([known], "nas", 22) == [keys["rsa"]]


def test_revoked_keys_are_never_trusted(known: Path, tmp_path: Path, keys: dict[str, HostKey]) -> None:
    """A @revoked line takes the key away whichever file and order it is in, and it is not remembered again."""
    known.write_text(keys["rsa"].line("nas", 22) + "\n" + keys["ecdsa"].line("nas", 22) + "\n")
    list_of_revoked = tmp_path / "revoked"
    list_of_revoked.write_text(f"@revoked * {_two(keys['rsa'])}\n")
    assert look_up([known, list_of_revoked], "nas", 22) == [keys["ecdsa"]]
    assert look_up([list_of_revoked, known], "nas", 22) == [keys["ecdsa"]]
    entry = Known.read([known, list_of_revoked], "nas", 22).revocation(keys["ecdsa"], keys["rsa"])
    assert entry is not None
    assert (entry.file, entry.key) == (list_of_revoked, keys["rsa"])
    with pytest.raises(Failed, match="revoked"):
        remember(list_of_revoked, "nas", 22, keys["rsa"])


def test_a_certificate_authority_is_no_host_key(known: Path, keys: dict[str, HostKey]) -> None:
    """The key of a @cert-authority line is not trusted as a host's own key, and not taken for revoked."""
    known.write_text(f"@cert-authority nas {_two(keys['rsa'])}\n")
    assert look_up([known], "nas", 22) == []
    found = Known.read([known], "nas", 22)
    assert found.revocation(keys["rsa"]) is None
    assert [entry.key for entry in found.authorities] == [keys["rsa"]]


def test_a_file_for_one_key_alone(known: Path, tmp_path: Path, keys: dict[str, HostKey]) -> None:
    """It trusts that key, unless one of the files revokes it for this host."""
    known.write_text(f"@revoked *.lan {_two(keys['rsa'])}\nnas {_two(keys['ecdsa'])}\n")
    alone = tmp_path / "alone"
    for host, port, trusted in (("nas", 22, [keys["rsa"]]), ("nas.lan", 22, []), ("nas.lan", 2222, [keys["rsa"]])):
        alone.write_text(only(keys["rsa"], [known], host, port))
        assert look_up([alone], host, port) == trusted


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_ssh_itself_accepts_what_was_remembered(tmp_path: Path, hashed: bool, kind: str) -> None:
    """ssh with StrictHostKeyChecking=yes takes a file written here, plain or hashed, and refuses an empty one."""
    with Sshd(tmp_path / "sshd") as server:
        known = tmp_path / "known_hosts"
        known.touch()
        assert _ssh(server, known) != 0
        remember(known, server.host, server.port, _public(server.host_key(kind)))
        if hashed:
            subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
        assert _ssh(server, known) == 0


def _ssh(server: Sshd, known: Path) -> int:
    options = ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=none"]
    options += ["BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=10"]
    command = ["ssh", "-F", "none", "-i", str(server.client_key), "-p", str(server.port)]
    command += [word for option in options for word in ("-o", option)] + [f"{server.user}@{server.host}", "true"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30).returncode


def _found_by_ssh_keygen(known: Path, host: str, port: int) -> list[HostKey]:
    name = host if port == 22 else f"[{host}]:{port}"
    run = subprocess.run(["ssh-keygen", "-F", name, "-f", str(known)], capture_output=True, text=True)
    fields = [line.split() for line in run.stdout.splitlines() if not line.startswith("#")]
    return [HostKey(kind, blob) for _, kind, blob, *_ in fields]


def _public(file: Path) -> HostKey:
    kind, blob, *_ = Path(f"{file}.pub").read_text().split()
    return HostKey(kind, blob)


def _two(key: HostKey) -> str:
    return f"{key.kind} {key.blob}"
