"""The options of an SSH directory: which values there can be, in which form they are recorded, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from legacyhost.drivers.sshfs_options import FUSE_FLAGS, FUSE_VALUES, SSH_VALUES, TABLE, split_sshcmd
from legacyhost.errors import InvalidRequest

FINGERPRINT = "SHA256:" + "aB3+/" * 8 + "xyz"
SECRET = "hunter2"
#: A value of each option that has one, as sshfs(1), FUSE and ssh_config(5) take it.
FUSE_SAMPLES = {
    "dir_cache": "no",
    "dcache_max_size": "20000",
    "dcache_timeout": "5",
    "dcache_stat_timeout": "5",
    "dcache_link_timeout": "0",
    "dcache_dir_timeout": "86400",
    "entry_timeout": "1",
    "negative_timeout": "0",
    "attr_timeout": "1",
    "ac_attr_timeout": "1",
    "max_conns": "4",
    "max_read": "65536",
    "workaround": "rename:nobuflimit",
}
SSH_SAMPLES = {
    "AddressFamily": "inet6",
    "BindAddress": "192.0.2.1",
    "CASignatureAlgorithms": "ssh-ed25519",
    "Ciphers": "aes256-ctr,aes128-ctr",
    "Compression": "yes",
    "ConnectionAttempts": "3",
    "ConnectTimeout": "20",
    "HostKeyAlgorithms": "ssh-ed25519,rsa-sha2-512",
    "IPQoS": "af21 cs1",
    "KexAlgorithms": "curve25519-sha256",
    "MACs": "hmac-sha2-256",
    "PreferredAuthentications": "publickey,password",
    "PubkeyAcceptedAlgorithms": "ssh-ed25519",
    "RekeyLimit": "1G 1h",
    "ServerAliveCountMax": "5",
    "ServerAliveInterval": "30",
    "StrictHostKeyChecking": "yes",
    "TCPKeepAlive": "no",
}


def refusal(name: str, value: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        TABLE.parse({name: value})
    assert caught.value.message.isprintable()
    return caught.value.message


@pytest.mark.parametrize(
    ("given", "user", "host", "path"),
    [
        ("anna@nas:/srv/data", "anna", "nas", "/srv/data"),
        ("nas:/srv", "root", "nas", "/srv"),
        ("nas:", "root", "nas", ""),
        ("anna@nas.example.org:data", "anna", "nas.example.org", "data"),
        ("anna@192.0.2.7:/srv", "anna", "192.0.2.7", "/srv"),
        ("anna@nas:~/data", "anna", "nas", "data"),
        ("anna@nas:~/", "anna", "nas", ""),
        ("anna@nas:/a:b", "anna", "nas", "/a:b"),
        ("anna@nas:/sp ace/é☃/'\"$%,\\", "anna", "nas", "/sp ace/é☃/'\"$%,\\"),
        ("anna@example.org@nas:/srv", "anna@example.org", "nas", "/srv"),
        ("CORP\\anna@nas:/srv", "CORP\\anna", "nas", "/srv"),
        ("machine$@nas:/srv", "machine$", "nas", "/srv"),
        ("_a.b-c+d@nas:/srv", "_a.b-c+d", "nas", "/srv"),
        ("a@nas_1.local:/srv", "a", "nas_1.local", "/srv"),
        (f"a@{'n' * 253}:/srv", "a", "n" * 253, "/srv"),
    ],
)
def test_sshcmd_is_user_host_and_path(given: str, user: str, host: str, path: str) -> None:
    """[user@]host:[path] as sshfs takes it; ~/ is the home directory, where relative paths begin anyway."""
    normal = TABLE.parse({"sshcmd": given})["sshcmd"]
    assert split_sshcmd(normal) == (user, host, path)
    assert TABLE.parse({"sshcmd": normal})["sshcmd"] == normal


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nas",
        "/srv/data",
        ":/srv",
        "@nas:/srv",
        "anna@:/srv",
        "-oProxyCommand=id:/srv",
        "anna@-oProxyCommand=id:/srv",
        "-anna@nas:/srv",
        "[::1]:/srv",
        "anna@[::1]:/srv",
        "anna@[nas]:/srv",
        "::1:/srv",
        ".nas:/srv",
        "n as:/srv",
        "nas,x:/srv",
        "nas/x:/srv",
        "anna@nas;id:/srv",
        "$(id)@nas:/srv",
        "an na@nas:/srv",
        "anna,root@nas:/srv",
        "é@nas:/srv",
        "anna@nás:/srv",
        "anna@nas:/a\tb",
        "anna@nas:/a\x7fb",
        "anna@nas:/a\x1b[2J",
        "anna@nas:/a\nb",
        "anna@nas:/a\0b",
        f"a@{'n' * 254}:/srv",
        f"{'u' * 200}@nas:/srv",
    ],
)
def test_an_sshcmd_that_is_anything_else_is_refused(given: str) -> None:
    """Above all what a program behind it could take for an option, an address of another form or two words."""
    message = refusal("sshcmd", given)
    assert "option sshcmd" in message
    assert ("in brackets" in message) == ("[" in given.partition(":")[0])


@pytest.mark.parametrize(
    ("name", "given", "normal"),
    [
        ("password", "p w,'\"$%\\é", "p w,'\"$%\\é"),
        ("port", "2222", "2222"),
        ("port", "1", "1"),
        ("port", "65535", "65535"),
        ("IdentityFile", "/root/.ssh/id k%d,é", "/root/.ssh/id k%d,é"),
        ("host_key", FINGERPRINT, FINGERPRINT),
        ("create", "false", "false"),
        ("create", "yes", "true"),
        ("on_remove", "keep", "keep"),
        ("on_remove", "purge", "purge"),
        ("read_only", "", "true"),
        ("ro", "", "true"),
        ("uid", "0", "0"),
        ("gid", "4294967294", "4294967294"),
        ("umask", "22", "022"),
        ("timeout", "100", "100"),
        ("StrictHostKeyChecking", "true", "yes"),
        *((name, "", "true") for name in FUSE_FLAGS),
        *((name, "false", "false") for name in FUSE_FLAGS),
        *((name, value, value) for name, value in FUSE_SAMPLES.items()),
        *((name, value, value) for name, value in SSH_SAMPLES.items()),
        ("big_writes", "", ""),
        ("nonempty", "true", "true"),
    ],
)
def test_what_an_option_can_be(name: str, given: str, normal: str) -> None:
    """Every option people have in their compose files, by its own name, in any case of letters."""
    assert TABLE.parse({name: given}) == {name: normal}
    assert TABLE.parse({name.upper(): given}) == {name: normal}
    assert TABLE.parse({name.lower(): normal}) == {name: normal}


def test_the_samples_are_complete() -> None:
    """No option is handed on that is not tried here."""
    assert FUSE_SAMPLES.keys() == FUSE_VALUES.keys()
    assert SSH_SAMPLES.keys() == SSH_VALUES.keys()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *(("port", value) for value in ("0", "65536", "-1", "22x", "", "0x16", " 22")),
        *(("password", value) for value in ("", "x" * 1001, "a\nb", "a\0b")),
        *(("IdentityFile", value) for value in ("id_rsa", "~/.ssh/id", "", '/a"b', "/a'b", "/${HOME}", "/a\\b", "/")),
        *(("host_key", value) for value in ("", "MD5:aa:bb", FINGERPRINT[:-1], FINGERPRINT + "=", "SHA256:*")),
        *(("on_remove", value) for value in ("delete", "", "Purge")),
        *((name, value) for name in ("create", "read_only", "ro", "allow_other") for value in ("maybe", "1,ro")),
        *((name, value) for name in ("uid", "gid") for value in ("4294967295", "-1", "root", "0,allow_root")),
        *(("umask", value) for value in ("8", "u=rwx", "022,suid")),
        *(("timeout", value) for value in ("0", "101", "1.5")),
        *((name, f"{value},ssh_command=id") for name, value in FUSE_SAMPLES.items()),
        *((name, f"{value} ProxyCommand=id; $(id) \"'") for name, value in SSH_SAMPLES.items()),
        *((name, f"{value}\nProxyCommand id") for name, value in SSH_SAMPLES.items()),
        ("BindAddress", "eth0"),
        ("IPQoS", " "),
        ("RekeyLimit", ""),
    ],
)
def test_what_an_option_cannot_be(name: str, given: str) -> None:
    """Nothing with a second option, another line, a quote or a command in it gets past the table."""
    assert name in refusal(name, given)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("port", 1, 65535),
        ("uid", 0, 4294967294),
        ("gid", 0, 4294967294),
        ("timeout", 1, 100),
        ("dcache_max_size", 1, 10_000_000),
        ("dcache_timeout", 0, 86400),
        ("entry_timeout", 0, 86400),
        ("negative_timeout", 0, 86400),
        ("attr_timeout", 0, 86400),
        ("max_conns", 1, 16),
        ("max_read", 4096, 1048576),
        ("ConnectionAttempts", 1, 10),
        ("ConnectTimeout", 1, 60),
        ("ServerAliveCountMax", 1, 100),
        ("ServerAliveInterval", 1, 3600),
    ],
)
def test_numbers_have_bounds(name: str, low: int, high: int) -> None:
    """Both ends are allowed, and what is beyond them is refused with both ends named."""
    assert TABLE.parse({name: str(low)}) == {name: str(low)}
    assert TABLE.parse({name: str(high)}) == {name: str(high)}
    for beyond in (low - 1, high + 1):
        assert f"from {low} to {high}" in refusal(name, str(beyond))


def test_a_password_is_never_in_a_message() -> None:
    """Neither as a wrong value nor under a misspelt name, nor beside a wrong option."""
    assert SECRET not in refusal("password", SECRET + "x" * 1000)
    assert SECRET not in refusal("pasword", SECRET)
    with pytest.raises(InvalidRequest) as caught:
        TABLE.parse({"password": SECRET, "port": "x"})
    assert SECRET not in caught.value.message


def test_sshfs_knows_everything_that_is_handed_on_to_it(tmp_path: Path) -> None:
    """The installed sshfs itself is asked: none of the names is unknown to it."""
    options = [*FUSE_FLAGS, *(f"{name}={value}" for name, value in FUSE_SAMPLES.items()), "uid=1", "gid=1", "umask=022"]
    command = ["sshfs", "-f", "-o", ",".join([*options, "ro", "ssh_command=/bin/false"]), "nas:/", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20).stderr
    assert said
    assert "unknown" not in said
    assert "usage" not in said
    command[3] += ",nonsense"
    assert "unknown option" in subprocess.run(command, capture_output=True, text=True, timeout=20).stderr


def test_a_home_is_a_path_that_begins_nowhere_else() -> None:
    """SFTP knows no "~": one's own home is left away, another user's is refused, and no directory is called so."""
    for path, expected in (("~", ""), ("~/", ""), ("~/data", "data"), ("data/~", "data/~")):
        assert TABLE.parse({"sshcmd": f"anna@nas:{path}"})["sshcmd"] == f"anna@nas:{expected}"
    with pytest.raises(InvalidRequest, match="another user's home"):
        TABLE.parse({"sshcmd": "anna@nas:~bob/x"})


def test_an_option_that_means_the_opposite_is_not_ignored() -> None:
    """noauto_cache without an effect would leave the cache on."""
    with pytest.raises(InvalidRequest, match="give auto_cache=false"):
        TABLE.parse({"sshcmd": "anna@nas:", "noauto_cache": ""})


@pytest.mark.parametrize("host", ["1", "127.1", "010.0.0.1", "0x7f.0.0.1", "1.2.3.4.5", "256.1.1.1", "1.2.3.4."])
def test_an_address_that_ssh_takes_for_another_is_refused(host: str) -> None:
    """The check before and known_hosts would mean one host, the mount another."""
    with pytest.raises(InvalidRequest, match="the host a name or an IPv4 address"):
        TABLE.parse({"sshcmd": f"anna@{host}:/srv"})
    with pytest.raises(InvalidRequest, match="the host a name or an IPv4 address"):
        TABLE.parse({"jump": host})
    assert TABLE.parse({"sshcmd": "10.0.0.1:/srv", "jump": "192.0.2.1:22"})
    assert TABLE.parse({"sshcmd": "0xabc.example.org:/srv", "jump": "1.example.org"})


@pytest.mark.parametrize("value", ["ssh://anna@nas/srv", "sftp://nas/srv", "anna@nas:22:/srv", "nas:2222:srv"])
def test_a_url_or_a_port_is_no_directory(value: str) -> None:
    with pytest.raises(InvalidRequest, match=r"has to be \[user@\]host:\[path\].*; a port is given as port="):
        TABLE.parse({"sshcmd": value})
