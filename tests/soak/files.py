"""What a container does with files, as a shell script, and what the remote directory has to contain after it.

Each file is one client's, by its name. After a failure nobody touches that file again and the next work is on one of
a new name: caches may show either content for a while, and the remote side has to stay as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .model import Volume

#: Characters of a big file: more than one request of SFTP.
BIG = 200_000


@dataclass(frozen=True)
class Task:
    """A script that says "done" when all of it was done."""

    script: str
    volume: Volume
    slot: int
    #: The content of files when it has been done (None: there is no such file), and what a failure may leave besides.
    after: Mapping[str, str | None] = field(default_factory=dict)
    between: Mapping[str, str | None] = field(default_factory=dict)
    #: What it shows.
    shows: str | None = None
    #: How far the file's name has moved on.
    ahead: int = 0


class Files:
    """The files of one client."""

    def __init__(self, client: str) -> None:
        self._client = client
        self._names: dict[tuple[str, int], int] = {}

    def _path(self, volume: Volume, slot: int, ahead: int = 0) -> str:
        number = self._names.setdefault((volume.name, slot), 0) + ahead
        return f"{self._client}-{volume.name}-{slot}.{number}"

    def task(self, kind: str, volume: Volume, slot: int, serial: int) -> Task:
        path = self._path(volume, slot)
        there = volume.directory.content(path)
        text = f"{self._client} wrote this in step {serial}"
        if kind in ("write", "replace", "big"):
            return _writing(kind, volume, slot, path, text)
        if there is None:
            return Task(f"test ! -e /data/{path} && echo done", volume, slot)
        if kind == "delete":
            return Task(f"rm /data/{path} && echo done", volume, slot, {path: None})
        if kind == "move":
            new = self._path(volume, slot, 1)
            script = f"mv /data/{path} /data/{new} && echo done"
            return Task(script, volume, slot, {path: None, new: there}, ahead=1)
        return Task(f"cat /data/{path} && echo done", volume, slot, shows=there)

    def settle(self, task: Task, *, is_done: bool) -> None:
        """What the remote directory contains afterwards; or what it may, after a failure."""
        directory, key = task.volume.directory, (task.volume.name, task.slot)
        if is_done:
            for path, value in task.after.items():
                directory.settle(path, value)
            self._names[key] += task.ahead
        elif task.after:
            for path, value in (*task.after.items(), *task.between.items()):
                directory.doubt(path, value)
            self._names[key] += 2


def _writing(kind: str, volume: Volume, slot: int, path: str, text: str) -> Task:
    """Written to the remote disk before it is acknowledged; "replace" renames a finished file over the old one."""
    source = f"printf %s '{text}'"
    if kind == "big":
        source = f"yes '{text}' | head -c {BIG}"
        text = (f"{text}\n" * (BIG // len(text)))[:BIG]
    draft = f"{path}.draft" if kind == "replace" else path
    write = f"{source} | dd of=/data/{draft} bs=64k conv=fsync status=none"
    if draft == path:
        return Task(f"{write} && echo done", volume, slot, {path: text})
    script = f"{write} && mv -f /data/{draft} /data/{path} && echo done"
    return Task(script, volume, slot, {draft: None, path: text}, {draft: text})
