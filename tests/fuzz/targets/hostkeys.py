"""A known_hosts file: what it says of some hosts is what ssh-keygen reads in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from hypothesis import strategies as st

from fuzz.target import Target, judge, scratch
from legacyhost.errors import Failed
from legacyhost.ssh.hostkeys import Known, look_up, remember
from legacyhost.ssh.target import HostKey, known_hosts_name

HOSTS = [("nas", 22), ("nas.example.org", 2222), ("::1", 22), ("192.0.2.7", 22), ("nas", 2222)]
#: Keys that were made for this; a line with another one may be judged in two ways, since no server has it.
KEYS = [
    HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAILlO7ablgSYS8CYvtd41Cw8sasyLWQXa7bpIFmNcdNKr"),
    HostKey(
        "ecdsa-sha2-nistp256",
        "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGMXSpf6a2YdBN60PpLcfSyGG5gJ"
        "udKMpr+hREl9ifSDuTGB6VHcYlemkQ9/L0p1Vb2m5XyhvmWTCU68P8k9xY0=",
    ),
]
NEW = KEYS[0]
#: What ssh-keygen says of a line: its marker, and then the fingerprint of its key.
FOUND = re.compile(rb"^# Host .* found: line \d+ ?(CA|REVOKED)?\s*\n.* (SHA256:\S+)", re.MULTILINE)


def check(data: bytes) -> None:
    """Read without complaint, and as ssh-keygen reads it; a key that is added is found, and all the rest stays."""
    path = scratch("hostkeys") / "known_hosts"
    path.write_bytes(data)
    host, port = HOSTS[len(data) % len(HOSTS)]
    known = Known.read([path], host, port)
    found = look_up([path], host, port)
    assert not [key for key in found if known.revocation(key)]
    revoked = [key for key in KEYS if known.revocation(key)]
    for key in found:
        judge(str(key), data)
    theirs = _by_ssh_keygen(path, host, port)
    for entries, marker in ((known.keys, ""), (known.authorities, "CA")):
        ours = [entry.key.fingerprint for entry in entries]
        # ssh takes no key that is a point beside its curve; nobody can have such a one.
        possible = {key.fingerprint for key in KEYS} | set(theirs[marker])
        assert [key for key in ours if key in possible] == theirs[marker], (host, port, marker)
    assert [key.fingerprint for key in revoked] == [
        key.fingerprint for key in KEYS if key.fingerprint in theirs["REVOKED"]
    ]
    try:
        remember(path, host, port, NEW)
    except Failed as error:
        judge(error.message, data)
        assert NEW in revoked
        assert path.read_bytes() == data
        return
    assert path.read_bytes().startswith(data)
    assert NEW in look_up([path], host, port)
    assert NEW.fingerprint in _by_ssh_keygen(path, host, port)[""]


def _by_ssh_keygen(path: Path, host: str, port: int) -> dict[str, list[str]]:
    """The fingerprints of the keys it finds, by marker."""
    command = ["ssh-keygen", "-l", "-F", known_hosts_name(host, port), "-f", str(path)]
    said = subprocess.run(command, capture_output=True).stdout
    found: dict[str, list[str]] = {"": [], "CA": [], "REVOKED": []}
    for marker, key in FOUND.findall(said):
        found[marker.decode()].append(key.decode())
    return found


HASHES = [
    "|1|c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M=|kP2FngtYgHyo5aa1sjI12k2vH44=",
    "|1|c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M=|jepZY3btMSJ+AHjMeY1KY2K6k+E=",
]
PATTERNS = st.lists(
    st.sampled_from(
        [
            *(known_hosts_name(host, port) for host, port in HOSTS),
            *HASHES,
            *(
                "*",
                "?as",
                "n*",
                "!nas",
                "!*",
                "NAS",
                "[nas]:*",
                "*.example.org",
                "nas,",
                ",",
                "|1|",
                "|1||",
                "#nas",
                "näs",
            ),
            *("nas.", "[nas]:22", "192.0.2.*", "[*"),
            "*" * 60,
        ]
    ),
    min_size=1,
    max_size=4,
).map(",".join)
SPACE = st.sampled_from([" ", " ", " ", "\t", "  ", " \t ", "", "\x0b", "\x0c", "\xa0"])
LINES = st.tuples(
    st.sampled_from(
        ["", "", " ", "\t", "@revoked ", "@cert-authority ", "@Revoked ", "@revoked\t", "@x ", "#", " # ", "\r"]
    ),
    PATTERNS,
    SPACE,
    st.sampled_from(
        [*(key.kind for key in KEYS), "ssh-rsa", "2048", "SSH-ED25519", "ssh-ed25519-cert-v01@openssh.com"]
    ),
    SPACE,
    st.sampled_from(
        [*(key.blob for key in KEYS), KEYS[0].blob[:-4], KEYS[0].blob + "AAAA", KEYS[1].blob.rstrip("="), "="]
    ),
    st.sampled_from(["", " comment", " # x", "\t", " ", "\r", "x", "\x0c", "="]),
    st.sampled_from(["\n", "\n", "\r\n", "", "\n\n", "\r"]),
)
TARGET = Target(
    "hostkeys",
    check,
    words=[
        *(f"{key.kind} {key.blob}".encode() for key in KEYS),
        *(name.encode() for name in HASHES),
        *b"@revoked |@cert-authority |nas |[nas.example.org]:2222|::1|192.0.2.7|*|?|!|,|#|\r\n|\0|\xff|\t".split(b"|"),
    ],
    made=st.lists(LINES, max_size=5).map(lambda lines: "".join("".join(line) for line in lines).encode()),
    examples=80,
)
