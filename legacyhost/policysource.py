"""Where a policy comes from: NAME.toml itself, a file, another host; and the copy that is kept of that one.

What is wrong with a policy is said by who reads it (legacyhost/policy/). What is elsewhere is fetched by who has the
time: no request waits for it.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from legacyhost import disk, policy
from legacyhost.config import AuthzConfig, Paths
from legacyhost.deadline import Deadline
from legacyhost.errors import ConfigError, Failed, PluginError
from legacyhost.wire import printable

#: Bytes of a policy.
LARGEST = 1 << 20
#: Seconds in which a policy has come from another host.
PATIENCE = 60.0
#: In the state directory of a plugin.
COPY = "policy.json"
_ADDRESS = re.compile(r"ssh://(?:([^@:/\s]+)@)?([^@:/\s]+)(?::([0-9]{1,5}))?(/[^\x00-\x1f\x7f]+)")


@dataclass(frozen=True)
class Found:
    """A policy that has been read: what it makes, and when it was so, for what comes from elsewhere."""

    policy: policy.Policy
    text: str
    read: datetime | None = None


class Source(Protocol):
    """One place of a policy. ``place`` is what it is called in messages."""

    place: str
    #: Seconds after which it is looked at again; 0: when somebody asks for it.
    refresh: float

    def read(self) -> Found:
        """Raises PluginError; may take its time."""
        ...

    def kept(self) -> Found | None:
        """The last good one, without asking elsewhere. Raises PluginError."""
        ...

    def keep(self, found: Found) -> None:
        """It is good. Raises PluginError."""
        ...


class Local:
    """The rules in NAME.toml, or a file on this host: nothing is kept of them."""

    refresh = 0.0

    def __init__(self, path: Path, rules: Mapping[str, object] | None = None) -> None:
        self.place = str(path)
        self._path = path
        self._rules = rules

    def read(self) -> Found:
        if self._rules is not None:
            return _named(self.place, lambda: policy.from_table(self._rules or {}), repr(self._rules))
        text = _text(self.place, _content(self._path))
        return _named(self.place, lambda: policy.load(text), text)

    def kept(self) -> None:
        return None

    def keep(self, found: Found) -> None:
        pass


class OnSsh:
    """A file on another host, by the rules for host keys and credentials that volumes have."""

    def __init__(
        self, plugin: str, section: AuthzConfig, remotes: Mapping[str, Mapping[str, str]], paths: Paths
    ) -> None:
        """``remotes``: what opens accounts, as for volumes. Raises ConfigError."""
        self.place = printable(section.policy, 300)
        self.refresh = section.refresh
        self._plugin, self._remotes, self._paths = plugin, remotes, paths
        self._options = _options(section)
        self._copy = paths.state / plugin / COPY

    def read(self) -> Found:
        from legacyhost.credentials import Store
        from legacyhost.drivers.accounts import Accounts
        from legacyhost.ssh.remote import Remote

        account = Accounts(Store(self._paths.credentials()), self._plugin, self._remotes)
        target = account.account(self._options)
        with Remote.connect(target, self._paths.known_hosts(), Deadline.after(PATIENCE)) as remote:
            content = remote.read(target.path, LARGEST)
        text = _text(self.place, content)
        return _named(self.place, lambda: policy.load(text), text, datetime.now(UTC).replace(microsecond=0))

    def kept(self) -> Found | None:
        """A copy of another place's is none of this one's."""
        try:
            stored = json.loads(_content(self._copy, 8 * LARGEST))
            place, text, read = (stored[key] for key in ("place", "text", "read"))
            if place != self.place:
                return None
            moment = datetime.fromisoformat(read)
            return _named(f"the copy {self._copy} of it", lambda: policy.load(text), text, moment.astimezone(UTC))
        except _Missing:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Failed(f"the copy {self._copy} of it is damaged") from error

    def keep(self, found: Found) -> None:
        moment = (found.read or datetime.now(UTC)).isoformat()
        content = json.dumps({"place": self.place, "read": moment, "text": found.text}).encode()
        try:
            self._copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk.write(self._copy, content)
        except OSError as error:
            raise Failed(f"no copy of it can be kept in {self._copy}: {disk.reason(error)}") from error


class _Missing(Failed):
    """There is no such file."""


def source(plugin: str, section: AuthzConfig, remotes: Mapping[str, Mapping[str, str]], paths: Paths) -> Source:
    """Where the section says that the policy is. Raises ConfigError."""
    if section.is_remote:
        return OnSsh(plugin, section, remotes, paths)
    if "://" in section.policy:
        raise ConfigError("authz.policy is neither a file nor ssh://[user@]host[:port]/path")
    if section.policy:
        return Local(paths.policy(section.policy))
    return Local(paths.configuration(plugin), section.rules)


def _options(section: AuthzConfig) -> dict[str, str]:
    """As a volume has them. Raises ConfigError."""
    from legacyhost.drivers.sshfs_options import TABLE

    whole = _ADDRESS.fullmatch(section.policy)
    if whole is None:
        raise ConfigError("authz.policy is not ssh://[user@]host[:port]/path")  # there may be a password in it
    user, host, port, path = whole.groups()
    account = f"{user}@{host}" if user else host
    try:
        return TABLE.parse({"sshcmd": f"{account}:{path}", **({"port": port} if port else {}), **section.account})
    except PluginError as error:
        raise ConfigError(f"authz.policy and what opens its account: {error.message}") from error


def _content(path: Path, limit: int = LARGEST) -> bytes:
    """Of a file of this host. Raises Failed."""
    try:
        content = disk.read(path, limit + 1)
    except FileNotFoundError as error:
        raise _Missing(f"there is no policy {path}") from error
    except OSError as error:
        hint = " (it has to be root's)" if error.errno == errno.EACCES else ""
        raise Failed(f"the policy {path} cannot be read: {error.strerror}{hint}") from error
    except ValueError as error:
        raise Failed(f"the policy {printable(str(path))} has a name that no file has") from error
    if len(content) > limit:
        raise Failed(f"the policy {path} has more than {limit} bytes")
    return content


def _text(place: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failed(f"the policy {place} is not UTF-8 (at byte {error.start})") from error


def _named(place: str, make: Callable[[], policy.Policy], text: str, read: datetime | None = None) -> Found:
    """What it makes; an error names the place. Raises ConfigError."""
    try:
        return Found(make(), text, read)
    except PluginError as error:
        raise ConfigError(f"{place}: {error.message}") from error
