"""Which account a volume is on and what opens it: its options, the credentials of this host, what NAME.toml says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from legacyhost.credentials import Credential, Store, of_volume
from legacyhost.drivers.sshfs_options import TABLE, split_jump, split_sshcmd
from legacyhost.errors import Failed
from legacyhost.ssh.target import DEFAULT_PORT, Secret, Target
from legacyhost.state import Volume, now

#: In a volume's facts: its password was moved to the credentials.
KEPT = "password"
#: What names something to log in with; of each pair, a volume's own takes the place of a default of the other kind.
LOGIN = ("credential", "password", "IdentityFile")
_RIVALS = {"credential": ("password", "IdentityFile"), "password": ("credential",), "IdentityFile": ("credential",)}


class Accounts:
    """For the volumes of one plugin.

    ``remotes``: ``[user@]host[:port]`` to {"credential": name} or {"agent": socket}, as the configuration has them.
    """

    def __init__(self, store: Store, plugin: str, remotes: Mapping[str, Mapping[str, str]]) -> None:
        self._store = store
        self._plugin = plugin
        self._remotes = remotes

    def place(self, options: Mapping[str, str]) -> Target:
        """Where a volume with these options is, without anything secret; reads no file."""
        user, host, path = split_sshcmd(options["sshcmd"])
        jump = _place_of(options["jump"], user) if "jump" in options else None
        return Target(host, user, path, int(options["port"]), host_key=options.get("host_key"), jump=jump)

    def target(self, volume: Volume, options: Mapping[str, str]) -> Target:
        """The same with what opens it; ``options`` with their defaults. Raises Failed where that cannot be had."""
        place = self.place(options)
        password = Secret(options["password"]) if "password" in options else None
        if KEPT in volume.facts:
            password = self._store.read(of_volume(self._plugin, volume.name)).password
        own = Target("", "", password=password)
        if "IdentityFile" in options:
            own = replace(own, identity_files=(options["IdentityFile"],))
        if "credential" in options:
            own = self._with_credential(own, options["credential"])
        opened = self._opened(place, own)
        if place.jump is None:
            return opened
        # Like the target's, unless the host is named in the configuration.
        return replace(opened, jump=self._opened(place.jump, own, is_named_first=True))

    def account(self, options: Mapping[str, str]) -> Target:
        """What options alone name and open, without a volume. Raises Failed."""
        return self.target(Volume("", {}, now()), {"port": str(DEFAULT_PORT), **options})

    def jump(self, text: str, *, credential: str | None = None, key: str | None = None) -> Target:
        """A jump host by itself, and what opens it. Raises InvalidRequest, Failed."""
        given = {"jump": text, "credential": credential, "IdentityFile": key}
        options = TABLE.parse({name: value for name, value in given.items() if value})
        own = Target("", "", identity_files=(options["IdentityFile"],) if key else ())
        if credential:
            own = self._with_credential(own, credential)
        return self._opened(_place_of(options["jump"], "root"), own)

    def keep(self, volume: Volume) -> tuple[Volume, str]:
        """The volume without its password, which is among the credentials now, durably; and why not encrypted."""
        name = volume.options.get("credential")
        if name is not None and not self._store.exists(name):  # it may have been deleted meanwhile
            raise self._store.missing(name)
        if "password" not in volume.options:
            return volume, ""
        kept = Credential(Secret(volume.options["password"]))
        why_not = self._store.write(of_volume(self._plugin, volume.name), kept, replace=True)
        options = {name: value for name, value in volume.options.items() if name != "password"}
        return replace(volume, options=options, facts={**volume.facts, KEPT: "kept"}), why_not

    def forget(self, name: str) -> None:
        """Delete the password of that volume, if one was kept. Raises Failed."""
        self._store.remove(of_volume(self._plugin, name))

    def is_same(self, volume: Volume, options: Mapping[str, str]) -> bool:
        """Whether the volume was created with these. Raises Failed where the password kept cannot be read."""
        password = volume.options.get("password")
        given = {name: value for name, value in options.items() if name != "password"}
        if given != {name: value for name, value in volume.options.items() if name != "password"}:
            return False
        if KEPT not in volume.facts or "password" not in options:
            return password == options.get("password") and KEPT not in volume.facts
        return self._store.read(of_volume(self._plugin, volume.name)).password == Secret(options["password"])

    def _opened(self, place: Target, own: Target, *, is_named_first: bool = False) -> Target:
        """The place with what opens it."""
        named = self._named(place)
        if named and (is_named_first or not own.names_a_login):
            if "credential" in named:
                own = self._with_credential(Target("", ""), named["credential"])
            else:
                own = Target("", "", agent=named["agent"])
        return replace(
            place,
            identity_files=own.identity_files,
            password=own.password,
            key=own.key,
            certificate=own.certificate,
            credential=own.credential,
            agent=own.agent,
        )

    def _named(self, place: Target) -> Mapping[str, str]:
        """What the configuration says of a host, the most particular first."""
        host = place.host.lower()
        for key in (f"{place.user}@{host}:{place.port}", f"{place.user}@{host}", f"{host}:{place.port}", host):
            if key in self._remotes:
                return self._remotes[key]
        return {}

    def _with_credential(self, target: Target, name: str) -> Target:
        found = self._store.read(name)
        if found.password is None and found.key is None:
            raise Failed(f"credential {name} is empty; to give it again: legacyhost credential add --replace {name}")
        return replace(target, password=found.password, key=found.key, certificate=found.certificate, credential=name)


def _place_of(jump: str, user: str) -> Target:
    own_user, host, port = split_jump(jump)
    return Target(host, own_user or user, port=port)


def merged(defaults: Mapping[str, str], own: Mapping[str, str], *, has_password: bool = False) -> dict[str, str]:
    """A volume's options over the defaults, of which it takes no way to log in that is not meant beside its own."""
    names = {*own, *(["password"] if has_password else [])}
    dropped = {rival for name in LOGIN if name in names for rival in _RIVALS[name] if rival not in names}
    return {**{name: value for name, value in defaults.items() if name not in dropped}, **own}
