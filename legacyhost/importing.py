"""Volumes of another plugin made here: first a plan, which changes nothing, then the plan carried out.

What is there already is left alone, and what was not done can be done again: nothing has to be undone before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from legacyhost.credentials import Credential, Store
from legacyhost.drivers.sshfs_options import split_sshcmd
from legacyhost.errors import Failed, PluginError
from legacyhost.names import LIMIT
from legacyhost.otherplugin import Found
from legacyhost.ssh.target import DEFAULT_PORT, Target

#: What becomes of a volume: planned; refused or there already; then done, or tried in vain.
CREATE, REFUSED, EXISTS, CREATED, FAILED = "create", "refused", "exists", "created", "failed"

#: Calls the plugin: the name of an RPC and its arguments. Raises Failed.
Call = Callable[[str, Mapping[str, object]], Mapping[str, object]]


@dataclass(frozen=True)
class Item:
    """One volume: what becomes of it, with the options it gets, its credential among them, or why not (``reason``).

    ``login`` is what has to be kept under the credential's name; None where it is there already, or none is needed.
    ``trust`` is the host whose key has to be made known first.
    """

    name: str
    action: str
    options: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reason: str = ""
    trust: str = ""
    login: Credential | None = field(default=None, repr=False)


def plan(
    found: Iterable[Found],
    store: Store,
    existing: Mapping[str, str],
    defaults: Mapping[str, str],
    is_known: Callable[[str, int], bool],
) -> list[Item]:
    """What would be done, in the order of the volumes. Raises Failed where the credentials cannot be looked at.

    ``existing`` are the volumes of this plugin by name, with their remote directory as its status has it; ``defaults``
    the options its configuration gives to volumes; ``is_known`` says whether some key of a host (name, port) is.
    """
    names = _CredentialNames(store)
    return [_planned(each, names, existing, defaults, is_known) for each in found]


def _planned(
    found: Found,
    names: _CredentialNames,
    existing: Mapping[str, str],
    defaults: Mapping[str, str],
    is_known: Callable[[str, int], bool],
) -> Item:
    if found.refusal:
        return Item(found.name, REFUSED, reason=found.refusal)
    user, host, path = split_sshcmd(found.options["sshcmd"])
    port = int(found.options.get("port", defaults.get("port", DEFAULT_PORT)))
    remote = str(Target(host, user, path, port))
    account, wanted = (user, host, port), Credential(found.password, found.key)
    if found.name in existing:
        names.recall(found.name, account, wanted)
        # A jump host stands behind it.
        if existing[found.name].partition(" by way of ")[0] == remote:
            return Item(found.name, EXISTS, found.options)
        return Item(
            found.name,
            REFUSED,
            reason=f"a volume of that name exists, with another remote directory ({existing[found.name]}); to have this"
            f" one: docker volume rm {found.name} (the remote data stays, unless it was created with on_remove=purge),"
            " then import again",
        )
    options, login = dict(found.options), None
    if found.password or found.key:
        options["credential"], is_there = names.choose(found.name, account, wanted)
        login = None if is_there else wanted
    pinned = "host_key" in defaults
    where = host if port == DEFAULT_PORT else f"{host}:{port}"
    trust = "" if pinned or is_known(host, port) else where
    return Item(found.name, CREATE, options, found.notes, trust=trust, login=login)


class _CredentialNames:
    """A name for each login: that of its first volume, and never that of another login."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chosen: dict[tuple[object, object], str] = {}

    def choose(self, volume: str, account: object, wanted: Credential) -> tuple[str, bool]:
        """The name, and whether it is kept under that already."""
        login = (account, _identity(wanted))
        if login in self._chosen:
            name = self._chosen[login]
            return name, self._store.exists(name)
        number = 1
        name = volume
        while name in self._chosen.values() or (self._store.exists(name) and not self._is(name, wanted)):
            number += 1
            name = f"{volume[: LIMIT - 8]}-{number}"
        self._chosen[login] = name
        return name, self._store.exists(name)

    def recall(self, volume: str, account: object, wanted: Credential) -> None:
        """A volume that is there: where its login is kept under its name, others with the same one have that."""
        if self._store.exists(volume) and self._is(volume, wanted):
            self._chosen.setdefault((account, _identity(wanted)), volume)

    def _is(self, name: str, wanted: Credential) -> bool:
        try:
            return _identity(self._store.read(name)) == _identity(wanted)
        except Failed:
            return False  # whatever it is, it is not to be touched


def _identity(credential: Credential) -> object:
    """The same for credentials that open the same. A key's text is another each time it is written (PROTOCOL.key)."""
    public = None
    if credential.key is not None:
        from legacyhost.ssh import keys

        public = keys.read(credential.key.reveal().encode(), None, "the key that is kept").public
    return credential.password, public, credential.certificate


def carry_out(items: Iterable[Item], store: Store, call: Call) -> Iterator[Item]:
    """Make what is planned, one after the other; each is handed back with what became of it. Raises nothing.

    A credential is written before the first volume that needs it, and taken away again if that is refused.
    """
    written: set[str] = set()
    for item in items:
        if item.action != CREATE:
            yield item
            continue
        if item.trust:
            yield replace(
                item, action=FAILED, reason=f"the host key of {item.trust} is not known: legacyhost trust {item.trust}"
            )
            continue
        name = item.options.get("credential", "")
        is_new = item.login is not None and name not in written
        notes = item.notes
        try:
            if item.login is not None and is_new and (why_not := store.write(name, item.login)):
                notes = (*notes, f"credential {name}: {why_not}")
            call("VolumeDriver.Create", {"Name": item.name, "Opts": dict(item.options)})
        except PluginError as error:
            reason = error.message
            if is_new and store.exists(name):
                reason += _taken_back(item, store, call)
            yield replace(item, action=FAILED, reason=reason)
            continue
        written.add(name)
        yield replace(item, action=CREATED, notes=notes)


def _taken_back(item: Item, store: Store, call: Call) -> str:
    """Remove the credential of a volume that was not made; empty, or what is to be said about it."""
    name = item.options["credential"]
    try:
        if item.name in existing_volumes(call, [item.name]):
            return ""  # it was made all the same
        store.remove(name)
    except PluginError as error:
        return f"; credential {name} was made for it and is still there ({error.message})"
    return ""


def existing_volumes(call: Call, wanted: Iterable[str]) -> dict[str, str]:
    """Which of these volumes the plugin has, with their remote directory. Raises Failed."""
    listed = call("VolumeDriver.List", {}).get("Volumes") or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise Failed("the plugin's answer to VolumeDriver.List is no list of volumes")
    there = {each.get("Name") for each in listed} & set(wanted)
    remotes = {}
    for name in sorted(map(str, there)):
        volume = call("VolumeDriver.Get", {"Name": name}).get("Volume")
        status = volume.get("Status") if isinstance(volume, dict) else None
        remotes[name] = str(status.get("remote", "")) if isinstance(status, dict) else ""
    return remotes
