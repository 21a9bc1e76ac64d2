"""Options of an SSH directory that are refused, and what is said about them."""

from __future__ import annotations

import pytest

from legacyhost.drivers.sshfs_options import TABLE
from legacyhost.errors import InvalidRequest

#: What could run a program, read a file of this host, or take another way than the one that is checked.
REFUSED = [
    "ProxyCommand",
    "LocalCommand",
    "PermitLocalCommand",
    "KnownHostsCommand",
    "RemoteCommand",
    "ssh_command",
    "sftp_server",
    "directport",
    "passive",
    "F",
    "Include",
    "Match",
    "PKCS11Provider",
    "SecurityKeyProvider",
    "ControlPath",
    "ControlMaster",
    "ControlPersist",
    "IdentityAgent",
    "ForwardAgent",
    "XAuthLocation",
    "ProxyUseFdpass",
    "SendEnv",
    "SetEnv",
    "uidfile",
    "gidfile",
    "modules",
    "UserKnownHostsFile",
    "GlobalKnownHostsFile",
    "password_stdin",
    "User",
    "HostName",
    "allow_root",
]


def refusal(name: str, value: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        TABLE.parse({name: value})
    assert caught.value.message.isprintable()
    return caught.value.message


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_run_a_program_or_read_a_file_is_refused(name: str) -> None:
    """In any case of letters, whatever the value; the sentence gives the reason or what to use instead."""
    for spelling in (name, name.lower(), name.upper(), name.swapcase()):
        assert refusal(spelling, "yes").startswith(f"option {spelling} is refused: ")


@pytest.mark.parametrize("name", ["-F", "-o", "Tunnel", "LogLevel", "dev,suid", "Host", "ssh-command", "idmap=file"])
def test_whatever_is_not_declared_is_refused(name: str) -> None:
    """There is no way around the table: an option it does not have is an error."""
    assert refusal(name, "yes").startswith(f"unknown option {name}")


@pytest.mark.parametrize("value", ["no", "off", "false", "ask", "accept-new", ""])
def test_host_key_checking_stays_on(value: str) -> None:
    """The option people have there today cannot switch it off; the sentence says what to do instead."""
    assert "legacyhost trust HOST" in refusal("StrictHostKeyChecking", value)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("prot", "port"),
        ("sshcommand", "sshcmd"),
        ("identity_file", "IdentityFile"),
        ("readonly", "read_only"),
        ("allow_others", "allow_other"),
        ("StrictHostKeyCheck", "StrictHostKeyChecking"),
    ],
)
def test_a_misspelt_option_is_answered_with_the_nearest(name: str, near: str) -> None:
    """The mistakes people make."""
    assert refusal(name, "1") == f"unknown option {name}; did you mean {near}?"
