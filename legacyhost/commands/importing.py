"""``legacyhost import``: the volumes of vieux/sshfs, or of its fork, become volumes here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from legacyhost.commands import Commands, ask, plugin_name
from legacyhost.commands.terminal import shown
from legacyhost.config import NO_VOLUMES, Paths, load
from legacyhost.errors import Failed

if TYPE_CHECKING:
    from legacyhost.importing import Item


def add(commands: Commands) -> None:
    command = commands.add(
        "import",
        "make the volumes of vieux/sshfs here; without --apply only say what would be done",
        "legacyhost import /var/lib/docker/plugins/sshfs-state.json --apply",
        _import,
        plugin=True,
        json=True,
    )
    command.add_argument("file", metavar="FILE", type=Path, help="the other plugin's state file, sshfs-state.json")
    command.add_argument("--apply", action="store_true", help="do it")
    command.add_argument(
        "--keys",
        metavar="DIRECTORY",
        type=Path,
        action="append",
        default=[],
        help="where the keys are that the other plugin saw in its own /root/.ssh (may be given several times)",
    )


def _import(options: argparse.Namespace) -> int:
    from legacyhost import importing, otherplugin
    from legacyhost.credentials import Store
    from legacyhost.ssh.hostkeys import Known

    content, is_open = otherplugin.read(options.file)
    found = [otherplugin.translate(name, fields, options.keys) for name, fields in sorted(content.items())]
    plugin = plugin_name(options.plugin)
    paths = Paths.from_environment()
    configuration = paths.configuration(plugin)
    defaults = (load(configuration).volume or NO_VOLUMES).defaults
    store = Store(paths.credentials())

    def is_known(host: str, port: int) -> bool:
        known = Known.read(paths.known_hosts(), host, port)
        return any(each.keys or each.authorities for each in (known, known.without_port) if each is not None)

    def call(rpc: str, arguments: Mapping[str, object]) -> Mapping[str, object]:
        return ask(plugin, rpc, arguments)

    existing = importing.existing_volumes(call, content)
    planned = importing.plan(found, store, existing, defaults, is_known)
    items = []
    for item in importing.carry_out(planned, store, call) if options.apply else planned:
        items.append(item)
        if not options.json:
            print("\n".join(_lines(item)), flush=True)
    trust = sorted({f"legacyhost trust {item.trust}" for item in items if item.trust})
    warnings = _warnings(options, is_open, defaults, configuration)
    if options.json:
        volumes = [_described(item) for item in items]
        print(json.dumps({"volumes": volumes, "trust": trust, "warnings": warnings}, indent=2))
    else:
        _print_rest(options, items, trust, warnings)
    undone = [shown(item.name) for item in items if item.action in (importing.REFUSED, importing.FAILED)]
    if undone:
        verb = "not made" if options.apply else "cannot be made"
        raise Failed(f"{len(undone)} of {len(items)} volumes {verb}: {', '.join(undone)}")
    return 0


def _lines(item: Item) -> Iterable[str]:
    """A volume and what becomes of it; the rest of what there is to say about it below, indented."""
    said = {
        "create": "would be made",
        "created": "is made",
        "exists": "exists already, with the same remote directory; it is left as it is",
        "refused": f"is refused: {item.reason}",
        "failed": f"is not made: {item.reason}",
    }[item.action]
    yield f"{shown(item.name)} {said}"
    if item.action in ("create", "created"):
        yield "    " + " ".join(f"{name}={shown(value)}" for name, value in item.options.items())
        if item.login is not None:
            kind = "key" if item.login.key else "password"
            verb = "keeps" if item.action == "created" else "would keep"
            yield f"    credential {item.options['credential']} {verb} its {kind}"
        yield from (f"    note: {note}" for note in item.notes)


def _described(item: Item) -> dict[str, object]:
    return {
        "name": item.name,
        "action": item.action,
        "options": dict(item.options),
        "notes": list(item.notes),
        "reason": item.reason,
        "trust": item.trust,
    }


def _warnings(
    options: argparse.Namespace, is_open: bool, defaults: Mapping[str, str], configuration: Path
) -> list[str]:
    file, found = shown(options.file), []
    if defaults:
        found.append(f"Options that are not given come from {configuration}: {', '.join(sorted(defaults))}.")
    if is_open:
        found.append(f"{file} has passwords in it and is open to others: chmod 600 {file}")
    return found


def _print_rest(options: argparse.Namespace, items: list[Item], trust: list[str], warnings: list[str]) -> None:
    file = shown(options.file)
    if not items:
        print(f"There are no volumes in {file}.")
    if trust:
        print("\nHosts to be made known first; compare the fingerprints:")
        print("\n".join(f"    {command}" for command in trust))
    if items:
        print()
    for warning in warnings:
        print(warning)
    counts = {action: sum(item.action == action for item in items) for action in ("create", "created", "failed")}
    if counts["create"]:
        print(f"Nothing is changed yet. To do it: legacyhost import {file} --apply")
    if counts["created"] or (items and options.apply and not counts["failed"]):
        print(
            "Docker asks the other plugin for these names as long as it remembers them; how to hand them over without"
            f" risk to the data: man legacyhost, COMING FROM VIEUX/SSHFS. When all is done, delete {file}."
        )
