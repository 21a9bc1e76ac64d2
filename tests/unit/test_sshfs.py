"""The sshfs driver without the network: what it would run, what it writes for it, and what it shows and refuses."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver
from namespace import in_own_namespace

from legacyhost.drivers.sshfs import SshfsDriver
from legacyhost.mounts import PROGRAM, SOURCE, MountCommand
from legacyhost.state import Volume

SECRET = "hunter2 %d$HOME'\"é"
MOUNTPOINT = Path("/run/legacyhost/sshfs/mounts/data")
REPOSITORY = Path(__file__).parents[2]
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIFQgkK8sPvY0QmXN2Ltq2vOt1M8Q2n0Uqn4Wf3bW7h6c"
FACTS = {"host_key_kind": "ssh-ed25519", "host_key_blob": KEY, "host_key": "SHA256:x", "free": "1.0 of 2.0 GiB"}
SSHCMD = "anna@nas.example.org:/srv/data"
#: What sshfs runs in place of ssh.
COPY = Path("/run/copy")


def transport_in(package: object) -> str:
    """The option that makes sshfs run the transport there in ssh's place."""
    return f"ssh_command={sys.executable} -I -S {package}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The runtime folder of a volume, with every character that could be taken for more than itself."""
    folder = tmp_path / "fold er %d é"
    folder.mkdir()
    return folder


@pytest.fixture
def driver(folder: Path) -> SshfsDriver:
    return sshfs_driver([folder / "known hosts %h", Path("/etc/ssh/ssh_known_hosts")], {})


def volume(driver: SshfsDriver, name: str = "data", **given: str) -> Volume:
    options = {"sshcmd": SSHCMD, **given}
    return Volume(name, driver.parse(name, options), datetime(2024, 2, 29, tzinfo=UTC), FACTS)


def command(driver: SshfsDriver, folder: Path, **given: str) -> MountCommand:
    return driver.command(volume(driver, **given), MOUNTPOINT, folder)


def fuse_options(command: MountCommand) -> set[str]:
    argv = list(command.argv)
    assert argv.count("-o") == 1
    return set(argv[argv.index("-o") + 1].split(","))


def ssh_says(folder: Path) -> Mapping[str, list[str]]:
    """What the real ssh makes of the configuration that was written: each keyword with its values."""
    configuration = folder / "ssh_config"
    ran = subprocess.run(
        ["ssh", "-G", "-F", str(configuration), "anna@nas.example.org"], capture_output=True, text=True, check=True
    )
    result: dict[str, list[str]] = {}
    for line in ran.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        result.setdefault(keyword, []).append(value)
    return result


def test_sshfs_is_run_with_a_configuration_of_its_own(driver: SshfsDriver, folder: Path) -> None:
    """In the foreground, with -F so that no other ssh configuration has a say, on the mountpoint."""
    given = command(driver, folder, sshcmd="anna@nas:/sp ace/$HOME/%d,é")
    assert list(given.argv) == [
        "sshfs",
        "-f",
        "-F",
        str(folder / "ssh_config"),
        "-o",
        f"fsname={SOURCE},{transport_in(PROGRAM)},allow_other,reconnect,auto_cache,dcache_timeout=3,ac_attr_timeout=0",
        "anna@nas:/sp ace/$HOME/%d,é",
        str(MOUNTPOINT),
    ]
    assert given.description == "Volume data (anna@nas)"


def test_nothing_a_user_can_give_is_taken_for_the_source(driver: SshfsDriver, folder: Path) -> None:
    """The mount's source is put in where the driver has left room for it, and nowhere else."""
    given = command(driver, folder, sshcmd="anna@nas:/srv/@SOURCE@/{source}/%s")
    words = given.words("the-source", COPY)
    assert words[-2:] == ["anna@nas:/srv/@SOURCE@/{source}/%s", str(MOUNTPOINT)]
    rest = "allow_other,reconnect,auto_cache,dcache_timeout=3,ac_attr_timeout=0"
    options = f"fsname=the-source,{transport_in(COPY)},{rest}"
    assert [word for word in words if "the-source" in word] == [options]


def test_options_of_fuse_are_handed_on(driver: SshfsDriver, folder: Path) -> None:
    """What the volume says goes to sshfs: switches by their name or not at all, the rest with its value."""
    given = command(
        driver, folder, read_only="", uid="1000", gid="100", umask="22", allow_other="no", direct_io="", max_conns="4"
    )
    expected = {
        f"fsname={SOURCE}",
        transport_in(PROGRAM),
        "ro",
        "uid=1000",
        "gid=100",
        "umask=022",
        "reconnect",
        "auto_cache",
        "dcache_timeout=3",
        "ac_attr_timeout=0",
        "direct_io",
        "max_conns=4",
    }
    assert fuse_options(given) == expected
    assert "ro" in fuse_options(command(driver, folder, ro=""))
    assert "ro" not in fuse_options(command(driver, folder, read_only="false", ro="no", rw="", nonempty=""))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"auto_cache", "ac_attr_timeout=0", "dcache_timeout=3"}),
        ({"cache": "auto"}, {"auto_cache", "ac_attr_timeout=0", "dcache_timeout=3"}),
        ({"cache": "kernel"}, {"kernel_cache"}),
        ({"cache": "none"}, {"dir_cache=no", "attr_timeout=0", "entry_timeout=0"}),
        ({"auto_cache": "false", "dcache_timeout": "20"}, {"ac_attr_timeout=0", "dcache_timeout=20"}),
        (
            {"cache": "none", "dir_cache": "yes", "attr_timeout": "5"},
            {"dir_cache=yes", "attr_timeout=5", "entry_timeout=0"},
        ),
    ],
    ids=str,
)
def test_a_cache_is_a_choice(driver: SshfsDriver, folder: Path, given: dict[str, str], expected: set[str]) -> None:
    """One word for what sshfs has several options for; those, given by name, count."""
    found = fuse_options(command(driver, folder, **given))
    assert found - {f"fsname={SOURCE}", transport_in(PROGRAM), "allow_other", "reconnect"} == expected


def test_ssh_is_safe_whatever_the_options(driver: SshfsDriver, folder: Path) -> None:
    """Host keys are checked against the files of this host alone, no program is run, nothing is forwarded."""
    command(driver, folder, StrictHostKeyChecking="yes")
    said = ssh_says(folder)
    expected = {
        "user": "anna",
        "hostname": "nas.example.org",
        "port": "22",
        "stricthostkeychecking": "true",
        "userknownhostsfile": f"{folder}/known hosts %h /etc/ssh/ssh_known_hosts",
        "globalknownhostsfile": "/dev/null",
        "updatehostkeys": "false",
        "controlmaster": "false",
        "forwardagent": "no",
        "forwardx11": "no",
        "permitlocalcommand": "no",
        "identitiesonly": "yes",
        "identityagent": "none",
        "escapechar": "none",
        "batchmode": "yes",
        "verifyhostkeydns": "false",
        "canonicalizehostname": "false",
        "serveraliveinterval": "10",
        "serveralivecountmax": "2",
        "connecttimeout": "10",
        "compression": "no",
    }
    assert {keyword: said[keyword] for keyword in expected} == {key: [value] for key, value in expected.items()}
    assert said["ciphers"][0].startswith("aes128-gcm@openssh.com,")
    unwanted = {"proxycommand", "localcommand", "remotecommand", "knownhostscommand", "controlpath", "pkcs11provider"}
    assert not unwanted & said.keys()


@pytest.mark.parametrize(
    ("name", "value", "keyword", "shown"),
    [
        ("port", "2222", "port", "2222"),
        ("IdentityFile", "/root/k ey %d é,#", "identityfile", "/root/k ey %%d é,#"),  # ssh -G shows it unexpanded
        ("AddressFamily", "inet6", "addressfamily", "inet6"),
        ("BindAddress", "192.0.2.1", "bindaddress", "192.0.2.1"),
        ("Ciphers", "aes256-ctr,aes128-ctr", "ciphers", "aes256-ctr,aes128-ctr"),
        ("Compression", "yes", "compression", "yes"),
        ("ConnectionAttempts", "3", "connectionattempts", "3"),
        ("ConnectTimeout", "20", "connecttimeout", "20"),
        ("HostKeyAlgorithms", "rsa-sha2-512", "hostkeyalgorithms", "rsa-sha2-512"),
        ("IPQoS", "af21 cs1", "ipqos", "af21 cs1"),
        ("KexAlgorithms", "curve25519-sha256", "kexalgorithms", "curve25519-sha256"),
        ("MACs", "hmac-sha2-256", "macs", "hmac-sha2-256"),
        ("PreferredAuthentications", "publickey,password", "preferredauthentications", "publickey,password"),
        ("PubkeyAcceptedAlgorithms", "ssh-ed25519", "pubkeyacceptedalgorithms", "ssh-ed25519"),
        ("CASignatureAlgorithms", "ssh-ed25519", "casignaturealgorithms", "ssh-ed25519"),
        ("RekeyLimit", "1G 1h", "rekeylimit", "1073741824 3600"),
        ("ServerAliveCountMax", "5", "serveralivecountmax", "5"),
        ("ServerAliveInterval", "30", "serveraliveinterval", "30"),
        ("TCPKeepAlive", "no", "tcpkeepalive", "no"),
    ],
)
def test_ssh_understands_each_option_as_meant(
    driver: SshfsDriver, folder: Path, name: str, value: str, keyword: str, shown: str
) -> None:
    """The configuration is read back by ssh itself: one value for the keyword, the one given."""
    command(driver, folder, **{name: value})
    assert ssh_says(folder)[keyword] == [shown]


def test_a_password_is_in_one_file_only(driver: SshfsDriver, folder: Path) -> None:
    """Not in the command line, the environment, the description, the ssh configuration or the status."""
    given = command(driver, folder, password=SECRET)
    shown = volume(driver, password=SECRET)
    assert "hunter2" not in repr(given)
    assert "hunter2" not in repr(driver.describe(shown)) + repr(shown)
    having = [path.name for path in folder.iterdir() if "hunter2" in path.read_text()]
    assert having == ["secret"]
    assert (folder / "secret").read_text() == f"{SECRET}\n"
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_ssh_gets_the_password_from_askpass(driver: SshfsDriver, folder: Path) -> None:
    """The program named in the environment prints exactly the password; ssh is set to ask it, once."""
    given = command(driver, folder, password=SECRET)
    environment = {"PATH": os.environ["PATH"], **given.variables("a:mount:1")}
    asked = subprocess.run([given.environment["SSH_ASKPASS"], "anna's password:"], env=environment, capture_output=True)
    assert asked.stdout.decode() == f"{SECRET}\n"
    assert given.environment["SSH_ASKPASS_REQUIRE"] == "force"
    said = ssh_says(folder)
    assert (said["batchmode"], said["numberofpasswordprompts"]) == (["no"], ["1"])


def test_with_a_password_no_key_of_the_host_is_tried(driver: SshfsDriver, folder: Path) -> None:
    """As when the login is checked at Create: root's own keys are for volumes that name neither key nor password."""
    command(driver, folder, password=SECRET)
    assert ssh_says(folder)["identityfile"] == ["none"]
    command(driver, folder, password=SECRET, IdentityFile="/root/key")
    assert ssh_says(folder)["identityfile"] == ["/root/key"]


@in_own_namespace
def test_without_key_and_password_the_accounts_own_keys_are_tried(driver: SshfsDriver, folder: Path) -> None:
    """Those of the account this runs as, by the user database, as when the login is checked at Create."""
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    for name in ("id_ed25519", "id_rsa", "id_ed25519.pub", "known_hosts"):
        (home / ".ssh" / name).touch()
    (folder / "passwd").write_text(f"root:x:0:0:root:{home}:/bin/sh\n")
    subprocess.run(["mount", "--bind", str(folder / "passwd"), "/etc/passwd"], check=True)
    command(driver, folder)
    shown = [path.replace("%%", "%") for path in ssh_says(folder)["identityfile"]]
    assert shown == [str(home / ".ssh" / "id_ed25519"), str(home / ".ssh" / "id_rsa")]


def test_a_pinned_host_key_is_the_only_one_known(driver: SshfsDriver, folder: Path) -> None:
    """host_key= overrules the files of this host: ssh sees a file with that one key, under the name it looks up."""
    pin = "SHA256:" + "A" * 43
    command(driver, folder, host_key=pin, port="2222", sshcmd="anna@NAS:/srv")
    assert (folder / "known_hosts").read_text() == f"[nas]:2222 ssh-ed25519 {KEY}\n"
    assert ssh_says(folder)["userknownhostsfile"] == [str(folder / "known_hosts")]


def test_files_are_made_anew_at_each_mount(driver: SshfsDriver, folder: Path) -> None:
    """What an earlier mount left is replaced, never followed: a link in its place leads nowhere."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.write_text("untouched")
    for name in ("secret", "ssh_config"):
        (folder / name).symlink_to(elsewhere)
    command(driver, folder, password=SECRET)
    assert elsewhere.read_text() == "untouched"
    assert not (folder / "secret").is_symlink()
    (folder / "secret.new").symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"symbolic links"):
        command(driver, folder, password=SECRET)
    assert elsewhere.read_text() == "untouched"


def test_a_volumes_own_options_come_before_configured_ones(folder: Path) -> None:
    """The volume over the configuration over the table."""
    driver = sshfs_driver(
        [Path("/known")], {"timeout": "5", "port": "2222", "allow_other": "false", "IdentityFile": "/etc/key"}
    )
    assert driver.timeout(driver.parse("data", {"sshcmd": SSHCMD})) == 5.0
    assert driver.timeout(driver.parse("data", {"sshcmd": SSHCMD, "timeout": "7"})) == 7.0
    assert sshfs_driver([], {}).timeout({"sshcmd": SSHCMD}) == 30.0
    assert "allow_other" not in fuse_options(command(driver, folder))
    said = ssh_says(folder)
    assert (said["port"], said["identityfile"]) == (["2222"], ["/etc/key"])
    assert "allow_other" in fuse_options(command(driver, folder, allow_other="true", port="22"))
    assert ssh_says(folder)["port"] == ["22"]


def test_a_passphrase_is_never_offered_to_the_server(driver: SshfsDriver, folder: Path, tmp_path: Path) -> None:
    """A password that opens the identity file is for that alone: ssh must not answer the server's question with it."""
    for phrase, expected in (("", "yes"), (SECRET, "no")):
        key = tmp_path / f"key-{expected}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-f", str(key)], check=True)
        options = {"sshcmd": "anna@nas:", "password": SECRET, "IdentityFile": str(key)}
        facts = {"encrypted_key": str(key)} if phrase else {}
        made = Volume("data", driver.parse("data", options), datetime(2024, 2, 29, tzinfo=UTC), facts)
        driver.command(made, folder / "mountpoint", folder)
        text = (folder / "ssh_config").read_text()
        assert ("PasswordAuthentication no" in text) == (expected == "no")
        assert ("KbdInteractiveAuthentication no" in text) == (expected == "no")
