"""A configuration, as somebody may have written it."""

from __future__ import annotations

from fuzz.target import Target, judge, scratch
from legacyhost.config import DECISIONS, LEVELS, NO_VOLUMES, REFRESH, SCOPES, AuthzConfig, Config, Paths, load
from legacyhost.errors import ConfigError
from legacyhost.parts.volume import build_driver


def check(data: bytes) -> None:
    """It is taken over, or refused in a sentence that names the file."""
    folder = scratch("config")
    path = folder / "sshfs.toml"
    path.write_bytes(data)
    try:
        config = load(path)
    except ConfigError as error:
        assert str(path) in error.message
        judge(error.message, data)
        return
    assert isinstance(config, Config)
    assert config.log_level in LEVELS.values()
    volume, authz = config.volume or NO_VOLUMES, config.authz or AuthzConfig()
    assert volume.scope in SCOPES
    assert all(isinstance(text, str) for pair in volume.defaults.items() for text in pair)
    assert (authz.log in DECISIONS, authz.refresh in REFRESH, authz.dry_run in (True, False)) == (True, True, True)
    try:
        driver = build_driver("sshfs", volume, Paths(folder, folder, folder))
    except ConfigError as error:
        judge(error.message, data)
        return
    assert 1 <= driver.timeout({"sshcmd": "root@nas:"}) <= 100


TARGET = Target(
    "config",
    check,
    words=[
        *b'[volume]\n~[volume.defaults]\n~[volume.remote."nas:22"]\n~log_level = "debug"\n~driver = "sshfs"\n'.split(
            b"~"
        ),
        *b'scope = "global"\n~credential = "x"\n~agent = "/run/a"\n~timeout = ~sshcmd = ~port = ~0x~0o7~0b1~1e9'.split(
            b"~"
        ),
        *b'inf~nan~1979-05-27~true~"""~{volume}~[[~]]~{a=~# ~\\u0000~\\U0001F600~\\n~.~= ~\xff~\xef\xbb\xbf'.split(
            b"~"
        ),
        *(b"\r\n", b"'" * 3, b"9" * 4400, b"0x" + b"f" * 5000, b"[" * 3000, b'"' + b"k" * 300 + b'" = 1\n'),
    ],
)
