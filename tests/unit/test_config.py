"""What the administrator wrote: read whole or refused with one sentence that names the file and the key."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from legacyhost.config import Config, ListenConfig, Paths, VolumeConfig, host_and_port, is_loopback, load
from legacyhost.drivers.sshfs_options import TABLE
from legacyhost.errors import ConfigError
from legacyhost.parts.volume import build_driver

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "foo.toml"


def refusal(file: Path, content: str | bytes) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.message.startswith(str(file))
    assert caught.value.message.isprintable()
    return caught.value.message.removeprefix(f"{file}").removeprefix(": ")


def test_everything_has_a_default(file: Path) -> None:
    """One line is a configuration."""
    file.write_text("[volume]")
    assert load(file) == Config(VolumeConfig("sshfs", "local", {}), logging.INFO)


def test_everything_can_be_said(file: Path) -> None:
    """All settings; options may be written as what they are, and come out as Docker would send them."""
    file.write_text(
        'log_level = "debug"\n[volume]\ndriver = "sshfs"\nscope = "global"\n'
        '[volume.defaults]\nsshcmd = "a@h:/{volume}"\nport = 2222\nread_only = true\ncreate = false\numask = "022"\n'
    )
    config = load(file)
    assert config.log_level == logging.DEBUG
    assert config.volume is not None
    assert (config.volume.driver, config.volume.scope) == ("sshfs", "global")
    assert config.volume.defaults == {
        "sshcmd": "a@h:/{volume}",
        "port": "2222",
        "read_only": "true",
        "create": "false",
        "umask": "022",
    }


def test_the_shipped_configuration_works(file: Path) -> None:
    """As it is, and with every setting it shows in a comment switched on."""
    shipped = (REPOSITORY / "packaging" / "sshfs.toml").read_text()
    file.write_text(shipped)
    assert load(file) == Config(VolumeConfig("sshfs"))
    lines = [line[1:] if line.startswith("#") and line[1:2] not in (" ", "") else line for line in shipped.splitlines()]
    file.write_text("\n".join(lines))
    config = load(file)
    assert config.volume is not None
    assert "sshcmd" in config.volume.defaults
    assert TABLE.parse(config.volume.defaults)
    build_driver("sshfs", config.volume, Paths(file.parent, file.parent, file.parent))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    """The sentence has the command; for the shipped file itself that would be a copy onto itself."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "foo.toml")
    example, wanted = tmp_path / "sshfs.toml", tmp_path / "foo.toml"
    made = f"make one: for volumes, cp {example} {wanted}; for authorization, see man legacyhost.toml"
    assert caught.value.message == f"there is no {wanted}; {made}"
    with pytest.raises(ConfigError, match=f"^there is no {example}") as caught:
        load(example)
    assert "cp" not in caught.value.message


@pytest.mark.parametrize(
    "content",
    [
        "volume",
        "[volume",
        "[volume]\n[volume]",
        "log_level = debug",
        "a = 1\na = 2",
        "\0",
        b"\xff\xfe",
        b"a = '\xff'",
        "a = " + "[" * 5000,
        "a = " + "9" * 5000,
        "a = 2024-99-99",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_not_toml_is_refused(file: Path, content: str | bytes) -> None:
    """A sentence with the file, and where in it if that is known; never a defect."""
    message = refusal(file, content)
    assert message.startswith(" cannot be read: ")
    assert message.endswith("too large or too deep") == (len(content) > 1000)


def test_what_is_no_file_is_refused(file: Path) -> None:
    """A directory in its place, a link to itself."""
    file.mkdir()
    with pytest.raises(ConfigError, match=f"^{file} cannot be read: "):
        load(file)
    file.rmdir()
    file.symlink_to(file)
    with pytest.raises(ConfigError, match=f"^{file} cannot be read: "):
        load(file)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "it has no section [volume] or [authz], so there is nothing to serve"),
        ('log_level = "info"', "it has no section [volume] or [authz], so there is nothing to serve"),
        ('volume = "sshfs"', "volume has to be a section: [volume]"),
        ("[[volume]]", "volume has to be a section: [volume]"),
        ("[volumes]", "unknown setting volumes; did you mean volume?"),
        ('loglevel = "info"\n[volume]', "unknown setting loglevel; did you mean log_level?"),
        ("zzz = 1\n[volume]", "unknown setting zzz"),
        ('"a\\n\\u001b" = 1\n[volume]', "unknown setting a??"),
        ("log_level = 1\n[volume]", "log_level has to be a string"),
        ('log_level = "loud"\n[volume]', "log_level has to be debug or info or warning or error"),
        ('[volume]\ndrivr = "sshfs"', "unknown setting volume.drivr; did you mean volume.driver?"),
        ("[volume]\ndriver = 1", "volume.driver has to be a string"),
        ("[volume]\nscope = 1", "volume.scope has to be a string"),
        ('[volume]\nscope = "swarm"', "volume.scope has to be local or global"),
        ('[volume]\nscope = "Local"', "volume.scope has to be local or global"),
        ("[volume]\ndefaults = 1", "volume.defaults has to be a section"),
        ("[[volume.defaults]]", "volume.defaults has to be a section"),
        ("[volume.default]", "unknown setting volume.default; did you mean volume.defaults?"),
        ("authz = 1", "authz has to be a section: [authz]"),
        ("[[authz]]", "authz has to be a section: [authz]"),
        ("[authz]\npolcy = 1", "unknown setting authz.polcy; did you mean authz.policy?"),
        ("[authz]\npolicy = 1", "authz.policy has to be a string"),
        ("[authz]\nlog = 'none'", "authz.log has to be changes, denied or all"),
        ("[authz]\ndry_run = 'no'", "authz.dry_run has to be true or false"),
        *(
            (f"[authz]\nrefresh = {value}", "authz.refresh has to be a number of seconds from 5 to 604800")
            for value in ("0", "4", "604801", "'300'", "true", "60.5")
        ),
        (
            "[authz]\npolicy = 'x'\n[[authz.rule]]",
            "authz has its rules either in authz.policy or in itself, not in both",
        ),
        (
            "[authz]\npolicy = 'x'\njump = 'gate'",
            "authz.jump is for a policy on another host, ssh://[user@]host/path",
        ),
        *(
            (f"[volume.defaults]\nport = {value}", "volume.defaults.port has to be a string, a number, true or false")
            for value in ("1.5", "[22]", "{a = 1}", "2024-01-01")
        ),
    ],
)
def test_a_mistake_is_named(file: Path, content: str, sentence: str) -> None:
    """The key as it is written in the file, what it has to be, and for a misspelt one the nearest there is."""
    assert refusal(file, content) == sentence


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (VolumeConfig("nfs"), "there is no driver 'nfs'; there is: sshfs"),
        (VolumeConfig("sshfs", defaults={"prot": "1"}), "volume.defaults: unknown option prot; did you mean port?"),
        (VolumeConfig("sshfs", defaults={"port": "x"}), "volume.defaults: option port has to be a whole number"),
        (VolumeConfig("sshfs", defaults={"ProxyCommand": "x"}), "volume.defaults: option ProxyCommand is refused"),
        (VolumeConfig("sshfs", defaults={"sshcmd": "a@h:/srv"}), "volume.defaults.sshcmd needs {volume} in its path"),
        (VolumeConfig("sshfs", defaults={"sshcmd": "{volume}@h:/srv"}), "volume.defaults: option sshcmd"),
    ],
)
def test_what_the_driver_does_not_take_is_a_mistake_too(tmp_path: Path, section: VolumeConfig, sentence: str) -> None:
    """Options in the configuration are checked as those of Create are, when it is read."""
    with pytest.raises(ConfigError) as caught:
        build_driver("sshfs", section, Paths(tmp_path, tmp_path, tmp_path))
    assert caught.value.message.startswith(sentence)


def test_defaults_are_not_shown() -> None:
    """They may hold a password."""
    assert "hunter2" not in repr(Config(VolumeConfig("sshfs", "local", {"password": "hunter2"})))


def test_paths_are_the_promised_ones_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """/etc/legacyhost, /var/lib/legacyhost, /run/legacyhost and /run/docker/plugins are in other people's scripts."""
    for name in ("ETC", "STATE", "RUN"):
        monkeypatch.delenv(f"LEGACYHOST_{name}", raising=False)
    paths = Paths.from_environment()
    assert list(map(str, (paths.etc, paths.state, paths.run, paths.sockets))) == [
        "/etc/legacyhost",
        "/var/lib/legacyhost",
        "/run/legacyhost",
        "/run/docker/plugins",
    ]
    assert list(map(str, paths.known_hosts())) == ["/etc/legacyhost/known_hosts", "/etc/ssh/ssh_known_hosts"]
    assert paths.configuration("foo") == Path("/etc/legacyhost/foo.toml")
    monkeypatch.setenv("LEGACYHOST_ETC", str(tmp_path))
    assert Paths.from_environment().configuration("foo") == tmp_path / "foo.toml"
    assert Paths.from_environment().plugins() == []


def test_plugins_are_the_configurations_there_are(tmp_path: Path) -> None:
    """Files whose name can be a plugin's, sorted; nothing else in the directory counts."""
    for name in ("b.toml", "a.toml", ".hidden.toml", "a b.toml", "c.toml.dpkg-old", "known_hosts"):
        (tmp_path / name).touch()
    assert Paths(tmp_path, tmp_path, tmp_path).plugins() == ["a", "b"]
    assert Paths(tmp_path / "missing", tmp_path, tmp_path).plugins() == []


def test_where_to_listen(file: Path) -> None:
    """The files are those of ``legacyhost pki``, unless others are named; relative to the configuration."""
    file.write_text('[volume]\n[listen]\naddress = "0.0.0.0:7777"\n')
    pki = file.parent / "pki" / "foo"
    expected = ListenConfig("0.0.0.0:7777", pki / "ca.pem", pki / "server.pem", pki / "server-key.pem")
    assert load(file).listen == expected
    file.write_text(
        '[volume]\n[listen]\naddress = "[::1]:7777"\nca = "/a.pem"\ncertificate = "b.pem"\nkey = "c/d.pem"\n'
        'mounts = true\nclients = ["one", "two"]\n'
    )
    own = (Path("/a.pem"), file.parent / "b.pem", file.parent / "c/d.pem")
    assert load(file).listen == ListenConfig("[::1]:7777", *own, mounts=True, clients=frozenset({"one", "two"}))
    file.write_text('[volume]\n[listen]\nplain = true\naddress = "127.0.0.1:7777"')
    assert (listen := load(file).listen)
    assert listen.plain
    file.write_text("[volume]\n[listen]\n")
    assert (listen := load(file).listen)
    assert listen.address == "", "it is systemd's to say"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("listen = 7777", "listen has to be a section"),
        ("[listen]\nadress = 'x'", "unknown setting listen.adress; did you mean listen.address?"),
        ("[listen]\naddress = 7777", "listen.address has to be a string"),
        *(
            (f"[listen]\naddress = {address!r}", f"listen.address '{address}' is not ADDRESS:PORT, such as")
            for address in (
                "7777",
                "nas:7777",
                "0.0.0.0",
                "0.0.0.0:0",
                "0.0.0.0:65536",
                "::1:7777",
                "[127.0.0.1]:1",
                "",
            )
        ),
        ("[listen]\nplain = true\naddress = '0.0.0.0:7777'", "listen.plain needs a loopback address such as 127.0.0.1"),
        ("[listen]\nplain = true\naddress = '[::]:7777'", "listen.plain needs a loopback address"),
        ("[listen]\nplain = 'yes'", "listen.plain has to be true or false"),
        ("[listen]\nmounts = 1", "listen.mounts has to be true or false"),
        ("[listen]\nplain = true\nca = 'x'", "listen.ca has no meaning with listen.plain"),
        ("[listen]\nplain = true\nclients = ['x']", "listen.clients has no meaning with listen.plain"),
        ("[listen]\nkey = ''", "listen.key has to be the path of a file"),
        ('[listen]\nca = "a\\u0000b"', "listen.ca has to be the path of a file"),
        ("[listen]\nclients = 'x'", "listen.clients has to be a list of names"),
        ("[listen]\nclients = ['']", "listen.clients has to be a list of names"),
        ("[listen]\nclients = []", "listen.clients has no name in it"),
    ],
)
def test_where_to_listen_is_said_wrongly(file: Path, text: str, what: str) -> None:
    """A plugin is never reached by more than was meant."""
    begin, _, rest = text.partition("\n") if text.startswith("listen") else ("", "", text)
    assert refusal(file, f"{begin}\n[volume]\n{rest}\n").startswith(what)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "localhost", "")),
    ],
)
def test_what_only_this_host_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_an_address_has_one_form() -> None:
    assert host_and_port("[0:0::1]:80") == ("::1", 80)
    assert host_and_port("10.0.0.5:7777") == ("10.0.0.5", 7777)
