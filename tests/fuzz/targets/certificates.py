"""The certificate of a host key, as a server shows it."""

from __future__ import annotations

from functools import cache

from fuzz.target import Target, judge
from legacyhost.ssh.certificates import Certificate

NOW = 1709164800.0
#: Seeds that nobody has signed.
BROKEN = ("forged-name",)
HOSTS = ("nas", "nas.example.org", "x*")


def check(data: bytes) -> None:
    """What is taken for one says what an authority has signed, or is objected to in words."""
    try:
        found = Certificate.parse(data)
    except ValueError:
        return
    objections = [found.objection(host, NOW) for host in HOSTS]
    for said in filter(None, objections):
        judge(said, data)
    if found.algorithm in ("ssh-rsa", "ssh-dss"):
        assert all(objections)  # nobody has looked at the signature
    else:
        assert found in signed()


@cache
def signed() -> list[Certificate]:
    """What is in the seeds: nothing else has ever been signed."""
    return [Certificate.parse(seed) for name, seed in TARGET.seeds().items() if name not in BROKEN]


TARGET = Target(
    "certificates",
    check,
    words=[
        *b"\0\0\0\x0bssh-ed25519~\0\0\0\x07ssh-rsa~\0\0\0\x0csk-ssh-ed25519@openssh.com~\0\0\0\0~\xff\xff\xff\xff".split(
            b"~"
        ),
        *b"ssh-dss-cert-v01@openssh.com~ssh-rsa-cert-v01@openssh.com~rsa-sha2-256~nistp256~\xff\x1b[2J".split(b"~"),
    ],
)
