"""The record of a plugin's volumes and its backup, read as the plugin does, whether it runs or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from legacyhost import disk, record
from legacyhost.backup import FILE as BACKUP
from legacyhost.backup import compare, remedy
from legacyhost.doctor import Finding, error, ok, warning
from legacyhost.doctor.host import Host
from legacyhost.doctor.services import service_unit
from legacyhost.record import Content, Gone, Missing, Unusable
from legacyhost.state import FILE, Volume, load

#: Attempts, and seconds between them: a change may be under way, in the record already and not in the backup.
ATTEMPTS, PAUSE = 3, 0.3


def volumes(host: Host, plugin: str) -> list[Volume] | None:
    """The volumes that are recorded; None where the record cannot be read, which ``state`` tells."""
    try:
        content = load(host.paths.state / plugin)
    except Missing as problem:
        return None if isinstance(problem, Gone) else []
    except Unusable:
        return None
    return [Volume(*record.fields(row)[:2], *record.fields(row)[2:]) for row in content.rows]


def state(host: Host, plugin: str) -> Iterator[Finding]:
    """Whether the record can be trusted, and a backup of it is there."""
    directory = host.paths.state / plugin
    path, why = directory / FILE, "without it the plugin answers nothing, so that Docker forgets no volume"
    try:
        content = load(directory)
    except Missing:
        yield ok("record", f"{path} is made at the first call")
        return
    except Unusable as problem:
        yield _damaged(plugin, directory, problem, why)
        return
    try:
        trouble = _backup_trouble(directory, content)
    except Unusable as problem:
        yield _damaged(plugin, directory, problem, why)
        return
    yield ok("record", f"{path}: {content}")
    if trouble:
        why = "should the record be damaged, the volumes would be forgotten"
        mend = f"systemctl restart {service_unit(plugin)}"
        yield warning("backup", f"the backup {directory / BACKUP} {trouble}", why, mend)
    else:
        yield ok("backup", f"{directory / BACKUP} is up to date")


def _damaged(plugin: str, directory: Path, problem: Unusable, why: str) -> Finding:
    what = f"the record of volumes {directory / FILE} {problem}"
    advice = remedy(directory, problem)
    command = f"legacyhost restore --plugin {plugin}"
    if not advice.endswith(command):
        return error("record", what + advice, why)
    return error("record", what + advice.removesuffix(f": {command}"), why, command)


def _backup_trouble(directory: Path, content: Content) -> str:
    """What is wrong with the backup; empty if nothing is. Raises Unusable where the record is what is wrong."""
    for _ in range(ATTEMPTS):
        try:
            found = record.read(directory / BACKUP)
        except Unusable as problem:
            trouble = str(problem)
        else:
            if found == content:
                return ""
            trouble = "is not up to date"
        time.sleep(PAUSE)
        content = load(directory)
    if trouble == "is not up to date":
        with disk.lock(directory):  # nobody changes either of them now
            content = load(directory)
            found = record.read(directory / BACKUP)
        compare(content, found)
        return "" if found == content else trouble
    return trouble
