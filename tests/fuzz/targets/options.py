"""Options of a volume, ``NAME=VALUE`` with a byte 0xFF behind each, which no text has; and what becomes of them."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from drivers import sshfs_driver
from hypothesis import strategies as st

from fuzz.target import Target, judge, scratch
from legacyhost.drivers.sshfs import SshfsDriver
from legacyhost.drivers.sshfs_options import CACHE, FUSE_FLAGS, FUSE_VALUES, REFUSED, SSH_VALUES, TABLE
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.mounts import PROGRAM, SOURCE, MountCommand
from legacyhost.ssh.hostkeys import ALGORITHMS
from legacyhost.state import Volume

END = b"\xff"
CREDENTIAL = "kept"
#: Shorter ones stand in any sentence by chance.
SHORTEST_SECRET = 6
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIKTSnv9oWYQjEJMUVIcXiZqrQBAdcCBpQwDDZXZpSB5n"
FACTS = {"host_key_kind": "ssh-ed25519", "host_key_blob": KEY, "path": "/srv", "host_key": "SHA256:x"}
#: Behind sshfs's -o whatever was asked for.
ALWAYS = {"fsname", "ssh_command"}
#: What ssh is told for every volume, as ``ssh -G`` shows it: nothing of it can be asked for.
SETTLED = {
    "batchmode": ["yes"],
    "clearallforwardings": ["yes"],
    "controlmaster": ["false"],
    "escapechar": ["none"],
    "forwardagent": ["no"],
    "forwardx11": ["no"],
    "globalknownhostsfile": ["/dev/null"],
    "hostname": ["nas"],
    "identitiesonly": ["yes"],
    "identityagent": ["none"],
    "permitlocalcommand": ["no"],
    "port": ["22"],
    "stricthostkeychecking": ["true"],
    "updatehostkeys": ["false"],
    "user": ["root"],
}
Settings = dict[str, list[str]]


def given(data: bytes) -> dict[str, str]:
    """The options of an input; the last of two with the same name counts, as in JSON."""
    pairs = [part.decode("utf-8", "surrogateescape").partition("=") for part in data.split(END) if part]
    return {name: value for name, _, value in pairs}


def check(data: bytes) -> None:
    """What is refused is refused in a sentence; what is accepted means to ssh and sshfs what it says, and no more."""
    asked = given(data)
    secret = "".join(value for name, value in asked.items() if name.lower() == "password")
    others = " ".join(f"{name} {value}" for name, value in asked.items() if name.lower() != "password")
    driver = _driver()
    try:
        options = driver.parse("data", asked)
    except InvalidRequest as error:
        judge(error.message, data)
        assert not shows(error.message, secret, others) or _is_by_chance(error.message, asked), error.message
        return
    assert dict(driver.parse("data", options)) == dict(options)
    assert {name: TABLE.parse({name: value})[name] for name, value in options.items()} == dict(options)
    assert 1 <= driver.timeout(options) <= 100
    try:
        command, configuration, folder = render(driver, options)
    except Failed as error:
        judge(error.message, data)
        assert options["credential"] != CREDENTIAL
        return
    said = [
        *command.argv,
        command.description,
        *command.environment.values(),
        configuration,
        str(driver.describe(volume(options))),
    ]
    assert not any(shows(text, secret, others) for text in said)
    if secret:
        assert (folder / "secret").read_bytes() == f"{secret}\n".encode()
    _check_sshfs(command, options)
    _check_ssh(command, folder / "ssh_config", options)


@cache
def _driver() -> SshfsDriver:
    """With one credential, a password."""
    credentials = scratch("options-credentials")
    (credentials / CREDENTIAL).write_text('{"password": "swordfish"}')
    (credentials / CREDENTIAL).chmod(0o600)
    return sshfs_driver((Path("/etc/legacyhost/known_hosts"),), credentials=credentials)


def _is_by_chance(message: str, asked: Mapping[str, str]) -> bool:
    """Whether it says the same of another password."""
    other = {name: "\N{SNOWMAN}" * 9 if name.lower() == "password" else value for name, value in asked.items()}
    try:
        _driver().parse("data", other)
    except InvalidRequest as error:
        return error.message == message
    return False


def shows(text: str, secret: str, others: str) -> bool:
    return len(secret) >= SHORTEST_SECRET and secret in text and secret not in others


def volume(options: Mapping[str, str]) -> Volume:
    return Volume("data", options, datetime(2024, 2, 29, tzinfo=UTC), FACTS)


def render(driver: SshfsDriver, options: Mapping[str, str]) -> tuple[MountCommand, str, Path]:
    folder = scratch("options")
    for left in folder.iterdir():
        left.unlink()
    command = driver.command(volume(options), Path("/mounts/data"), folder)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    return command, (folder / "ssh_config").read_bytes().decode(), folder


def _check_sshfs(command: MountCommand, options: Mapping[str, str]) -> None:
    """fuse_opt_parse cuts a list at commas, takes a backslash for an escape, and "-…" for an option."""
    assert [*command.argv[:3], command.argv[4]] == ["sshfs", "-f", "-F", "-o"]
    listed, source, mountpoint = command.argv[5:]
    assert "\\" not in listed
    assert listed.replace(SOURCE, "").replace(PROGRAM, "").isprintable()
    found = [item.partition("=")[::2] for item in listed.split(",")]
    names = [name for name, _ in found]
    assert len(names) == len(set(names))
    options = {"allow_other": "true", "reconnect": "true", **CACHE[options.get("cache", "auto")], **options}
    wanted = {name: options[name] for name in (*FUSE_VALUES, "uid", "gid", "umask") if name in options}
    flags = {name for name in FUSE_FLAGS if options.get(name) == "true"}
    if "true" in (options.get("ro"), options.get("read_only")):
        flags.add("ro")
    assert {name: value for name, value in found if name not in ALWAYS} == {**wanted, **dict.fromkeys(flags, "")}
    assert (source, mountpoint) == (options["sshcmd"], "/mounts/data")
    assert not source.startswith(("-", "["))


def _check_ssh(command: MountCommand, configuration: Path, options: Mapping[str, str]) -> None:
    account = options["sshcmd"].partition(":")[0]
    host = account.rpartition("@")[2]
    # sshfs has "user@host" from the same place, and hands it to ssh as it is.
    text = configuration.read_bytes().decode()
    ran = subprocess.run(["ssh", "-G", "-F", configuration, account], capture_output=True)
    if ran.returncode or b"fill_default_options: " in ran.stderr:
        _check_refusal(ran.stderr.decode(errors="replace"), text, options)
        return
    found, usual = settings(ran.stdout), _usual()
    asked = {name.lower() for name in SSH_VALUES if name in options}
    expected = {
        "port": [options.get("port", "22")],
        "user": [account.rpartition("@")[0]],
        "hostname": [host.lower()],
        "host": [host],
        "batchmode": ["no" if options.keys() & {"password", "credential"} else "yes"],
        **{
            name: found.get(name, [])
            for name in ("serveraliveinterval", "serveralivecountmax")
            if "fail_after" in options
        },
        **{
            name.lower(): [options[name].lower()]
            for name in ("AddressFamily", "BindAddress", "Compression", "TCPKeepAlive")
            if name in options
        },
        **{
            name.lower(): [options[name]]
            for name in SSH_VALUES
            if name in options and re.fullmatch("[0-9]+", options[name]) and not name.startswith(("IPQ", "Rekey"))
        },
    }
    if "IdentityFile" in options:
        expected["identityfile"] = [options["IdentityFile"].replace("%", "%%")]
    elif options.keys() & {"password", "credential"}:
        expected["identityfile"] = ["none"]
    if "host_key" in options:
        expected["userknownhostsfile"] = [str(configuration.with_name("known_hosts"))]
        if "HostKeyAlgorithms" not in options:
            expected["hostkeyalgorithms"] = [",".join(ALGORITHMS["ssh-ed25519"])]
    if "jump" in options:
        _check_jump(found.get("proxycommand", [""])[0], options)
        expected["proxycommand"] = found.get("proxycommand", [""])
    for name in found.keys() | usual.keys():
        if name in expected:
            assert [value.lower() for value in found.get(name, [])] == [value.lower() for value in expected[name]], name
        elif name not in asked - {"stricthostkeychecking"}:
            assert found.get(name) == usual.get(name), name


def _check_jump(command: str, options: Mapping[str, str]) -> None:
    """ssh gives the command to a shell: its words are those that were meant."""
    user, at, place = options["jump"].rpartition("@")
    host, _, port = place.partition(":")
    user = user if at else options["sshcmd"].partition(":")[0].rpartition("@")[0]
    shell = subprocess.run(["sh", "-c", f"set -- {command}\nprintf '%s\\n' \"$@\""], capture_output=True, check=True)
    words = shell.stdout.decode().splitlines()
    assert words[0] == "env"
    assert words[words.index("ssh") :] == ["ssh", "-F", words[-4], "-W", "[%h]:%p", f"{user}@{host}"]
    configuration = Path(words[-4].replace("%%", "%")).read_bytes().decode()
    assert configuration.splitlines()[1:3] == ["Host *", f"Port {port or 22}"]
    assert "\nProxyCommand" not in configuration


def _check_refusal(said: str, text: str, options: Mapping[str, str]) -> None:
    """ssh refuses a value, of an option that was given, that only ssh knows; or a user only ssh refuses."""
    if "invalid characters" in said:
        return
    if lists := re.findall(r"fill_default_options: (\w+): invalid", said):  # of words it does not know
        assert set(lists) <= {name.lower() for name in options.keys() & SSH_VALUES.keys()}, said
        return
    line = re.search(r"line (\d+):", said)
    assert line, said
    keyword = text.splitlines()[int(line[1]) - 1].split()[0]
    assert keyword in options, said
    assert keyword in SSH_VALUES, said


def settings(shown: bytes) -> Settings:
    """What ``ssh -G`` prints: a name in lower case and its value on each line."""
    found: Settings = defaultdict(list)
    for line in filter(None, shown.decode(errors="replace").split("\n")):
        name, _, value = line.partition(" ")
        found[name].append(value)
    return dict(found)


def _usual() -> Settings:
    """What ssh is told for a volume with nothing but a place."""
    if not USUAL:
        driver = _driver()
        _, _, folder = render(driver, driver.parse("data", {"sshcmd": "nas:"}))
        kept = folder.with_name(f"{folder.name}-usual")
        kept.write_bytes((folder / "ssh_config").read_bytes())
        try:
            ran = subprocess.run(["ssh", "-G", "-F", kept, "root@nas"], capture_output=True, check=True)
        finally:
            kept.unlink()
        USUAL.update(settings(ran.stdout))
        assert {name: USUAL.get(name) for name in SETTLED} == SETTLED
        assert not USUAL.keys() & {
            "proxycommand",
            "localcommand",
            "knownhostscommand",
            "remotecommand",
            "pkcs11provider",
        }
    return USUAL


USUAL: Settings = {}
GOOD = [
    "true", "false", "yes", "no", "", "22", "0", "1", "022", "65535", "30", "any", "inet6", "192.0.2.7", "::1", "1G 1h",
    "aes128-ctr", "^aes256-ctr", "+x", "-x", "=x", "none", "default", "lowdelay throughput", "keep", "purge", "strict",
    "SHA256:" + "A" * 43, "/root/key", "/a b/%h,#c", "/é/\u2028", "hunter2 \\\"'#,%h $x", "nas:", "root@nas:/srv/%u",
    "a\\b@nas:~/x", "jump.example.org", "a\\b@jump:2222", "b$@jump", "kept", "u$@nas:x,ro", "-oProxyCommand=x@nas:",
    "[::1]:/", "nas:a:b\x85c", "rename:none",
]  # fmt: skip
PIECES = [*" \t\n\r\x0b\x0c\x1c\x85\u2028\0\"'\\,=#%$-@:\ud800", "${HOME}"]
NAMES = [*TABLE.all, *REFUSED, "identityfile", "SSHCMD", "\u212aernel_cache", ""]
VALUES = st.one_of(
    st.sampled_from(GOOD),
    st.text(max_size=12),
    st.builds(
        lambda good, place, piece: good[:place] + piece + good[place:],
        st.sampled_from(GOOD),
        st.integers(0, 20),
        st.sampled_from(PIECES),
    ),
)
SETS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)


def packed(options: Mapping[str, str]) -> bytes:
    return b"".join(f"{name}={value}".encode("utf-8", "surrogatepass") + END for name, value in options.items())


TARGET = Target(
    "options",
    check,
    words=[END, *(END + name.encode() + b"=" for name in NAMES), *(value.encode() for value in GOOD)],
    made=SETS.map(lambda options: packed({"sshcmd": "nas:", **options})),
    examples=500,
)
