"""What the administrator wrote: /etc/legacyhost/NAME.toml, and where things are on this host."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from legacyhost import log
from legacyhost.errors import ConfigError
from legacyhost.names import is_name
from legacyhost.wire import nearest, printable

LEVELS = {"debug": log.DEBUG, "info": log.INFO, "warning": log.WARNING, "error": log.ERROR}
SCOPES = ("local", "global")
#: What ``legacyhost pki`` makes, in a directory for each plugin.
PKI, CA, SERVER, SERVER_KEY = "pki", "ca.pem", "server.pem", "server-key.pem"
#: What a section [authz] may have of a policy's own, in place of the name of one.
RULES = ("rule",)
#: Which decisions are logged: denials and what changes something, denials alone, every one.
DECISIONS = ("changes", "denied", "all")
#: Seconds between two looks at a policy on another host.
REFRESH = range(5, 7 * 24 * 3600 + 1)


@dataclass(frozen=True)
class Paths:
    """The directories of this host. The variables are for development: a second host beside the installed one."""

    etc: Path
    state: Path
    run: Path
    sockets: Path = Path("/run/docker/plugins")

    @classmethod
    def from_environment(cls) -> Paths:
        return cls(
            etc=Path(os.environ.get("LEGACYHOST_ETC", "/etc/legacyhost")),
            state=Path(os.environ.get("LEGACYHOST_STATE", "/var/lib/legacyhost")),
            run=Path(os.environ.get("LEGACYHOST_RUN", "/run/legacyhost")),
        )

    def known_hosts(self) -> tuple[Path, ...]:
        """Where host keys are looked up, in order."""
        return (self.etc / "known_hosts", Path("/etc/ssh/ssh_known_hosts"))

    def credentials(self) -> Path:
        return self.etc / "credentials"

    def pki(self, plugin: str) -> Path:
        """The certificates that ``legacyhost pki`` makes."""
        return self.etc / PKI / plugin

    def configuration(self, plugin: str) -> Path:
        return self.etc / f"{plugin}.toml"

    def policy(self, name: str) -> Path:
        """The file of a policy: a relative name is in the directory of the configurations."""
        return self.etc / name

    def plugins(self) -> list[str]:
        """The names that have a configuration."""
        return sorted(path.stem for path in self.etc.glob("*.toml") if is_name(path.stem))


@dataclass(frozen=True)
class VolumeConfig:
    """The section [volume]: the kind of storage, options for volumes that do not give them, what opens accounts."""

    driver: str
    scope: str = "local"
    defaults: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: ``[user@]host[:port]`` to {"credential": name} or {"agent": socket}: what opens accounts there.
    remote: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


#: Of a plugin that serves none.
NO_VOLUMES = VolumeConfig("sshfs")


@dataclass(frozen=True)
class AuthzConfig:
    """The section [authz]: where the policy is, or the rules themselves, and what becomes of decisions.

    ``rules`` is as it was written: what is wrong with a policy denies requests, and says so; it stops no engine.
    ``account`` has what opens that of an ssh:// policy, by the names of a volume's options.
    """

    policy: str = ""
    rules: Mapping[str, object] = field(default_factory=dict)
    account: Mapping[str, str] = field(default_factory=dict)
    refresh: float = 300
    dry_run: bool = False
    log: str = "changes"

    @property
    def is_remote(self) -> bool:
        return self.policy.startswith("ssh://")


@dataclass(frozen=True)
class ListenConfig:
    """The section [listen]: where engines on other hosts call, and how each side knows the other."""

    #: ``ADDRESS:PORT``; empty where it is only systemd's to say.
    address: str
    ca: Path
    certificate: Path
    key: Path
    plain: bool = False
    #: Whether engines that call by this way see what is mounted on this host.
    mounts: bool = False
    #: Names that a client's certificate may have; empty: any that the authority has signed.
    clients: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Config:
    """One plugin. A section that is None is not served, and not advertised."""

    volume: VolumeConfig | None
    log_level: int = log.INFO
    authz: AuthzConfig | None = None
    listen: ListenConfig | None = None


def load(path: Path) -> Config:
    """Read and check a configuration. Raises ConfigError with one sentence that names the file."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        example = path.with_name("sshfs.toml")
        copy = f"make one: for volumes, cp {example} {path}; for authorization, see man legacyhost.toml"
        hint = "it needs at least the line [volume]" if path == example else copy
        raise ConfigError(f"there is no {path}; {hint}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: it is not UTF-8 (at byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: a value in it is too large or too deep") from error
    try:
        _only(content, "", "log_level", "volume", "authz", "listen")
        level = _text(content, "log_level", "info")
        if level not in LEVELS:
            raise ValueError(f"log_level has to be {' or '.join(LEVELS)}")
        volume, authz = _section(content, "volume"), _section(content, "authz")
        if volume is None and authz is None:
            raise ValueError("it has no section [volume] or [authz], so there is nothing to serve")
        return Config(
            None if volume is None else _volume(volume),
            LEVELS[level],
            None if authz is None else _authz(authz),
            _listen(content["listen"], path) if "listen" in content else None,
        )
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _section(content: Mapping[str, object], name: str) -> Mapping[str, object] | None:
    section = content.get(name)
    if section is not None and not isinstance(section, dict):
        raise ValueError(f"{name} has to be a section: [{name}]")
    return section


def _authz(section: Mapping[str, object]) -> AuthzConfig:
    own = ("policy", "credential", "host_key", "jump", "refresh", "dry_run", "log")
    _only(section, "authz.", *own, *RULES)
    texts = {name: _text(section, name, "", "authz.") for name in ("policy", "credential", "host_key", "jump")}
    rules = {name: section[name] for name in RULES if name in section}
    if texts["policy"] and rules:
        raise ValueError("authz has its rules either in authz.policy or in itself, not in both")
    decisions = _text(section, "log", "changes", "authz.")
    if decisions not in DECISIONS:
        raise ValueError(f"authz.log has to be {', '.join(DECISIONS[:-1])} or {DECISIONS[-1]}")
    is_dry, refresh = _switch(section, "dry_run", "authz."), section.get("refresh", 300)
    if type(refresh) is not int or refresh not in REFRESH:
        raise ValueError(f"authz.refresh has to be a number of seconds from {REFRESH[0]} to {REFRESH[-1]}")
    made = AuthzConfig(
        texts["policy"],
        rules,
        {name: texts[name] for name in ("credential", "host_key", "jump") if texts[name]},
        refresh,
        is_dry,
        decisions,
    )
    if made.account and not made.is_remote:
        raise ValueError(f"authz.{next(iter(made.account))} is for a policy on another host, ssh://[user@]host/path")
    return made


def _volume(section: Mapping[str, object]) -> VolumeConfig:
    _only(section, "volume.", "driver", "scope", "defaults", "remote")
    driver = _text(section, "driver", "sshfs", "volume.")
    scope = _text(section, "scope", "local", "volume.")
    if scope not in SCOPES:
        raise ValueError(f"volume.scope has to be {' or '.join(SCOPES)}")
    defaults = section.get("defaults", {})
    if not isinstance(defaults, dict):
        raise ValueError("volume.defaults has to be a section")
    remotes = section.get("remote", {})
    if not isinstance(remotes, dict):
        raise ValueError("volume.remote has to be a section with a section for each remote host")
    options = {name: _option(name, value) for name, value in defaults.items()}
    return VolumeConfig(driver, scope, options, dict(_remote(name, value) for name, value in remotes.items()))


def _remote(name: str, section: object) -> tuple[str, Mapping[str, str]]:
    """A host and what opens accounts on it."""
    shown = f'volume.remote."{printable(name)}"'
    if not re.fullmatch(r"([^@\s]+@)?[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?", name):
        raise ValueError(f"{shown} is not [user@]host[:port]")
    if not isinstance(section, dict):
        raise ValueError(f"{shown} has to be a section with credential or agent")
    _only(section, f"{shown}.", "credential", "agent")
    if len(section) != 1:
        raise ValueError(f"{shown} has to have either credential or agent")
    credential, agent = (_text(section, key, "", f"{shown}.") for key in ("credential", "agent"))
    if "credential" in section and not is_name(credential):
        raise ValueError(f"{shown}.credential is no name of a credential")
    if "agent" in section and not re.fullmatch(r"/[^\"'\\$%\x00-\x1f\x7f]+", agent):
        raise ValueError(f"{shown}.agent has to be the absolute path of a socket, without quotes, '$', '%' or '\\'")
    user, at, place = name.rpartition("@")
    return f"{user}{at}{place.lower()}", {"credential": credential} if credential else {"agent": agent}


def _listen(section: object, path: Path) -> ListenConfig:
    if not isinstance(section, dict):
        raise ValueError("listen has to be a section")
    files = ("ca", "certificate", "key")
    _only(section, "listen.", "address", *files, "plain", "mounts", "clients")
    address = _text(section, "address", "", "listen.")
    plain, mounts = (_switch(section, key, "listen.") for key in ("plain", "mounts"))
    if "address" in section:
        host, _ = host_and_port(address)
        if plain and not is_loopback(host):
            raise ValueError(f"listen.plain needs a loopback address such as 127.0.0.1, and {host} is none")
    if plain and (given := [key for key in (*files, "clients") if key in section]):
        raise ValueError(f"listen.{given[0]} has no meaning with listen.plain, which has no certificates")
    own = path.parent / PKI / path.stem
    names = {"ca": own / CA, "certificate": own / SERVER, "key": own / SERVER_KEY}
    for key in files:
        text = _text(section, key, str(names[key]), "listen.")
        if not text or not text.isprintable():
            raise ValueError(f"listen.{key} has to be the path of a file")
        names[key] = path.parent / text
    clients = section.get("clients", [])
    if not isinstance(clients, list) or not all(isinstance(name, str) and name for name in clients):
        raise ValueError("listen.clients has to be a list of names")
    if "clients" in section and not clients:
        raise ValueError("listen.clients has no name in it; left out, every client of the authority may call")
    return ListenConfig(address, **names, plain=plain, mounts=mounts, clients=frozenset(clients))


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of listen.address: of an IP address, in brackets if it is IPv6, and a port. Raises ValueError."""
    import ipaddress

    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", address, re.ASCII)
    try:
        host = str(ipaddress.ip_address(found[1] or found[2])) if found else ""
    except ValueError:
        host = ""
    if not found or not host or (":" in host) != bool(found[1]) or not 0 < int(found[3]) < 65536:
        raise ValueError(
            f"listen.address {printable(address)!r} is not ADDRESS:PORT, such as 0.0.0.0:7777 or [::]:7777"
        )
    return host, int(found[3])


def joined(host: str, port: int) -> str:
    """The opposite of host_and_port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this host can reach that address; of a name it is not known."""
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _option(name: str, value: object) -> str:
    """An option's value as Docker would send it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 63:
        raise ValueError(f"volume.defaults.{printable(name)} is too large a number")
    if isinstance(value, str | int):
        return str(value)
    raise ValueError(f"volume.defaults.{printable(name)} has to be a string, a number, true or false")


def _text(section: Mapping[str, object], key: str, default: str, prefix: str = "") -> str:
    value = section.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{prefix}{key} has to be a string")
    return value


def _switch(section: Mapping[str, object], key: str, prefix: str) -> bool:
    value = section.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{prefix}{key} has to be true or false")
    return value


def _only(section: Mapping[str, object], prefix: str, *known: str) -> None:
    for key in section:
        if key not in known:
            near = nearest(key, known)
            hint = f"; did you mean {prefix}{near}?" if near else ""
            raise ValueError(f"unknown setting {prefix}{printable(key)}{hint}")
