"""Options and names by which somebody could have this host run a program, or read a file of it for a remote one."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver

from legacyhost import cli
from legacyhost.config import NO_VOLUMES, Paths, load
from legacyhost.drivers.sshfs_options import REFUSED, TABLE
from legacyhost.errors import ConfigError, InvalidRequest
from legacyhost.mounts import MountCommand
from legacyhost.names import check_volume_name
from legacyhost.parts.volume import build_driver
from legacyhost.state import Volume

FACTS = {"host_key_kind": "ssh-ed25519", "host_key_blob": "AAAA", "host_key": "SHA256:x", "path": "/srv"}
SSHCMD = "anna@nas.example.org:/srv/data"
#: Ways to write the name of an option that might get past a list of names.
SPELLINGS = (
    "{0}", "{0}=x", " {0}", "{0} ", "\t{0}", "{0}\n", "{0}\0", "-o{0}", "-{0}", "--{0}", '"{0}"', "'{0}'", "{0} x",
    "port,{0}",
    "port={0}", "{0},ro", "\u200b{0}", "{0}\u00a0", "port\n{0}", "ro\\,{0}", "${{{0}}}", "%{0}",
)  # fmt: skip
#: Ends of a value that would begin something else, in sshfs's -o, in ssh_config(5), in a shell, in a unit.
TAILS = (
    ",ssh_command=id", "\\,ssh_command=id", ",,ro", "\nProxyCommand id", "\r\nProxyCommand id", " ProxyCommand id",
    "\tProxyCommand=id",
    "\x0bProxyCommand id", "\x0cProxyCommand id", "\u2028ProxyCommand id", "\x85ProxyCommand id", "\0ProxyCommand id",
    '" ProxyCommand id',
    "' ProxyCommand id", ";id", "|id", "`id`", "$(id)", "${HOME}", "%h", "%%", "#", "\\", " ",
)  # fmt: skip
#: A good value of each option that is no switch.
BEGINNINGS = {
    **dict.fromkeys(("port", "uid", "gid", "timeout", "fail_after", "ConnectTimeout", "ConnectionAttempts"), "10"),
    **dict.fromkeys(("ServerAliveCountMax", "ServerAliveInterval", "max_conns", "dcache_max_size", "dcache_timeout"),
    "10"),
    **dict.fromkeys(("dcache_stat_timeout", "dcache_link_timeout", "dcache_dir_timeout", "entry_timeout"), "10"),
    **dict.fromkeys(("negative_timeout", "attr_timeout", "ac_attr_timeout"), "10"),
    "max_read": "65536", "umask": "022", "host_key": f"SHA256:{'x' * 43}", "workaround": "all",
    "on_remove": "keep", "chown": "strict", "cache": "none", "connection": "dedicated",
    "AddressFamily": "any", "BindAddress": "127.0.0.1", "RekeyLimit": "1G 1h",
    "IPQoS": "af21 cs1",
    "Ciphers": "aes256-ctr", "MACs": "hmac-sha2-256", "KexAlgorithms": "curve25519-sha256",
    "HostKeyAlgorithms": "ssh-ed25519",
    "CASignatureAlgorithms": "ssh-ed25519", "PubkeyAcceptedAlgorithms": "ssh-ed25519",
    "PreferredAuthentications": "publickey",
}  # fmt: skip


def refusal(given: dict[str, str]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        TABLE.parse(given)
    assert caught.value.message.isprintable()
    return caught.value.message


def configuration_of(folder: Path, **given: str) -> MountCommand:
    """What would be run; what ssh reads is in the folder afterwards."""
    driver = sshfs_driver([folder / "known_hosts"])
    options = driver.parse("data", {"sshcmd": SSHCMD, **given})
    return driver.command(Volume("data", options, datetime.now(UTC), FACTS), Path("/run/x/mounts/data"), folder)


def ssh_says(folder: Path, user: str, host: str) -> dict[str, str]:
    """What the real ssh takes from what is written there, keywords in small letters; nothing if it refuses."""
    command = ["ssh", "-G", "-F", str(folder / "ssh_config"), f"{user}@{host}"]
    ran = subprocess.run(command, capture_output=True, timeout=20)
    if ran.returncode != 0:
        assert re.search(rb"Bad |Unsupported |invalid argument", ran.stderr), ran.stderr
        return {}
    return dict(line.split(" ", 1) for line in ran.stdout.decode().split("\n") if " " in line)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_option_in_another_spelling(name: str) -> None:
    """Small and capital letters, blanks, quotes, dashes, a second option behind the first: an error each."""
    for spelling, word in itertools.product(SPELLINGS, (name, name.lower(), name.upper(), name.swapcase())):
        for value in ("", "yes", "/bin/id"):
            assert "option" in refusal({spelling.format(word): value})


@pytest.mark.parametrize(
    "name",
    ["Proxy\u0421ommand", "\uff30roxyCommand", "\ufb01", "\u017fsh_command", "ssh_command\u0301", "\u0130nclude"],
)
def test_a_refused_option_in_letters_that_look_alike(name: str) -> None:
    """Cyrillic, full-width, ligatures, letters that become others in small: none of them is an option."""
    assert refusal({name: "id"}).startswith(("unknown option", "option"))


@pytest.mark.parametrize("name", sorted(set(TABLE.all) - {"password", "sshcmd", "IdentityFile", "jump", "credential"}))
def test_a_second_option_smuggled_in_a_value(tmp_path: Path, name: str) -> None:
    """A value is refused, or means nothing to sshfs and ssh but itself."""
    plain = TABLE.parse({name: BEGINNINGS.get(name, "yes")})[name]
    for tail, beginning in itertools.product(TAILS, (plain, "")):
        try:
            TABLE.parse({name: beginning + tail})
        except InvalidRequest:
            continue
        assert_harmless(configuration_of(tmp_path, **{name: beginning + tail}), tmp_path)


def assert_harmless(given: MountCommand, folder: Path, user: str = "anna", host: str = "nas.example.org") -> None:
    """One -F, one -o with one ssh_command= (ours), the host in its place; and a configuration that runs nothing."""
    argv = list(given.argv)
    assert argv[:3] == ["sshfs", "-f", "-F"]
    assert argv[4] == "-o"
    assert len(argv) == 8
    options = argv[5].split(",")
    assert [option for option in options if option.startswith("ssh_command=")] == [options[1]]
    assert "\\" not in argv[5]
    assert argv[6].startswith(f"{user}@{host}:")
    said = ssh_says(folder, user, host)
    if not said:
        return  # it does not even start
    assert (said["user"], said["hostname"], said["stricthostkeychecking"]) == (user, host, "true")
    assert said.get("proxycommand", "none") == "none"
    assert said.get("localcommand", "none") == "none"
    assert said.get("knownhostscommand", "none") == "none"
    assert said["permitlocalcommand"] == "no"


@pytest.mark.parametrize("tail", TAILS, ids=repr)
def test_options_smuggled_in_the_password(tmp_path: Path, tail: str) -> None:
    """It is anything but a line break, and stands in a file that is only ever printed."""
    try:
        given = configuration_of(tmp_path, password=f"secret{tail}")
    except InvalidRequest:
        assert set(tail) & set("\0\r\n")
        return
    assert_harmless(given, tmp_path)
    said = subprocess.run(
        [given.environment["SSH_ASKPASS"], "Password:"], env=given.variables("x:y"), capture_output=True, check=True
    )
    assert said.stdout == f"secret{tail}\n".encode()
    assert "secret" not in (tmp_path / "ssh_config").read_text()


@pytest.mark.parametrize(
    "tail", [*TAILS, "/%d/%u/%h/%r/%%", "/~/x", "/~root/x", "/-oProxyCommand=id", "/[x]", "/{volume}", "/é"], ids=repr
)
def test_a_key_file_whose_name_is_more_than_a_name(tmp_path: Path, tail: str) -> None:
    """ssh sees the very path that was given, tokens and blanks and all, or it is refused."""
    path = f"/root/.ssh/id{tail}"
    try:
        given = configuration_of(tmp_path, IdentityFile=path)
    except InvalidRequest:
        return
    assert_harmless(given, tmp_path)
    # -G prints the path before its tokens are expanded, as OpenSSH keeps it.
    said = ssh_says(tmp_path, "anna", "nas.example.org")["identityfile"]
    assert said in (path, path.replace("%", "%%"), path.strip(" "))


@pytest.mark.parametrize(
    "path",
    [
        "/run/legacyhost/sshfs/mounts/data/id", "//run/legacyhost/x", "/run//legacyhost/x", "/run/./legacyhost/x",
        "/run/../run/legacyhost/x", "/root/../run/legacyhost/x", "/var/run/legacyhost/x", "/var//run/legacyhost/x",
        "/run/legacyhost", "/../run/legacyhost/x", "/./run/legacyhost/x",
    ],
)  # fmt: skip
def test_a_key_on_a_volume_by_another_way(path: str) -> None:
    """A key that is read through a mount would hang with it: no way of writing such a path is taken."""
    assert "IdentityFile" in refusal({"sshcmd": SSHCMD, "IdentityFile": path})


@pytest.mark.parametrize(
    "account",
    [
        "-oProxyCommand=id", "-F/tmp/x", "-anna@nas", "anna@-nas", "-@nas", "anna@[nas]", "[anna@nas]", "[nas",
        "anna@nas]",
        "anna@[::1]", "anna;id@nas", "anna@nas;id", "anna@nas|id", "anna@nas`id`", "$(id)@nas", "anna@$(id)",
        "${HOME}@nas",
        "anna@%h", "%r@nas", "anna%00@nas", "an na@nas", "anna@n as", " anna@nas", "anna@nas ", "anna@nas,ro",
        "anna@nas/x",
        "anna@", "@nas", "anna@nas\n", "anna\n@nas", "anna@nas\0", "anna@nas\t", '"anna"@nas', "'anna'@nas",
        "anna@'nas'",
        "anna@nás", "anná@nas", "anna@\uff4eas", "anna@nas\u200b", "anna@.nas", "anna@_nas", "anna@-", "~anna@nas",
        "anna@~nas", "$@nas",
    ],
)  # fmt: skip
def test_a_user_or_host_that_is_an_option_or_a_command(account: str) -> None:
    """Neither in sshcmd= nor in jump=, which a shell gets to see."""
    assert "sshcmd" in refusal({"sshcmd": f"{account}:/srv"})
    assert "jump" in refusal({"jump": account})


@pytest.mark.parametrize("user", ["anna", "CORP\\anna", "machine$", "a.b+c@example.org", "a\\"])
def test_a_jump_host_in_a_command_for_a_shell(tmp_path: Path, user: str) -> None:
    """The way to it is a command line, of which a shell makes the words that were meant, and runs nothing else."""
    given = configuration_of(tmp_path, jump=f"{user}@bastion:2222")
    proxy = ssh_says(tmp_path, "anna", "nas.example.org")["proxycommand"]
    # The shell's own: what ssh would put in for its tokens.
    line = proxy.replace("%%", "\0").replace("%h", "nas.example.org").replace("%p", "22").replace("\0", "%")
    (tmp_path / "ssh").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    environment = {**given.variables("x:y"), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    ran = subprocess.run(["/bin/sh", "-c", line], env=environment, capture_output=True, text=True, check=True)
    words = ran.stdout.split("\0")[:-1]
    assert words == ["-F", str(tmp_path / "jump_ssh_config"), "-W", "[nas.example.org]:22", f"{user}@bastion"]
    assert sorted(entry.name for entry in tmp_path.iterdir() if "id" in entry.name) == []


@pytest.mark.parametrize("port", ["0", "65536", "-1", "22;id", "22 ", "٢٢", "0x16", "$(id)", "", "222222"])
def test_a_jump_host_with_a_port_that_is_more(port: str) -> None:
    """The port of a jump host is a number, or there is no such jump host."""
    assert "jump" in refusal({"jump": f"anna@bastion:{port}"})


@pytest.mark.parametrize(
    "path",
    [
        "-oProxyCommand=id", "--", "-", "/$HOME", "/$(id)", "/`id`", "/;id", "/|id", "/%d/%n/%i", "/,ssh_command=id",
        "/\\,ro", "/ -o ro",
        "/'x'", '/"x"', "/*", "/[x]", "/x:y", "/x@y:z", "/@SOURCE@", "/../../etc", "//", "/\u202ex", "/{volume}",
    ],
)  # fmt: skip
def test_a_remote_path_that_is_more_than_a_path(tmp_path: Path, path: str) -> None:
    """It stays behind user and host in one word, which is nobody's option."""
    given = configuration_of(tmp_path, sshcmd=f"anna@nas.example.org:{path}")
    assert_harmless(given, tmp_path)
    assert given.argv[6] == f"anna@nas.example.org:{path}"


@pytest.mark.parametrize(
    "name",
    [
        "../x", "..", ".", "/etc/x", "a/b", "a\0b", "a\nb", "a\n", "-x", "--x", "%n", "%i", "a%n", "$HOME", "${PATH}",
        "$(id)", "a:b", "a*",
        "a b", "a,b", "a\\b", "a\\x2fb", '"a"', "é", "a\u0660", "", "a" * 256, "@a", "~a", "a@b", "a;b", "\ud800",
    ],
    ids=repr,
)  # fmt: skip
def test_a_name_of_a_volume_or_plugin_that_is_more_than_a_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes part of paths, of units' names and of command lines: letters, digits, "_", "." and "-" only.

    tests/protocol/test_names.py asks a plugin in every call; here the check itself, and the name of a plugin.
    """
    with pytest.raises(InvalidRequest) as caught:
        check_volume_name(name)
    assert caught.value.message.isprintable()
    if "\ud800" in name or "\0" in name:
        return  # no program can be given such an argument
    monkeypatch.setattr("legacyhost.server.serve", lambda *_: pytest.fail("it is served"))
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        assert cli.main(["serve", "--", name]) != 0
    assert "Traceback" not in said.getvalue()


@pytest.fixture
def etc(tmp_path: Path) -> Iterator[Paths]:
    yield Paths(etc=tmp_path, state=tmp_path / "state", run=tmp_path / "run")


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_option_among_the_defaults(etc: Paths, name: str) -> None:
    """What a volume may not have, NAME.toml may not give to all volumes."""
    file = etc.configuration("sshfs")
    file.write_text(f'[volume.defaults]\nsshcmd = "anna@nas:/{{volume}}"\n{name} = "/bin/id"\n')
    with pytest.raises(ConfigError) as caught:
        build_driver("sshfs", load(file).volume or NO_VOLUMES, etc)
    assert name in caught.value.message


@pytest.mark.parametrize(
    "sshcmd",
    [
        "{volume}:/x/{volume}",
        "anna@{volume}:/x/{volume}",
        "{volume}@nas:/x/{volume}",
        "anna@-nas:/{volume}",
        "[nas]:/{volume}",
    ],
)
def test_a_default_that_lets_a_volumes_name_choose_the_host(etc: Paths, sshcmd: str) -> None:
    """The name of a volume decides about a directory, never about an account or a host."""
    file = etc.configuration("sshfs")
    file.write_text(f'[volume.defaults]\nsshcmd = "{sshcmd}"\n')
    with pytest.raises(ConfigError, match="sshcmd"):
        build_driver("sshfs", load(file).volume or NO_VOLUMES, etc)


@pytest.mark.parametrize(
    "section",
    [
        'agent = "agent.sock"', 'agent = "$SSH_AUTH_SOCK"', 'agent = "SSH_AUTH_SOCK"', 'agent = "none"',
        'agent = "/x\\" ProxyCommand=id"',
        'agent = "/x\\nProxyCommand id"', 'agent = "/x%h"', 'agent = "/x${HOME}"', 'agent = "/x\\\\y"',
        'credential = "../x"', 'credential = "-x"',
        'credential = "/etc/x"', 'credential = "@sshfs/data"', 'credential = ""', 'ProxyCommand = "id"', "",
    ],
)  # fmt: skip
def test_an_agent_or_credential_of_a_remote_host_that_is_more(etc: Paths, section: str) -> None:
    """They become a line of ssh's configuration and a path: nothing else can be in them."""
    file = etc.configuration("sshfs")
    file.write_text(f'[volume.remote."nas"]\n{section}\n')
    with pytest.raises(ConfigError):
        build_driver("sshfs", load(file).volume or NO_VOLUMES, etc)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "@sshfs/data", "-x", "a/b", "a\nb", "", ".x", "a" * 256, "%d", "${HOME}"]
)
def test_a_credential_that_is_a_path(name: str) -> None:
    """No volume reads the credential of another one, or any other file."""
    assert "credential" in refusal({"credential": name})


def test_the_environment_of_a_mount_holds_no_secret(tmp_path: Path) -> None:
    """Whoever may list units sees their environment and command line: there are only names of files in it."""
    given = configuration_of(tmp_path, password="s3cret")
    assert not [word for word in (*given.argv, *given.environment.values(), given.description) if "s3cret" in word]
    modes = {os.stat(entry).st_mode & 0o777 for entry in os.scandir(tmp_path)}  # noqa: PTH116 of what scandir gives
    assert modes == {0o600}
